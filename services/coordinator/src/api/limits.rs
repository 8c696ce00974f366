//! What a request may take: time, and a place among the others.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;

use super::problem::Problem;

/// Bounds of the requests in hand, shared by every route under `/v1`.
#[derive(Clone)]
pub struct Limits {
    places: Arc<Semaphore>,
    timeout: Duration,
}

impl Limits {
    /// At most so many requests at once, each for so long.
    pub fn new(concurrency: usize, timeout: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(concurrency)), timeout }
    }
}

/// Sheds load at once rather than queueing it, and gives up on what takes too long.
pub(super) async fn enforce(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let Ok(_place) = limits.places.try_acquire() else {
        return Problem::unavailable("too many requests are in hand: try again").into_response();
    };
    match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = limits.timeout.as_secs_f64();
            Problem::timeout(format!("no answer within {seconds} s: what was asked for may still have happened"))
                .into_response()
        }
    }
}
