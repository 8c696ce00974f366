//! McNemar's test: whether two models that graded the same images differ by more than chance.
//!
//! Only the images on which one was right and the other wrong say something (McNemar, "Note on the sampling error of the difference
//! between correlated proportions or percentages", 1947). If the models were equally good, each of these would be as likely to be the one
//! model's as the other's.

use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;

/// With fewer discordant images than this the chi-square approximation is not to be trusted, and the exact distribution is used.
pub const EXACT_BELOW: u64 = 25;

/// How two models did on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Agreement {
    /// Images on which both were right.
    pub both_right: u64,
    /// Images on which only the champion was right.
    pub only_champion_right: u64,
    /// Images on which only the challenger was right.
    pub only_challenger_right: u64,
    /// Images on which both were wrong, whether or not they agreed.
    pub both_wrong: u64,
}

text_enum! {
    /// How the probability is computed.
    McNemarTest ("test") {
        /// Two-sided, from the binomial distribution with probability one half.
        ExactBinomial = "exact-binomial",
        /// From the chi-square distribution with one degree of freedom, with Edwards's continuity correction.
        ChiSquare = "chi-square",
    }
}

/// What the test says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Which form of it.
    pub test: McNemarTest,
    /// The smaller count of discordant images for the exact test, chi-square for the other.
    pub statistic: f64,
    /// The probability of a difference at least as large if the models were equally good, 0 to 1.
    pub p_value: f64,
}

impl Agreement {
    /// How many images both graded.
    pub fn images(&self) -> u64 {
        self.both_right + self.discordant() + self.both_wrong
    }

    /// How many images one got right and the other wrong.
    pub fn discordant(&self) -> u64 {
        self.only_champion_right + self.only_challenger_right
    }

    /// The test: exact below [`EXACT_BELOW`] discordant images, chi-square from there on.
    pub fn mcnemar(&self) -> McNemar {
        if self.discordant() < EXACT_BELOW { self.exact() } else { self.chi_square() }
    }

    fn exact(&self) -> McNemar {
        let (fewer, all) = (self.only_champion_right.min(self.only_challenger_right), self.discordant());
        // The binomial coefficients of fewer than 25 are whole numbers that a double holds exactly.
        let mut coefficient = 1.0;
        let mut tail = 0.0;
        for k in 0..=fewer {
            tail += coefficient;
            coefficient = coefficient * (all - k) as f64 / (k + 1) as f64;
        }
        let p_value = (2.0 * tail / 2.0_f64.powi(all as i32)).min(1.0);
        McNemar { test: McNemarTest::ExactBinomial, statistic: fewer as f64, p_value }
    }

    fn chi_square(&self) -> McNemar {
        let difference = self.only_champion_right.abs_diff(self.only_challenger_right);
        // The correction takes away at most the whole difference: equal counts are no evidence at all.
        let corrected = difference.saturating_sub(1) as f64;
        let statistic = corrected * corrected / self.discordant() as f64;
        // A chi-square variable of one degree of freedom is the square of a normal one.
        McNemar { test: McNemarTest::ChiSquare, statistic, p_value: libm::erfc((statistic / 2.0).sqrt()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Written by `tests/golden/mcnemar.py`.
    #[derive(Deserialize)]
    struct Golden {
        champion: u64,
        challenger: u64,
        test: McNemarTest,
        statistic: f64,
        p_value: f64,
    }

    fn agreement(champion: u64, challenger: u64) -> Agreement {
        Agreement { both_right: 60, only_champion_right: champion, only_challenger_right: challenger, both_wrong: 9 }
    }

    #[test]
    fn agrees_with_statsmodels() {
        let goldens: Vec<Golden> = serde_json::from_str(include_str!("../../tests/golden/mcnemar.json")).unwrap();
        assert!(goldens.iter().filter(|golden| golden.test == McNemarTest::ExactBinomial).count() > 20);
        assert!(goldens.iter().filter(|golden| golden.test == McNemarTest::ChiSquare).count() > 20);
        for golden in goldens {
            let found = agreement(golden.champion, golden.challenger).mcnemar();
            assert_eq!(found.test, golden.test, "{} {}", golden.champion, golden.challenger);
            assert!((found.statistic - golden.statistic).abs() < 1e-9 * golden.statistic.max(1.0), "{found:?}");
            // Relative: a tiny probability has to be right too.
            assert!((found.p_value - golden.p_value).abs() < 1e-9 * golden.p_value, "{found:?} {}", golden.p_value);
        }
    }

    #[test]
    fn equal_counts_and_no_counts_are_no_evidence() {
        for (champion, challenger) in [(0, 0), (12, 12), (13, 13), (5_000_000, 5_000_000)] {
            assert!((agreement(champion, challenger).mcnemar().p_value - 1.0).abs() < 1e-12);
        }
        assert_eq!(Agreement::default().images(), 0);
        assert_eq!(agreement(3, 4).images(), 76);
    }
}
