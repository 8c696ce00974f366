//! The SQL goes by the life cycle of `domain`: each event, in each state, with the right attempt number and with others, does on Postgres
//! what [`TaskEvent::step`] says, and nothing else.

use std::time::Duration;

use perito_database::{AfterFailure, Claim, ClaimedTask, ErrorKind};
use perito_domain::{
    lifecycle::{JobKind, JobState, TaskEvent, TaskRow, TaskState},
    retry::ErrorClass,
};
use uuid::Uuid;

use crate::world::{LEASE, World, all_scored};

/// The attempt that the task is in; a worker holds one that was, one that is, or one that will be.
const ATTEMPT: i32 = 4;

struct Held {
    world: World,
    job: Uuid,
    id: Uuid,
    task: Box<ClaimedTask>,
}

/// A task, and a worker that has claimed it once.
async fn held() -> Held {
    let world = World::new().await;
    world.images(2).await;
    let job = world.scoring(2).await;
    let id = world.tasks(job).await[0];
    world.execute(&format!("update tasks set attempt = {ATTEMPT} - 1")).await;
    let task = world.claim(id).await;
    Held { world, job, id, task }
}

impl Held {
    /// Puts the task into a state and an attempt, whatever was before.
    async fn put(&self, state: TaskState, attempt: u32) {
        self.world.execute("delete from predictions").await;
        self.world.execute("delete from image_failures").await;
        self.world.execute("delete from tasks where parent_id is not null").await;
        self.world
            .execute("update jobs set state = 'running', finished_at = null, task_counts = null, paused_at = null, priority = 4")
            .await;
        self.world
            .execute(&format!(
                "update tasks set state = '{state}', attempt = {attempt}, attempts_spent = 1, crashes = 0, not_before = now(),
                        dispatched_at = now() - interval '1 hour', worker = 'w',
                        image_ids = (select array_agg(id order by id) from images),
                        lease_expires_at = case when '{state}' = 'running' then now() + interval '1 minute' end"
            ))
            .await;
        self.world.execute("delete from attempts").await;
        self.world
            .execute(&format!("insert into attempts (task_id, attempt, worker) values ('{}', {attempt}, 'w')", self.id))
            .await;
    }

    /// Lets the event happen; `token` is the attempt that the worker or the message believes in.
    async fn happen(&self, event: TaskEvent, token: u32) {
        let Self { world, job, id, task } = self;
        let db = &world.db;
        let refused = |error: perito_database::Error| assert_eq!(error.kind(), ErrorKind::StaleAttempt, "{error}");
        // What the reaper decides depends on what is known of the task.
        let reap = async |knowledge: &str| {
            world.execute(&format!("update tasks set {knowledge}")).await;
            world
                .execute("update tasks set lease_expires_at = now() - interval '1 second' where state = 'running'")
                .await;
            db.reap_expired(10).await.unwrap();
        };
        let crashed = |times: u32| {
            format!(
                "insert into attempts (task_id, attempt, worker, ended_at, outcome, error_class)
             select '{id}', -n, 'w', now(), 'expired', 'silent' from generate_series(1, {times}) n"
            )
        };
        match event {
            TaskEvent::Dispatch => drop(world.dispatch_all(JobKind::Score).await),
            TaskEvent::LoseMessage => drop(db.reap_lost(JobKind::Score, 0, Duration::ZERO).await.unwrap()),
            TaskEvent::Recall => drop(db.pause(*job).await.unwrap()),
            TaskEvent::Claim => {
                let claim = db.claim(*id, token, "w", LEASE).await.unwrap();
                if let Claim::Claimed(task) = claim {
                    assert_eq!(task.lease.attempt().unsigned_abs(), token);
                }
            }
            TaskEvent::Succeed => db.commit_score(task, &all_scored(task)).await.unwrap_or_else(refused),
            TaskEvent::Retry | TaskEvent::Fail => {
                let (class, after) = match event {
                    TaskEvent::Retry => (ErrorClass::Transient, AfterFailure::Retried),
                    _ => (ErrorClass::Permanent, AfterFailure::Failed),
                };
                match db.fail(&task.lease, class, "x", Duration::ZERO).await {
                    Ok(then) => assert_eq!(then, after),
                    Err(error) => refused(error),
                }
            }
            TaskEvent::Release => db.release(&task.lease).await.unwrap_or_else(refused),
            TaskEvent::Expire => reap("attempts_spent = 1").await,
            TaskEvent::Exhaust => reap("attempts_spent = max_attempts").await,
            TaskEvent::Split => {
                world.execute(&crashed(1)).await;
                reap("attempts_spent = 2").await;
            }
            TaskEvent::GiveUp => {
                world.execute(&crashed(2)).await;
                reap("image_ids = image_ids[:1]").await;
            }
            TaskEvent::Reopen => {
                world.execute("update jobs set state = 'failed', finished_at = now()").await;
                match db.retry_job(*job, false).await {
                    Ok(reopened) => assert_eq!(reopened.state, JobState::Running),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                }
            }
            TaskEvent::Cancel => drop(db.cancel(*job).await.unwrap()),
        }
    }

    async fn row(&self) -> TaskRow {
        let sql = format!("select state || ' ' || attempt from tasks where id = '{}'", self.id);
        let text = self.world.text(&sql).await;
        let (state, attempt) = text.split_once(' ').unwrap();
        TaskRow { state: state.parse().unwrap(), attempt: attempt.parse().unwrap() }
    }
}

#[tokio::test]
async fn sql_allows_what_the_life_cycle_allows_and_nothing_else() {
    let held = held().await;
    let lease = held.task.lease.attempt().unsigned_abs();
    let mut moved = 0;
    for event in TaskEvent::ALL {
        for state in TaskState::ALL.iter().copied() {
            // The worker's attempt is the task's, an earlier one, or (as it never should be) a later one.
            for attempt in [lease - 1, lease, lease + 1] {
                held.put(state, attempt).await;
                let token = lease;
                let expected = event.step(TaskRow { state, attempt }, token);
                held.happen(event, token).await;
                let expected = expected.inspect(|_| moved += 1).unwrap_or(TaskRow { state, attempt });
                let found = held.row().await;
                assert_eq!(found, expected, "{event:?} of attempt {token} in {state} {attempt}");
                let results = held.world.number("select count(*) from predictions").await;
                let committed = event == TaskEvent::Succeed && expected.state != state;
                assert_eq!(results, if committed { 2 } else { 0 }, "{event:?} in {state} {attempt}");
            }
        }
    }
    // Those without a fence move in three cases each, the others in one: counted here so that a test that compares nothing shows.
    assert_eq!(moved, 3 * (3 + 4 + 3 + 2) + 5, "moves that were seen");
}
