//! `/healthz` (the process runs), `/readyz` (it can do its work now) and `/metrics` (Prometheus' text format).

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

/// How long one check may take before it counts as failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What `/readyz` asks.
#[derive(Clone)]
pub struct Health {
    checks: Arc<Vec<(&'static str, Check)>>,
    stopping: CancellationToken,
    metrics: PrometheusHandle,
}

impl Health {
    /// Ready until `stopping` is cancelled.
    pub fn new(stopping: CancellationToken, metrics: PrometheusHandle) -> Self {
        Self { checks: Arc::default(), stopping, metrics }
    }

    /// Adds something that has to work for the service to be ready. The error says what does not.
    #[must_use]
    pub fn check<F, E>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let check: Check = Arc::new(move || {
            let checking = check();
            Box::pin(async move { checking.await.map_err(|error| error.to_string()) })
        });
        Arc::make_mut(&mut self.checks).push((name, check));
        self
    }

    /// The three routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(async |State(health): State<Self>| health.metrics.render()))
            .with_state(self)
    }

    /// Serves only these routes, for ever: while work ends, `/readyz` says no and `/metrics` still counts.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(self, address: SocketAddr) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, self.router()).await
    }
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let mut failed = serde_json::Map::new();
    if health.stopping.is_cancelled() {
        failed.insert("shutdown".to_owned(), "in progress".into());
    }
    for (name, check) in health.checks.iter() {
        let outcome = tokio::time::timeout(CHECK_TIMEOUT, check()).await;
        let problem = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => format!("no answer within {} s", CHECK_TIMEOUT.as_secs()),
        };
        failed.insert((*name).to_owned(), problem.into());
    }
    let status = if failed.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": failed.is_empty(), "failed": failed })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    async fn status(health: &Health) -> StatusCode {
        ready(State(health.clone())).await.into_response().status()
    }

    #[tokio::test]
    async fn ready_while_all_checks_pass_and_nothing_stops() {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let stopping = CancellationToken::new();
        let health = Health::new(stopping.clone(), metrics.clone()).check("fine", async || Ok::<_, String>(()));
        assert_eq!(status(&health).await, StatusCode::OK);
        stopping.cancel();
        assert_eq!(status(&health).await, StatusCode::SERVICE_UNAVAILABLE);
        let health = Health::new(CancellationToken::new(), metrics).check("database", async || Err("refused"));
        assert_eq!(status(&health).await, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails() {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let health = Health::new(CancellationToken::new(), metrics)
            .check("slow", async || std::future::pending::<Result<(), String>>().await);
        assert_eq!(status(&health).await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
