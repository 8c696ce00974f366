//! One file for each command: its options, and what it does.

pub mod completions;
pub mod dataset;
pub mod dlq;
pub mod doctor;
pub mod evaluate;
pub mod export;
pub mod images;
pub mod job;
pub mod labels;
pub mod man;
pub mod migrate;
pub mod model;
pub mod retention;
pub mod schedule;
pub mod score;
pub mod settings;
mod signature;
pub mod status;
mod submit;
pub mod token;
pub mod train;
pub mod views;
pub mod worker;

use perito_runtime::Secret;
use tracing::Instrument as _;

use crate::{
    api::Api,
    arguments::{Cli, Command},
    output::Output,
};

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The coordinator.
    pub api: Api,
    /// Where results go.
    pub output: Output,
}

/// Runs a command.
///
/// # Errors
/// Whatever stops it; [`crate::exit::code`] knows what it means to a script.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let _spans = perito_runtime::telemetry::init("perito", &cli.global.telemetry)?;
    let token = Secret::find("PERITO_TOKEN", cli.global.token_file.as_deref())?;
    let context = Context { api: Api::new(cli.global.api_url, token.as_ref())?, output: Output::new(cli.global.json) };
    // Requests belong to one trace, and so do the jobs that they submit.
    let span = tracing::info_span!("perito");
    async {
        match cli.command {
            Command::Migrate(args) => migrate::run(&context, args).await,
            Command::Dataset(command) => dataset::run(&context, command).await,
            Command::Images(command) => images::run(&context, command).await,
            Command::Labels(command) => labels::run(&context, command).await,
            Command::Train(args) => train::run(&context, args).await,
            Command::Evaluate(args) => evaluate::run(&context, args).await,
            Command::Score(args) => score::run(&context, args).await,
            Command::Job(command) => job::run(&context, command).await,
            Command::Model(command) => model::run(&context, command).await,
            Command::Worker(command) => worker::run(&context, command).await,
            Command::Doctor(args) => doctor::run(&context, args).await,
            Command::Dlq(command) => dlq::run(&context, command).await,
            Command::Status(args) => status::run(&context, args).await,
            Command::Settings(command) => settings::run(&context, command).await,
            Command::Schedule(command) => schedule::run(&context, command).await,
            Command::Token(command) => token::run(&context, command).await,
            Command::Views(args) => views::run(&context, args).await,
            Command::Export(args) => export::run(&context, args).await,
            Command::Retention(command) => retention::run(&context, command).await,
            Command::Completions(args) => completions::run(&context, &args),
            Command::Man(args) => man::run(&context, &args),
        }
    }
    .instrument(span)
    .await
}
