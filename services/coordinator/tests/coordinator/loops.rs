//! The loops.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use crate::harness::{Coordinator, Queues, eventually, quick};
use perito_broker::{BrokerOptions, Consumer, Delivery, Publisher};
use perito_coordinator::config::LoopArgs;
use perito_database::Claim;
use perito_domain::lifecycle::JobKind;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::Receiver,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Receives the messages for scoring tasks, until the guard is dropped.
fn worker(broker: &BrokerOptions) -> (Receiver<Delivery>, DropGuard) {
    let stop = CancellationToken::new();
    (Consumer::new(broker.clone()).start(&[JobKind::Score], 100, stop.clone()), stop.drop_guard())
}

/// The next message, which has to come within a few seconds.
async fn next(messages: &mut Receiver<Delivery>) -> Delivery {
    tokio::time::timeout(Duration::from_secs(10), messages.recv()).await.expect("no message came").unwrap()
}

#[tokio::test]
async fn a_job_goes_from_submission_to_success() {
    let (coordinator, broker) = (Coordinator::prepared(10).await, Queues::new());
    coordinator.start_loops(&broker.0, quick());
    let (mut messages, _worker) = worker(&broker.0);
    let id = coordinator.submit_scoring(4).await;
    for _ in 0..3 {
        let delivery = next(&mut messages).await;
        assert_eq!(delivery.message.job_id.to_string(), id);
        let claim = coordinator.claim(&delivery).await;
        let Claim::Claimed(task) = claim else { panic!("{claim:?}") };
        coordinator.score(&task).await;
        delivery.ack().await;
    }
    eventually("the job succeeds", async || coordinator.job(&id).await["state"] == "succeeded").await;
    let job = coordinator.job(&id).await;
    assert_eq!(job["model"], "severity@1");
    assert_eq!(job["images"], json!({"total": 10, "scored": 10, "failed": 0}));
    assert_eq!(job["tasks"]["succeeded"], 3);
}

#[tokio::test]
async fn only_a_window_of_tasks_is_in_the_broker() {
    let (coordinator, broker) = (Coordinator::prepared(10).await, Queues::new());
    coordinator.start_loops(&broker.0, LoopArgs { window: 3, lost_after: Duration::from_secs(60), ..quick() });
    let id = coordinator.submit_scoring(1).await;
    let publisher = Publisher::new(broker.0.clone());
    let ready = async || publisher.ready(JobKind::Score).await.unwrap();
    eventually("three messages are ready", async || ready().await == 3).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ready().await, 3, "no more than the window");
    let tasks = coordinator.job(&id).await["tasks"].clone();
    assert_eq!((&tasks["dispatched"], &tasks["runnable"]), (&json!(3), &json!(7)));
}

#[tokio::test]
async fn a_lost_message_is_sent_again() {
    let (coordinator, broker) = (Coordinator::prepared(2).await, Queues::new());
    coordinator.start_loops(&broker.0, quick());
    let (mut messages, _worker) = worker(&broker.0);
    coordinator.submit_scoring(1).await;
    let mut lost = HashSet::new();
    for _ in 0..2 {
        // Acked and not claimed: for the broker it is done with, as after a purge.
        let delivery = next(&mut messages).await;
        lost.insert(delivery.message.task_id);
        delivery.ack().await;
    }
    for _ in 0..2 {
        let delivery = next(&mut messages).await;
        assert!(lost.remove(&delivery.message.task_id), "each is sent again once");
        let claim = coordinator.claim(&delivery).await;
        assert!(matches!(claim, Claim::Claimed(_)), "{claim:?}");
        delivery.ack().await;
    }
}

#[tokio::test]
async fn a_task_whose_worker_died_is_sent_again() {
    let (coordinator, broker) = (Coordinator::prepared(1).await, Queues::new());
    coordinator.start_loops(&broker.0, quick());
    let (mut messages, _worker) = worker(&broker.0);
    coordinator.submit_scoring(1).await;
    let first = next(&mut messages).await;
    let task_id = first.message.task_id;
    let claim = coordinator
        .test
        .database
        .claim(task_id, first.message.attempt_hint, "mortal", Duration::from_millis(1))
        .await
        .unwrap();
    assert!(matches!(claim, Claim::Claimed(_)), "{claim:?}");
    first.ack().await;
    let second = next(&mut messages).await;
    assert_eq!((second.message.task_id, second.message.attempt_hint), (task_id, 2));
    second.ack().await;
}

#[tokio::test]
async fn two_replicas_dispatch_each_task_once() {
    const TASKS: usize = 60;
    let (coordinator, broker) = (Coordinator::prepared(TASKS).await, Queues::new());
    let pace = LoopArgs { window: 7, lost_after: Duration::from_secs(60), ..quick() };
    coordinator.start_loops(&broker.0, pace.clone());
    coordinator.start_loops(&broker.0, pace);
    let (mut messages, _worker) = worker(&broker.0);
    let id = coordinator.submit_scoring(1).await;
    let mut seen = HashSet::new();
    for _ in 0..TASKS {
        let delivery = next(&mut messages).await;
        assert!(seen.insert(delivery.message.task_id), "dispatched twice");
        let claim = coordinator.claim(&delivery).await;
        assert!(matches!(claim, Claim::Claimed(_)), "{claim:?}");
        delivery.ack().await;
    }
    let more = tokio::time::timeout(Duration::from_millis(300), messages.recv()).await;
    assert!(more.is_err(), "no message more than tasks");
    assert_eq!(coordinator.job(&id).await["tasks"]["running"], TASKS);
}

#[tokio::test]
async fn a_job_waits_for_a_broker_that_is_down() {
    let (coordinator, broker) = (Coordinator::prepared(3).await, Queues::new());
    // A port that nothing listens on yet.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (credentials, place) = broker.0.url.rsplit_once('@').unwrap();
    let (server, vhost) = place.split_once('/').unwrap();
    let through_proxy = BrokerOptions { url: format!("{credentials}@{port}/{vhost}"), ..broker.0.clone() };
    coordinator.start_loops(&through_proxy, quick());
    let id = coordinator.submit_scoring(1).await;
    eventually("the job is planned", async || coordinator.job(&id).await["state"] == "running").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(coordinator.job(&id).await["tasks"]["runnable"], 3, "nothing counts as dispatched");

    // The broker is back.
    tokio::spawn(proxy(port, server.to_owned()));
    let (mut messages, _worker) = worker(&broker.0);
    for _ in 0..3 {
        next(&mut messages).await.ack().await;
    }
}

/// Passes connections on.
async fn proxy(listen: SocketAddr, server: String) {
    let listener = TcpListener::bind(listen).await.unwrap();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(&server).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
    }
}

#[tokio::test]
async fn a_cancelled_job_sends_nothing_more() {
    let (coordinator, broker) = (Coordinator::prepared(5).await, Queues::new());
    coordinator.start_loops(&broker.0, LoopArgs { window: 2, ..quick() });
    let (mut messages, _worker) = worker(&broker.0);
    let id = coordinator.submit_scoring(1).await;
    let held = [next(&mut messages).await, next(&mut messages).await];
    let cancelled = coordinator.post(&format!("/v1/jobs/{id}/cancel"), &Value::Null).await.expect(StatusCode::OK);
    assert_eq!(cancelled["tasks"]["cancelled"], 5);
    for delivery in held {
        let claim = coordinator.claim(&delivery).await;
        assert!(matches!(claim, Claim::Dropped(_)), "{claim:?}");
        delivery.ack().await;
    }
    let more = tokio::time::timeout(Duration::from_millis(500), messages.recv()).await;
    assert!(more.is_err(), "no message after the cancellation");
}

#[tokio::test]
async fn the_loops_end_when_the_shutdown_begins() {
    let (coordinator, broker) = (Coordinator::prepared(1).await, Queues::new());
    coordinator.start_loops(&broker.0, quick());
    tokio::time::sleep(Duration::from_millis(100)).await;
    coordinator.shutdown.begin();
    let ended = tokio::time::timeout(Duration::from_secs(5), coordinator.shutdown.finished()).await;
    assert!(ended.is_ok());
}
