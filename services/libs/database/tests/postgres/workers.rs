//! The registry of workers.

use std::time::Duration;

use perito_database::{ErrorKind, WorkerReport};
use perito_domain::lifecycle::JobKind;
use uuid::Uuid;

use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn report(name: &str) -> WorkerReport {
    WorkerReport {
        name: name.to_owned(),
        instance: Uuid::new_v4(),
        version: "1.2.3".to_owned(),
        device: "cpu".to_owned(),
        kinds: vec![JobKind::Score, JobKind::Train],
    }
}

#[tokio::test]
async fn a_beat_registers_a_worker_and_tells_which_leases_are_lost() {
    let world = World::new().await;
    world.images(2).await;
    let job = world.scoring(1).await;
    let tasks = world.tasks(job).await;
    let (kept, lost) = (world.claim(tasks[0]).await, world.claim(tasks[1]).await);
    let me = report("w");
    let beat = world.db.beat(&me, &[&kept.lease, &lost.lease]).await.unwrap();
    assert!(!beat.draining);
    assert_eq!(beat.held.len(), 2);
    world.execute(&format!("update tasks set attempt = attempt + 1 where id = '{}'", tasks[1])).await;
    assert_eq!(world.db.beat(&me, &[&kept.lease, &lost.lease]).await.unwrap().held, [tasks[0]]);
    world.db.cancel(job).await.unwrap();
    assert!(world.db.beat(&me, &[&kept.lease]).await.unwrap().held.is_empty());
}

#[tokio::test]
async fn the_registry_shows_who_lives_and_what_they_run() {
    let world = World::new().await;
    world.images(1).await;
    let job = world.scoring(1).await;
    let task = world.tasks(job).await[0];
    world.claim(task).await;
    world.db.beat(&report("w"), &[]).await.unwrap();
    world.db.beat(&report("idle"), &[]).await.unwrap();
    let workers = world.db.list_workers().await.unwrap();
    assert_eq!(workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>(), ["idle", "w"]);
    assert!(workers[0].running.is_empty());
    let (worker, running) = (&workers[1], &workers[1].running[0]);
    assert_eq!((running.task_id, running.job_id, running.kind), (task, job, JobKind::Score));
    assert!((0.0..60.0).contains(&running.seconds) && (0.0..60.0).contains(&worker.silent_seconds));
    assert_eq!((worker.version.as_str(), worker.device.as_str()), ("1.2.3", "cpu"));
    assert_eq!(worker.kinds, [JobKind::Score, JobKind::Train]);
}

#[tokio::test]
async fn a_worker_stays_drained_until_somebody_says_otherwise() {
    let world = World::new().await;
    let me = report("w");
    world.db.beat(&me, &[]).await.unwrap();
    world.db.drain_worker("w", true).await.unwrap();
    let since = world.db.list_workers().await.unwrap()[0].drained_at;
    world.db.drain_worker("w", true).await.unwrap();
    assert_eq!(world.db.list_workers().await.unwrap()[0].drained_at, since, "twice is fine");
    assert!(world.db.beat(&me, &[]).await.unwrap().draining);
    // It ends and comes back under its name; under another name it is another worker.
    let began = world.db.list_workers().await.unwrap()[0].started_at;
    world.db.leave("w", me.instance).await.unwrap();
    assert!(world.db.beat(&report("w"), &[]).await.unwrap().draining);
    assert!(world.db.list_workers().await.unwrap()[0].started_at > began);
    assert!(!world.db.beat(&report("w2"), &[]).await.unwrap().draining);
    world.db.drain_worker("w", false).await.unwrap();
    assert!(!world.db.beat(&report("w"), &[]).await.unwrap().draining);
    let refused = world.db.drain_worker("nobody", true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    assert!(refused.to_string().contains("nobody"), "{refused}");
}

#[tokio::test]
async fn workers_that_end_or_fall_silent_vanish() {
    let world = World::new().await;
    let (me, heir) = (report("w"), report("w"));
    world.db.beat(&me, &[]).await.unwrap();
    world.db.beat(&heir, &[]).await.unwrap();
    world.db.leave("w", me.instance).await.unwrap();
    assert_eq!(world.db.list_workers().await.unwrap().len(), 1, "the name is another life's by now");
    world.db.leave("w", heir.instance).await.unwrap();
    assert!(world.db.list_workers().await.unwrap().is_empty());

    world.db.beat(&report("silent"), &[]).await.unwrap();
    world.db.beat(&report("drained"), &[]).await.unwrap();
    world.db.drain_worker("drained", true).await.unwrap();
    assert_eq!(world.db.forget_workers(MINUTE, 60 * MINUTE).await.unwrap(), 0);
    world.execute("update workers set heartbeat_at = now() - interval '2 minutes'").await;
    assert_eq!(world.db.forget_workers(MINUTE, 60 * MINUTE).await.unwrap(), 1, "drained ones are kept for longer");
    world.execute("update workers set heartbeat_at = now() - interval '2 hours'").await;
    assert_eq!(world.db.forget_workers(MINUTE, 60 * MINUTE).await.unwrap(), 1);
}
