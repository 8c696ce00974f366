//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use perito_runtime::{TelemetryArgs, args::plain_url};
use url::Url;

use crate::{commands, exit};

const ABOUT: &str = "Grades the damage on photographs of insured cars, at scale";

const LONG_ABOUT: &str = "\
Grades the damage on photographs of insured cars, at scale.

Photographs lie in S3 and are registered in the catalogue. A labelled selection of them is frozen as a dataset; a training job
makes a model of it; a scoring job grades a selection of photographs with a model. Jobs run on workers: this program submits and
follows them, through the coordinator's API.";

const EXAMPLES: &str = "\
From class folders to scores:
  perito dataset upload demo ./photographs
  perito train --model severity --dataset demo --arch cnn4 --watch
  perito model promote severity --alias production
  perito images upload ./claims --prefix backlog
  perito score severity@production --backlog --watch

Every night:
  perito schedule add nightly --cron '0 2 * * *' --zone America/Mexico_City score severity@production --backlog

No photographs at hand:
  perito dataset synthesize ./photographs

For scripts: --json writes one JSON document, the API's own, to standard output; progress and logs go to standard error.
  id=$(perito --json score severity@production --backlog | jq -r .id)
  perito job watch \"$id\" || echo \"ended with exit code $?\"

References: a model is NAME (its newest version), NAME@VERSION or NAME@ALIAS; a dataset is NAME or NAME@VERSION.
";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "perito",
    version = perito_runtime::version(),
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_long_help = format!("{EXAMPLES}\n{}", exit::HELP),
    propagate_version = true,
    // Only what people must know: a tool is not a service.
    mut_arg("log", |log| log.default_value("warn")),
)]
pub struct Cli {
    /// What every command knows.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command knows.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// The coordinator's URL
    #[arg(long, env = "PERITO_API_URL", default_value = "http://127.0.0.1:8080", global = true, value_parser = plain_url)]
    pub api_url: Url,
    /// A file that holds the API's token (`perito token create`); or set PERITO_TOKEN to the token itself
    #[arg(long, env = "PERITO_TOKEN_FILE", value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Writes JSON to standard output: the API's answer as it is, unless the command says otherwise
    #[arg(long, global = true)]
    pub json: bool,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Brings the database's schema up to date
    Migrate(commands::migrate::MigrateArgs),
    /// Labelled photographs to train and evaluate with
    #[command(subcommand)]
    Dataset(commands::dataset::DatasetCommand),
    /// The catalogue of photographs: the claims backlog
    #[command(subcommand)]
    Images(commands::images::ImagesCommand),
    /// What adjusters decided
    #[command(subcommand)]
    Labels(commands::labels::LabelsCommand),
    /// Trains a model on a dataset
    Train(commands::train::TrainArgs),
    /// Measures a model on a dataset
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Scores photographs with a model
    Score(commands::score::ScoreArgs),
    /// Jobs: what runs, what ran
    #[command(subcommand)]
    Job(commands::job::JobCommand),
    /// The model registry
    #[command(subcommand)]
    Model(commands::model::ModelCommand),
    /// Workers: who lives, what they run; drain one before it is stopped
    #[command(subcommand)]
    Worker(commands::worker::WorkerCommand),
    /// The dead-letter queue: messages that nobody could act on
    #[command(subcommand)]
    Dlq(commands::dlq::DlqCommand),
    /// How things stand: queues, throughput, workers, the last scoring run
    Status(commands::status::StatusArgs),
    /// Looks for faults in everything that Perito stands on, and says how to mend them
    Doctor(commands::doctor::DoctorArgs),
    /// What may be changed while everything runs
    #[command(subcommand)]
    Settings(commands::settings::SettingsCommand),
    /// Jobs that are submitted by themselves, such as every night
    #[command(subcommand)]
    Schedule(commands::schedule::ScheduleCommand),
    /// Who may use the API: tokens and their roles
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    /// The views for analysts: what there is to query and to export
    Views(commands::views::ViewsArgs),
    /// Writes the rows of a view to a file: Parquet or CSV
    Export(commands::export::ExportArgs),
    /// Old months of scores: archiving them, and bringing them back
    #[command(subcommand)]
    Retention(commands::retention::RetentionCommand),
    /// Prints a script that completes this program's commands in a shell
    Completions(commands::completions::CompletionsArgs),
    /// Writes the manual pages
    Man(commands::man::ManArgs),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        let cli = Cli::try_parse_from(["perito", "job", "list", "--json", "--api-url", "http://h:1/base"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.api_url.as_str(), "http://h:1/base");
    }

    #[test]
    fn a_malformed_url_or_reference_is_wrong_usage() {
        for wrong in [
            &["perito", "--api-url", "localhost:8080", "job", "list"][..],
            &["perito", "--api-url", "ftp://h", "job", "list"],
            &["perito", "--api-url", "http://ana:secret@h", "job", "list"],
            &["perito", "--token", "perito_1_2", "job", "list"],
            &["perito", "migrate", "--database-url", "postgres://h"],
            &["perito", "token", "create", "ana", "--role", "root"],
            &["perito", "job", "show", "17"],
            &["perito", "score", "Severity", "--backlog"],
            &["perito", "dataset", "show", "demo@latest"],
            &["perito", "job", "list", "--state", "paused"],
            &["perito", "images", "register"],
            &["perito", "images", "register", "--prefix", "a", "--manifest", "m.csv"],
            &["perito", "images", "register", "--prefix", "a", "--claim-pattern", "(.*)"],
            &["perito", "images", "register", "--manifest", "m", "--format", "xlsx"],
            &["perito", "settings", "set", "--claim-confidence", "1.5"],
        ] {
            let refused = Cli::try_parse_from(wrong).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn help_teaches() {
        let help = Cli::command().render_long_help().to_string();
        for part in ["perito dataset upload demo", "Exit codes", "PERITO_API_URL", "NAME@ALIAS"] {
            assert!(help.contains(part), "{part} in {help}");
        }
    }
}
