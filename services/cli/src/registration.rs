//! Images on their way into the catalogue, in batches.

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    api::{Api, types::NewImage},
    progress::Progress,
};

/// Images in one request: with the longest keys they stay well below the API's limit for a body.
pub const BATCH: usize = 5_000;

/// What became of all batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many were not known before.
    pub new: u64,
    /// How many were.
    pub known: u64,
    /// How many older versions of objects were superseded.
    pub superseded: u64,
}

/// Registers images; their numbers in the catalogue, in the same order.
///
/// # Errors
/// [`crate::api::ApiError`]. What was registered before stays: doing it again continues.
pub async fn register(
    api: &Api,
    images: &[NewImage],
    totals: &mut Totals,
    progress: &Progress,
) -> anyhow::Result<Vec<i64>> {
    let mut ids = Vec::with_capacity(images.len());
    for batch in images.chunks(BATCH) {
        let registered = api.register(batch).await.context("register images")?.value;
        anyhow::ensure!(
            registered.ids.len() == batch.len(),
            "register images: the API answered {} numbers for {} images",
            registered.ids.len(),
            batch.len()
        );
        totals.new += registered.new;
        totals.known += registered.known;
        totals.superseded += registered.superseded;
        ids.extend(registered.ids);
        progress.advance(batch.len() as u64, 0);
    }
    Ok(ids)
}
