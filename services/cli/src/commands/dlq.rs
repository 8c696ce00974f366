//! `perito dlq`

use clap::{Args, Subcommand};

use super::Context;
use crate::report;

/// The dead-letter queue: messages that nobody could act on
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Lists the messages; they stay where they are
    List(ListArgs),
    /// Shows a message: its headers, what it says, and why it is here
    Show(LetterArgs),
    /// Sends messages to where they came from, as after an upgrade that can read them
    #[command(after_help = REPLAY_HELP)]
    Replay(LettersArgs),
    /// Drops messages
    Drop(LettersArgs),
}

const REPLAY_HELP: &str = "\
A message leaves the dead-letter queue once RabbitMQ has confirmed that it holds it again. Replaying is harmless: a task's message is only a
hint, and one that is out of date is dropped. No task waits for its dead letter: what was lost here has been sent again long ago.";

/// Which messages to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The most that are listed of each queue, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

/// A message.
#[derive(Debug, Args)]
pub struct LetterArgs {
    /// Its id, as `perito dlq list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

/// Messages.
#[derive(Debug, Args)]
pub struct LettersArgs {
    /// Their ids, as `perito dlq list` shows them; an id stands for all copies of a message
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

pub(super) async fn run(context: &Context, command: DlqCommand) -> anyhow::Result<()> {
    let (api, output) = (&context.api, &context.output);
    match command {
        DlqCommand::List(args) => {
            output.answer(&api.dead_letters(args.limit).await?, |list| report::dead_letters(&list.dead_letters))
        }
        DlqCommand::Show(args) => output.answer(&api.dead_letter(&args.id).await?, report::dead_letter),
        DlqCommand::Replay(args) => {
            for id in &args.ids {
                let settled = api.replay_dead_letter(id).await?;
                output.answer(&settled, |settled| format!("{}: {} sent again", settled.id, settled.messages))?;
            }
            Ok(())
        }
        DlqCommand::Drop(args) => {
            for id in &args.ids {
                let settled = api.drop_dead_letter(id).await?;
                output.answer(&settled, |settled| format!("{}: {} dropped", settled.id, settled.messages))?;
            }
            Ok(())
        }
    }
}
