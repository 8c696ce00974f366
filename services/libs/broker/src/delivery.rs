//! One message in hand, to be settled.

use std::{sync::Arc, time::Duration};

use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
};
use perito_domain::message::TaskMessage;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a delivery that was dropped still takes up its place, so that a worker that cannot claim anything (its database is
/// down) does not spin.
const PAUSE: Duration = Duration::from_secs(1);
/// For the client to send an acknowledgement. The broker does not answer to them.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A message that the broker holds for this worker until it is settled: acknowledged, or, by being dropped, given back.
///
/// An acknowledgement whose channel is gone is without effect: the broker has taken the message back already.
#[derive(Debug)]
pub struct Delivery<M = TaskMessage> {
    /// The message.
    pub message: M,
    settlement: Option<Settlement>,
}

/// How to settle a message. It belongs to one generation of the channel.
#[derive(Debug)]
struct Settlement {
    acker: Acker,
    /// Keeps the channel open while messages are in hand, even after the consumer has stopped, and lets the consumer count them.
    _channel: Arc<Channel>,
    stop: CancellationToken,
}

impl<M> Delivery<M> {
    pub(crate) fn new(message: M, acker: Acker, channel: Arc<Channel>, stop: CancellationToken) -> Self {
        Self { message, settlement: Some(Settlement { acker, _channel: channel, stop }) }
    }

    /// Tells the broker to forget the message.
    pub async fn ack(mut self) {
        let Some(settlement) = self.settlement.take() else { return };
        let sent = timeout(SEND_TIMEOUT, settlement.acker.ack(BasicAckOptions::default())).await;
        match sent {
            Ok(Ok(true)) => {}
            // The message comes again, and is dropped by whoever asks the database about it.
            Ok(Ok(false)) => tracing::debug!("acknowledgement of a channel that is gone"),
            Ok(Err(error)) => tracing::debug!(error.message = %error, "acknowledgement lost"),
            Err(_) => tracing::debug!("acknowledgement stuck"),
        }
    }

    /// Sends the message to the dead-letter queue. If that does not get through, the message comes again.
    pub async fn reject(mut self) {
        if let Some(settlement) = self.settlement.take() {
            to_dead_letters(&settlement.acker).await;
        }
    }
}

impl<M> Drop for Delivery<M> {
    fn drop(&mut self) {
        // Without a runtime the connection is ending, which gives everything back.
        if let Some(settlement) = self.settlement.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                tokio::select! {
                    () = settlement.stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
                give_back(&settlement.acker).await;
            });
        }
    }
}

/// Lets the broker hand the message to another worker.
pub(crate) async fn give_back(acker: &Acker) {
    let requeue = BasicNackOptions { requeue: true, ..Default::default() };
    // If it fails, the channel is gone, and the message has been given back with it.
    let _ = timeout(SEND_TIMEOUT, acker.nack(requeue)).await;
}

/// Lets the broker move the message to the dead-letter queue.
pub(crate) async fn to_dead_letters(acker: &Acker) {
    // If it fails, the channel is gone; the message comes again.
    let _ = timeout(SEND_TIMEOUT, acker.reject(BasicRejectOptions { requeue: false })).await;
}
