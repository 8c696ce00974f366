//! Which claim a photograph belongs to, by its key.

use std::str::FromStr;

use crate::limits::{MAX_CLAIM_PATTERN_BYTES, MAX_COMPILED_PATTERN_BYTES};
use regex::{Regex, RegexBuilder};

/// How a claim's id is found in a key, in time linear in the key's length.
#[derive(Debug, Clone, Default)]
pub enum ClaimRule {
    /// It is the name of the folder that holds the photograph.
    #[default]
    ParentFolder,
    /// It is what the group named `claim` captures.
    Pattern(Regex),
}

impl FromStr for ClaimRule {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_CLAIM_PATTERN_BYTES {
            return Err(format!("has {} bytes: at most {MAX_CLAIM_PATTERN_BYTES}", pattern.len()));
        }
        let regex = RegexBuilder::new(pattern)
            .size_limit(MAX_COMPILED_PATTERN_BYTES)
            .build()
            .map_err(|error| error.to_string())?;
        if regex.capture_names().flatten().any(|name| name == "claim") {
            return Ok(Self::Pattern(regex));
        }
        Err("has no group named claim: put one around the claim's id, as in 'claims/(?<claim>[^/]+)/'".to_owned())
    }
}

impl ClaimRule {
    /// The claim's id in a key; `None` when the rule finds none. It is as long as the key lets it be: check it.
    pub fn claim_id(&self, key: &str) -> Option<String> {
        let id = match self {
            Self::ParentFolder => key.rsplit('/').nth(1)?,
            Self::Pattern(pattern) => pattern.captures(key)?.name("claim")?.as_str(),
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
        let pattern: ClaimRule = r"(^|/)(?<claim>C\d+)_".parse().unwrap();
        assert_eq!(pattern.claim_id("inbox/C0042_3.jpg").as_deref(), Some("C0042"));
        assert_eq!(pattern.claim_id("inbox/other.jpg"), None);
        let optional: ClaimRule = r"x(?P<claim>\d*)".parse().unwrap();
        assert_eq!(optional.claim_id("x.jpg"), None, "an empty id is none");
    }

    #[test]
    fn a_pattern_has_a_group_named_claim_and_stays_small() {
        let refused = |pattern: &str| pattern.parse::<ClaimRule>().unwrap_err();
        assert!(refused("claims/(.*)/").contains("(?<claim>"));
        assert!(refused("(").contains("unclosed"));
        assert!(refused(r"(?<claim>\w{1000}{1000})").contains("size limit"));
        assert!(refused(&format!("(?<claim>{})", "a".repeat(600))).contains("at most 512"));
    }

    #[test]
    fn a_pattern_that_would_take_others_for_ever_ends() {
        let pattern: ClaimRule = r"(?<claim>(a+)+)b$".parse().unwrap();
        assert_eq!(pattern.claim_id(&"a".repeat(1024)), None);
    }
}
