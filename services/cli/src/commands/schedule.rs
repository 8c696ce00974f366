//! `perito schedule`

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use perito_domain::{
    names::Name,
    schedule::{DeadlineAction, MissedPolicy, OverlapPolicy, ScheduleSpec, Timetable},
};
use serde_json::{Value, json};

use super::{
    Context, evaluate, evaluate::EvaluateArgs, job::show_ended, score, score::ScoreArgs, train, train::TrainArgs,
};
use crate::{
    exit::Usage,
    report,
    specification::Specification,
    watch::{Watch, outcome},
};

/// How many runs `show` shows.
const SHOWN_RUNS: u16 = 10;

/// Jobs that are submitted by themselves, such as every night.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Adds a schedule, and shows when it fires
    Add(Box<AddArgs>),
    /// Lists schedules, with the next fire time of each
    List,
    /// Shows a schedule, its next fire times and its last runs
    Show(ScheduleArgs),
    /// Lists what became of a schedule's fire times, the newest first
    Runs(RunsArgs),
    /// Lets a schedule's fire times pass unfired
    Pause(ScheduleArgs),
    /// Lets a paused schedule fire again, from its next fire time on
    Resume(ScheduleArgs),
    /// Submits a schedule's job now, even while it is paused; its overlap policy holds
    RunNow(RunNowArgs),
    /// Fills in runs for fire times that have passed without one
    #[command(after_help = BACKFILL_HELP)]
    Backfill(BackfillArgs),
    /// Removes a schedule; its jobs go on, and what it ran stays in analytics.schedule_runs
    Remove(ScheduleArgs),
}

const ADD_HELP: &str = "\
The job is written as its own command, at the end: what would submit it now. An alias such as severity@production is resolved anew
for each job, when it is planned.

The expression has five fields: minute, hour, day of month, month, day of week; or is @hourly, @daily, @weekly, @monthly or @yearly.
Named hours mean the clocks of the zone, and each comes once: where clocks skip it, at the moment to which they go; where it comes
twice, the first time. An expression for every hour means elapsed time.

Examples:
  perito schedule add nightly --cron '0 2 * * *' --zone America/Mexico_City --deadline 07:00 \\
      score severity@production --backlog
  perito schedule add nightly --cron '0 2 * * *' --zone America/Mexico_City --dry-run score severity@production --backlog
  perito schedule add weekly-check --cron '0 6 * * 1' --zone Europe/Madrid --missed catch_up --catch-up-window 2days \\
      evaluate severity@production --dataset demo
  perito schedule add retrain --cron '@monthly' --zone UTC --overlap queue_one spec recipe.toml";

/// A schedule to add. The same again changes nothing; to change one, remove it first.
#[derive(Debug, Args)]
#[command(after_help = ADD_HELP, subcommand_value_name = "JOB", subcommand_help_heading = "The job")]
pub struct AddArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: Name,
    /// When it fires, such as '0 2 * * *' for 02:00 every day
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// The IANA time zone whose clocks that means, such as America/Mexico_City
    #[arg(long, value_name = "ZONE")]
    zone: String,
    /// While a job of the schedule has not ended: skip, queue_one, allow or cancel_previous [default: skip]
    #[arg(long, value_name = "POLICY", value_parser = policy::<OverlapPolicy>)]
    overlap: Option<OverlapPolicy>,
    /// Fire times at which nobody was there to fire: skip, run_once or catch_up [default: run_once]
    #[arg(long, value_name = "POLICY", value_parser = policy::<MissedPolicy>)]
    missed: Option<MissedPolicy>,
    /// How far back catch_up makes up for them, such as 2days
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    catch_up_window: Option<Duration>,
    /// Submits each job up to so much later than its fire time, at most an hour, such as 10min
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    jitter: Option<Duration>,
    /// A time of day in the zone by which each job has to have succeeded, such as 07:00
    #[arg(long, value_name = "HH:MM")]
    deadline: Option<String>,
    /// What happens then to one that has not: alarm (a log line, a metric, a mark on the run) or cancel (that too) [default: alarm]
    #[arg(long, value_name = "ACTION", requires = "deadline")]
    at_deadline: Option<DeadlineAction>,
    /// Only shows when it would fire
    #[arg(long)]
    dry_run: bool,
    #[command(subcommand)]
    job: JobTemplate,
}

/// The job of a schedule.
#[derive(Debug, Subcommand)]
enum JobTemplate {
    /// Scores photographs with a model
    Score(ScoreArgs),
    /// Measures a model on a dataset
    Evaluate(EvaluateArgs),
    /// Trains a model on a dataset
    Train(Box<TrainArgs>),
    /// Any job, by a file with its specification
    Spec(SpecArgs),
}

/// A file with a specification.
#[derive(Debug, Args)]
struct SpecArgs {
    /// The file, in TOML or JSON; it says which kind of job it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tasks of a higher priority are dispatched first, 0 to 9 [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
}

/// Which schedule.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: Name,
}

/// Which runs to list.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// The length of the page, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Only fire times before this one
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
}

/// Which schedule to run.
#[derive(Debug, Args)]
pub struct RunNowArgs {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// Follows the job to its end; the exit code tells how it ended
    #[arg(long)]
    watch: bool,
}

const BACKFILL_HELP: &str = "\
Fire times that were missed or skipped, or came while the schedule was paused or not there yet, get a run each; those that have one
keep it, so asking again makes nothing twice. Filled-in runs wait for one another, unless the schedule allows overlaps, and have no
deadline. At most 366 fire times at once.

Examples:
  perito schedule backfill nightly --from 2026-10-01 --to 2026-10-07 --dry-run
  perito schedule backfill nightly --from 2026-10-01T02:00:00-06:00 --to 2026-10-07";

/// Which fire times to fill in.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The schedule's name
    #[arg(value_name = "NAME")]
    name: Name,
    /// The first day in the schedule's zone, or the first moment
    #[arg(long, value_name = "DAY|TIME", value_parser = bound)]
    from: Bound,
    /// The last one, which counts too
    #[arg(long, value_name = "DAY|TIME", value_parser = bound)]
    to: Bound,
    /// Only shows what would be submitted
    #[arg(long)]
    dry_run: bool,
}

/// An end of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Day(NaiveDate),
    Moment(DateTime<Utc>),
}

fn bound(text: &str) -> Result<Bound, String> {
    if let Ok(day) = text.parse() {
        return Ok(Bound::Day(day));
    }
    let moment = DateTime::parse_from_rfc3339(text);
    moment
        .map(|moment| Bound::Moment(moment.to_utc()))
        .map_err(|_| "write a day (2026-10-01) or a moment with its offset (2026-10-01T02:00:00-06:00)".to_owned())
}

/// A policy; a hyphen is as good as an underscore.
fn policy<T: std::str::FromStr>(text: &str) -> Result<T, T::Err> {
    text.replace('-', "_").parse()
}

pub(super) async fn run(context: &Context, command: ScheduleCommand) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    match command {
        ScheduleCommand::Add(args) => {
            let dry_run = args.dry_run;
            let answer = api.add_schedule(&specification(*args)?, dry_run).await?;
            if dry_run {
                eprintln!("nothing was added: this is what it would be");
            } else if !answer.created {
                eprintln!("it was there already");
            }
            output.answer(&answer, |schedule| report::schedule(schedule, None, output.colour))
        }
        ScheduleCommand::List => {
            output.answer(&api.schedules().await?, |list| report::schedules(&list.schedules, output.colour))
        }
        ScheduleCommand::Show(args) => {
            let schedule = api.schedule(&args.name).await?;
            let runs = if output.is_json() {
                Vec::new()
            } else {
                api.schedule_runs(&args.name, SHOWN_RUNS, None).await?.value.runs
            };
            output.answer(&schedule, |schedule| report::schedule(schedule, Some(&runs), output.colour))
        }
        ScheduleCommand::Runs(args) => {
            let page = api.schedule_runs(&args.name, args.limit, args.before).await?;
            output.answer(&page, |page| report::runs(&page.runs, output.colour))?;
            if let Some(next) = page.value.next_before {
                eprintln!("there are more: --before {}", next.to_rfc3339());
            }
            Ok(())
        }
        ScheduleCommand::Pause(args) => {
            let schedule = api.pause_schedule(&args.name).await?;
            output.answer(&schedule, |schedule| report::schedule(schedule, None, output.colour))
        }
        ScheduleCommand::Resume(args) => {
            let schedule = api.resume_schedule(&args.name).await?;
            output.answer(&schedule, |schedule| report::schedule(schedule, None, output.colour))
        }
        ScheduleCommand::RunNow(args) => run_now(context, args).await,
        ScheduleCommand::Backfill(args) => backfill(context, args).await,
        ScheduleCommand::Remove(args) => {
            let removed = api.remove_schedule(&args.name).await?;
            output.answer(&removed, |schedule| {
                let left = match schedule.open_jobs.len() {
                    0 => String::new(),
                    open => format!("; {open} of its jobs go on (perito job cancel ID)"),
                };
                format!("{} is removed{left}", schedule.name)
            })
        }
    }
}

async fn run_now(context: &Context, args: RunNowArgs) -> anyhow::Result<()> {
    let run = context.api.run_schedule_now(&args.name).await?;
    if let Some(job) = run.value.job_id.filter(|_| args.watch) {
        let ended = Watch::default().until_end(&context.api, job).await?;
        show_ended(context, &ended).await?;
        return Ok(outcome(&ended.value)?);
    }
    context.output.answer(&run, |run| match run.job_id {
        Some(job) => format!("job {job}; follow it with: perito job watch {job}"),
        None => "it begins when the schedule's open job has ended".to_owned(),
    })
}

async fn backfill(context: &Context, args: BackfillArgs) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    let schedule = api.schedule(&args.name).await?.value;
    let timetable = Timetable::new(&schedule.cron, &schedule.zone)?;
    let (from, to) = (first(args.from, &timetable)?, last(args.to, &timetable)?);
    if !args.dry_run && !output.is_json() {
        let planned = api.backfill_schedule(&args.name, from, to, true).await?.value;
        output.text(&report::backfill(&planned, output.colour))?;
    }
    let done = api.backfill_schedule(&args.name, from, to, args.dry_run).await?;
    output.answer(&done, |done| match args.dry_run {
        true => format!("{}\n{} would be submitted", report::backfill(done, output.colour), done.new),
        false => format!("{} submitted; see: perito schedule runs {}", done.new, args.name),
    })
}

fn first(bound: Bound, timetable: &Timetable) -> anyhow::Result<DateTime<Utc>> {
    match bound {
        Bound::Moment(moment) => Ok(moment),
        Bound::Day(day) => timetable.moment(day.and_time(NaiveTime::MIN)).context("--from is out of range"),
    }
}

fn last(bound: Bound, timetable: &Timetable) -> anyhow::Result<DateTime<Utc>> {
    match bound {
        Bound::Moment(moment) => Ok(moment),
        Bound::Day(day) => {
            let next = day.checked_add_days(Days::new(1)).context("--to is out of range")?;
            let midnight = timetable.moment(next.and_time(NaiveTime::MIN)).context("--to is out of range")?;
            Ok(midnight - TimeDelta::microseconds(1))
        }
    }
}

/// What is sent, once it is known to be right.
fn specification(args: AddArgs) -> anyhow::Result<Value> {
    let (job, priority) = match args.job {
        JobTemplate::Score(args) => {
            score::specification(args).and_then(|(spec, sent)| Ok((spec, sent.of_template()?)))?
        }
        JobTemplate::Evaluate(args) => {
            evaluate::specification(args).and_then(|(spec, sent)| Ok((spec, sent.of_template()?)))?
        }
        JobTemplate::Train(args) => {
            train::specification(*args).and_then(|(spec, sent)| Ok((spec, sent.of_template()?)))?
        }
        JobTemplate::Spec(args) => {
            let reading = || format!("read {}", args.file.display());
            let text = std::fs::read_to_string(&args.file).with_context(reading)?;
            (Specification::from_any_text(&text).with_context(reading)?, args.priority)
        }
    };
    let mut schedule = json!({
        "name": args.name, "cron": args.cron, "zone": args.zone, "job": job.checked()?,
    });
    let options = [
        ("priority", priority.map(Value::from)),
        ("overlap", args.overlap.map(|policy| json!(policy))),
        ("missed", args.missed.map(|policy| json!(policy))),
        ("catch_up_window_seconds", args.catch_up_window.map(whole_seconds).transpose()?),
        ("jitter_seconds", args.jitter.map(whole_seconds).transpose()?),
        ("deadline", args.deadline.map(|at| json!({ "at": at }))),
    ];
    for (field, value) in options {
        if let Some(value) = value {
            schedule[field] = value;
        }
    }
    if let Some(action) = args.at_deadline {
        schedule["deadline"]["action"] = json!(action);
    }
    ScheduleSpec::parse(schedule.clone())?;
    Ok(schedule)
}

fn whole_seconds(duration: Duration) -> Result<Value, Usage> {
    if duration.subsec_nanos() == 0 {
        Ok(duration.as_secs().into())
    } else {
        Err(Usage(format!("{} has parts of a second", humantime::format_duration(duration))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Cli, Command};

    fn sent(options: &[&str], job: &[&str]) -> anyhow::Result<Value> {
        let base = ["perito", "schedule", "add", "nightly", "--cron=0 2 * * *", "--zone=America/Mexico_City"];
        let cli = Cli::try_parse_from([&base, options, job].concat())?;
        let Command::Schedule(ScheduleCommand::Add(args)) = cli.command else { panic!("not schedule add") };
        specification(*args)
    }

    const SCORE: [&str; 3] = ["score", "severity@production", "--backlog"];

    #[test]
    fn only_what_was_said_is_sent() {
        let job = json!({"kind": "score", "model": "severity@production", "selection": {"by": "backlog"}});
        let expected = json!({"name": "nightly", "cron": "0 2 * * *", "zone": "America/Mexico_City", "job": job});
        assert_eq!(sent(&[], &SCORE).unwrap(), expected);
    }

    #[test]
    fn options_become_fields() {
        let options = [
            "--overlap=cancel-previous",
            "--missed=catch_up",
            "--catch-up-window=2days",
            "--jitter=10min",
            "--deadline=07:00",
            "--at-deadline=cancel",
        ];
        let job = [&SCORE[..], &["--priority=7"]].concat();
        let schedule = sent(&options, &job).unwrap();
        assert_eq!((&schedule["overlap"], &schedule["missed"]), (&json!("cancel_previous"), &json!("catch_up")));
        assert_eq!((&schedule["catch_up_window_seconds"], &schedule["jitter_seconds"]), (&json!(172_800), &json!(600)));
        assert_eq!(schedule["deadline"], json!({"at": "07:00", "action": "cancel"}));
        assert_eq!(schedule["priority"], json!(7));
        let evaluation = sent(&[], &["evaluate", "m@1", "--dataset=d"]).unwrap();
        assert_eq!(evaluation["job"]["kind"], "evaluate");
    }

    #[test]
    fn any_job_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "kind = \"evaluate\"\nmodel = \"m@production\"\ndataset = \"d\"").unwrap();
        let schedule = sent(&[], &["spec", file.path().to_str().unwrap(), "--priority=1"]).unwrap();
        assert_eq!((&schedule["job"]["model"], &schedule["priority"]), (&json!("m@production"), &json!(1)));
    }

    #[test]
    fn what_is_wrong_is_named_before_anything_is_sent() {
        for (options, part) in [
            (&["--cron=0 25 * * *"][..], "cron"),
            (&["--zone=Mexico City"], "America/Mexico_City"),
            (&["--missed=catch_up"], "catch_up_window_seconds"),
            (&["--jitter=2h"], "jitter_seconds"),
            (&["--jitter=1ms"], "parts of a second"),
            (&["--deadline=7"], "deadline.at"),
            (&["--at-deadline=cancel"], "--deadline"),
            (&["--overlap=never"], "queue_one"),
        ] {
            // An option that is given twice is another error.
            let base = ["perito", "schedule", "add", "nightly"];
            let given = |name: &str| options.iter().any(|option| option.starts_with(name));
            let mut line = base.to_vec();
            line.extend((!given("--cron")).then_some("--cron=0 2 * * *"));
            line.extend((!given("--zone")).then_some("--zone=UTC"));
            line.extend(options);
            line.extend(SCORE);
            let refused = Cli::try_parse_from(line).map_err(anyhow::Error::from).and_then(|cli| {
                let Command::Schedule(ScheduleCommand::Add(args)) = cli.command else { panic!("not schedule add") };
                specification(*args)
            });
            let refused = refused.unwrap_err();
            assert!(refused.to_string().contains(part), "{part}: {refused}");
        }
        for wrong in ["--watch", "--idempotency-key=k"] {
            let refused = sent(&[], &[&SCORE[..], &[wrong]].concat()).unwrap_err();
            assert_eq!(crate::exit::code(&refused), 2, "{refused}");
        }
        assert!(sent(&[], &[]).is_err());
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let timetable = Timetable::new("0 2 * * *", "America/Mexico_City").unwrap();
        let (from, to) = (bound("2026-10-01").unwrap(), bound("2026-10-01").unwrap());
        assert_eq!(first(from, &timetable).unwrap().to_rfc3339(), "2026-10-01T06:00:00+00:00");
        assert_eq!(last(to, &timetable).unwrap().to_rfc3339(), "2026-10-02T05:59:59.999999+00:00");
        assert!(matches!(bound("2026-10-01T02:00:00-06:00"), Ok(Bound::Moment(_))));
        assert!(bound("yesterday").is_err() && bound("2026-10-01T02:00:00").is_err());
    }
}
