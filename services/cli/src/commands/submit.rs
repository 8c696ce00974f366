//! What `train`, `evaluate` and `score` share: sending a specification, and following the job.

use clap::Args;
use serde_json::Value;
use uuid::Uuid;

use super::{Context, job::show_ended};
use crate::{
    exit::Usage,
    specification::Specification,
    watch::{Watch, outcome},
};

/// Options of every submission.
#[derive(Debug, Args)]
#[command(next_help_heading = "Submission")]
pub(super) struct SubmitArgs {
    /// Tasks of a higher priority are dispatched first, 0 to 9 [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// Submitting twice with the same key gives the same job, such as nightly-2026-10-01
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
    /// Follows the job to its end; the exit code tells how it ended
    #[arg(long)]
    watch: bool,
}

impl SubmitArgs {
    /// The priority, where a job is not submitted now but described.
    pub(super) fn of_template(self) -> Result<Option<u8>, Usage> {
        match (self.idempotency_key, self.watch) {
            (Some(_), _) => Err(Usage("--idempotency-key: a schedule submits each job once by itself".to_owned())),
            (_, true) => Err(Usage("--watch: follow a run of a schedule with perito job watch".to_owned())),
            _ => Ok(self.priority),
        }
    }
}

/// Checks and sends a specification.
pub(super) async fn submit(context: &Context, spec: Specification, args: SubmitArgs) -> anyhow::Result<()> {
    let spec: Value = spec.checked()?;
    // A key of our own lets a request be repeated when its answer is lost.
    let key = args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let submitted = context.api.submit(&spec, args.priority, &key).await?;
    if args.watch {
        let ended = Watch::default().until_end(&context.api, submitted.value.id).await?;
        show_ended(context, &ended).await?;
        return Ok(outcome(&ended.value)?);
    }
    let known = if submitted.created { "" } else { ", submitted before with this key" };
    context.output.answer(&submitted, |job| {
        format!("job {} ({}, {}{known}); follow it with: perito job watch {}", job.id, job.kind, job.state, job.id)
    })
}

fn idempotency_key(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 128 visible ASCII characters".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_visible() {
        assert!(idempotency_key("nightly-2026-10-01").is_ok());
        for wrong in ["", "two words", "naïve", &"k".repeat(129)] {
            assert!(idempotency_key(wrong).is_err(), "{wrong:?}");
        }
    }
}
