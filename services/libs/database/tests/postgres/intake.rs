//! What other systems hand in: staged rows and events of the object store; and what waits to be scored.

use std::time::Duration;

use chrono::{DateTime, Utc};
use perito_database::{NewImage, ObjectChange, ObjectEvent, Taken};
use perito_domain::claims::ClaimRule;
use sqlx::AssertSqlSafe;

use crate::world::{World, all_scored, backlog, image};

const PARENT: ClaimRule = ClaimRule::ParentFolder;

async fn take(world: &World) -> Option<Taken> {
    world.db.take_staged(100, &PARENT).await.unwrap()
}

#[tokio::test]
async fn staged_rows_are_taken_in_their_order_and_bad_ones_moved_aside() {
    let world = World::new().await;
    assert_eq!(take(&world).await, None);
    world
        .execute(
            r#"insert into intake.staging (bucket, key, etag, size_bytes, claim_id, label) values
               ('b', 'c-1/1.jpg', '"v1"', 10, null, null), ('b', 'c-1/2.jpg', 'v1', 10, 'C 2', 'severe'),
               ('b', 'c-1/1.jpg', 'v2', 11, null, null), ('b', 'c-1/1.jpg', 'v1', 10, null, null), ('b', 'c-1/1.jpg', 'v3', 12, null, null),
               (null, 'k', 'e', 1, null, null), ('b', null, 'e', 1, null, null), ('b', 'k', '""', 1, null, null),
               ('b', 'k', 'e', null, null, null), ('b', 'k', 'e', -1, null, null), ('b', E'a\x1b[2Jb', 'e', 1, null, null),
               ('b', 'k', 'e', 1, E'C\n7', null), ('b', 'k', 'e', 1, repeat('c', 129), null), ('b', 'k', 'e', 1, null, 'total'),
               ('b', repeat('k', 1025), 'e', 1, null, null)"#,
        )
        .await;
    let taken = take(&world).await.unwrap();
    assert_eq!((taken.new, taken.known, taken.superseded, taken.rejected), (4, 1, 3, 10), "{taken:?}");
    assert_eq!(world.text("select etag from images where key = 'c-1/1.jpg' and superseded_at is null").await, "v3");
    assert_eq!(world.text("select claim_id from images where key = 'c-1/1.jpg' and etag = 'v3'").await, "c-1");
    assert_eq!(world.text("select claim_id || label from images where key = 'c-1/2.jpg'").await, "C 2severe");
    assert_eq!(world.number("select count(*) from intake.staging").await, 0);
    let reasons: Vec<(Option<String>, Option<String>, String)> =
        sqlx::query_as("select bucket, key, reason from intake.rejected order by staging_id")
            .fetch_all(world.test.pool())
            .await
            .unwrap();
    let words = [
        "bucket is null",
        "key is null",
        "etag has 0 bytes",
        "size_bytes is null",
        "size_bytes is -1",
        "key \"a\\u{1b}[2Jb\" has the control character U+001B",
        "claim_id \"C\\n7\" has the control character U+000A",
        "claim_id has 129 bytes: expected 1 to 128",
        "label: unknown severity \"total\"",
        "key has 1025 bytes: expected 1 to 1024",
    ];
    assert_eq!(reasons.len(), words.len());
    for ((_, _, reason), words) in reasons.iter().zip(words) {
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!((reasons[0].0.as_deref(), reasons[0].1.as_deref()), (None, Some("k")), "as it was inserted");

    // A row that was mended goes the same way again.
    world
        .execute(
            "with back as (delete from intake.rejected where reason = 'size_bytes is null' returning *)
             insert into intake.staging (bucket, key, etag, size_bytes) select bucket, key, etag, 5 from back",
        )
        .await;
    assert_eq!(take(&world).await.unwrap().new, 1);
    assert_eq!(world.number("select count(*) from intake.rejected").await, 9);
}

#[tokio::test]
async fn staging_is_idempotent_and_every_row_is_taken_once_by_any_number_of_replicas() {
    let world = World::new().await;
    let insert = "insert into intake.staging (bucket, key, etag, size_bytes)
                  select 'b', 'c/' || n || '.jpg', 'e', n from generate_series(1, 1000) n";
    world.execute(insert).await;
    let drain = async || {
        let mut sum = Taken::default();
        for _ in 0..100 {
            match world.db.take_staged(50, &PARENT).await.unwrap() {
                Some(taken) => (sum.new, sum.known) = (sum.new + taken.new, sum.known + taken.known),
                None if world.number("select count(*) from intake.staging").await == 0 => break,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        sum
    };
    let (first, second) = tokio::join!(drain(), drain());
    assert_eq!((first.new + second.new, first.known + second.known), (1000, 0));
    world.execute(insert).await;
    assert_eq!(drain().await, Taken { known: 1000, ..Taken::default() });
    assert_eq!(world.number("select count(*) from images").await, 1000);
}

#[tokio::test]
async fn a_claim_system_may_insert_and_nothing_else() {
    let world = World::new().await;
    // The tests' role is no superuser: it may look through the role's eyes once it is a member.
    world.execute("grant perito_intake to current_user").await;
    let mut connection = world.test.pool().acquire().await.unwrap();
    sqlx::query("set role perito_intake").execute(&mut *connection).await.unwrap();
    sqlx::query(
        "insert into intake.staging (bucket, key, etag, size_bytes, claim_id) values ('b', 'k.jpg', 'e', 1, 'C')",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
    for forbidden in [
        "select * from intake.staging",
        "delete from intake.staging",
        "update intake.staging set key = 'x'",
        "insert into intake.staging (bucket, key, etag, size_bytes, inserted_by) values ('b', 'k', 'e', 1, 'someone else')",
        "truncate intake.staging",
        "select * from intake.rejected",
        "insert into images (bucket, key, etag, size_bytes) values ('b', 'k', 'e', 1)",
        "select * from images",
        "select * from analytics.backlog",
    ] {
        let refused = sqlx::query(AssertSqlSafe(forbidden)).execute(&mut *connection).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{forbidden}: {refused}");
    }
    let huge = "insert into intake.staging (bucket, key) values ('b', repeat('k', 20000))";
    let refused = sqlx::query(huge).execute(&mut *connection).await.unwrap_err().to_string();
    assert!(refused.contains("staging_row_length"), "{refused}");
    sqlx::query("reset role").execute(&mut *connection).await.unwrap();
    assert_eq!(take(&world).await.unwrap().new, 1);
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_772_000_000 + second, 0).unwrap()
}

/// An event of the object `a.jpg` at a second, with that as its sequencer.
fn event(second: i64, change: ObjectChange) -> ObjectEvent {
    ObjectEvent { time: at(second), sequencer: Some(format!("{second:016X}")), version_id: None, change }
}

fn created(etag: &str) -> ObjectChange {
    ObjectChange::Created(NewImage { claim_id: None, ..image("a.jpg", etag) })
}

fn removed() -> ObjectChange {
    ObjectChange::Removed { bucket: "perito".to_owned(), key: "a.jpg".to_owned(), marker: false }
}

async fn present(world: &World) -> String {
    world.text("select coalesce(string_agg(etag, ','), 'none') from images where superseded_at is null").await
}

#[tokio::test]
async fn events_do_what_they_say_whatever_their_order_and_however_often() {
    let world = World::new().await;
    let story =
        [event(1, created("v1")), event(0xff, created("v2")), event(0x100, removed()), event(0x101, created("v3"))];
    let apply = async |events: &[ObjectEvent]| world.db.apply_events(events).await.unwrap();
    for (at_once, expected) in [(&story[..1], "v1"), (&story[..2], "v2"), (&story[..3], "none"), (&story[..], "v3")] {
        apply(at_once).await;
        assert_eq!(present(&world).await, expected);
        apply(at_once).await;
        assert_eq!(present(&world).await, expected, "again");
    }
    // Late news: nothing changes.
    let late = apply(&[story[2].clone(), story[0].clone(), story[1].clone()]).await;
    assert_eq!(late, Taken { late: 3, ..Taken::default() });
    assert_eq!(present(&world).await, "v3");
    assert_eq!(world.number("select count(*) from images").await, 3, "each version once");

    // A removal that comes before what it removes.
    let other = World::new().await;
    let taken = other.db.apply_events(&[event(9, removed()), event(8, created("v1"))]).await.unwrap();
    assert_eq!((taken.new, taken.removed, taken.late), (0, 0, 1));
    assert_eq!(present(&other).await, "none");
}

#[tokio::test]
async fn every_order_of_events_ends_the_same() {
    let story = [event(1, created("v1")), event(2, created("v2")), event(3, removed()), event(4, created("v4"))];
    let world = World::new().await;
    for first in 0..4 {
        for second in (0..4).filter(|n| *n != first) {
            world.execute("truncate images, intake.last_events cascade").await;
            let mut order = vec![first, second];
            order.extend((0..4).filter(|n| *n != first && *n != second));
            // Two at once, and then one by one.
            let events: Vec<_> = order.iter().map(|n| story[*n].clone()).collect();
            world.db.apply_events(&events[..2]).await.unwrap();
            world.db.apply_events(&events[2..3]).await.unwrap();
            world.db.apply_events(&events[3..]).await.unwrap();
            assert_eq!(present(&world).await, "v4", "{order:?}");
        }
    }
}

#[tokio::test]
async fn without_sequencers_the_stores_clock_decides() {
    let world = World::new().await;
    let event = |second, change| ObjectEvent { sequencer: None, ..event(second, change) };
    let taken = world.db.apply_events(&[event(5, created("v2")), event(4, created("v1"))]).await.unwrap();
    assert_eq!((taken.new, taken.late), (1, 1));
    world.db.apply_events(&[event(6, removed())]).await.unwrap();
    assert_eq!(present(&world).await, "none");
}

#[tokio::test]
async fn the_removal_of_an_old_version_leaves_the_newest_one() {
    let world = World::new().await;
    let version = |id: &str, event: ObjectEvent| ObjectEvent { version_id: Some(id.to_owned()), ..event };
    let apply = async |event: ObjectEvent| world.db.apply_events(&[event]).await.unwrap();
    apply(version("A", event(1, created("v1")))).await;
    apply(version("B", event(2, created("v2")))).await;
    assert_eq!(apply(version("A", event(3, removed()))).await.late, 1);
    assert_eq!(present(&world).await, "v2");
    assert_eq!(apply(version("B", event(4, removed()))).await.removed, 1);
    assert_eq!(present(&world).await, "none");
    apply(version("C", event(5, created("v3")))).await;
    let marker = ObjectChange::Removed { bucket: "perito".to_owned(), key: "a.jpg".to_owned(), marker: true };
    assert_eq!(apply(version("M", event(6, marker))).await.removed, 1);
}

#[tokio::test]
async fn old_events_are_forgotten() {
    let world = World::new().await;
    world.db.apply_events(&[event(1, created("v1"))]).await.unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!(world.db.forget_events(week, 10).await.unwrap(), 0);
    world.execute("update intake.last_events set seen_at = now() - interval '8 days'").await;
    assert_eq!(world.db.forget_events(week, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn of_two_registrations_at_once_one_version_stays_present() {
    let world = World::new().await;
    for round in 0..10 {
        let batch = |etag: &str| -> Vec<NewImage> {
            (0..50).map(|number| image(&format!("{round}/{number}.jpg"), etag)).collect()
        };
        let (one, other) = (batch("v1"), batch("v2"));
        let (first, second) = tokio::join!(world.db.register_images(&one), world.db.register_images(&other));
        first.unwrap();
        second.unwrap();
    }
    assert_eq!(world.number("select count(*) from images where superseded_at is null").await, 500);
    assert_eq!(world.number("select count(*) from images").await, 1000);
}

#[tokio::test]
async fn the_backlog_is_what_no_finished_run_has_scored() {
    let world = World::new().await;
    assert!(world.db.backlog().await.unwrap().is_empty());
    world.images(4).await;
    world
        .db
        .register_images(&[
            NewImage { bucket: "other".to_owned(), ..image("b/1.jpg", "v1") },
            NewImage { label: Some(perito_domain::Severity::Minor), ..image("labelled.jpg", "v1") },
        ])
        .await
        .unwrap();
    world.execute("update images set registered_at = now() - interval '2 hours' where key = 'b/00001.jpg'").await;
    let counts = async || {
        let backlog = world.db.backlog().await.unwrap();
        backlog.iter().map(|of| (of.bucket.clone(), of.waiting, of.unscorable)).collect::<Vec<_>>()
    };
    assert_eq!(counts().await, [("other".to_owned(), 1, 0), ("perito".to_owned(), 4, 0)]);
    let hours = "select (extract(epoch from oldest_age) / 3600)::bigint from analytics.backlog where bucket = 'perito'";
    assert_eq!(world.number(hours).await, 2);

    // A run scores three of five and fails on one; nothing shows until it has finished.
    world.model("m").await;
    let mut spec = backlog();
    spec["failure_budget"] = serde_json::json!(1);
    spec["selection"]["bucket"] = serde_json::json!("perito");
    let job = world.submit(spec).await;
    world.db.plan_next().await.unwrap();
    let task = world.claim(world.tasks(job).await[0]).await;
    let mut result = all_scored(&task);
    let failed = result.predictions.remove(0);
    result.failures.push(perito_domain::failure::ImageFailure {
        image_id: failed.image_id,
        reason: perito_domain::failure::FailureReason::Corrupt,
        detail: "cut off".to_owned(),
    });
    world.db.commit_score(&task, &result).await.unwrap();
    assert_eq!(counts().await[1].1, 4, "the run has not finished");
    world.db.finish_jobs().await.unwrap();
    assert_eq!(counts().await, [("other".to_owned(), 1, 0), ("perito".to_owned(), 0, 1)]);

    // A new version waits again; what is gone does not.
    world.db.register_images(&[image("b/00001.jpg", "v2")]).await.unwrap();
    assert_eq!(counts().await[1], ("perito".to_owned(), 1, 1));
    let gone = ObjectChange::Removed { bucket: "other".to_owned(), key: "b/1.jpg".to_owned(), marker: false };
    world.db.apply_events(&[event(1, gone)]).await.unwrap();
    assert_eq!(counts().await, [("perito".to_owned(), 1, 1)]);
}
