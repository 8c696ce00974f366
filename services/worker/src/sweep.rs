//! A task of a sweep: one run of a trial, measured; or the winner, trained and registered.

use std::sync::Arc;

use perito_database::{ClaimedTask, LabelledImage, SweepRun};
use perito_domain::{
    Severity,
    random::{Purpose, rng},
    retry::ErrorClass,
    spec::{JobSpec, Split, SweepSpec},
};
use rand::seq::SliceRandom;

use crate::{
    error::TaskError,
    execute::{Ending, commit},
    service::Context,
    train::{Data, fit, fit_and_register},
};

/// Trains what the task's place in the sweep says. A recipe that cannot be trained (its loss is no number any more) is a result, not
/// a failure: the trial is out.
///
/// # Errors
/// A bad dataset, or a sweep without any result, is permanent; a store or a database that fails is transient.
pub async fn run(context: &Context, task: &Arc<ClaimedTask>) -> Result<Ending, TaskError> {
    let (JobSpec::Sweep(sweep), Some(dataset_id)) = (&task.spec, task.dataset_id) else {
        return Err(TaskError::Permanent("the sweep's task was planned without a dataset".to_owned()));
    };
    let trials = sweep.trials().map_err(|error| TaskError::Permanent(error.to_string()))?;
    let run = context.database.sweep_run(&task.lease).await?;
    let (SweepRun::Trial { trial: number, .. } | SweepRun::Winner { trial: number }) = run;
    let trial = trials.get(number).ok_or_else(|| TaskError::Permanent(format!("the sweep has no trial {number}")))?;
    tracing::info!(sweep.run = ?run, parameters = %serde_json::Value::Object(trial.parameters.clone()), "trial");
    let SweepRun::Trial { fold, .. } = run else {
        return fit_and_register(context, task, &trial.spec, dataset_id).await;
    };

    let data = data(context, sweep, fold, trials[0].spec.seed, dataset_id).await?;
    let database = &context.database;
    match fit(context, task, &trial.spec, data, |_, _| std::future::ready(Ok(()))).await {
        Ok(None) => return Ok(Ending::Interrupted),
        Ok(Some(trained)) => {
            let (epoch, measurement) = trained.best();
            commit(|| database.commit_sweep_run(&task.lease, Ok((measurement, epoch)))).await?;
        }
        Err(error @ TaskError::Network(_)) if error.class() == ErrorClass::Permanent => {
            tracing::warn!(error = %error, "the trial is out");
            let error = error.to_string();
            commit(|| database.commit_sweep_run(&task.lease, Err(&error))).await?;
        }
        Err(error) => return Err(error),
    }
    Ok(Ending::Committed)
}

/// The dataset's two splits, or the training split without a fold and that fold. All trials have the same folds.
async fn data(context: &Context, sweep: &SweepSpec, fold: u32, seed: u64, dataset_id: i64) -> Result<Data, TaskError> {
    let items = |split| context.database.dataset_items(dataset_id, Some(split));
    let training = items(Split::Training).await?;
    let Some(folds) = sweep.folds else {
        return Ok(Data { training, validation: items(Split::Validation).await? });
    };
    let labels: Vec<Severity> = training.iter().map(|item| item.label).collect();
    let parts = stratified(&labels, folds, seed);
    let (validation, training): (Vec<_>, Vec<_>) = training.into_iter().zip(parts).partition(|(_, part)| *part == fold);
    let images = |items: Vec<(LabelledImage, u32)>| items.into_iter().map(|(item, _)| item).collect();
    Ok(Data { training: images(training), validation: images(validation) })
}

/// The fold of each image, so that every fold has its share of each class (Kohavi, 1995): the images of a class are shuffled, and
/// dealt out in turn.
fn stratified(labels: &[Severity], folds: u32, seed: u64) -> Vec<u32> {
    let mut parts = vec![0; labels.len()];
    let mut next = 0;
    for class in Severity::ALL {
        let mut members: Vec<usize> = (0..labels.len()).filter(|&index| labels[index] == class).collect();
        members.shuffle(&mut rng(seed, Purpose::Folds, 0, class.index() as u64));
        for member in members {
            parts[member] = next % folds;
            next += 1;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_its_share_of_each_class() {
        let labels: Vec<Severity> = (0..103).map(|index| Severity::ALL[(index * index) % 7 % 3]).collect();
        let parts = stratified(&labels, 5, 9);
        assert_eq!(parts, stratified(&labels, 5, 9));
        assert_ne!(parts, stratified(&labels, 5, 10));
        for class in Severity::ALL {
            let all = labels.iter().filter(|&&label| label == class).count();
            for fold in 0..5 {
                let share = labels.iter().zip(&parts).filter(|&(&label, &part)| label == class && part == fold).count();
                assert!((all / 5..=all.div_ceil(5)).contains(&share), "{class} {fold}: {share} of {all}");
            }
        }
        let sizes: Vec<usize> = (0..5).map(|fold| parts.iter().filter(|&&part| part == fold).count()).collect();
        assert!(sizes.iter().all(|size| (20..=21).contains(size)), "{sizes:?}");
    }
}
