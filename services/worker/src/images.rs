//! An image from S3 to pixels: fetched concurrently, decoded on a pool of threads, never with more memory than there is for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use futures::{Stream, StreamExt, stream};
use perito_database::ImageObject;
use perito_domain::{
    failure::{FailureReason, ImageFailure},
    preprocessing::Preprocessing,
    stages::Stage,
};
use perito_objects::{ErrorKind, ObjectStore};
use perito_vision::{DecodeError, Limits, Pixels};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    budget::{ImageMemory, Room},
    error::TaskError,
    fetching::FetchLimit,
    stall::StallClock,
};

/// How an image came out.
pub type Outcome = Result<Pixels, ImageFailure>;

/// Turns catalogue rows into pixels. One for the whole process: its limits hold over all tasks together.
#[derive(Clone)]
pub struct ImageSource {
    objects: ObjectStore,
    decoders: Arc<rayon::ThreadPool>,
    fetching: FetchLimit,
    memory: ImageMemory,
    clock: StallClock,
    /// Images that decoding threads have, or will have next.
    to_decode: Arc<AtomicUsize>,
    concurrency: usize,
    limits: Limits,
    /// Fault injection, for tests of images that crash their worker: what is in the keys of such images.
    poison: Option<Arc<str>>,
}

/// With how much an [`ImageSource`] works.
#[derive(Clone)]
pub struct ImageSourceOptions {
    /// Images of one task that are fetched or decoded at once.
    pub concurrency: usize,
    /// Threads that decode.
    pub threads: usize,
    /// What is refused.
    pub limits: Limits,
    /// Memory for images that are fetched or decoded.
    pub memory: ImageMemory,
}

/// The variable that says which images crash this process; no option, for nobody but a test sets it.
const POISON_VARIABLE: &str = "PERITO_FAULT_ABORT_ON_KEY";

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
    /// A source with these options, whose stages tell the clock what they do.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(
        objects: ObjectStore,
        options: ImageSourceOptions,
        clock: StallClock,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let ImageSourceOptions { concurrency, threads, limits, memory } = options;
        let decoders = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("decode-{n}"))
            .start_handler(|_| yield_to_networks())
            .build()?;
        Ok(Self {
            objects,
            decoders: Arc::new(decoders),
            fetching: FetchLimit::new(concurrency),
            memory,
            clock,
            to_decode: Arc::default(),
            concurrency,
            limits,
            poison: std::env::var(POISON_VARIABLE).ok().filter(|part| !part.is_empty()).map(Arc::from),
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
                let (source, contract) = (source.clone(), Arc::clone(&contract));
                let load = async move { source.load_one(&image, contract).await.map(|outcome| (position, outcome)) };
                // A task of its own: it goes on while those before it wait for room.
                AbortOnDropHandle::new(tokio::spawn(tracing::Instrument::in_current_span(load)))
            });
            let mut loaded = std::pin::pin!(loaded.buffer_unordered(source.concurrency));
            while let Some(item) = loaded.next().await {
                let item = item.unwrap_or(Err(TaskError::Panic("loading an image")));
                let failed = item.is_err();
                if !source.hand_on(&sender, item).await || failed {
                    break;
                }
            }
        };
        // Its own task, so that loading goes on while the reader waits for the device.
        tokio::spawn(tracing::Instrument::instrument(loading, span));
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
    }

    /// Whether somebody still reads.
    async fn hand_on<T>(&self, to: &mpsc::Sender<T>, item: T) -> bool {
        match to.try_send(item) {
            Ok(()) => true,
            Err(TrySendError::Full(item)) => {
                let _waiting = self.clock.waiting_for_room(Stage::Decode);
                to.send(item).await.is_ok()
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    async fn load_one(&self, image: &ImageObject, contract: Arc<Preprocessing>) -> Result<Outcome, TaskError> {
        match self.fetched(image).await? {
            Ok((file, room)) => {
                if self.poison.as_ref().is_some_and(|part| image.key.contains(&**part)) {
                    std::process::abort();
                }
                let decoded = self.decoded(file, contract).await?;
                drop(room);
                Ok(decoded.map_err(|(reason, detail)| ImageFailure { image_id: image.id, reason, detail }))
            }
            Err((reason, detail)) => Ok(Err(ImageFailure { image_id: image.id, reason, detail })),
        }
    }

    /// An image's bytes, and the room that they take up.
    async fn fetched(&self, image: &ImageObject) -> Result<Result<(Bytes, Room), Reason>, TaskError> {
        // The catalogue's size may come from a manifest that is wrong: then once more, with room for the largest image there may be.
        let most = self.limits.max_bytes;
        let known = u64::try_from(image.size_bytes).unwrap_or_default();
        let mut size = if known == 0 { most } else { known.min(most) };
        loop {
            let waiting = self.clock.waiting_for_room(Stage::Fetch);
            let Some(room) = self.memory.files.room(size).await else {
                let detail =
                    format!("it has up to {size} bytes, and --max-memory leaves {}", self.memory.files.bytes());
                return Ok(Err((FailureReason::TooLarge, detail)));
            };
            drop(waiting);
            let place = self.fetching.place().await;
            let working = self.clock.working(Stage::Fetch);
            let fetched = self.objects.get(&image.bucket, &image.key, Some(&image.etag), size).await;
            drop(working);
            let error = match fetched {
                Ok(bytes) => {
                    place.succeeded(self.decoders_starve());
                    return Ok(Ok((bytes, room)));
                }
                Err(error) => error,
            };
            let reason = match error.kind() {
                ErrorKind::NotFound => FailureReason::Missing,
                ErrorKind::Changed => FailureReason::Changed,
                ErrorKind::TooLarge if size < most => {
                    size = most;
                    continue;
                }
                ErrorKind::TooLarge => FailureReason::TooLarge,
                _ => {
                    place.failed();
                    let context = format!("get image {}/{}", image.bucket, image.key);
                    return Err(TaskError::Objects { context, source: error });
                }
            };
            return Ok(Err((reason, error.to_string())));
        }
    }

    fn decoders_starve(&self) -> bool {
        self.to_decode.load(Ordering::Relaxed) < self.decoders.current_num_threads()
    }

    /// Pixels, at a reduced scale where the contract and the file allow it.
    #[tracing::instrument(name = "decode", skip_all, fields(image.bytes = file.len()))]
    async fn decoded(&self, file: Bytes, contract: Arc<Preprocessing>) -> Result<Result<Pixels, Reason>, TaskError> {
        let needs = perito_vision::needs(&file, &contract);
        let reason = |error: DecodeError| (error.reason(), error.to_string());
        let limits = self.limits;
        if let Some(bytes) = needs.reduced {
            let (file, contract) = (file.clone(), Arc::clone(&contract));
            let work = move || perito_vision::preprocess_reduced(&file, &contract, &limits);
            match self.on_decoders(bytes, work).await? {
                Ok(Ok(Some(pixels))) => return Ok(Ok(pixels)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Ok(Err(reason(error))),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        let work = move || perito_vision::preprocess_exactly(&file, &contract, &limits);
        let decoded = self.on_decoders(needs.exact, work).await?;
        Ok(decoded.and_then(|decoded| decoded.map_err(reason)))
    }

    /// Work on the pool that takes so many bytes of memory, once there is room for them.
    async fn on_decoders<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, Reason>, TaskError> {
        let waiting = self.clock.waiting_for_room(Stage::Decode);
        let Some(room) = self.memory.decoding.room(bytes).await else {
            let left = self.memory.decoding.bytes();
            let detail = format!("decoding it takes {bytes} bytes of memory, and --max-memory leaves {left}");
            return Ok(Err((FailureReason::TooManyPixels, detail)));
        };
        drop(waiting);
        let (reply, done) = oneshot::channel();
        let clock = self.clock.clone();
        let to_decode = Arc::clone(&self.to_decode);
        to_decode.fetch_add(1, Ordering::Relaxed);
        self.decoders.spawn(move || {
            let working = clock.working(Stage::Decode);
            let result = work();
            drop((working, room));
            to_decode.fetch_sub(1, Ordering::Relaxed);
            let _ = reply.send(result);
        });
        done.await.map(Ok).map_err(|_| TaskError::Panic("decoding an image"))
    }
}

/// Why an image cannot be scored, and a line for a person.
type Reason = (FailureReason, String);
