//! Claims, and commits, of the same moment share a transaction. Whoever comes while others are under way goes with the next one; whoever
//! is alone goes at once, by itself.
//!
//! What cannot go together goes by itself too, so that one bad task costs no other anything.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use perito_database::{Claim, ClaimedTask, Database, Error, Result, ScoreResult};
use perito_domain::message::TaskMessage;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::execute::{COMMIT_TIMEOUT, within};

/// The most that share a transaction.
const MOST: usize = 64;
/// Transactions of each sort at once, but for those that take long.
const AT_ONCE: usize = 2;
/// How long others wait for one, as when somebody else holds its rows.
const PATIENCE: Duration = Duration::from_millis(100);

/// A scoring task with what came of it.
pub type Done = (Arc<ClaimedTask>, Arc<ScoreResult>);

/// Where claims and commits meet.
pub struct Together {
    claims: mpsc::Sender<Request<(Uuid, u32), Claim>>,
    commits: mpsc::Sender<Request<Done, ()>>,
}

/// What somebody waits for.
struct Request<I, O> {
    item: I,
    answer: oneshot::Sender<Result<O>>,
    span: Span,
}

impl Together {
    /// For one worker. Ends with the last of its callers.
    pub fn start(database: Database, worker: String, lease: Duration) -> Self {
        let claiming = Claiming { database: database.clone(), worker, lease };
        Self {
            claims: gather(move |requests| claiming.clone().all(requests)),
            commits: gather(move |requests| commit_all(database.clone(), requests)),
        }
    }

    /// [`Database::claim`], perhaps with others.
    ///
    /// # Errors
    /// Those of a claim.
    pub async fn claim(&self, message: &TaskMessage) -> Result<Claim> {
        ask(&self.claims, (message.task_id, message.attempt_hint)).await
    }

    /// [`Database::commit_score`], perhaps with others.
    ///
    /// # Errors
    /// Those of a commit.
    pub async fn commit(&self, done: Done) -> Result<()> {
        ask(&self.commits, done).await
    }
}

async fn ask<I, O>(gathering: &mpsc::Sender<Request<I, O>>, item: I) -> Result<O> {
    let (answer, answered) = oneshot::channel();
    let request = Request { item, answer, span: Span::current() };
    // Neither fails but for a panic over there, which says more.
    gathering.send(request).await.map_err(|_| Error::given_up())?;
    answered.await.unwrap_or_else(|_| Err(Error::given_up()))
}

/// Hands over whatever has gathered, as soon as there is something and a place for it.
fn gather<I, O, F>(handle: impl Fn(Vec<Request<I, O>>) -> F + Clone + Send + 'static) -> mpsc::Sender<Request<I, O>>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(MOST);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..AT_ONCE {
        let (receiver, handle) = (Arc::clone(&receiver), handle.clone());
        tokio::spawn(async move {
            loop {
                let mut requests = Vec::new();
                if receiver.lock().await.recv_many(&mut requests, MOST).await == 0 {
                    return;
                }
                // In a task of its own, which may panic, and which others do not wait for when it takes long.
                let _done_or_not = timeout(PATIENCE, tokio::spawn(handle(requests))).await;
            }
        });
    }
    sender
}

#[derive(Clone)]
struct Claiming {
    database: Database,
    worker: String,
    lease: Duration,
}

impl Claiming {
    async fn all(self, mut requests: Vec<Request<(Uuid, u32), Claim>>) {
        // Whoever has given up wants no lease.
        requests.retain(|request| !request.answer.is_closed());
        let mut claimed = Vec::new();
        if let [first, _, ..] = &requests[..] {
            let wanted: Vec<_> = requests.iter().map(|request| request.item).collect();
            let claiming = self.database.claim_together(&wanted, &self.worker, self.lease);
            let claiming = within(self.lease, "claim tasks", claiming).instrument(first.span.clone());
            // What went wrong shows again where it belongs.
            claimed = claiming.await.unwrap_or_default();
        }
        let claimed = claimed.into_iter().chain(std::iter::repeat_with(|| None));
        let (mut alone, mut answered) = (Vec::new(), Vec::new());
        for (request, task) in requests.into_iter().zip(claimed) {
            match task {
                Some(task) => answered.push(self.hand_over(request.answer, Ok(Claim::Claimed(Box::new(task))))),
                None => alone.push(self.one(request)),
            }
        }
        join_all(answered).await;
        join_all(alone).await;
    }

    async fn one(&self, Request { item: (id, attempt), answer, span }: Request<(Uuid, u32), Claim>) {
        // The transaction of all may have outlasted its patience.
        if answer.is_closed() {
            return;
        }
        let claiming = self.database.claim(id, attempt, &self.worker, self.lease);
        let claim = within(self.lease, "claim the task", claiming).instrument(span).await;
        self.hand_over(answer, claim).await;
    }

    /// A lease for somebody who does not wait any more would only run out.
    async fn hand_over(&self, answer: oneshot::Sender<Result<Claim>>, claim: Result<Claim>) {
        if let Err(Ok(Claim::Claimed(task))) = answer.send(claim)
            && let Err(error) = self.database.release(&task.lease).await
        {
            tracing::debug!(error = %error, "a claim that came too late was not given back");
        }
    }
}

async fn commit_all(database: Database, mut requests: Vec<Request<Done, ()>>) {
    requests.retain(|request| !request.answer.is_closed());
    let mut committed = Vec::new();
    if let [first, _, ..] = &requests[..] {
        let done: Vec<_> = requests.iter().map(|request| (&*request.item.0, &*request.item.1)).collect();
        let committing = within(COMMIT_TIMEOUT, "commit", database.commit_scores_together(&done));
        committed = committing.instrument(first.span.clone()).await.unwrap_or_default();
    }
    let committed = committed.into_iter().chain(std::iter::repeat(false));
    let mut alone = Vec::new();
    for (Request { item: (task, result), answer, span }, committed) in requests.into_iter().zip(committed) {
        if committed {
            let _gone_or_not = answer.send(Ok(()));
        } else if !answer.is_closed() {
            let database = &database;
            alone.push(async move {
                let committing = within(COMMIT_TIMEOUT, "commit", database.commit_score(&task, &result));
                let outcome = committing.instrument(span).await;
                let _gone_or_not = answer.send(outcome);
            });
        }
    }
    join_all(alone).await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const LONG: Duration = Duration::from_millis(10);

    /// Answers with how many came together, after a while; for 0 never.
    fn counting() -> mpsc::Sender<Request<u32, usize>> {
        gather(async |requests: Vec<Request<u32, usize>>| {
            sleep(LONG).await;
            if requests.iter().any(|request| request.item == 0) {
                std::future::pending::<()>().await;
            }
            let together = requests.len();
            requests.into_iter().for_each(|request| request.answer.send(Ok(together)).unwrap());
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_goes_at_once_and_the_others_together() {
        let queue = counting();
        let began = Instant::now();
        let first = ask(&queue, 1).await.unwrap();
        assert_eq!((first, began.elapsed()), (1, LONG));
        let mut early = Vec::new();
        for number in [2, 3] {
            let queue = queue.clone();
            early.push(tokio::spawn(async move { ask(&queue, number).await }));
            sleep(Duration::from_millis(1)).await;
        }
        let late = join_all((4..44).map(|number| ask(&queue, number))).await;
        assert!(late.into_iter().all(|together| together.unwrap() == 40));
        for request in early {
            assert_eq!(request.await.unwrap().unwrap(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_those_who_never_end() {
        let queue = counting();
        let stuck: Vec<_> = [0, 0]
            .map(|number| {
                let queue = queue.clone();
                tokio::spawn(async move { ask(&queue, number).await })
            })
            .into();
        sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        ask(&queue, 1).await.unwrap();
        assert!(began.elapsed() <= PATIENCE + LONG, "{:?}", began.elapsed());
        assert!(stuck.iter().all(|request| !request.is_finished()));
    }
}
