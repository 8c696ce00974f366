//! Moves photographs that claim systems have inserted into the staging table to the catalogue.

use anyhow::Context;
use perito_database::Database;
use perito_domain::claims::ClaimRule;

use super::{Pace, Step};

/// Rows in one transaction.
const BATCH: i64 = 2_000;

/// Takes what is staged, the oldest rows first.
pub(super) struct Intake {
    pub(super) database: Database,
    pub(super) claims: ClaimRule,
}

impl Step for Intake {
    const NAME: &'static str = "intake";
    const LIMIT: std::time::Duration = super::LONG;

    async fn step(&mut self) -> anyhow::Result<Pace> {
        let taken = self.database.take_staged(BATCH, &self.claims).await.context("take staged photographs")?;
        let Some(taken) = taken else { return Ok(Pace::Idle) };
        tracing::debug!(
            images.new = taken.new,
            images.known = taken.known,
            images.superseded = taken.superseded,
            "rows taken"
        );
        for (outcome, rows) in [("registered", taken.new), ("known", taken.known), ("rejected", taken.rejected)] {
            metrics::counter!("perito_staged_rows_total", "outcome" => outcome).increment(rows);
        }
        if taken.rejected > 0 {
            tracing::warn!(
                rows.rejected = taken.rejected,
                "rows of intake.staging were moved aside: see intake.rejected"
            );
        }
        Ok(Pace::Again)
    }
}
