//! One request and its answer: timeouts, repetitions, what refusals become.

use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use perito_domain::{access::Token, audit::Signature};
use perito_runtime::{Secret, tls};
use reqwest::{
    Certificate, Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::ApiError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the coordinator's own limit for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_RETRIES: usize = 3;

/// A client of the coordinator.
#[derive(Debug, Clone)]
pub struct Api {
    pub(super) http: reqwest::Client,
    pub(super) base: Url,
}

/// An answer: what it means and, for `--json`, its text as it came.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What it means.
    pub value: T,
    /// The JSON as the API wrote it.
    pub text: String,
    /// Whether the request made something (status 201).
    pub created: bool,
}

/// Whether doing something twice is as good as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It is: repeat it whenever the answer is lost.
    Safe,
    /// It is not: repeat it only when it certainly was not done.
    Unsafe,
}

pub(super) struct Request {
    method: Method,
    pub(super) url: Url,
    body: Option<Value>,
    pub(super) idempotency_key: Option<String>,
    repeat: Repeat,
}

pub(super) type Result<T> = std::result::Result<Answer<T>, ApiError>;

impl Api {
    /// A client of the coordinator at this URL, with a token if the caller has one. Nothing is connected yet.
    ///
    /// # Errors
    /// When the TLS implementation cannot be set up, or the token is none.
    pub fn new(base: Url, token: Option<&Secret>) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let token: Token = token.expose().trim().parse().context("PERITO_TOKEN")?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).context("PERITO_TOKEN")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(format!("perito/{}", perito_runtime::version()))
            .tls_certs_merge(authorities()?)
            .build()
            .context("set up the HTTP client")?;
        Ok(Self { http, base })
    }

    /// The coordinator's URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    pub(super) fn request(&self, method: Method, path: &[&str], repeat: Repeat) -> Request {
        let mut url = self.base.clone();
        // Only a URL without a host has no segments; the command line refuses those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        Request { method, url, body: None, idempotency_key: None, repeat }
    }

    pub(super) async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let attempt = || self.attempt(&request);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(MAX_RETRIES)
            .with_jitter();
        attempt
            .retry(backoff)
            .when(|error: &ApiError| error.may_be_repeated(request.repeat == Repeat::Safe))
            .notify(|error, wait| {
                tracing::info!(error.message = %error, wait.seconds = wait.as_secs_f64(), "trying again");
            })
            .await
    }

    async fn attempt<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let mut builder = self.http.request(request.method.clone(), request.url.clone());
        let traceparent = perito_runtime::trace::current_traceparent();
        if !traceparent.is_empty() {
            builder = builder.header("traceparent", traceparent);
        }
        if let Some(key) = &request.idempotency_key {
            builder = builder.header("Idempotency-Key", key);
        }
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(|error| ApiError::unreachable(&self.base, &error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| ApiError::unreachable(&self.base, &error))?;
        if !status.is_success() {
            return Err(ApiError::refused(&self.base, status, &text));
        }
        let value = serde_json::from_str(&text).map_err(|error| ApiError::Unexpected {
            url: request.url.to_string(),
            detail: format!("status {status}, but not the JSON that was expected: {error}"),
        })?;
        Ok(Answer { value, text, created: status == StatusCode::CREATED })
    }
}

/// The certificate authorities that are trusted besides the machine's own.
fn authorities() -> anyhow::Result<Vec<Certificate>> {
    let Some(pem) = tls::ca_bundle()? else { return Ok(Vec::new()) };
    Certificate::from_pem_bundle(pem.as_bytes()).context(tls::CA_FILE)
}

impl Request {
    pub(super) fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}

/// Sets a field that the caller has a value for.
pub(super) fn set(body: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[field] = value.into();
    }
}

/// Says who asks for this, and why.
pub(super) fn sign(body: &mut Value, signature: &Signature) {
    set(body, "by", signature.by());
    set(body, "reason", signature.reason());
}
