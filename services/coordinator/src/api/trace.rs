//! One span, one log line and one measurement for each request.

use axum::{
    extract::{MatchedPath, Request},
    http::HeaderValue,
    middleware::Next,
    response::Response,
};
use perito_runtime::trace;
use tokio::time::Instant;
use tracing::Instrument;

const TRACEPARENT: &str = "traceparent";

/// Continues the caller's W3C trace, or starts one, and says in the response which.
pub(super) async fn record(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    // The route and not the path, so that ids make neither spans nor metrics by the million.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let span = tracing::info_span!("http.request", otel.kind = "server", http.request.method = %method, http.route = route, enduser.id = tracing::field::Empty);
    if let Some(parent) = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        trace::set_parent(&span, parent);
    }
    async move {
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        let elapsed = started.elapsed();
        let context = trace::current_traceparent();
        if let Some(context) = HeaderValue::try_from(context).ok().filter(|context| !context.is_empty()) {
            response.headers_mut().insert(TRACEPARENT, context);
        }
        let labels = [("method", method.to_string()), ("route", route), ("status", status.to_string())];
        metrics::histogram!("perito_http_request_seconds", &labels).record(elapsed);
        // Whoever watches a job asks again and again: what only reads, and can be read, is not worth a line.
        let duration_ms = elapsed.as_secs_f64() * 1000.0;
        if method.is_safe() && status < 500 {
            tracing::debug!(http.response.status_code = status, http.request.duration_ms = duration_ms, "answered");
        } else {
            tracing::info!(http.response.status_code = status, http.request.duration_ms = duration_ms, "answered");
        }
        response
    }
    .instrument(span)
    .await
}
