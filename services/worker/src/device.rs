//! The one thread that runs networks.
//!
//! libtorch's memory grows with every thread that uses it, and its no-grad mode belongs to a thread, so all tensor
//! work of a process happens on one thread that lives as long as the process. Work arrives as closures through a
//! channel of one: while a batch runs, the next one is ready.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};

use crate::error::TaskError;

type Work = Box<dyn FnOnce() + Send>;

/// A handle to the device thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct DeviceThread {
    work: mpsc::Sender<Work>,
    device: perito_nets::Device,
}

impl DeviceThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system cannot start another thread.
    pub fn start(device: perito_nets::Device, intra_op_threads: usize) -> std::io::Result<Self> {
        let (work, mut queue) = mpsc::channel::<Work>(1);
        std::thread::Builder::new().name("device".to_owned()).spawn(move || {
            perito_nets::set_threads(intra_op_threads);
            while let Some(work) = queue.blocking_recv() {
                work();
            }
        })?;
        Ok(Self { work, device })
    }

    /// The device that closures should use.
    pub fn device(&self) -> perito_nets::Device {
        self.device
    }

    /// Runs `work` on the thread and waits for its result. `what` names it should it panic.
    ///
    /// If the caller stops waiting, the work still runs to its end and its result is dropped.
    ///
    /// # Errors
    /// [`TaskError::Panic`] when the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let (reply, result) = oneshot::channel();
        // Begins here, so that the wait for the device shows.
        let span = tracing::info_span!("device", work = what);
        let work = Box::new(move || {
            let _entered = span.entered();
            // A panic unwinds through values that the closure owns; nothing shared is left half changed.
            if let Ok(value) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = reply.send(value);
            }
        });
        if self.work.send(work).await.is_err() {
            return Err(TaskError::Panic(what));
        }
        result.await.map_err(|_| TaskError::Panic(what))
    }
}
