//! Messages in.

use std::time::Duration;

use lapin::types::AMQPValue;
use perito_domain::{lifecycle::JobKind, message::TaskMessage};
use perito_proto::v1;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::{Namespace, message, messages, publish};

#[tokio::test]
async fn what_was_published_comes_and_an_acknowledged_message_is_gone() {
    let namespace = Namespace::new();
    let sent = messages(3);
    publish(&namespace.publisher(), &sent).await;
    let mut consuming = namespace.consume(2);
    for expected in &sent {
        let delivery = consuming.next().await;
        assert_eq!(&delivery.message, expected);
        delivery.ack().await;
    }
    consuming.stop.cancel();
    drop(consuming);
    // What had not been acknowledged would come to the next one.
    namespace.consume(10).assert_quiet().await;
}

#[tokio::test]
async fn no_more_messages_than_allowed_are_in_hand() {
    let namespace = Namespace::new();
    publish(&namespace.publisher(), &messages(5)).await;
    let mut consuming = namespace.consume(2);
    let (first, _second) = (consuming.next().await, consuming.next().await);
    consuming.assert_quiet().await;
    first.ack().await;
    let _third = consuming.next().await;
    consuming.assert_quiet().await;
}

#[tokio::test]
async fn the_limit_holds_for_each_kind() {
    let namespace = Namespace::new();
    let (train, score) = (message(JobKind::Train), message(JobKind::Score));
    publish(&namespace.publisher(), &[train.clone(), score.clone(), message(JobKind::Train), message(JobKind::Score)])
        .await;
    let consumer = perito_broker::Consumer::new(namespace.options());
    let mut deliveries = consumer.start(&[JobKind::Train, JobKind::Score], 1, CancellationToken::new());
    let mut held = Vec::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(2), deliveries.recv()).await {
        held.push(delivery);
    }
    let mut came: Vec<TaskMessage> = held.iter().map(|delivery| delivery.message.clone()).collect();
    came.sort_by_key(|message| message.kind);
    assert_eq!(came, [train, score]);
}

#[tokio::test]
async fn a_message_that_was_dropped_comes_again() {
    let namespace = Namespace::new();
    let sent = messages(1);
    publish(&namespace.publisher(), &sent).await;
    let mut consuming = namespace.consume(1);
    drop(consuming.next().await);
    let again = consuming.next().await;
    assert_eq!(again.message, sent[0]);
    again.ack().await;
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_the_dead_letter_queue() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publisher.ping().await.unwrap();
    let admin = namespace.admin().await;
    let good = message(JobKind::Score);
    let newer = v1::TaskMessage { schema_version: 99, ..good.clone().into() }.encode_to_vec();
    let misplaced = v1::TaskMessage::from(message(JobKind::Train)).encode_to_vec();
    let garbage: [&[u8]; 4] = [b"\xff\xff\xff not protobuf", b"", &newer, &misplaced];
    for bytes in garbage {
        admin.publish(JobKind::Score, bytes).await;
    }
    publish(&publisher, std::slice::from_ref(&good)).await;

    let mut consuming = namespace.consume(1);
    let delivery = consuming.next().await;
    assert_eq!(delivery.message, good, "only the good one comes");
    delivery.ack().await;

    let dead = namespace.topology().dead_letter();
    admin.wait_for_ready(&dead, 4).await;
    for bytes in garbage {
        let letter = admin.take(&dead).await;
        assert_eq!(letter.delivery.data, bytes, "unaltered and in order");
        let headers = letter.delivery.properties.headers().clone().unwrap();
        assert_eq!(headers.inner()["x-first-death-reason"], AMQPValue::LongString("rejected".into()));
    }
}

#[tokio::test]
async fn a_queue_that_is_deleted_under_a_consumer_is_made_again() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publish(&publisher, &messages(2)).await;
    let mut consuming = namespace.consume(1);
    let held = consuming.next().await;
    namespace.admin().await.delete_queue(JobKind::Score).await;
    // Of a queue that is gone: no harm done.
    held.ack().await;

    let later = message(JobKind::Score);
    loop {
        let [outcome] = publisher.publish(std::slice::from_ref(&later)).await.try_into().unwrap();
        if outcome.is_ok() {
            break;
        }
    }
    consuming.expect(&later).await;
}

#[tokio::test]
async fn stopping_gives_back_what_was_not_handed_out_and_keeps_what_was() {
    let namespace = Namespace::new();
    let publisher = namespace.publisher();
    publish(&publisher, &messages(5)).await;
    let queue = namespace.topology().queue(JobKind::Score);
    let admin = namespace.admin().await;
    let mut consuming = namespace.consume(5);
    let held = consuming.next().await;
    admin.wait_for_ready(&queue, 0).await;

    consuming.stop.cancel();
    drop(consuming);
    admin.wait_for_ready(&queue, 4).await;
    held.ack().await;
    tokio::time::sleep(crate::harness::QUIET).await;
    assert_eq!(admin.ready(&queue).await, 4, "the one in hand was acknowledged after the stop");
}
