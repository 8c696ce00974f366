//! `perito dataset from-labels`

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use perito_domain::names::Name;

use crate::{api::FromLabels, commands::Context, report};

const HELP: &str = "\
Takes the decisions that count (perito labels import): the latest one about each photograph that is still present. All photographs of a claim are in
the same split, which follows from the seed and the claim alone: with the same seed a claim stays where it is when others come, so that what an
older model was trained on never measures a newer one. A photograph without a claim is a claim of its own.

With --json: the API's frozen dataset

Examples:
  perito dataset from-labels field --validation-share 0.2 --seed 42
  perito dataset from-labels field --claim-labels --since 2026-01-01";

/// Freezes adjusters' decisions as a dataset.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct FromLabelsArgs {
    /// The dataset's name; the decisions become its next version
    #[arg(value_name = "NAME")]
    name: Name,
    /// The share of the claims that is for validation, above 0 and below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = share)]
    validation_share: f64,
    /// Another seed splits otherwise
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Only decisions of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only decisions made at or after this day or time (UTC): 2026-01-01 or 2026-01-01T06:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Photographs without a decision of their own take their claim's
    #[arg(long)]
    claim_labels: bool,
}

pub(super) async fn run(context: &Context, args: FromLabelsArgs) -> anyhow::Result<()> {
    let selection = FromLabels {
        name: args.name.to_string(),
        validation_share: args.validation_share,
        seed: args.seed,
        source: args.source,
        since: args.since,
        claim_labels: args.claim_labels,
    };
    let frozen = context.api.dataset_from_labels(&selection).await?;
    context.output.answer(&frozen, report::frozen)
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("write a number above 0 and below 1, such as 0.2".to_owned()),
    }
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(NaiveTime::MIN).and_utc());
    }
    DateTime::parse_from_rfc3339(text)
        .map(Into::into)
        .map_err(|_| "write 2026-01-01 or 2026-01-01T06:00:00Z".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_times_are_checked() {
        assert!(share("0.2").is_ok() && time("2026-01-01").unwrap() == time("2026-01-01T01:00:00+01:00").unwrap());
        for wrong in ["0", "1", "-1", "NaN", "20%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        for wrong in ["yesterday", "2026-01-01T06:00:00", "2026-13-01"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
