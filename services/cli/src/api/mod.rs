//! The coordinator's HTTP API. Every request has a timeout; what can be repeated is, a few times, with jitter.

mod error;
mod recovery;
mod registry;
pub mod schedules;
pub mod tokens;
pub mod types;

use std::time::Duration;

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable as _};
use chrono::{DateTime, SecondsFormat, Utc};
use perito_domain::{
    access::Token,
    lifecycle::{JobKind, JobState},
    names::{DatasetRef, ModelRef, Name},
};
use perito_runtime::{Secret, tls};
use reqwest::{
    Certificate, Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

pub use error::ApiError;
pub use registry::Gate;
use schedules::{Backfill, Run, RunPage, Schedule, ScheduleList};
use types::{
    Backlog, Dataset, DatasetList, Draft, EpochList, Evaluation, Frozen, ImportModel, Item, Job, JobPage, Leaderboard,
    Model, ModelList, NewImage, Readiness, Registered, Settings, StageList, Status, Worker, WorkerList,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the coordinator's own limit for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_RETRIES: usize = 3;

/// A client of the coordinator.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: Url,
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

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Only jobs in this state.
    pub state: Option<JobState>,
    /// Only jobs of this kind.
    pub kind: Option<JobKind>,
    /// Only jobs that are paused.
    pub paused: bool,
    /// Only jobs of this model.
    pub model: Option<ModelRef>,
    /// Only jobs submitted since.
    pub since: Option<DateTime<Utc>>,
    /// The length of the page.
    pub limit: Option<u16>,
    /// Where the page starts.
    pub cursor: Option<Uuid>,
}

/// What can be done to a job that has not ended. Doing it twice is as good as once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It ends now.
    Cancel,
    /// Nothing of it starts any more.
    Pause,
    /// It goes on.
    Resume,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// Whether doing something twice is as good as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It is: repeat it whenever the answer is lost.
    Safe,
    /// It is not: repeat it only when it certainly was not done.
    Unsafe,
}

struct Request {
    method: Method,
    url: Url,
    body: Option<Value>,
    idempotency_key: Option<String>,
    repeat: Repeat,
}

type Result<T> = std::result::Result<Answer<T>, ApiError>;

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

    /// Submits a job. The key makes it safe to send again.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when the key was used for another specification.
    pub async fn submit(&self, spec: &Value, priority: Option<u8>, key: &str) -> Result<Job> {
        let mut body = json!({ "spec": spec });
        if let Some(priority) = priority {
            body["priority"] = priority.into();
        }
        let mut request = self.request(Method::POST, &["jobs"], Repeat::Safe).with(body);
        request.idempotency_key = Some(key.to_owned());
        self.send(request).await
    }

    /// One page of jobs, the newest first.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage> {
        let mut request = self.request(Method::GET, &["jobs"], Repeat::Safe);
        {
            let mut pairs = request.url.query_pairs_mut();
            let text = |value: Option<String>, name| value.map(|value| (name, value));
            pairs.extend_pairs(
                [
                    text(query.state.map(|state| state.to_string()), "state"),
                    text(query.kind.map(|kind| kind.to_string()), "kind"),
                    text(query.paused.then(|| "true".to_owned()), "paused"),
                    text(query.model.as_ref().map(ToString::to_string), "model"),
                    text(query.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Secs, true)), "since"),
                    text(query.limit.map(|limit| limit.to_string()), "limit"),
                    text(query.cursor.map(|cursor| cursor.to_string()), "cursor"),
                ]
                .into_iter()
                .flatten(),
            );
        }
        self.send(request).await
    }

    /// A job.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn job(&self, id: Uuid) -> Result<Job> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string()], Repeat::Safe)).await
    }

    /// The trials of a sweep.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn leaderboard(&self, id: Uuid) -> Result<Leaderboard> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "leaderboard"], Repeat::Safe)).await
    }

    /// What each stage of a scoring job has done with its time.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn stages(&self, id: Uuid) -> Result<StageList> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "stages"], Repeat::Safe)).await
    }

    /// The epochs that a training job has finished.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is no such job.
    pub async fn epochs(&self, id: Uuid) -> Result<EpochList> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "epochs"], Repeat::Safe)).await
    }

    /// What a training or evaluation job has measured.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when it has measured nothing.
    pub async fn evaluation(&self, id: Uuid) -> Result<Evaluation> {
        self.send(self.request(Method::GET, &["jobs", &id.to_string(), "evaluation"], Repeat::Safe)).await
    }

    /// Cancels, pauses or resumes a job.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when it has ended.
    pub async fn act(&self, id: Uuid, action: Action) -> Result<Job> {
        self.send(self.request(Method::POST, &["jobs", &id.to_string(), action.as_str()], Repeat::Safe)).await
    }

    /// Changes fields of a job that has not ended.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when it has ended.
    pub async fn change(&self, id: Uuid, fields: &Map<String, Value>) -> Result<Job> {
        self.send(self.request(Method::PATCH, &["jobs", &id.to_string()], Repeat::Safe).with(json!(fields))).await
    }

    /// The workers.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn workers(&self) -> Result<WorkerList> {
        self.send(self.request(Method::GET, &["workers"], Repeat::Safe)).await
    }

    /// Lets a worker take nothing new, or take tasks again.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn drain(&self, worker: &str, drain: bool) -> Result<Worker> {
        let action = if drain { "drain" } else { "undrain" };
        self.send(self.request(Method::POST, &["workers", worker, action], Repeat::Safe)).await
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn status(&self) -> Result<Status> {
        self.send(self.request(Method::GET, &["status"], Repeat::Safe)).await
    }

    /// Adds a schedule, or only says what would come of it.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when there is another one with this name.
    pub async fn add_schedule(&self, schedule: &Value, dry_run: bool) -> Result<Schedule> {
        let mut request = self.request(Method::POST, &["schedules"], Repeat::Safe).with(schedule.clone());
        request.url.query_pairs_mut().append_pair("dry_run", &dry_run.to_string());
        self.send(request).await
    }

    /// Every schedule.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn schedules(&self) -> Result<ScheduleList> {
        self.send(self.request(Method::GET, &["schedules"], Repeat::Safe)).await
    }

    /// A schedule.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::GET, &["schedules", name.as_str()], Repeat::Safe)).await
    }

    /// What became of a schedule's fire times, the newest first.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is no such schedule.
    pub async fn schedule_runs(&self, name: &Name, limit: u16, before: Option<DateTime<Utc>>) -> Result<RunPage> {
        let mut request = self.request(Method::GET, &["schedules", name.as_str(), "runs"], Repeat::Safe);
        request.url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(before) = before {
            request.url.query_pairs_mut().append_pair("before", &before.to_rfc3339());
        }
        self.send(request).await
    }

    /// Pauses a schedule.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn pause_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "pause"], Repeat::Safe)).await
    }

    /// Resumes a schedule.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn resume_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "resume"], Repeat::Safe)).await
    }

    /// Runs a schedule's job now.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when its overlap policy says so.
    pub async fn run_schedule_now(&self, name: &Name) -> Result<Run> {
        self.send(self.request(Method::POST, &["schedules", name.as_str(), "run-now"], Repeat::Unsafe)).await
    }

    /// Fills in runs, or only says which.
    ///
    /// # Errors
    /// [`ApiError`], `Refused` when the range has no fire time or too many.
    pub async fn backfill_schedule(
        &self,
        name: &Name,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Backfill> {
        let path = ["schedules", name.as_str(), "backfill"];
        let mut request = self.request(Method::POST, &path, Repeat::Safe).with(json!({ "from": from, "to": to }));
        request.url.query_pairs_mut().append_pair("dry_run", &dry_run.to_string());
        self.send(request).await
    }

    /// Removes a schedule.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn remove_schedule(&self, name: &Name) -> Result<Schedule> {
        self.send(self.request(Method::DELETE, &["schedules", name.as_str()], Repeat::Unsafe)).await
    }

    /// Registers a batch of images, at most [`crate::registration::BATCH`].
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn register(&self, images: &[NewImage]) -> Result<Registered> {
        self.send(self.request(Method::POST, &["images"], Repeat::Safe).with(json!({ "images": images }))).await
    }

    /// What waits to be scored.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn backlog(&self) -> Result<Backlog> {
        self.send(self.request(Method::GET, &["images", "backlog"], Repeat::Safe)).await
    }

    /// The settings.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn settings(&self) -> Result<Settings> {
        self.send(self.request(Method::GET, &["settings"], Repeat::Safe)).await
    }

    /// Changes the confidence from which a single photograph decides about its claim.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn set_claim_confidence(&self, confidence: f64) -> Result<Settings> {
        let body = json!({ "claim_confidence": confidence });
        self.send(self.request(Method::PUT, &["settings"], Repeat::Safe).with(body)).await
    }

    /// Begins the next version of a dataset. `origin` says what it is made of, where its images do not tell.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn create_dataset(&self, name: &Name, origin: Option<&str>) -> Result<Draft> {
        let mut body = json!({ "name": name });
        if let Some(origin) = origin {
            body["origin"] = origin.into();
        }
        // A draft that nobody fills is removed by the coordinator after a day.
        self.send(self.request(Method::POST, &["datasets"], Repeat::Safe).with(body)).await
    }

    /// Adds a batch of labelled images to a draft.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn add_items(&self, draft: i64, items: &[Item]) -> Result<Value> {
        let path = ["datasets", &draft.to_string(), "items"];
        self.send(self.request(Method::POST, &path, Repeat::Safe).with(json!({ "items": items }))).await
    }

    /// Freezes a draft.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn freeze(&self, draft: i64) -> Result<Frozen> {
        self.send(self.request(Method::POST, &["datasets", &draft.to_string(), "freeze"], Repeat::Unsafe)).await
    }

    /// Every frozen version of every dataset.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn datasets(&self) -> Result<DatasetList> {
        self.send(self.request(Method::GET, &["datasets"], Repeat::Safe)).await
    }

    /// A frozen version of a dataset.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn dataset(&self, reference: &DatasetRef) -> Result<Dataset> {
        self.send(self.request(Method::GET, &["datasets", &reference.to_string()], Repeat::Safe)).await
    }

    /// Registers a model whose weights are in the store.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn import_model(&self, model: &ImportModel) -> Result<Model> {
        self.send(self.request(Method::POST, &["models"], Repeat::Unsafe).with(json!(model))).await
    }

    /// The versions of all models, or of one.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn models(&self, name: Option<&Name>) -> Result<ModelList> {
        let mut request = self.request(Method::GET, &["models"], Repeat::Safe);
        if let Some(name) = name {
            request.url.query_pairs_mut().append_pair("name", name.as_str());
        }
        self.send(request).await
    }

    /// One version of a model.
    ///
    /// # Errors
    /// [`ApiError`], `NotFound` when there is none.
    pub async fn model(&self, reference: &ModelRef) -> Result<Model> {
        self.send(self.request(Method::GET, &["models", &reference.to_string()], Repeat::Safe)).await
    }

    /// Whether the coordinator can do its work, and if not, why: one attempt, for whoever looks for a fault.
    ///
    /// # Errors
    /// [`ApiError`] when nothing that speaks for a coordinator answers.
    pub async fn readiness(&self) -> std::result::Result<Readiness, ApiError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("readyz");
        }
        let asked = async { self.http.get(url.clone()).send().await?.text().await };
        let text = asked.await.map_err(|error| ApiError::unreachable(&self.base, &error))?;
        serde_json::from_str(&text).map_err(|error| ApiError::Unexpected {
            url: url.to_string(),
            detail: format!("not a coordinator's answer: {error}"),
        })
    }

    fn request(&self, method: Method, path: &[&str], repeat: Repeat) -> Request {
        let mut url = self.base.clone();
        // Only a URL without a host has no segments; the command line refuses those.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        Request { method, url, body: None, idempotency_key: None, repeat }
    }

    async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
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
    fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }
}
