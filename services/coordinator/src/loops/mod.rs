//! The loops that move jobs along. Each is safe in any number of replicas: the database decides who does what.
//!
//! | loop | what one step does | wakes |
//! |---|---|---|
//! | `planner` | freezes one queued job into tasks | the dispatcher |
//! | `dispatcher` (one for each kind) | publishes runnable tasks, up to the window | |
//! | `lease_reaper` | returns tasks whose worker has died, or splits them | the dispatcher |
//! | `message_reaper` | returns dispatched tasks whose message is gone | the dispatcher |
//! | `worker_registry` | forgets workers that are gone | |
//! | `finisher` | ends jobs whose tasks have ended | |
//! | `intake` | moves photographs from the staging table to the catalogue | |
//! | `event_reaper` | forgets the object store's old events | |
//! | `scheduler` | submits the jobs of schedules whose time has come | the planner |
//! | `gauges` | measures what waits and for how long | |
//!
//! To add a loop: a module with a `Step`, and a line in [`start`].

mod dispatcher;
mod event_reaper;
mod finisher;
mod gauges;
mod intake;
mod lease_reaper;
mod message_reaper;
mod planner;
mod queues;
mod scheduler;
mod wake;
mod worker_registry;

use std::{sync::Arc, time::Duration};

use perito_broker::{Consumer, Publisher};
use perito_database::Database;
use perito_domain::{lifecycle::JobKind, retry::Backoff};
use perito_runtime::lifecycle::Shutdown;
use rand::RngExt;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use dispatcher::Dispatcher;
use event_reaper::EventReaper;
use finisher::Finisher;
use gauges::Gauges;
use intake::Intake;
use lease_reaper::LeaseReaper;
use message_reaper::MessageReaper;
use planner::Planner;
pub use queues::Queues;
pub use scheduler::Scheduler;
pub use wake::Wake;
use worker_registry::WorkerRegistry;

use crate::{
    config::{IntakeArgs, LoopArgs},
    store_events::consumer::{PREFETCH, StoreEvents},
};

/// After a failed step. The cap is how late a loop may notice that a server is back.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// How soon a loop that found work looks again, when what it waits for happens elsewhere.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);

/// For steps whose one statement may take as long as the database allows.
const LONG: Duration = Duration::from_secs(330);

/// How often the reapers and the gauges look, as a multiple of the poll interval: nobody waits for them.
const SLOW: u32 = 4;

/// What the loops work with.
pub struct Loops {
    /// Where jobs and tasks are.
    pub database: Database,
    /// Where messages go.
    pub publisher: Publisher,
    /// Where the object store's events come from.
    pub consumer: Consumer,
    /// The bells of this process.
    pub wake: Wake,
    /// What the broker holds, for others to know.
    pub queues: Queues,
    /// How often, and how much at once.
    pub pace: LoopArgs,
    /// Where photographs come from.
    pub intake: IntakeArgs,
}

/// Starts every loop; they end when the shutdown begins.
pub fn start(loops: &Loops, shutdown: &Shutdown) {
    let Loops { database, publisher, consumer, wake, queues, pace, intake } = loops;
    let (often, seldom) = (pace.poll_interval, pace.poll_interval * SLOW);
    let planner = Planner { database: database.clone(), wake: wake.clone() };
    spawn(shutdown, often, wake.planner(), planner);
    for kind in JobKind::ALL.iter().copied() {
        let dispatcher = Dispatcher {
            database: database.clone(),
            publisher: publisher.clone(),
            kind,
            window: pace.window,
            refused: false,
        };
        spawn(shutdown, often, wake.dispatcher(kind), dispatcher);
    }
    spawn(shutdown, often, Arc::default(), Finisher { database: database.clone() });
    spawn(shutdown, often, wake.scheduler(), Scheduler::new(database.clone(), wake.clone()));
    let lease_reaper = LeaseReaper::new(database.clone(), wake.clone());
    spawn(shutdown, often, Arc::default(), lease_reaper);
    let message_reaper = MessageReaper {
        database: database.clone(),
        publisher: publisher.clone(),
        wake: wake.clone(),
        queues: queues.clone(),
        lost_after: pace.lost_after,
    };
    spawn(shutdown, seldom, Arc::default(), message_reaper);
    spawn(shutdown, seldom, Arc::default(), Gauges { database: database.clone() });
    spawn(shutdown, seldom, Arc::default(), WorkerRegistry { database: database.clone() });
    let staged = Intake { database: database.clone(), claims: intake.claims() };
    spawn(shutdown, often, Arc::default(), staged);
    spawn(shutdown, event_reaper::INTERVAL, Arc::default(), EventReaper { database: database.clone() });
    if !intake.s3_events.is_empty() {
        let events = StoreEvents {
            database: database.clone(),
            watched: intake.s3_events.clone(),
            claims: intake.claims(),
            stop: shutdown.soft().clone(),
        };
        shutdown.spawn(events.run(consumer.start_store_events(PREFETCH, shutdown.soft().clone())));
    }
}

fn spawn(shutdown: &Shutdown, interval: Duration, bell: Arc<Notify>, step: impl Step) {
    shutdown.spawn(run(interval, bell, shutdown.soft().clone(), step));
}

/// What a loop does over and over.
trait Step: Send + 'static {
    /// The loop's name in logs and metrics.
    const NAME: &'static str;

    /// How long one step may take. A server's own timeouts do not reach a connection that fell silent.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Does what there is to do now, or some of it.
    fn step(&mut self) -> impl Future<Output = anyhow::Result<Pace>> + Send;
}

/// What a step found, and so when the next one is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// There is more to do now.
    Again,
    /// It did something, and more may come of it soon.
    Busy,
    /// Nothing to do: wait for the interval, or to be woken.
    Idle,
}

/// Works until `stop`. An error is logged here, once for as long as it stays the same, and never ends the loop.
async fn run<S: Step>(interval: Duration, bell: Arc<Notify>, stop: CancellationToken, mut work: S) {
    let mut failures = 0;
    let mut reported = String::new();
    while !stop.is_cancelled() {
        let started = Instant::now();
        // A step is cut short only by timeouts, so that a shutdown never leaves one half observed.
        let outcome = tokio::time::timeout(S::LIMIT, work.step())
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {} s", S::LIMIT.as_secs())));
        metrics::histogram!("perito_loop_seconds", "loop" => S::NAME).record(started.elapsed());
        let wait = match outcome {
            Ok(pace) => {
                if failures > 0 {
                    tracing::info!(loop.name = S::NAME, loop.failures = failures, "loop recovered");
                    failures = 0;
                    reported.clear();
                }
                match pace {
                    Pace::Again => continue,
                    Pace::Busy => BUSY_INTERVAL,
                    Pace::Idle => jittered(interval),
                }
            }
            Err(error) => {
                metrics::counter!("perito_loop_errors_total", "loop" => S::NAME).increment(1);
                failures += 1;
                let message = format!("{error:#}");
                if message != reported {
                    tracing::warn!(loop.name = S::NAME, error.message = message, "loop failed, will go on trying");
                    reported = message;
                }
                let delay = BACKOFF.delay(failures, &mut rand::rng());
                // Work that arrives does not make a failing server answer sooner: no waking here.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(delay) => continue,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Between three quarters and five quarters of the interval: replicas that start together drift apart.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.75..=1.25))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3600);

    /// Never answers the first time.
    struct Silent {
        asked: u32,
        stop: CancellationToken,
    }

    impl Step for Silent {
        const NAME: &'static str = "silent";

        async fn step(&mut self) -> anyhow::Result<Pace> {
            self.asked += 1;
            if self.asked == 1 {
                std::future::pending::<()>().await;
            }
            self.stop.cancel();
            Ok(Pace::Idle)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_is_given_up() {
        let started = Instant::now();
        let stop = CancellationToken::new();
        let silent = Silent { asked: 0, stop: stop.clone() };
        run(INTERVAL, Arc::default(), stop, silent).await;
        assert!(started.elapsed() >= Silent::LIMIT && started.elapsed() < 2 * Silent::LIMIT, "{:?}", started.elapsed());
    }

    /// Steps with these outcomes; stops the loop with the last.
    struct Script {
        outcomes: VecDeque<Result<Pace, &'static str>>,
        stop: CancellationToken,
    }

    impl Step for Script {
        const NAME: &'static str = "script";

        async fn step(&mut self) -> anyhow::Result<Pace> {
            let outcome = self.outcomes.pop_front().unwrap();
            if self.outcomes.is_empty() {
                self.stop.cancel();
            }
            outcome.map_err(anyhow::Error::msg)
        }
    }

    /// How long a loop takes for these steps, on a paused clock.
    async fn time(outcomes: &[Result<Pace, &'static str>], bell: Notify) -> Duration {
        let started = Instant::now();
        let stop = CancellationToken::new();
        let script = Script { outcomes: outcomes.iter().copied().collect(), stop: stop.clone() };
        run(INTERVAL, Arc::new(bell), stop, script).await;
        started.elapsed()
    }

    fn rung() -> Notify {
        let bell = Notify::new();
        bell.notify_one();
        bell
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_decides_when_the_next_step_is_due() {
        let again = time(&[Ok(Pace::Again), Ok(Pace::Again), Ok(Pace::Idle)], Notify::new()).await;
        assert_eq!(again, Duration::ZERO);
        let busy = time(&[Ok(Pace::Busy), Ok(Pace::Idle)], Notify::new()).await;
        assert!(busy >= BUSY_INTERVAL && busy < 2 * BUSY_INTERVAL, "{busy:?}");
        let idle = time(&[Ok(Pace::Idle), Ok(Pace::Idle)], Notify::new()).await;
        assert!(idle >= INTERVAL.mul_f64(0.75) && idle <= INTERVAL.mul_f64(1.26), "{idle:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_can_be_woken_even_before_it_waits() {
        assert_eq!(time(&[Ok(Pace::Idle), Ok(Pace::Idle)], rung()).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_waited_out_and_never_end_the_loop() {
        let took = time(&[Err("no route to host"); 20], rung()).await;
        assert!(took > Duration::from_secs(10) && took <= 19 * BACKOFF.cap, "{took:?}");
    }
}
