//! A labelled split in memory, as far as memory goes, and batches of it ahead of the device.

use std::sync::Arc;

use futures::StreamExt;
use perito_database::{ImageObject, LabelledImage};
use perito_domain::{Severity, failure::ImageFailure, preprocessing::Preprocessing, severity::CLASSES};
use perito_vision::Pixels;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::TaskError,
    images::ImageSource,
    pixel_cache::{Kept, PixelCache},
};

/// Batches made ahead of the device.
const BATCHES_AHEAD: usize = 2;
/// The share of a split's images that may be unusable before the task fails for good.
const FAILURE_BUDGET: f64 = 0.05;

/// One usable image of a split.
#[derive(Clone)]
struct Sample {
    image: ImageObject,
    label: Severity,
    /// Where its decoded pixels are.
    pixels: Kept,
}

/// The usable images of one split, in order of their ids.
#[derive(Clone)]
pub struct LabelledSet {
    samples: Arc<Vec<Sample>>,
    source: ImageSource,
    contract: Preprocessing,
}

/// Images and labels of one step, position by position.
pub struct Batch {
    /// Square RGB pixels.
    pub images: Vec<Pixels>,
    /// The classes on the labels.
    pub labels: Vec<Severity>,
    /// The images' ids in the catalogue.
    pub ids: Vec<i64>,
}

impl Batch {
    /// The images as the networks take them.
    pub fn views(&self) -> Vec<&[u8]> {
        self.images.iter().map(Pixels::as_bytes).collect()
    }
}

impl LabelledSet {
    /// Loads every image of a split once, keeps their pixels as far as the cache goes, and tells which images are unusable.
    ///
    /// # Errors
    /// Permanent when no image, or less than 95 % of them, is usable.
    pub async fn load(
        source: &ImageSource,
        items: Vec<LabelledImage>,
        contract: &Preprocessing,
        mut cache: PixelCache,
    ) -> Result<(Self, Vec<ImageFailure>), TaskError> {
        let images: Vec<ImageObject> = items.iter().map(|item| item.image.clone()).collect();
        let mut pixels: Vec<Option<Kept>> = vec![None; items.len()];
        let mut failures = Vec::new();
        let mut loaded = std::pin::pin!(source.load(images, contract.clone(), 64));
        while let Some(item) = loaded.next().await {
            match item? {
                (position, Ok(image)) => pixels[position] = Some(cache.keep(image)),
                (_, Err(failure)) => failures.push(failure),
            }
        }
        let total = items.len();
        let samples: Vec<Sample> = items
            .into_iter()
            .zip(pixels)
            .filter_map(|(item, pixels)| Some(Sample { image: item.image, label: item.label, pixels: pixels? }))
            .collect();
        if samples.is_empty() || failures.len() as f64 > FAILURE_BUDGET * total as f64 {
            let example = failures.first().map(|failure| format!(", for instance: {}", failure.detail));
            return Err(TaskError::Permanent(format!(
                "{} of the split's {total} images cannot be used (at most {} % may){}",
                failures.len(),
                FAILURE_BUDGET * 100.0,
                example.unwrap_or_default()
            )));
        }
        let set = Self { samples: Arc::new(samples), source: source.clone(), contract: contract.clone() };
        Ok((set, failures))
    }

    /// How many images are usable.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// How many usable images there are of each class.
    pub fn class_images(&self) -> [u64; CLASSES] {
        let mut images = [0; CLASSES];
        for sample in self.samples.iter() {
            images[sample.label.index()] += 1;
        }
        images
    }

    /// Whether there are none. [`Self::load`] makes no such set.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Batches of the images at these positions, in this order, each image changed by `transform` (which gets the image's
    /// position). They are made on the pool's threads ahead of the reader.
    pub fn batches(
        &self,
        order: Vec<usize>,
        batch_size: usize,
        transform: impl Fn(usize, &Pixels) -> Pixels + Send + Sync + 'static,
    ) -> mpsc::Receiver<Result<Batch, TaskError>> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let set = self.clone();
        let transform = Arc::new(transform);
        tokio::spawn(async move {
            for positions in order.chunks(batch_size) {
                let batch = set.batch(positions.to_vec(), Arc::clone(&transform)).await;
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
        });
        receiver
    }

    async fn batch(
        &self,
        positions: Vec<usize>,
        transform: Arc<impl Fn(usize, &Pixels) -> Pixels + Send + Sync + 'static>,
    ) -> Result<Batch, TaskError> {
        let labels = positions.iter().map(|&position| self.samples[position].label).collect();
        let ids = positions.iter().map(|&position| self.samples[position].image.id).collect();
        let kept = self.kept(&positions).await?;
        let (reply, made) = oneshot::channel();
        self.source.threads().spawn(move || {
            use rayon::prelude::*;
            let made = positions.par_iter().zip(&kept).map(|(&position, kept)| Ok(transform(position, &*kept.read()?)));
            let _ = reply.send(made.collect::<std::io::Result<Vec<_>>>());
        });
        let images = made.await.map_err(|_| TaskError::Panic("augmenting a batch"))?.map_err(TaskError::Cache)?;
        Ok(Batch { images, labels, ids })
    }

    /// Where the pixels at these positions are, after loading again those that the cache had no room for.
    async fn kept(&self, positions: &[usize]) -> Result<Vec<Kept>, TaskError> {
        let mut kept: Vec<Kept> = positions.iter().map(|&position| self.samples[position].pixels.clone()).collect();
        let absent: Vec<usize> = (0..positions.len()).filter(|&slot| matches!(kept[slot], Kept::Nowhere)).collect();
        if !absent.is_empty() {
            let images = absent.iter().map(|&slot| self.samples[positions[slot]].image.clone()).collect();
            let mut loaded = std::pin::pin!(self.source.load(images, self.contract.clone(), absent.len()));
            while let Some(item) = loaded.next().await {
                let (position, outcome) = item?;
                match outcome {
                    Ok(image) => kept[absent[position]] = Kept::InMemory(Arc::new(image)),
                    Err(failure) => {
                        return Err(TaskError::Permanent(format!(
                            "image {} could be used at the start and not any more: {}",
                            failure.image_id, failure.detail
                        )));
                    }
                }
            }
        }
        Ok(kept)
    }
}
