//! `perito job`

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use perito_domain::{
    lifecycle::{JobKind, JobState},
    limits::MAX_CONCURRENCY,
    names::ModelRef,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Context;
use crate::{
    api::{Action, Answer, ApiError, Epoch, Evaluation, Job, JobQuery},
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
    /// Pauses a job: nothing new of it starts, and what runs goes on to its end
    #[command(after_help = PAUSE_HELP)]
    Pause(JobArgs),
    /// Resumes a paused job
    Resume(JobArgs),
    /// Changes the priority or the limit of a job that has not ended
    #[command(after_help = SET_HELP)]
    Set(SetArgs),
    /// Cancels a job that has not ended, and shows it
    Cancel(JobArgs),
    /// Lets a failed job run again, and shows it: what failed of it starts anew, what succeeded stays
    #[command(after_help = RETRY_HELP)]
    Retry(RetryArgs),
    /// Shows who worked on a job's tasks, and what came of it
    #[command(after_help = ATTEMPTS_HELP)]
    Attempts(AttemptsArgs),
    /// Shows the epochs of a training job
    Epochs(JobArgs),
    /// Shows what each stage of a scoring job has done with its time, and so what limits it
    Stages(JobArgs),
    /// Shows the trials of a sweep, from the best to the worst
    Leaderboard(JobArgs),
    /// Shows what a training or evaluation job has measured
    Metrics(JobArgs),
}

/// Which jobs to list.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  perito job list --state running\n  perito job list --kind score --model severity@3 --since 7d\n  \
                  perito --json job list --kind train | jq -r '.jobs[].model'"
)]
pub struct ListArgs {
    /// Only jobs in this state: queued, running, succeeded, failed or cancelled
    #[arg(long)]
    state: Option<JobState>,
    /// Only jobs of this kind: train, score, evaluate or sweep
    #[arg(long)]
    kind: Option<JobKind>,
    /// Only jobs that are paused
    #[arg(long)]
    paused: bool,
    /// Only jobs that score with, measure or made this model (NAME or NAME@VERSION), or were submitted with it (NAME@ALIAS)
    #[arg(long, value_name = "MODEL")]
    model: Option<ModelRef>,
    /// Only jobs submitted since: a time ago (90m, 24h, 7d), a date (2026-10-01, UTC) or a time (2026-10-01T02:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<DateTime<Utc>>,
    /// The length of the page, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Where the page starts: what the page before named as its end
    #[arg(long, value_name = "ID", alias = "cursor")]
    after: Option<Uuid>,
}

const PAUSE_HELP: &str = "\
A paused job keeps its state and its tasks. What workers have runs to its end, and a queued job is not planned, so that its photographs
and its model are chosen when it is resumed. To stop what runs too, cancel the job.";

const SET_HELP: &str = "\
A change counts for what no worker has claimed yet.

Examples:
  perito job set 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --priority 9
  perito job set 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --concurrency 4
  perito job set 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --concurrency none";

/// What to change of a job.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Tasks of a higher priority are dispatched first, 0 to 9
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9), required_unless_present = "concurrency")]
    priority: Option<u8>,
    /// The most tasks that workers have at once, dispatched or running; none for no limit
    #[arg(long, value_name = "N", value_parser = limit)]
    concurrency: Option<Limit>,
}

const RETRY_HELP: &str = "\
Tasks that have succeeded keep their results; the others start anew, with all their attempts. A job that has not ended is left as it is, so
that asking twice is as good as once. A job that has succeeded or was cancelled stays as it is: submit another one.

Examples:
  perito job retry 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11
  perito job retry 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --images    too many images failed, and they are mended";

const ATTEMPTS_HELP: &str = "\
docs/reference/retries.md says what follows from each class of error. For runs that have ended, the view task_attempts has the same.

Examples:
  perito job attempts 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --lost
  perito --json job attempts 0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11 --task 3 | jq '.attempts[].error'";

/// What to try again.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Also tries the images again that could not be scored
    #[arg(long)]
    images: bool,
}

/// Which attempts to show.
#[derive(Debug, Args)]
pub struct AttemptsArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Only attempts on the task with this number
    #[arg(long, value_name = "N")]
    task: Option<i32>,
    /// Only those that did not succeed
    #[arg(long)]
    lost: bool,
    /// The most that are shown, the newest first, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

/// A limit, or none at all.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match text.parse::<u32>() {
        _ if text == "none" => Ok(Limit(None)),
        Ok(limit) if (1..=MAX_CONCURRENCY).contains(&limit) => Ok(Limit(Some(limit))),
        _ => Err(format!("write 1 to {MAX_CONCURRENCY}, or none")),
    }
}

fn since(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let ago = humantime::parse_duration(text)
        .ok()
        .and_then(|ago| Utc::now().checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?));
    ago.ok_or_else(|| {
        "write a time ago (90m, 24h, 7d), a date (2026-10-01) or a time (2026-10-01T02:00:00Z)".to_owned()
    })
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
        JobCommand::List(ListArgs { state, kind, paused, model, since, limit, after }) => {
            let query = JobQuery { state, kind, paused, model, since, limit: Some(limit), cursor: after };
            let page = api.jobs(&query).await?;
            output.answer(&page, |page| report::jobs(&page.jobs, output.colour))?;
            if let Some(next) = page.value.next_cursor {
                eprintln!("there are more: --after {next}");
            }
            Ok(())
        }
        JobCommand::Show(args) => show_ended(context, &api.job(args.id).await?).await,
        JobCommand::Watch(args) => {
            let ended = Watch::default().until_end(api, args.id).await?;
            show_ended(context, &ended).await?;
            Ok(outcome(&ended.value)?)
        }
        JobCommand::Pause(args) => show(context, &api.act(args.id, Action::Pause).await?),
        JobCommand::Resume(args) => show(context, &api.act(args.id, Action::Resume).await?),
        JobCommand::Cancel(args) => show(context, &api.act(args.id, Action::Cancel).await?),
        JobCommand::Set(SetArgs { id, priority, concurrency }) => {
            let mut fields = Map::new();
            fields.extend(priority.map(|priority| ("priority".to_owned(), Value::from(priority))));
            fields.extend(concurrency.map(|limit| ("concurrency".to_owned(), Value::from(limit.0))));
            show(context, &api.change(id, &fields).await?)
        }
        JobCommand::Stages(args) => output.answer(&api.stages(args.id).await?, report::stages),
        JobCommand::Retry(args) => show(context, &api.retry(args.id, args.images).await?),
        JobCommand::Attempts(AttemptsArgs { id, task, lost, limit }) => {
            output.answer(&api.attempts(id, task, lost, limit).await?, |list| report::attempts(&list.attempts))
        }
        JobCommand::Epochs(args) => output.answer(&api.epochs(args.id).await?, |list| report::epochs(&list.epochs)),
        JobCommand::Leaderboard(args) => {
            output.answer(&api.leaderboard(args.id).await?, |board| report::leaderboard(&board.trials))
        }
        JobCommand::Metrics(args) => output.answer(&api.evaluation(args.id).await?, report::evaluation),
    }
}

/// Shows a job alone.
fn show(context: &Context, job: &Answer<Job>) -> anyhow::Result<()> {
    let output = &context.output;
    output.answer(job, |job| report::job(job, &[], None, output.colour))
}

/// Shows a job with its epochs and metrics, as far as it has any. As JSON it is the job alone.
pub(super) async fn show_ended(context: &Context, job: &Answer<Job>) -> anyhow::Result<()> {
    let (epochs, evaluation) =
        if context.output.is_json() { (Vec::new(), None) } else { produced(context, &job.value).await? };
    let output = &context.output;
    if job.value.kind == JobKind::Sweep && !output.is_json() {
        output.text(&report::leaderboard(&context.api.leaderboard(job.value.id).await?.value.trials))?;
    }
    if job.value.kind == JobKind::Score && !output.is_json() {
        let stages = context.api.stages(job.value.id).await?.value;
        output.answer(job, |job| report::job(job, &epochs, evaluation.as_ref(), output.colour))?;
        return if stages.stages.is_empty() { Ok(()) } else { output.text(&report::stages(&stages)) };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::Cli;

    #[test]
    fn a_time_is_written_in_three_ways() {
        assert_eq!(since("2026-10-01").unwrap().to_rfc3339(), "2026-10-01T00:00:00+00:00");
        assert_eq!(since("2026-10-01T02:00:00-06:00").unwrap().to_rfc3339(), "2026-10-01T08:00:00+00:00");
        let off = (Utc::now() - since("1d").unwrap()).num_seconds() - 86_400;
        assert!(off.abs() < 60, "{off} s off a day");
        for wrong in ["yesterday", "", "7", "2026-13-01", "99999999999y"] {
            assert!(since(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn changes_and_pages_are_read_as_written() {
        let id = "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11";
        for right in [
            &["job", "set", id, "--priority", "9", "--concurrency", "none"][..],
            &["job", "set", id, "--concurrency", "4"],
            &["job", "list", "--after", id, "--model", "severity@production", "--since", "24h", "--paused"],
            &["job", "list", "--cursor", id],
        ] {
            Cli::try_parse_from([&["perito"], right].concat()).unwrap();
        }
        for wrong in [
            &["job", "set", id][..],
            &["job", "set", id, "--priority", "10"],
            &["job", "set", id, "--concurrency", "0"],
            &["job", "set", id, "--concurrency", "some"],
            &["job", "list", "--limit", "501"],
            &["job", "list", "--since", "yesterday"],
        ] {
            let refused = Cli::try_parse_from([&["perito"], wrong].concat()).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{wrong:?}");
        }
    }
}
