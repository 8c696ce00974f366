//! Messages out.

use perito_broker::ErrorKind;
use perito_domain::lifecycle::JobKind;

use crate::harness::{Namespace, message, messages, publish};

#[tokio::test]
async fn confirmed_messages_wait_in_the_queue_of_their_kind() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    assert!(publisher.publish(&[]).await.is_empty());
    publish(&publisher, &messages(500)).await;
    publish(&publisher, &[message(JobKind::Train)]).await;
    let admin = namespace.admin().await;
    admin.wait_for_ready(&namespace.topology().queue(JobKind::Score), 500).await;
    assert_eq!(publisher.ready(JobKind::Score).await.unwrap(), 500);
    assert_eq!(publisher.ready(JobKind::Train).await.unwrap(), 1);
    assert_eq!(publisher.ready(JobKind::Evaluate).await.unwrap(), 0);
    publisher.ping().await.unwrap();
}

#[tokio::test]
async fn messages_survive_a_restart_of_the_broker() {
    let namespace = Namespace::new();
    publish(&namespace.publisher(), &messages(1)).await;
    let taken = namespace.admin().await.take(&namespace.topology().queue(JobKind::Score)).await;
    assert_eq!(taken.delivery.properties.delivery_mode(), &Some(2), "persistent");
    assert_eq!(taken.delivery.properties.content_type().as_ref().unwrap().as_str(), "application/x-protobuf");
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_an_error_and_its_queue_is_made_again() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publish(&publisher, &messages(1)).await;
    namespace.admin().await.delete_queue(JobKind::Score).await;

    let mixed: Vec<_> = (0..60).map(|n| message(if n % 3 == 1 { JobKind::Score } else { JobKind::Train })).collect();
    let outcomes = publisher.publish(&mixed).await;
    assert_eq!(outcomes.len(), mixed.len());
    for (message, outcome) in mixed.iter().zip(outcomes) {
        match message.kind {
            JobKind::Score => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unroutable),
            _ => outcome.unwrap(),
        }
    }
    publish(&publisher, &messages(2)).await;
    assert_eq!(publisher.ready(JobKind::Score).await.unwrap(), 2);
    assert_eq!(publisher.ready(JobKind::Train).await.unwrap(), 40);
}

#[tokio::test]
async fn counting_a_queue_that_was_deleted_makes_it_again() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publish(&publisher, &messages(1)).await;
    namespace.admin().await.delete_queue(JobKind::Score).await;
    let error = publisher.ready(JobKind::Score).await.unwrap_err();
    assert!(error.to_string().contains(&namespace.topology().queue(JobKind::Score)), "{error}");
    assert_eq!(publisher.ready(JobKind::Score).await.unwrap(), 0);
}

#[tokio::test]
async fn batches_at_the_same_time_do_not_disturb_each_other() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publisher.ping().await.unwrap();
    let batches = (0..8).map(|_| {
        let publisher = publisher.clone();
        tokio::spawn(async move { publish(&publisher, &messages(50)).await })
    });
    for batch in futures::future::join_all(batches).await {
        batch.unwrap();
    }
    let queue = namespace.topology().queue(JobKind::Score);
    namespace.admin().await.wait_for_ready(&queue, 400).await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publisher.ping().await.unwrap();
    let admin = namespace.admin().await;
    admin.delete_queue(JobKind::Score).await;
    admin.declare_classic_queue(JobKind::Score).await;
    let error = namespace.publisher().ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(&namespace.topology().queue(JobKind::Score)), "{error}");
}
