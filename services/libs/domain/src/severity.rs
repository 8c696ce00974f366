//! The three classes, in ascending order of damage.

use serde::{Deserialize, Serialize};

/// How badly a car is damaged. The order is the order of damage, and the index of a class in logits,
/// probabilities and confusion matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Scratches and small dents.
    Minor,
    /// Panels to replace, the car still drivable.
    Moderate,
    /// Structural damage.
    Severe,
}

/// How many classes there are.
pub const CLASSES: usize = 3;

impl Severity {
    /// Every class, by index.
    pub const ALL: [Self; CLASSES] = [Self::Minor, Self::Moderate, Self::Severe];

    /// The position of this class in logits and probabilities.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The class at `index`, if there is one.
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// The class's name as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
        }
    }

    /// The class with the highest probability; the lighter one on an exact tie.
    pub fn most_likely(probabilities: &[f32; CLASSES]) -> Self {
        Self::ALL
            .into_iter()
            .reduce(|best, next| if probabilities[next.index()] > probabilities[best.index()] { next } else { best })
            .unwrap_or(Self::Minor)
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of the classes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown severity {0:?}: expected minor, moderate or severe (a number may come before, as in 01-minor)")]
pub struct UnknownSeverity(pub String);

impl std::str::FromStr for Severity {
    type Err = UnknownSeverity;

    /// Reads a class name as people name folders: any case, with or without a leading number (`01-minor`,
    /// `2_Moderate`, `severe`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(['-', '_', ' ', '.']);
        Self::ALL
            .into_iter()
            .find(|class| class.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownSeverity(text.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_folder_names_as_people_write_them() {
        for (text, class) in
            [("01-minor", Severity::Minor), ("2_Moderate", Severity::Moderate), ("SEVERE", Severity::Severe)]
        {
            assert_eq!(text.parse::<Severity>().unwrap(), class);
        }
        for text in ["", "01-", "total-loss", "minor-ish"] {
            assert_eq!(text.parse::<Severity>(), Err(UnknownSeverity(text.to_owned())));
        }
    }

    #[test]
    fn the_most_likely_class_is_the_lighter_one_on_a_tie() {
        assert_eq!(Severity::most_likely(&[0.2, 0.5, 0.3]), Severity::Moderate);
        assert_eq!(Severity::most_likely(&[0.1, 0.45, 0.45]), Severity::Moderate);
    }
}
