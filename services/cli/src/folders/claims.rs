//! Which claim a photograph belongs to, by its key.

use std::str::FromStr;

use regex::Regex;

/// How a claim's id is found in a key.
#[derive(Debug, Clone)]
pub enum ClaimRule {
    /// It is the name of the folder that holds the photograph.
    ParentFolder,
    /// It is what the one group of a pattern captures.
    Pattern(Regex),
}

impl FromStr for ClaimRule {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
        match regex.captures_len() - 1 {
            1 => Ok(Self::Pattern(regex)),
            groups => Err(format!(
                "has {groups} groups: put exactly one around the claim's id, as in 'claims/([^/]+)/' (others as (?:...))"
            )),
        }
    }
}

impl ClaimRule {
    /// The claim's id in a key; `None` when the rule finds none.
    pub fn claim_id(&self, key: &str) -> Option<String> {
        let id = match self {
            Self::ParentFolder => key.rsplit('/').nth(1)?,
            Self::Pattern(pattern) => pattern.captures(key)?.get(1)?.as_str(),
        };
        (!id.is_empty()).then(|| id.to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_is_the_parent_folder_unless_a_pattern_says_otherwise() {
        let parent = ClaimRule::ParentFolder;
        assert_eq!(parent.claim_id("backlog/2026/claim-7/front.jpg").as_deref(), Some("claim-7"));
        assert_eq!(parent.claim_id("front.jpg"), None);
        assert_eq!(parent.claim_id("/front.jpg"), None);
        let pattern: ClaimRule = r"(?:^|/)(C\d+)_".parse().unwrap();
        assert_eq!(pattern.claim_id("inbox/C0042_3.jpg").as_deref(), Some("C0042"));
        assert_eq!(pattern.claim_id("inbox/other.jpg"), None);
    }

    #[test]
    fn a_pattern_has_exactly_one_group() {
        assert!("claims/.*".parse::<ClaimRule>().unwrap_err().contains("0 groups"));
        assert!("(a)(b)".parse::<ClaimRule>().unwrap_err().contains("2 groups"));
        assert!("(".parse::<ClaimRule>().unwrap_err().contains("unclosed"));
    }
}
