//! What nobody could act on: looking loses nothing, sending again is confirmed first.

use perito_broker::DeadLetters;
use perito_domain::lifecycle::JobKind;
use perito_proto::v1;
use prost::Message as _;

use crate::harness::{Namespace, message};

#[tokio::test]
async fn dead_letters_are_looked_at_sent_again_and_dropped() {
    let namespace = Namespace::new();
    namespace.publisher().ping().await.unwrap();
    let admin = namespace.admin().await;
    let misplaced = v1::TaskMessage::from(message(JobKind::Train)).encode_to_vec();
    let garbage: [&[u8]; 3] = [b"\xff\xffgarbage", &misplaced, b"\xff\xffgarbage"];
    for bytes in garbage {
        admin.publish(JobKind::Score, bytes).await;
    }
    let consuming = namespace.consume(1);
    let dead = namespace.topology().dead_letter();
    admin.wait_for_ready(&dead, 3).await;
    drop(consuming);

    let letters = DeadLetters::new(namespace.options());
    // More often than RabbitMQ 4 gives a message back.
    let mut seen = Vec::new();
    for _ in 0..25 {
        seen = letters.list(100).await.unwrap();
        assert_eq!(seen.len(), 3, "looking takes nothing away");
    }
    seen.sort_by_key(|letter| letter.body.len());
    assert_eq!(seen[0].id, seen[1].id, "copies are one");
    assert!(seen[0].task.is_err());
    assert_eq!(seen[2].task.as_ref().unwrap().kind, JobKind::Train);
    assert_eq!(seen[2].reason.as_deref(), Some("rejected"));
    assert_eq!(seen[2].died_in, Some(namespace.topology().queue(JobKind::Score)));
    assert_eq!(seen[2].origin, Some((namespace.topology().exchange(), "score".to_owned())));
    assert!(seen[2].died_at.is_some_and(|at| at > 1_600_000_000));
    assert_eq!(letters.list(1).await.unwrap().len(), 1);

    assert_eq!(letters.replay(&seen[2].id).await.unwrap(), 1);
    let queue = namespace.topology().queue(JobKind::Score);
    admin.wait_for_ready(&queue, 1).await;
    assert_eq!(admin.take(&queue).await.delivery.data, misplaced, "as it was sent");
    assert_eq!(letters.find(&seen[2].id).await.unwrap(), None);

    assert_eq!(letters.remove(&seen[0].id).await.unwrap(), 2, "all copies");
    assert_eq!(letters.remove(&seen[0].id).await.unwrap(), 0);
    admin.wait_for_ready(&dead, 0).await;
}
