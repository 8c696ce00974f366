//! `perito worker`

use clap::{Args, Subcommand};

use super::Context;
use crate::report;

/// Workers: who lives, what they run.
#[derive(Debug, Subcommand)]
pub enum WorkerCommand {
    /// Lists the workers and what they run
    List,
    /// Lets workers take nothing new; what they have runs to its end
    #[command(after_help = DRAIN_HELP)]
    Drain(WorkerArgs),
    /// Lets drained workers take tasks again
    Undrain(WorkerArgs),
}

const DRAIN_HELP: &str = "\
A worker learns of it within seconds. `perito worker list` says draining while it has tasks, then drained: it can be stopped now
without giving anything back. It stays drained until it is undrained, even if it restarts under the same name.";

/// Workers.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Their names, as `perito worker list` shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub(super) async fn run(context: &Context, command: WorkerCommand) -> anyhow::Result<()> {
    match command {
        WorkerCommand::List => {
            context.output.answer(&context.api.workers().await?, |list| report::workers(&list.workers))
        }
        WorkerCommand::Drain(args) => drain(context, &args, true).await,
        WorkerCommand::Undrain(args) => drain(context, &args, false).await,
    }
}

/// As JSON, a document for each worker.
async fn drain(context: &Context, args: &WorkerArgs, drain: bool) -> anyhow::Result<()> {
    for name in &args.names {
        let worker = context.api.drain(name, drain).await?;
        context.output.answer(&worker, |worker| match worker.running.len() {
            0 => format!("{} is {}", worker.name, worker.state),
            tasks => format!("{} is {}, with {tasks} tasks running", worker.name, worker.state),
        })?;
    }
    Ok(())
}
