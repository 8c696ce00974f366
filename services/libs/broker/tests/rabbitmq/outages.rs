//! The connection is lost, or goes silent, and comes back.

use std::time::{Duration, Instant};

use perito_broker::{BrokerOptions, ErrorKind, Publisher};
use perito_domain::lifecycle::JobKind;

use crate::{
    harness::{Consuming, Namespace, PATIENCE, message, messages, publish},
    proxy::{Link, Proxy},
};

fn impatient(mut options: BrokerOptions) -> BrokerOptions {
    options.connect_timeout = Duration::from_secs(1);
    options.request_timeout = Duration::from_secs(1);
    options.publish_timeout = Duration::from_secs(1);
    options
}

/// Publishes until it works.
async fn recover(publisher: &Publisher) {
    let started = Instant::now();
    while publisher.publish(&messages(1)).await.iter().any(Result::is_err) {
        assert!(started.elapsed() < PATIENCE, "the publisher does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_publisher_recovers_from_a_cut() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Up).await;
    let publisher = Publisher::new(impatient(namespace.options_at(&proxy.url(10))));
    publish(&publisher, &messages(1)).await;
    proxy.set(Link::Cut);
    let started = Instant::now();
    for outcome in publisher.publish(&messages(3)).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(started.elapsed() < Duration::from_secs(4), "took {:?}", started.elapsed());
    proxy.set(Link::Up);
    recover(&publisher).await;
}

#[tokio::test]
async fn a_publisher_does_not_wait_for_ever_and_recovers_from_silence() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Up).await;
    // Heartbeats too seldom to help.
    let publisher = Publisher::new(impatient(namespace.options_at(&proxy.url(300))));
    publish(&publisher, &messages(1)).await;
    proxy.set(Link::Frozen);
    let started = Instant::now();
    for outcome in publisher.publish(&messages(3)).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(publisher.ping().await.is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    proxy.set(Link::Up);
    recover(&publisher).await;
}

#[tokio::test]
async fn a_consumer_recovers_from_a_cut() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Up).await;
    let publisher = namespace.publisher();
    let mut consuming = Consuming::start(impatient(namespace.options_at(&proxy.url(10))), 1);
    publish(&publisher, &messages(1)).await;
    consuming.next().await.ack().await;
    proxy.set(Link::Cut);
    let later = message(JobKind::Score);
    publish(&publisher, std::slice::from_ref(&later)).await;
    consuming.assert_quiet().await;
    proxy.set(Link::Up);
    consuming.expect(&later).await;
}

#[tokio::test]
async fn a_consumer_notices_silence_by_the_missing_heartbeat() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Up).await;
    let publisher = namespace.publisher();
    let mut consuming = Consuming::start(impatient(namespace.options_at(&proxy.url(1))), 1);
    publish(&publisher, &messages(1)).await;
    consuming.next().await.ack().await;
    proxy.set(Link::Frozen);
    tokio::time::sleep(Duration::from_secs(4)).await;
    proxy.set(Link::Up);
    let later = message(JobKind::Score);
    publish(&publisher, std::slice::from_ref(&later)).await;
    consuming.expect(&later).await;
}

#[tokio::test]
async fn a_consumer_may_start_before_the_broker() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Cut).await;
    let mut consuming = Consuming::start(impatient(namespace.options_at(&proxy.url(10))), 1);
    let sent = messages(1);
    publish(&namespace.publisher(), &sent).await;
    consuming.assert_quiet().await;
    proxy.set(Link::Up);
    assert_eq!(consuming.next().await.message, sent[0]);
}

#[tokio::test]
async fn an_acknowledgement_of_a_lost_channel_is_without_effect() {
    let namespace = Namespace::new();
    let proxy = Proxy::start(Link::Up).await;
    let sent = messages(1);
    publish(&namespace.publisher(), &sent).await;
    let mut consuming = Consuming::start(impatient(namespace.options_at(&proxy.url(10))), 1);
    let stale = consuming.next().await;
    proxy.set(Link::Cut);
    consuming.assert_quiet().await;
    proxy.set(Link::Up);
    let again = consuming.next().await;
    assert_eq!(again.message, sent[0], "the broker took it back and gave it again");
    // Both are number 1 of their channel.
    stale.ack().await;
    drop(again);
    assert_eq!(consuming.next().await.message, sent[0], "it was still there to be given back");
}
