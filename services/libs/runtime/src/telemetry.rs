//! Logs, with the trace id on every line that belongs to a trace, and the metrics recorder.

use std::fmt;

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::dynamic_filter_fn,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    args::{LogFormat, TelemetryArgs},
    export::{self, Export},
};

/// Starts logging to standard error, and sends spans where the standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`) say, until what is
/// returned is dropped.
///
/// # Errors
/// A filter that cannot be read, variables that make no sense, or a second call.
pub fn init(service: &'static str, args: &TelemetryArgs) -> anyhow::Result<Export> {
    let (provider, export) = export::provider(service)?;
    subscriber(service, args, &provider, std::io::stderr)?.try_init().context("start logging")?;
    Ok(export)
}

/// Logs that go to `writer`.
fn subscriber<W>(
    service: &'static str,
    args: &TelemetryArgs,
    provider: &SdkTracerProvider,
    writer: W,
) -> anyhow::Result<impl Subscriber + Send + Sync + 'static>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // lapin reports by itself what its caller is told and reports again; so does the exporter of spans, whose failures are counted.
    let filter = EnvFilter::try_new(format!("lapin=off,opentelemetry-otlp=off,opentelemetry-http=off,{}", args.log))
        .with_context(|| format!("read the log filter {:?} (an example: warn,perito_worker=debug)", args.log))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match args.log_format {
        LogFormat::Text => lines.event_format(Traced(format::format().with_target(false))).boxed(),
        LogFormat::Json => {
            let json = format::format().json().flatten_event(true).with_current_span(false).with_span_list(true);
            lines.fmt_fields(format::JsonFields::new()).event_format(Traced(json)).boxed()
        }
    };
    // Also without an exporter it numbers traces and spans, so that they can be followed through the logs. It sees the project's own
    // spans whatever the log filter says, for a quiet process must pass traces on too.
    let tracer = provider.tracer(service);
    //
    // The filter is dynamic so that it is asked for every span. When all filters are static, a span is not asked about, and what a
    // thread was told about the last thing it only asked about (sqlx asks before each statement) is taken for the span's answer:
    // https://github.com/tokio-rs/tracing/issues/2519. Spans would go missing at random.
    let spans = dynamic_filter_fn(|span, _| {
        span.is_span() && *span.level() <= Level::INFO && span.target().starts_with("perito")
    })
    .with_max_level_hint(Level::INFO);
    Ok(tracing_subscriber::registry()
        .with(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(spans))
        .with(lines.with_filter(filter)))
}

/// Starts collecting metrics, for `/metrics`.
///
/// # Errors
/// A second call.
pub fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    // From a millisecond to some minutes, so that one set of bounds fits requests, batches and tasks.
    const SECONDS: [f64; 16] =
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .context("set the buckets of histograms")?
        .install_recorder()
        .context("start collecting metrics")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// A format that also tells the trace id.
struct Traced<F>(F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Entering a span makes its OpenTelemetry context the current one.
        let current = opentelemetry::Context::current();
        let trace = current.span().span_context().clone();
        if !trace.is_valid() {
            return self.0.format_event(context, writer, event);
        }
        let trace_id = trace.trace_id();
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        // Neither format has a place for one more field, but both leave room at the end of the line.
        match line.strip_suffix('}').filter(|_| line.starts_with('{')) {
            Some(object) => writeln!(writer, "{object},\"trace.id\":\"{trace_id}\"}}"),
            None => writeln!(writer, "{line} trace.id={trace_id}"),
        }
    }
}
