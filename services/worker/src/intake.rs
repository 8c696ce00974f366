//! Whether this worker takes new tasks: not while it is drained, and never again once it is shutting down.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The door. Each time it opens there is a new token, which is cancelled when it closes.
pub struct Intake {
    shutdown: CancellationToken,
    door: watch::Sender<CancellationToken>,
}

impl Intake {
    /// An open door, until `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { door: watch::Sender::new(shutdown.child_token()), shutdown }
    }

    /// Closes the door, or opens it.
    pub fn set_draining(&self, draining: bool) {
        let closed = self.door.borrow().is_cancelled();
        if draining && !closed {
            tracing::info!("drained: taking nothing new");
            self.door.borrow().cancel();
        } else if !draining && closed && !self.shutdown.is_cancelled() {
            tracing::info!("taking tasks again");
            self.door.send_replace(self.shutdown.child_token());
        }
    }

    /// Waits until new tasks may be taken: the token that is cancelled when no more may be. `None` once shutting down.
    pub async fn open(&self) -> Option<CancellationToken> {
        let mut door = self.door.subscribe();
        loop {
            if self.shutdown.is_cancelled() {
                return None;
            }
            let token = door.borrow_and_update().clone();
            if !token.is_cancelled() {
                return Some(token);
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                // The sender is this value's own.
                _ = door.changed() => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drained_worker_waits_for_the_end_of_it_or_of_the_process() {
        let shutdown = CancellationToken::new();
        let intake = Intake::new(shutdown.clone());
        let token = intake.open().await.unwrap();
        intake.set_draining(false);
        assert!(!token.is_cancelled(), "nothing changed");
        intake.set_draining(true);
        assert!(token.is_cancelled());
        assert!(tokio::time::timeout(Duration::from_secs(60), intake.open()).await.is_err());
        let (again, ()) = tokio::join!(intake.open(), async { intake.set_draining(false) });
        assert!(!again.unwrap().is_cancelled());
        intake.set_draining(true);
        let (none, ()) = tokio::join!(intake.open(), async { shutdown.cancel() });
        assert!(none.is_none());
        intake.set_draining(false);
        assert!(intake.open().await.is_none());
    }
}
