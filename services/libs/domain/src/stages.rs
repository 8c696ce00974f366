//! Where a scoring run's time goes, stage by stage.

use std::ops::{AddAssign, Sub};

use crate::text_enum::text_enum;

text_enum! {
    /// The stages of the scoring pipeline, in the order of an image's way through them.
    Stage ("stage") {
        /// Bytes from the object store.
        Fetch = "fetch",
        /// Bytes to pixels.
        Decode = "decode",
        /// Batches through the network.
        Infer = "infer",
        /// Scores to Postgres.
        Write = "write",
    }
}

/// How many stages there are.
pub const STAGES: usize = Stage::ALL.len();

/// What a stage did with its time. The three add up to the time for which there was work in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageSeconds {
    /// It worked. A stage with several threads is busy in part when some of them are.
    pub busy: f64,
    /// It waited for the stage before: that one limits the run.
    pub starved: f64,
    /// It waited for room, in memory or in the stage after.
    pub blocked: f64,
}

impl StageSeconds {
    /// All three.
    pub fn total(&self) -> f64 {
        self.busy + self.starved + self.blocked
    }

    /// For each of the three the larger one: of two readings of a clock the later.
    pub fn max(self, other: Self) -> Self {
        Self {
            busy: self.busy.max(other.busy),
            starved: self.starved.max(other.starved),
            blocked: self.blocked.max(other.blocked),
        }
    }
}

impl AddAssign for StageSeconds {
    fn add_assign(&mut self, other: Self) {
        self.busy += other.busy;
        self.starved += other.starved;
        self.blocked += other.blocked;
    }
}

impl Sub for StageSeconds {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            busy: self.busy - other.busy,
            starved: self.starved - other.starved,
            blocked: self.blocked - other.blocked,
        }
    }
}

/// The stage that a run waits for: the busiest, and of equals the last. `None` where nothing was measured.
pub fn limiting(stages: &[(Stage, StageSeconds)]) -> Option<Stage> {
    let share = |seconds: &StageSeconds| seconds.busy / seconds.total();
    stages
        .iter()
        .filter(|(_, seconds)| seconds.total() > 0.0)
        .max_by(|(_, one), (_, other)| share(one).total_cmp(&share(other)))
        .map(|(stage, _)| *stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_stage_limits() {
        let seconds = |busy, starved, blocked| StageSeconds { busy, starved, blocked };
        let run = [
            (Stage::Fetch, seconds(4.0, 0.0, 6.0)),
            (Stage::Decode, seconds(2.0, 0.5, 7.5)),
            (Stage::Infer, seconds(9.5, 0.5, 0.0)),
            (Stage::Write, seconds(0.1, 9.9, 0.0)),
        ];
        assert_eq!(limiting(&run), Some(Stage::Infer));
        assert_eq!(limiting(&run[..2]), Some(Stage::Fetch));
        assert_eq!(limiting(&[(Stage::Fetch, StageSeconds::default())]), None);
    }
}
