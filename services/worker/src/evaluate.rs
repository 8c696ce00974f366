//! An evaluation task: a registered model measured on one split of a dataset.

use std::sync::Arc;

use perito_database::ClaimedTask;
use perito_domain::spec::JobSpec;

use crate::{
    error::TaskError,
    execute::{Ending, commit},
    labelled::LabelledSet,
    measure::{Measured, measure},
    pixel_cache::PixelCache,
    service::Context,
};

/// Measures the task's model and commits metrics and predictions.
///
/// # Errors
/// A missing model or a split without usable images is permanent; a store or a database that fails is transient.
pub async fn run(context: &Context, task: &ClaimedTask) -> Result<Ending, TaskError> {
    let (JobSpec::Evaluate(spec), Some(model), Some(dataset_id)) = (&task.spec, &task.model, task.dataset_id) else {
        return Err(TaskError::Permanent("the evaluation task was planned without a model or a dataset".to_owned()));
    };
    let loaded = context.artifacts.model(model).await?;
    let items = context.database.dataset_items(dataset_id, Some(spec.split)).await?;
    let (set, failures) =
        LabelledSet::load(&context.images, items, &model.preprocessing, PixelCache::new(context.cache)).await?;
    let Measured { measurement, .. } = measure(&set, spec.split, |batch| {
        let loaded = Arc::clone(&loaded);
        async move {
            let forward = move || loaded.engine().probabilities(&batch.views());
            Ok(context.device.run("evaluation", forward).await??)
        }
    })
    .await?;
    tracing::info!(
        accuracy = measurement.metrics.accuracy,
        macro_f1 = measurement.metrics.macro_average.f1,
        "evaluated"
    );
    commit(|| context.database.commit_evaluation(task, &measurement, &failures)).await?;
    Ok(Ending::Committed)
}
