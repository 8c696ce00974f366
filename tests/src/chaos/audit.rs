//! Whether anything was lost, doubled, stuck or shown in part.

use std::{collections::HashMap, time::Duration};

use sqlx::Row;

use super::{queue::Queue, reader::Seen};
use crate::{cluster::Cluster, system::System};

/// Probabilities of two runs may differ by this much.
const TOLERANCE: f32 = 1e-5;

/// What is wrong with the scoring jobs of a run, next to an undisturbed one: nothing, if all is well.
pub async fn jobs(system: &System, jobs: &[String], undisturbed: &str, images: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    let (scores, failures) = (system.scores(undisturbed).await, failures(system, undisturbed).await);
    if scores.len() + failures.len() != images as usize {
        wrong.push(format!("the undisturbed run has {} scores and {} failures", scores.len(), failures.len()));
    }
    for job in jobs {
        let state = system.get(&format!("/v1/jobs/{job}")).await;
        if state["state"] != "succeeded" {
            wrong.push(format!("job {job} is {}: {}", state["state"], state["error"]));
            continue;
        }
        let found = system.scores(job).await;
        let same = found.len() == scores.len()
            && found.iter().zip(&scores).all(|(one, other)| {
                (one.0, &one.1) == (other.0, &other.1)
                    && one.2.iter().zip(other.2).all(|(one, other)| (one - other).abs() < TOLERANCE)
            });
        if !same {
            wrong.push(format!(
                "job {job} has {} scores that are not those of the undisturbed run ({})",
                found.len(),
                scores.len()
            ));
        }
        let failed = self::failures(system, job).await;
        if failed != failures {
            wrong.push(format!("job {job} has failures {failed:?}, the undisturbed run {failures:?}"));
        }
        let counted =
            (state["images"]["total"].as_i64(), state["images"]["scored"].as_i64(), state["images"]["failed"].as_i64());
        let rows = (Some(images), Some(found.len() as i64), Some(failed.len() as i64));
        if counted != rows {
            wrong.push(format!("job {job} counts {counted:?}, its rows are {rows:?}"));
        }
    }
    let checks = [
        ("tasks are stuck", "select count(*) from tasks where state not in ('succeeded', 'split')"),
        ("attempts have no end", "select count(*) from attempts where ended_at is null"),
        ("jobs count otherwise than their tasks", "select count(*) from (select j.id from jobs j join tasks t on t.job_id = j.id group by j.id
             having (j.images_scored, j.images_failed) is distinct from (sum(t.images_scored), sum(t.images_failed))) differ"),
        ("tasks have succeeded more than once", "select count(*) from (select task_id from attempts where outcome = 'succeeded'
             group by task_id having count(*) <> 1) twice"),
        ("tasks have succeeded without an attempt that has", "select count(*) from tasks t where state = 'succeeded' and not exists
             (select from attempts a where a.task_id = t.id and a.attempt = t.attempt and a.outcome = 'succeeded')"),
        ("photographs have both a score and a failure", "select count(*) from predictions p join image_failures f using (job_id, image_id)"),
    ];
    for (what, sql) in checks {
        let count = system.count(sql).await;
        if count != 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    wrong
}

/// What is wrong with the broker once everything has ended: nothing, if it is empty but for the garbage.
pub async fn broker(cluster: &mut Cluster, queue: &mut Queue, patience: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    queue.swept(patience).await;
    // What a worker holds unacknowledged returns to the queue as it ends, as when it waits for a link that was cut: whoever comes next gets it.
    let mut left = Err("not asked yet".to_owned());
    for _ in 0..2 {
        cluster.heal().await;
        let started = std::time::Instant::now();
        while queue.waiting().await != Ok(0) && started.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for worker in &mut cluster.workers {
            worker.process.signal("TERM");
        }
        for worker in &mut cluster.workers {
            worker.process.wait(patience).await;
        }
        left = queue.waiting().await;
        if left == Ok(0) {
            break;
        }
    }
    if left != Ok(0) {
        wrong.push(format!("messages left in the queue: {left:?}"));
    }
    if let Err(error) = queue.collect().await {
        wrong.push(format!("the dead-letter queue cannot be read: {error}"));
    }
    let lost: Vec<_> = queue.garbage.iter().filter(|id| !queue.dead.contains(id)).collect();
    if !lost.is_empty() {
        wrong.push(format!("messages that nobody can read, and that are gone: {lost:?}"));
    }
    let foreign: Vec<_> =
        queue.dead.iter().filter(|id| !queue.garbage.contains(*id) && !queue.doubtful.contains(*id)).collect();
    if !foreign.is_empty() {
        wrong.push(format!("dead letters that are not the run's: {foreign:?}"));
    }
    wrong
}

/// What the reader saw that should not be.
pub fn views(seen: &Seen) -> Vec<String> {
    let blind = (seen.looks == 0).then(|| "the reader never saw the views".to_owned());
    seen.partial.iter().cloned().chain(blind).collect()
}

/// How the attempts ended, with how many there were.
pub async fn outcomes(system: &System) -> Vec<(String, i64)> {
    let sql = "select outcome, count(*) from attempts where outcome is not null group by 1 order by 2 desc, 1";
    let rows = sqlx::query(sql).fetch_all(system.pool()).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn failures(system: &System, job: &str) -> HashMap<i64, String> {
    let sql = format!("select image_id, reason from image_failures where job_id = '{job}'");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(system.pool()).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
