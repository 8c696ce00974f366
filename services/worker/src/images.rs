//! An image from S3 to pixels: fetched concurrently, decoded on a pool of threads.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use perito_database::ImageObject;
use perito_domain::{
    failure::{FailureReason, ImageFailure},
    preprocessing::Preprocessing,
};
use perito_objects::{ErrorKind, ObjectStore};
use perito_vision::{Limits, Pixels};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::TaskError;

/// How an image came out.
pub type Outcome = Result<Pixels, ImageFailure>;

/// Turns catalogue rows into pixels. One for the whole process: its limits hold over all tasks together.
#[derive(Clone)]
pub struct ImageSource {
    objects: ObjectStore,
    decoders: Arc<rayon::ThreadPool>,
    in_flight: Arc<Semaphore>,
    concurrency: usize,
    limits: Limits,
}

/// How much the decoding threads give way, from 0 to 19.
const NICENESS: i32 = 10;

/// Lets the threads of libtorch go first. They compute each operation in equal parts and wait for the last one, so a thread that is
/// kept from its core keeps all of them waiting; batches are made ahead, in the time that is left.
fn yield_to_networks() {
    // On Linux nothing names the calling thread. Where it is not allowed, decoding competes as before.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(error = %error, "decoding threads keep their priority");
    }
}

impl ImageSource {
    /// A source that has at most `concurrency` images fetched or decoded at once, on `threads` decoding threads.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(
        objects: ObjectStore,
        concurrency: usize,
        threads: usize,
        limits: Limits,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let decoders = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("decode-{n}"))
            .start_handler(|_| yield_to_networks())
            .build()?;
        Ok(Self {
            objects,
            decoders: Arc::new(decoders),
            in_flight: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            limits,
        })
    }

    /// The pool, for other work on pixels.
    pub fn threads(&self) -> &Arc<rayon::ThreadPool> {
        &self.decoders
    }

    /// Loads images in no particular order, each with its position in `images`. Loading runs ahead of the reader by
    /// at most `ahead` images and stops when the reader is dropped.
    ///
    /// An error ends the stream: the task has to be tried again. An image that cannot be scored is no error.
    pub fn load(
        &self,
        images: Vec<ImageObject>,
        contract: Preprocessing,
        ahead: usize,
    ) -> impl Stream<Item = Result<(usize, Outcome), TaskError>> + Send + 'static {
        let (sender, receiver) = mpsc::channel(ahead.max(1));
        let source = self.clone();
        let span = tracing::Span::current();
        let loading = async move {
            let contract = Arc::new(contract);
            let loaded = stream::iter(images.into_iter().enumerate()).map(|(position, image)| {
                let (source, contract) = (&source, Arc::clone(&contract));
                async move { source.load_one(&image, contract).await.map(|outcome| (position, outcome)) }
            });
            let mut loaded = std::pin::pin!(loaded.buffer_unordered(source.concurrency));
            while let Some(item) = loaded.next().await {
                let failed = item.is_err();
                if sender.send(item).await.is_err() || failed {
                    break;
                }
            }
        };
        // Its own task, so that loading goes on while the reader waits for the device.
        tokio::spawn(tracing::Instrument::instrument(loading, span));
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
    }

    async fn load_one(&self, image: &ImageObject, contract: Arc<Preprocessing>) -> Result<Outcome, TaskError> {
        // Closed never: the semaphore lives as long as the source.
        let _permit = self.in_flight.acquire().await;
        let fetched = self.objects.get(&image.bucket, &image.key, Some(&image.etag), self.limits.max_bytes).await;
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => {
                let reason = match error.kind() {
                    ErrorKind::NotFound => FailureReason::Missing,
                    ErrorKind::Changed => FailureReason::Changed,
                    ErrorKind::TooLarge => FailureReason::TooLarge,
                    _ => {
                        let context = format!("get image {}/{}", image.bucket, image.key);
                        return Err(TaskError::Objects { context, source: error });
                    }
                };
                return Ok(Err(ImageFailure { image_id: image.id, reason, detail: error.to_string() }));
            }
        };
        let limits = self.limits;
        let (reply, decoded) = oneshot::channel();
        self.decoders.spawn(move || {
            let _ = reply.send(perito_vision::preprocess(&bytes, &contract, &limits));
        });
        let decoded = decoded.await.map_err(|_| TaskError::Panic("decoding an image"))?;
        Ok(decoded.map_err(|error| ImageFailure {
            image_id: image.id,
            reason: error.reason(),
            detail: error.to_string(),
        }))
    }
}
