//! Images, datasets, models and submissions.

use perito_database::{ErrorKind, NewImage, NewJob};
use perito_domain::{
    Severity,
    spec::{JobSpec, Split},
};
use uuid::Uuid;

use crate::world::{World, backlog, by_prefix, image, new_model};

#[tokio::test]
async fn registering_is_idempotent_and_a_new_etag_is_a_new_version() {
    let world = World::new().await;
    let first = world.db.register_images(&[image("a", "1"), image("b", "1")]).await.unwrap();
    assert_eq!((first.new, first.known, first.superseded), (2, 0, 0));
    let again = world.db.register_images(&[image("b", "1"), image("a", "1")]).await.unwrap();
    assert_eq!(
        (again.new, again.known, &again.ids),
        (0, 2, &vec![first.ids[1], first.ids[0]]),
        "ids in the order of the input"
    );
    let replaced = world.db.register_images(&[image("a", "2")]).await.unwrap();
    assert_eq!((replaced.new, replaced.superseded), (1, 1));
    let reverted = world.db.register_images(&[image("a", "1")]).await.unwrap();
    assert_eq!((reverted.known, reverted.superseded, reverted.ids[0]), (1, 1, first.ids[0]));
    assert_eq!(world.number("select count(*) from images where superseded_at is null").await, 2);
}

#[tokio::test]
async fn what_cannot_be_registered_is_named() {
    let world = World::new().await;
    for (odd, word) in [
        (NewImage { key: String::new(), ..image("", "1") }, "key"),
        (NewImage { size_bytes: -1, ..image("a", "1") }, "size"),
        (NewImage { etag: String::new(), ..image("a", "1") }, "etag"),
        (NewImage { bucket: "b".repeat(64), ..image("a", "1") }, "bucket"),
        (NewImage { claim_id: Some(String::new()), ..image("a", "1") }, "claim"),
    ] {
        let refused = world.db.register_images(&[odd]).await.unwrap_err();
        assert!(refused.kind() == ErrorKind::Invalid && refused.to_string().contains(word), "{refused}");
    }
    let twice = world.db.register_images(&[image("a", "1"), image("a", "2")]).await.unwrap_err();
    assert!(twice.to_string().contains("twice"), "{twice}");
}

#[tokio::test]
async fn a_dataset_is_frozen_once_and_the_same_content_is_the_same_version() {
    let world = World::new().await;
    let ids = world.images(4).await;
    let name = "demo".parse().unwrap();
    let items = |label| ids.iter().map(|id| (*id, Split::Training, label)).collect::<Vec<_>>();
    let draft = world.db.create_draft(&name, None).await.unwrap();
    let empty = world.db.freeze(draft.id).await.unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Invalid);
    assert_eq!(world.db.add_items(draft.id, &items(Severity::Minor)).await.unwrap(), 4);
    assert_eq!(world.db.add_items(draft.id, &items(Severity::Minor)).await.unwrap(), 0, "idempotent");
    let unknown = world.db.add_items(draft.id, &[(i64::MAX, Split::Training, Severity::Minor)]).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let (first, existing) = world.db.freeze(draft.id).await.unwrap();
    assert!(!existing && first.counts == [(Split::Training, Severity::Minor, 4)]);
    let frozen = world.db.add_items(draft.id, &items(Severity::Minor)).await.unwrap_err();
    assert_eq!(frozen.kind(), ErrorKind::Conflict);

    let draft = world.db.create_draft(&name, None).await.unwrap();
    world.db.add_items(draft.id, &items(Severity::Minor)).await.unwrap();
    let (same, existing) = world.db.freeze(draft.id).await.unwrap();
    assert!(existing && same.reference() == "demo@1");
    let draft = world.db.create_draft(&name, None).await.unwrap();
    world.db.add_items(draft.id, &items(Severity::Severe)).await.unwrap();
    let (other, _) = world.db.freeze(draft.id).await.unwrap();
    assert_eq!(other.reference(), "demo@2");
    assert_ne!(other.digest, first.digest, "another label is another content");
    assert_eq!(world.db.dataset(&name_ref("demo")).await.unwrap().version, 2, "the newest unless told");
    let missing = world.db.dataset(&name_ref("demo@9")).await.unwrap_err();
    assert!(missing.to_string().contains("demo@9"), "{missing}");
}

fn name_ref(text: &str) -> perito_domain::names::DatasetRef {
    text.parse().unwrap()
}

#[tokio::test]
async fn versions_are_not_lost_when_models_are_registered_at_once() {
    let world = World::new().await;
    let model = new_model("busy");
    let registering = (0..8).map(|_| world.db.register_model(&model));
    let mut versions: Vec<i32> =
        futures::future::join_all(registering).await.into_iter().map(|model| model.unwrap().version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_same_job() {
    let world = World::new().await;
    let job = |spec| NewJob {
        id: Uuid::now_v7(),
        spec: JobSpec::parse(spec).unwrap(),
        priority: 4,
        idempotency_key: Some("nightly".to_owned()),
        traceparent: String::new(),
    };
    let first = world.db.submit(&job(backlog())).await.unwrap();
    let second = world.db.submit(&job(backlog())).await.unwrap();
    assert!(first.created && !second.created && first.job.id == second.job.id);
    let clash = world.db.submit(&job(by_prefix(1))).await.unwrap_err();
    assert_eq!(clash.kind(), ErrorKind::Conflict);
}
