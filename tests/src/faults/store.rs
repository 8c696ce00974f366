//! An HTTP proxy before the object store, which fails by chance, by seed the same chances in the same order, or answers slowly.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

/// The largest request that is passed on.
const MAX_BODY: usize = 64 << 20;
/// For the store behind to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How slowly photographs arrive where a test needs time to interfere: see [`StoreFaults::pace`].
pub const PACE: Duration = Duration::from_millis(100);

/// How likely each fault is for each request, from 0 to 1; what is left of 1 is well.
#[derive(Debug, Clone, Copy, Default)]
pub struct Odds {
    /// Status 500.
    pub error: f64,
    /// Status 503 with the code `SlowDown`.
    pub slow_down: f64,
    /// Half of the body, then the connection ends.
    pub truncated: f64,
    /// Half of the body, then nothing comes any more.
    pub stalled: f64,
}

impl Odds {
    /// This share of all requests fails, in equal parts in each of the ways that fail at once.
    pub fn brown_out(share: f64) -> Self {
        Self { error: share / 3.0, slow_down: share / 3.0, truncated: share / 3.0, stalled: 0.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Error,
    SlowDown,
    Truncated,
    Stalled,
}

/// The proxy. It ends when this is dropped.
pub struct StoreFaults {
    address: String,
    chance: Chance,
    pace: watch::Sender<Duration>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Chance(Arc<Mutex<(Odds, StdRng, u64)>>);

impl Chance {
    fn draw(&self) -> Option<Fault> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let odds = state.0;
        let mut at = state.1.random_range(0.0..1.0);
        let faults = [
            (odds.error, Fault::Error),
            (odds.slow_down, Fault::SlowDown),
            (odds.truncated, Fault::Truncated),
            (odds.stalled, Fault::Stalled),
        ];
        for (share, fault) in faults {
            if at < share {
                state.2 += 1;
                return Some(fault);
            }
            at -= share;
        }
        None
    }
}

/// One request after another, each after the time that is set just then.
#[derive(Clone)]
struct Queue {
    pace: watch::Receiver<Duration>,
    turn: Arc<Semaphore>,
}

impl Queue {
    async fn wait(&mut self) {
        if self.pace.borrow_and_update().is_zero() {
            return;
        }
        // Never closed.
        let _turn = self.turn.acquire().await;
        let pace = *self.pace.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(pace) => {}
            _ = self.pace.wait_for(Duration::is_zero) => {}
        }
    }
}

#[derive(Clone)]
struct Proxy {
    store: String,
    client: reqwest::Client,
    chance: Chance,
    queue: Queue,
}

impl StoreFaults {
    /// A proxy before the store at this URL, which passes everything on until it is given odds.
    pub async fn before(store: &str, seed: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chance = Chance(Arc::new(Mutex::new((Odds::default(), StdRng::seed_from_u64(seed), 0))));
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap();
        let (pace, paced) = watch::channel(Duration::ZERO);
        let queue = Queue { pace: paced, turn: Arc::new(Semaphore::new(1)) };
        let proxy = Proxy { store: store.trim_end_matches('/').to_owned(), client, chance: chance.clone(), queue };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(pass).with_state(proxy);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, chance, pace, serving }
    }

    /// Where it listens: `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes the odds.
    pub fn set(&self, odds: Odds) {
        self.chance.0.lock().unwrap_or_else(PoisonError::into_inner).0 = odds;
    }

    /// Answers one request after another from now on, each after so long: a job then takes as long on a fast machine as on a slow
    /// one, and there is time to interfere. Zero lets everything pass at once, what waits too.
    pub fn pace(&self, each: Duration) {
        self.pace.send_replace(each);
    }

    /// How many requests met a fault so far.
    pub fn faults(&self) -> u64 {
        self.chance.0.lock().unwrap_or_else(PoisonError::into_inner).2
    }
}

impl Drop for StoreFaults {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(mut proxy): State<Proxy>, request: Request) -> Response {
    proxy.queue.wait().await;
    let fault = proxy.chance.draw();
    match fault {
        Some(Fault::Error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        Some(Fault::SlowDown) => return refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        _ => {}
    }
    match forward(&proxy, request).await {
        Ok((status, headers, bytes)) => answer(status, headers, bytes, fault),
        Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
    }
}

/// As the client has signed it, its `Host` too.
async fn forward(proxy: &Proxy, request: Request) -> Result<(StatusCode, HeaderMap, Bytes), String> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| error.to_string())?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let request =
        proxy.client.request(parts.method, format!("{}{path}", proxy.store)).headers(parts.headers).body(body);
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    Ok((status, headers, bytes))
}

fn answer(status: StatusCode, mut headers: HeaderMap, bytes: Bytes, fault: Option<Fault>) -> Response {
    headers.remove(header::TRANSFER_ENCODING);
    let half = bytes.slice(..bytes.len() / 2);
    let begun = stream::once(async move { Ok::<_, std::io::Error>(half) });
    // The header promises all of it.
    let body = match fault {
        Some(Fault::Truncated) if !bytes.is_empty() => {
            Body::from_stream(begun.chain(stream::once(async { Err(std::io::ErrorKind::ConnectionAborted.into()) })))
        }
        Some(Fault::Stalled) if !bytes.is_empty() => Body::from_stream(begun.chain(stream::pending())),
        _ => Body::from(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}
