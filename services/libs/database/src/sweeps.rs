//! Sweeps: runs planned, their results behind the fence, the leaderboard, and the winner's task.

use perito_domain::spec::SweepSpec;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Database, Lease, Measurement,
    commit::end_task,
    error::{During, Error, ErrorKind, Result},
};

/// What a task of a sweep is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepRun {
    /// Measure a trial on one fold, both counted from 0.
    Trial {
        /// The trial.
        trial: usize,
        /// The fold; 0 without cross-validation.
        fold: u32,
    },
    /// Train this trial, the best one, and register it.
    Winner {
        /// The trial.
        trial: usize,
    },
}

/// A trial's place among the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// From 1; `None` while it is not done, or when it cannot be trained.
    pub rank: Option<i64>,
    /// Counted from 0.
    pub trial: i32,
    /// What it does not have in common with the others, by path.
    pub parameters: Value,
    /// How many runs measure it.
    pub runs: i64,
    /// How many of them are done.
    pub runs_done: i64,
    /// Mean macro F1 of the runs' best epochs.
    pub macro_f1: Option<f64>,
    /// Its sample standard deviation over the folds.
    pub macro_f1_deviation: Option<f64>,
    /// Mean accuracy.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy in nats.
    pub log_loss: Option<f64>,
    /// Mean number of the best epoch.
    pub best_epoch: Option<f64>,
    /// Why it cannot be trained.
    pub error: Option<String>,
}

/// A task for each run of each trial.
pub(crate) async fn plan_runs(tx: &mut PgConnection, job_id: Uuid, spec: &SweepSpec) -> Result<u64> {
    let trials = spec.trials().map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    let folds = spec.runs_per_trial() as i32;
    let parameters: Vec<Value> = trials.into_iter().map(|trial| Value::Object(trial.parameters)).collect();
    let inserted = sqlx::query!(
        "with runs as materialized (
             select gen_random_uuid() as id, number::int - 1 as trial, fold, parameters
             from unnest($2::jsonb[]) with ordinality as trials(parameters, number), generate_series(0, $3::int - 1) as fold
         ), made as (
             insert into tasks (id, job_id, kind, ordinal)
             select id, $1, 'sweep', trial * $3::int + fold from runs
             returning id
         )
         insert into sweep_runs (job_id, trial, fold, task_id, parameters)
         select $1, trial, fold, id, parameters from runs where exists (select from made)",
        job_id,
        &parameters,
        folds
    )
    .execute(tx)
    .await
    .during("plan the sweep's runs")?;
    Ok(inserted.rows_affected())
}

impl Database {
    /// What a claimed task of a sweep is to do.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn sweep_run(&self, lease: &Lease) -> Result<SweepRun> {
        let run = sqlx::query!("select trial, fold from sweep_runs where task_id = $1", lease.task_id())
            .fetch_optional(&self.control)
            .await
            .during("read the sweep's run")?;
        if let Some(run) = run {
            return Ok(SweepRun::Trial { trial: run.trial as usize, fold: run.fold as u32 });
        }
        let winner = sqlx::query_scalar!(
            r#"select trial as "trial!" from sweep_leaderboard where job_id = $1 and rank = 1"#,
            lease.job_id()
        )
        .fetch_one(&self.control)
        .await
        .during("find the sweep's winner")?;
        Ok(SweepRun::Winner { trial: winner as usize })
    }

    /// Commits a run of a trial: its measurement, or why the recipe cannot be trained. The last one makes the winner's task.
    ///
    /// # Errors
    /// `StaleAttempt` when the task is not the caller's any more; `Invalid` when this was the last run and no trial has a result.
    pub async fn commit_sweep_run(
        &self,
        lease: &Lease,
        outcome: std::result::Result<(&Measurement, u32), &str>,
    ) -> Result<()> {
        let mut tx = self.begin("begin the commit").await?;
        end_task(&mut tx, lease, 0, 0).await?;
        let measured = outcome.ok();
        let metrics = measured.map(|(measurement, _)| (&measurement.metrics, &measurement.certainty));
        sqlx::query!(
            "update sweep_runs set accuracy = $2, macro_f1 = $3, log_loss = $4, best_epoch = $5, error = $6, finished_at = now()
             where task_id = $1",
            lease.task_id(),
            metrics.map(|(metrics, _)| metrics.accuracy),
            metrics.map(|(metrics, _)| metrics.macro_average.f1),
            metrics.map(|(_, certainty)| certainty.log_loss),
            measured.map(|(_, best_epoch)| best_epoch as i32),
            outcome.err()
        )
        .execute(&mut *tx)
        .await
        .during("record the run")?;
        make_winner(&mut tx, lease.job_id()).await?;
        tx.commit().await.during("commit the run")
    }

    /// The trials of a sweep, from the best to the worst, then those that are not done.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn leaderboard(&self, job_id: Uuid) -> Result<Vec<Standing>> {
        sqlx::query_as!(
            Standing,
            r#"select rank, trial as "trial!", parameters as "parameters!", runs as "runs!", runs_done as "runs_done!",
                      macro_f1, macro_f1_deviation, accuracy, log_loss, best_epoch, error
               from sweep_leaderboard where job_id = $1 order by rank nulls last, trial"#,
            job_id
        )
        .fetch_all(&self.control)
        .await
        .during("read the leaderboard")
    }
}

/// Makes the winner's task once no run is open. The job's row is locked first: of two runs that end at the same time, the second one
/// sees the first.
async fn make_winner(tx: &mut PgConnection, job_id: Uuid) -> Result<()> {
    sqlx::query!("select id from jobs where id = $1 for update", job_id)
        .fetch_one(&mut *tx)
        .await
        .during("lock the sweep")?;
    let state = sqlx::query!(
        r#"select bool_or(finished_at is null) as "open!", count(macro_f1) as "measured!", count(*) as "runs!", min(error) as error,
                  exists(select from sweep_leaderboard where job_id = $1 and rank = 1) as "winner!"
           from sweep_runs where job_id = $1"#,
        job_id
    )
    .fetch_one(&mut *tx)
    .await
    .during("look for open runs")?;
    if state.open {
        return Ok(());
    }
    if !state.winner {
        let error = state.error.unwrap_or_default();
        let message = format!("no trial has a result from each of its runs, for instance: {error}");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    sqlx::query!(
        "insert into tasks (id, job_id, kind, ordinal) values (gen_random_uuid(), $1, 'sweep', $2)",
        job_id,
        state.runs as i32
    )
    .execute(tx)
    .await
    .during("make the winner's task")?;
    Ok(())
}
