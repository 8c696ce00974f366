//! Who does something and why, for the record.

use anyhow::Context as _;
use clap::Args;
use perito_domain::audit::{Person, Reason, Signature};

use crate::exit::Usage;

/// Who.
#[derive(Debug, Args)]
#[command(next_help_heading = "For the record")]
pub(super) struct PersonArgs {
    /// Who you are [default: $USER, else $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<Person>,
}

/// Who and why.
#[derive(Debug, Args)]
#[command(next_help_heading = "For the record")]
pub(super) struct SignatureArgs {
    #[command(flatten)]
    person: PersonArgs,
    /// Why, in up to 500 characters
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
}

impl PersonArgs {
    /// As it is sent. Where the system does not know the user either, nobody is named.
    pub(super) fn person(self) -> anyhow::Result<Option<Person>> {
        match self.by {
            Some(by) => Ok(Some(by)),
            None => user(["USER", "LOGNAME"].map(|name| (name, std::env::var(name).ok()))),
        }
    }
}

impl SignatureArgs {
    /// As it is sent.
    pub(super) fn signature(self) -> anyhow::Result<Signature> {
        Ok(Signature { by: self.person.person()?, reason: self.reason })
    }
}

/// The first of these variables that is set.
fn user(variables: [(&str, Option<String>); 2]) -> anyhow::Result<Option<Person>> {
    let set = variables.into_iter().find_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    let Some((name, value)) = set else { return Ok(None) };
    value.parse().map(Some).map_err(|error| Usage(format!("${name}: {error}"))).context("name yourself with --by")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_who_the_system_says() {
        let of = |user_value: Option<&str>, logname: Option<&str>| {
            user([("USER", user_value.map(str::to_owned)), ("LOGNAME", logname.map(str::to_owned))])
        };
        assert_eq!(of(Some("ana"), Some("root")).unwrap().unwrap().as_str(), "ana");
        assert_eq!(of(Some(""), Some("root")).unwrap().unwrap().as_str(), "root");
        assert_eq!(of(None, None).unwrap(), None);
        let odd = of(Some("a\nb"), None).unwrap_err();
        assert!(format!("{odd:#}").contains("--by") && crate::exit::code(&odd) == 2, "{odd:#}");
    }
}
