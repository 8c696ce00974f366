//! `perito job`

use clap::{Args, Subcommand};
use perito_domain::lifecycle::{JobKind, JobState};
use uuid::Uuid;

use super::Context;
use crate::{
    api::{
        Answer, ApiError, JobQuery,
        types::{Epoch, Evaluation, Job},
    },
    exit, report,
    watch::{Watch, outcome},
};

/// Jobs: what runs, what ran.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Lists jobs, the newest first
    List(ListArgs),
    /// Shows a job and what it has produced
    Show(JobArgs),
    /// Follows a job to its end
    #[command(after_help = watch_help())]
    Watch(JobArgs),
    /// Cancels a job that has not ended, and shows it
    Cancel(JobArgs),
    /// Shows the epochs of a training job
    Epochs(JobArgs),
    /// Shows the trials of a sweep, from the best to the worst
    Leaderboard(JobArgs),
    /// Shows what a training or evaluation job has measured
    Metrics(JobArgs),
}

/// Which jobs to list.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  perito job list --state running\n  perito --json job list --kind train | jq -r '.jobs[].model'"
)]
pub struct ListArgs {
    /// Only jobs in this state: queued, running, succeeded, failed or cancelled
    #[arg(long)]
    state: Option<JobState>,
    /// Only jobs of this kind: train, score, evaluate or sweep
    #[arg(long)]
    kind: Option<JobKind>,
    /// The length of the page, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Where the page starts: what the page before named as the next one
    #[arg(long, value_name = "ID")]
    cursor: Option<Uuid>,
}

/// A job.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    id: Uuid,
}

fn watch_help() -> String {
    format!(
        "Goes on when the coordinator is away for a while. Stopping it (Ctrl-C) does not stop the job.\n\n{}",
        exit::HELP
    )
}

pub(super) async fn run(context: &Context, command: JobCommand) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    match command {
        JobCommand::List(ListArgs { state, kind, limit, cursor }) => {
            let page = api.jobs(&JobQuery { state, kind, limit: Some(limit), cursor }).await?;
            output.answer(&page, |page| report::jobs(&page.jobs, output.colour))?;
            if let Some(next) = page.value.next_cursor {
                eprintln!("there are more: --cursor {next}");
            }
            Ok(())
        }
        JobCommand::Show(args) => show_ended(context, &api.job(args.id).await?).await,
        JobCommand::Watch(args) => {
            let ended = Watch::default().until_end(api, args.id).await?;
            show_ended(context, &ended).await?;
            Ok(outcome(&ended.value)?)
        }
        JobCommand::Cancel(args) => {
            let job = api.cancel(args.id).await?;
            output.answer(&job, |job| report::job(job, &[], None, output.colour))
        }
        JobCommand::Epochs(args) => output.answer(&api.epochs(args.id).await?, |list| report::epochs(&list.epochs)),
        JobCommand::Leaderboard(args) => {
            output.answer(&api.leaderboard(args.id).await?, |board| report::leaderboard(&board.trials))
        }
        JobCommand::Metrics(args) => output.answer(&api.evaluation(args.id).await?, report::evaluation),
    }
}

/// Shows a job with its epochs and metrics, as far as it has any. As JSON it is the job alone.
pub(super) async fn show_ended(context: &Context, job: &Answer<Job>) -> anyhow::Result<()> {
    let (epochs, evaluation) =
        if context.output.is_json() { (Vec::new(), None) } else { produced(context, &job.value).await? };
    let output = &context.output;
    if job.value.kind == JobKind::Sweep && !output.is_json() {
        output.text(&report::leaderboard(&context.api.leaderboard(job.value.id).await?.value.trials))?;
    }
    output.answer(job, |job| report::job(job, &epochs, evaluation.as_ref(), output.colour))
}

async fn produced(context: &Context, job: &Job) -> Result<(Vec<Epoch>, Option<Evaluation>), ApiError> {
    let epochs = if job.kind == JobKind::Train && job.epochs_done > 0 {
        context.api.epochs(job.id).await?.value.epochs
    } else {
        Vec::new()
    };
    let evaluation = if job.kind != JobKind::Score && job.state == JobState::Succeeded {
        measured(context, job.id).await?
    } else {
        None
    };
    Ok((epochs, evaluation))
}

/// What a job has measured, if it has.
pub(super) async fn measured(context: &Context, id: Uuid) -> Result<Option<Evaluation>, ApiError> {
    match context.api.evaluation(id).await {
        Ok(answer) => Ok(Some(answer.value)),
        Err(ApiError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
