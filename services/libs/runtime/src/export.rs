//! Spans to a collector: OTLP by HTTP, switched on and set by OpenTelemetry's standard environment variables.
//!
//! Work never waits for it. Finished spans go to a queue with a limit, a thread sends them in batches, and what does not fit is dropped
//! (the SDK says so once, and how many at the end). A collector that is away costs one line of log, and one when it is back.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use opentelemetry::KeyValue;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};

/// How long the end of a process may take for spans that were not sent yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends what is left when it is dropped, within [`FLUSH_TIMEOUT`].
#[must_use = "spans are sent until it is dropped"]
#[derive(Debug)]
pub struct Export(Option<SdkTracerProvider>);

impl Drop for Export {
    fn drop(&mut self) {
        if let Some(provider) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::warn!(error.message = %error, "spans are left that were not sent");
        }
    }
}

/// Makes spans, and sends them if a variable says where to. `OTEL_TRACES_SAMPLER` and the rest are read by the SDK.
pub(crate) fn provider(service: &'static str) -> anyhow::Result<(SdkTracerProvider, Export)> {
    let wanted = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().any(is_set);
    if !wanted || std::env::var("OTEL_TRACES_EXPORTER").is_ok_and(|exporter| exporter == "none") {
        return Ok((SdkTracerProvider::builder().build(), Export(None)));
    }
    for variable in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        match std::env::var(variable) {
            Ok(protocol) if !protocol.is_empty() && protocol != "http/protobuf" => {
                bail!("{variable} is {protocol:?}: spans are sent by http/protobuf (a collector's port 4318)")
            }
            _ => {}
        }
    }
    let exporter = Otlp::builder()
        .with_http()
        .build()
        .context("send spans: OTEL_EXPORTER_OTLP_ENDPOINT is a URL such as http://collector:4318")?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_batch_exporter(Reported { exporter, failing: AtomicBool::new(false) })
        .build();
    Ok((provider.clone(), Export(Some(provider))))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Who sends. What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes first.
fn resource(service: &'static str) -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = [
        KeyValue::new("service.name", service),
        KeyValue::new("service.version", crate::version()),
        KeyValue::new("service.instance.id", format!("{}-{}", host.trim(), std::process::id())),
    ];
    let told = Resource::builder().build();
    // The SDK makes up a name where none is told.
    let named = is_set("OTEL_SERVICE_NAME")
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name="));
    let missing = own.into_iter().filter(|attribute| match attribute.key.as_str() {
        "service.name" => !named,
        _ => told.get(&attribute.key).is_none(),
    });
    Resource::builder().with_attributes(missing).build()
}

/// Counts, and tells changes once instead of each failure.
#[derive(Debug)]
struct Reported {
    exporter: Otlp,
    failing: AtomicBool,
}

impl SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.exporter.export(batch).await;
        let label = if outcome.is_ok() { "sent" } else { "lost" };
        metrics::counter!("perito_spans_exported_total", "outcome" => label).increment(spans);
        let failed_before = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Ok(()) if failed_before => tracing::info!("spans reach the collector again"),
            Err(error) if !failed_before => {
                tracing::warn!(error.message = %error, "spans do not reach the collector and are lost, will go on trying");
            }
            _ => {}
        }
        // Told above: the SDK would log each failure.
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
