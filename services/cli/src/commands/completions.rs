//! `perito completions`

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Context;
use crate::arguments::Cli;

const EXAMPLES: &str = "\
Examples:
  perito completions bash > ~/.local/share/bash-completion/completions/perito
  perito completions zsh > \"${fpath[1]}/_perito\"
  perito completions fish > ~/.config/fish/completions/perito.fish";

/// Prints a script that completes this program's commands in a shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(context: &Context, args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perito", &mut script);
    context.output.text(std::str::from_utf8(&script).context("read the script that clap made")?)
}
