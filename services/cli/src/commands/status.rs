//! `perito status`

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use clap::Args;

use super::Context;
use crate::{report, watch::Watch};

/// How things stand: queues, throughput, workers, the last scoring run.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StatusArgs {
    /// Shows it again and again, until it is stopped (Ctrl-C)
    #[arg(long)]
    watch: bool,
    /// Between two looks, with --watch
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = humantime::parse_duration)]
    interval: Duration,
}

const HELP: &str = "\
Tasks: runnable ones wait for the dispatcher, dispatched ones for a worker; ready are the messages in RabbitMQ that no worker has
(more than dispatched ones when some were taken back, as by a pause). Images/s are those of scoring tasks that were committed.
With --watch and --json: a document on each line.";

pub(super) async fn run(context: &Context, args: StatusArgs) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    let mut status = api.status().await?;
    let clear = args.watch && !output.is_json() && std::io::stdout().is_terminal();
    let patience = Watch::default().patience;
    let mut heard = Instant::now();
    loop {
        if clear {
            // Erase the display, and go to its upper left corner (ECMA-48).
            output.text("\u{1b}[2J\u{1b}[H")?;
        }
        output.answer(&status, report::status)?;
        if !args.watch {
            return Ok(());
        }
        loop {
            tokio::time::sleep(args.interval).await;
            match api.status().await {
                Ok(answer) => {
                    (status, heard) = (answer, Instant::now());
                    break;
                }
                Err(error) if error.is_outage() && heard.elapsed() < patience => eprintln!("{error}; trying again"),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
