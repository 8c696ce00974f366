//! Measurements that a command needs: found, or made.

use perito_domain::{names::DatasetRef, spec::Split};
use uuid::Uuid;

use crate::{
    commands::Context,
    specification::Specification,
    watch::{Watch, outcome},
};

/// Evaluates those of these versions that have not been measured on the split, one after the other, and waits for each.
pub(super) async fn ensure_measured(
    context: &Context,
    versions: &[&str],
    dataset: &DatasetRef,
    split: Option<Split>,
) -> anyhow::Result<()> {
    let api = &context.api;
    let split = split.unwrap_or(Split::Validation);
    let dataset = api.dataset(dataset).await?.value.reference;
    for version in versions {
        let known = api.measurements(version).await?.value.measurements;
        if known.iter().any(|measurement| measurement.dataset == dataset && measurement.split == split) {
            continue;
        }
        eprintln!("measuring {version} on {dataset} ({split})");
        let mut spec = Specification::new("evaluate");
        spec.set("model", *version)?;
        spec.set("dataset", dataset.as_str())?;
        spec.set("split", split.as_str())?;
        let job = api.submit(&spec.checked()?, None, &Uuid::now_v7().to_string()).await?.value;
        let ended = Watch::default().until_end(api, job.id).await?;
        outcome(&ended.value)?;
    }
    Ok(())
}
