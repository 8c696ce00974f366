//! Adjusters' decisions: recorded, compared with predictions, made into datasets.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use perito_database::{BadRows, ErrorKind, LabelledSelection, NewImage, NewLabel};
use perito_domain::Severity;
use sha2::{Digest, Sha256};
use sqlx::Row;

use crate::world::{World, image};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn label(key: &str, severity: Severity, decided_at: &str) -> NewLabel {
    NewLabel {
        image_id: None,
        bucket: Some("perito".to_owned()),
        key: Some(key.to_owned()),
        etag: None,
        claim_id: None,
        severity,
        source: "adjusters".to_owned(),
        decided_at: time(decided_at),
    }
}

fn of_claim(claim: &str, severity: Severity, decided_at: &str) -> NewLabel {
    NewLabel { bucket: None, key: None, claim_id: Some(claim.to_owned()), ..label("", severity, decided_at) }
}

#[tokio::test]
async fn a_later_decision_supersedes_and_history_is_kept() {
    let world = World::new().await;
    let ids = world.db.register_images(&[image("a.jpg", "1"), image("b.jpg", "1")]).await.unwrap().ids;
    let decisions = [
        label("a.jpg", Severity::Severe, "2026-03-02T10:00:00Z"),
        // An earlier decision that arrives later does not count.
        label("a.jpg", Severity::Minor, "2026-03-01T10:00:00Z"),
        NewLabel {
            image_id: Some(ids[1]),
            bucket: None,
            key: None,
            ..label("", Severity::Moderate, "2026-03-01T10:00:00Z")
        },
        of_claim("claim-1", Severity::Severe, "2026-03-01T10:00:00Z"),
    ];
    let outcome = world.db.record_labels(&decisions, BadRows::Refuse).await.unwrap();
    assert_eq!((outcome.new, outcome.known, outcome.problems.len()), (4, 0, 0), "{outcome:?}");
    let again = world.db.record_labels(&decisions, BadRows::Refuse).await.unwrap();
    assert_eq!((again.new, again.known), (0, 4));
    assert_eq!(
        world.text(&format!("select severity::text from current_labels where image_id = {}", ids[0])).await,
        "severe"
    );
    assert_eq!(world.number("select count(*) from analytics.human_labels").await, 4);
    assert_eq!(world.number("select count(*) from analytics.human_labels where superseded_at is null").await, 3);
    let superseded = "select count(*) from analytics.human_labels where superseded_at = '2026-03-02T10:00:00Z' and severity = 'minor'";
    assert_eq!(world.number(superseded).await, 1);
}

#[tokio::test]
async fn bad_rows_are_named_and_nothing_is_recorded_unless_they_are_skipped() {
    let world = World::new().await;
    world.db.register_images(&[image("a.jpg", "1"), image("b.jpg", "1")]).await.unwrap();
    world.db.register_images(&[image("a.jpg", "2")]).await.unwrap();
    let at = "2026-03-01T10:00:00Z";
    let good = label("a.jpg", Severity::Minor, at);
    let bad = [
        (label("c.jpg", Severity::Minor, at), "perito/c.jpg is not registered"),
        (NewLabel { etag: Some("9".to_owned()), ..good.clone() }, "with the ETag 9"),
        (NewLabel { bucket: None, ..good.clone() }, "belong together"),
        (NewLabel { bucket: None, key: None, ..good.clone() }, "neither a photograph"),
        (NewLabel { image_id: Some(1), ..good.clone() }, "not by both"),
        (NewLabel { image_id: Some(999), bucket: None, key: None, ..good.clone() }, "no image 999"),
        (NewLabel { claim_id: Some("claim-9".to_owned()), ..good.clone() }, "belongs to claim claim-1, not to claim-9"),
        (of_claim("claim-9", Severity::Minor, at), "no photograph of claim claim-9"),
        (NewLabel { source: String::new(), ..good.clone() }, "source"),
        (label("a.jpg", Severity::Minor, "2999-01-01T00:00:00Z"), "in the future"),
        (label("a.jpg", Severity::Severe, at), "decided minor about it at the very same time"),
    ];
    let mut batch = vec![good];
    batch.extend(bad.iter().map(|(row, _)| row.clone()));
    for (mode, recorded, stored) in [(BadRows::Check, 1, 0), (BadRows::Refuse, 0, 0), (BadRows::Skip, 1, 1)] {
        let outcome = world.db.record_labels(&batch, mode).await.unwrap();
        assert_eq!(outcome.new, recorded, "{mode:?}");
        let places: Vec<_> = outcome.problems.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, (1..=bad.len()).collect::<Vec<_>>(), "{:?}", outcome.problems);
        for ((_, problem), (_, expected)) in outcome.problems.iter().zip(&bad) {
            assert!(problem.contains(expected), "{problem} says {expected}");
        }
        assert_eq!(world.number("select count(*) from human_labels").await, stored, "{mode:?}");
    }
    // An older version is meant only when its ETag says so.
    let older = NewLabel { etag: Some("1".to_owned()), ..label("a.jpg", Severity::Severe, at) };
    assert_eq!(world.db.record_labels(&[older], BadRows::Refuse).await.unwrap().new, 1);
    assert_eq!(world.number("select count(distinct image_id) from human_labels").await, 2);
    let nul = NewLabel { source: "a\0".to_owned(), ..label("a.jpg", Severity::Minor, at) };
    assert_eq!(world.db.record_labels(&[nul], BadRows::Skip).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn claim_systems_insert_into_the_inbox() {
    let world = World::new().await;
    world.db.register_images(&[image("a.jpg", "1")]).await.unwrap();
    let insert = "insert into label_inbox (bucket, key, severity, source, decided_at) values ('perito', 'a.jpg', 'severe', 'claims', '2026-03-01')";
    world.execute(insert).await;
    world.execute(insert).await;
    assert_eq!(world.number("select count(*) from human_labels").await, 1, "idempotent");
    world.execute("insert into label_inbox (claim_id, severity, source, decided_at) values ('claim-1', 'minor', 'claims', '2026-03-01')").await;
    let refused = sqlx::query(
        "insert into label_inbox (bucket, key, severity, source, decided_at)
         values ('perito', 'a.jpg', 'minor', 'claims', '2026-03-02'), ('perito', 'z.jpg', 'minor', 'claims', '2026-03-02')",
    )
    .execute(world.test.pool())
    .await
    .unwrap_err()
    .to_string();
    assert!(refused.contains("perito/z.jpg is not registered"), "{refused}");
    assert_eq!(world.number("select count(*) from human_labels").await, 2, "the statement as a whole");
}

#[tokio::test]
async fn live_accuracy_takes_the_model_that_was_in_force() {
    let world = World::new().await;
    let keys: Vec<_> = (0..6).map(|n| format!("b/{n}.jpg")).collect();
    let images: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| NewImage { claim_id: Some(format!("claim-{}", n / 3)), ..image(key, "1") })
        .collect();
    world.db.register_images(&images).await.unwrap();
    for _ in 0..3 {
        world.model("m").await;
    }
    world.force("m", 1, "production").await;
    world.score_all("m@production", [0.7, 0.2, 0.1]).await;
    // A challenger scores the same images without being in force.
    world.score_all("m@2", [0.1, 0.1, 0.8]).await;
    // What was finished when the adjuster decided counts, though another version is in force by now.
    world.execute("update jobs set finished_at = '2026-03-04T00:00:00Z'").await;
    world.force("m", 3, "production").await;
    world.score_all("m@production", [0.1, 0.8, 0.1]).await;
    world.execute("update jobs set finished_at = '2026-03-12T00:00:00Z' where finished_at > '2026-03-05'").await;
    let labels = [
        label(&keys[0], Severity::Minor, "2026-03-05T00:00:00Z"),
        label(&keys[1], Severity::Severe, "2026-03-06T00:00:00Z"),
        label(&keys[2], Severity::Minor, "2026-03-07T00:00:00Z"),
        // Before any score: the first one after counts.
        label(&keys[3], Severity::Minor, "2026-03-03T00:00:00Z"),
        label(&keys[4], Severity::Moderate, "2026-03-13T00:00:00Z"),
        of_claim("claim-0", Severity::Minor, "2026-03-06T00:00:00Z"),
        of_claim("claim-1", Severity::Minor, "2026-03-13T00:00:00Z"),
    ];
    assert_eq!(world.db.record_labels(&labels, BadRows::Refuse).await.unwrap().new, 7);
    let rows = sqlx::query(
        "select week::text, level, model_version, labels, correct, accuracy, too_light, too_heavy, accuracy_low, accuracy_high
         from analytics.live_accuracy order by 1, 2 desc, 3",
    )
    .fetch_all(world.test.pool())
    .await
    .unwrap();
    let found: Vec<(String, String, i32, i64, i64, i64, i64)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(6), row.get(7)))
        .collect();
    let expected = [
        ("2026-03-02", "photograph", 1, 4, 3, 1, 0),
        ("2026-03-02", "claim", 1, 1, 1, 0, 0),
        ("2026-03-09", "photograph", 3, 1, 1, 0, 0),
        ("2026-03-09", "claim", 3, 1, 0, 0, 1),
    ]
    .map(|(week, level, version, labels, correct, light, heavy)| {
        (week.to_owned(), level.to_owned(), version, labels, correct, light, heavy)
    });
    assert_eq!(found, expected);
    // statsmodels.stats.proportion.proportion_confint(3, 4, method="wilson")
    let (low, high): (f64, f64) = (rows[0].get(8), rows[0].get(9));
    assert!((low - 0.300_64).abs() < 1e-4 && (high - 0.954_41).abs() < 1e-4, "{low} {high}");
    let claim =
        "select photographs from analytics.label_agreement where level = 'claim' and label = 'minor' and agrees";
    assert_eq!(world.number(claim).await, 3);
    assert_eq!(world.number("select count(*) from analytics.label_agreement where not scored_before").await, 1);
}

fn selection(name: &str, seed: u64) -> LabelledSelection {
    LabelledSelection {
        name: name.parse().unwrap(),
        validation_share: 0.3,
        seed,
        source: None,
        since: None,
        claim_labels: false,
    }
}

#[tokio::test]
async fn datasets_of_labels_never_split_a_claim_and_stay_where_they_are() {
    let world = World::new().await;
    let batch = |claims: std::ops::Range<usize>| {
        let images: Vec<_> = claims
            .flat_map(|claim| (0..3).map(move |photo| (claim, photo)))
            .map(|(claim, photo)| NewImage {
                claim_id: Some(format!("c{claim}")),
                ..image(&format!("c{claim}/{photo}.jpg"), &format!("{claim}-{photo}"))
            })
            .collect();
        let labels: Vec<_> =
            images.iter().map(|image| label(&image.key, Severity::Minor, "2026-03-01T00:00:00Z")).collect();
        (images, labels)
    };
    let add = async |claims| {
        let (images, labels) = batch(claims);
        world.db.register_images(&images).await.unwrap();
        assert!(world.db.record_labels(&labels, BadRows::Refuse).await.unwrap().problems.is_empty());
    };
    add(0..100).await;
    let splits = async |id: i64| {
        let rows = sqlx::query(
            "select claim_id, split from dataset_items d join images i on i.id = d.image_id where dataset_id = $1",
        )
        .bind(id)
        .fetch_all(world.test.pool())
        .await
        .unwrap();
        let mut splits: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in rows {
            splits.entry(row.get(0)).or_default().insert(row.get(1));
        }
        splits
    };
    let (first, existing) = world.db.dataset_from_labels(&selection("field", 7)).await.unwrap();
    assert!(!existing && first.origin.as_deref().unwrap().contains("seed 7"), "{first:?}");
    let before = splits(first.id).await;
    assert!(before.len() == 100 && before.values().all(|splits| splits.len() == 1), "no claim is in both splits");
    // By the rule that is documented: the first 52 bits of the SHA-256 of seed and claim, as a share.
    for (claim, split) in &before {
        let hash = Sha256::digest(format!("7 claim {claim}"));
        let draw = (u64::from_be_bytes(hash[..8].try_into().unwrap()) >> 12) as f64 / (1_u64 << 52) as f64;
        assert_eq!(split.contains("validation"), draw < 0.3, "{claim}");
    }
    let (same, existing) = world.db.dataset_from_labels(&selection("field", 7)).await.unwrap();
    assert!(existing && same.id == first.id, "deterministic");
    add(100..150).await;
    let (second, _) = world.db.dataset_from_labels(&selection("field", 7)).await.unwrap();
    let after = splits(second.id).await;
    assert_eq!((second.version, after.len()), (2, 150));
    assert!(before.iter().all(|(claim, split)| after[claim] == *split), "claims stay in their split");
    let (other, _) = world.db.dataset_from_labels(&selection("field", 8)).await.unwrap();
    assert_ne!(splits(other.id).await, after, "another seed splits otherwise");
}

#[tokio::test]
async fn datasets_of_labels_take_what_counts() {
    let world = World::new().await;
    let images: Vec<_> = (0..40)
        .map(|n| NewImage {
            claim_id: (n < 30).then(|| format!("c{}", n / 2)),
            ..image(&format!("{n}.jpg"), &format!("v{n}"))
        })
        .collect();
    let ids = world.db.register_images(&images).await.unwrap().ids;
    let none = world.db.dataset_from_labels(&selection("field", 1)).await.unwrap_err();
    assert!(none.kind() == ErrorKind::NotFound && none.to_string().contains("--claim-labels"), "{none}");
    let mut labels: Vec<_> =
        (20..40).map(|n| label(&format!("{n}.jpg"), Severity::Minor, "2026-03-01T00:00:00Z")).collect();
    labels.push(label("20.jpg", Severity::Severe, "2026-03-02T00:00:00Z"));
    labels
        .push(NewLabel { source: "trainee".to_owned(), ..label("21.jpg", Severity::Moderate, "2026-03-02T00:00:00Z") });
    labels.extend((0..15).map(|claim| of_claim(&format!("c{claim}"), Severity::Moderate, "2026-03-01T00:00:00Z")));
    assert!(world.db.record_labels(&labels, BadRows::Refuse).await.unwrap().problems.is_empty());
    // Its photograph has been replaced since.
    world.db.register_images(&[NewImage { claim_id: None, ..image("39.jpg", "new") }]).await.unwrap();
    let labels_of = async |id: i64| {
        let rows = sqlx::query("select image_id, label::text from dataset_items where dataset_id = $1")
            .bind(id)
            .fetch_all(world.test.pool())
            .await
            .unwrap();
        rows.iter().map(|row| (row.get::<i64, _>(0), row.get::<String, _>(1))).collect::<BTreeMap<_, _>>()
    };
    let (photographs, _) = world.db.dataset_from_labels(&selection("field", 1)).await.unwrap();
    let chosen = labels_of(photographs.id).await;
    assert_eq!(chosen.len(), 19);
    assert_eq!((chosen[&ids[20]].as_str(), chosen[&ids[22]].as_str()), ("severe", "minor"), "the latest decision");
    let adjusters = LabelledSelection { source: Some("adjusters".to_owned()), ..selection("field", 1) };
    let (of_adjusters, _) = world.db.dataset_from_labels(&adjusters).await.unwrap();
    assert_eq!(labels_of(of_adjusters.id).await.len(), 18, "a superseded decision never counts");
    let late = LabelledSelection { since: Some(time("2026-03-02T00:00:00Z")), ..selection("field", 1) };
    let refused = world.db.dataset_from_labels(&late).await;
    assert!(refused.is_ok() || refused.unwrap_err().to_string().contains("split would be empty"));
    let claims = LabelledSelection { claim_labels: true, ..selection("field", 1) };
    let (with_claims, _) = world.db.dataset_from_labels(&claims).await.unwrap();
    let chosen = labels_of(with_claims.id).await;
    assert_eq!((chosen.len(), chosen[&ids[0]].as_str(), chosen[&ids[22]].as_str()), (39, "moderate", "minor"));
    let wrong = LabelledSelection { validation_share: 1.0, ..selection("field", 1) };
    assert_eq!(world.db.dataset_from_labels(&wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(
        world.number("select count(*) from datasets where frozen_at is null").await,
        0,
        "refusals leave no draft"
    );
}
