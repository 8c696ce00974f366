//! Secrets: where they come from, and text that never shows in logs.
//!
//! A secret comes from an environment variable or from a file, never from an argument: everybody on a machine can read the arguments
//! of its processes. So a secret `PERITO_X` has no option; the option `--x-file` (`PERITO_X_FILE`) names the file.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A password, key, token, or URL with a password in it. `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A file with more than this is no secret.
const MAX_BYTES: u64 = 64 * 1024;

/// A secret that is not there, or cannot be read. It never repeats what was read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither the variable nor its file is given.
    #[error("{variable} is not set: set it to {what}, or {variable}_FILE to a file that holds it")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What it is to be.
        what: &'static str,
    },
    /// The variable holds something that is no text.
    #[error("{variable} is not UTF-8")]
    NotText {
        /// The variable.
        variable: &'static str,
    },
    /// The file cannot be used.
    #[error("read {path} for {variable}: {problem}")]
    File {
        /// The variable.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Secret {
    /// The text itself, for the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret in the file, if one is named, or else in the variable; none when that is not set or empty.
    ///
    /// # Errors
    /// A file that cannot be read, is empty or is far too long; text that is not UTF-8.
    pub fn find(variable: &'static str, file: Option<&Path>) -> Result<Option<Self>, SecretError> {
        if let Some(path) = file {
            let problem = |problem: String| SecretError::File { variable, path: path.to_owned(), problem };
            return read(path).map(Some).map_err(problem);
        }
        match std::env::var(variable) {
            Ok(text) if !text.is_empty() => Ok(Some(Self(text))),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::NotText { variable }),
        }
    }

    /// Likewise, and it has to be there. `what` says what it is, for whoever has not set it.
    ///
    /// # Errors
    /// Also when there is none.
    pub fn require(variable: &'static str, file: Option<&Path>, what: &'static str) -> Result<Self, SecretError> {
        Self::find(variable, file)?.ok_or(SecretError::Missing { variable, what })
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    // Editors and `echo` end a file with a line break that is no part of the secret.
    let secret = text.trim_end_matches(['\r', '\n']);
    match secret.len() as u64 {
        0 => Err("it is empty".to_owned()),
        length if length > MAX_BYTES => Err(format!("it has more than {MAX_BYTES} bytes, which is no secret")),
        _ => Ok(Secret(secret.to_owned())),
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn does_not_show() {
        let secret: Secret = "hunter2".parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_holds_a_secret_and_its_last_line_break_does_not_count() {
        let file = std::env::temp_dir().join(format!("perito-secret-{}", std::process::id()));
        let found = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            Secret::find("PERITO_NONE", Some(&file))
        };
        assert_eq!(found(b"hunter2\n").unwrap().unwrap().expose(), "hunter2");
        assert_eq!(found(b" hunter 2\r\n").unwrap().unwrap().expose(), " hunter 2");
        for (bad, named) in [(&b"\n"[..], "empty"), (&[b'x'; 70_000], "65536"), (b"\xff", "UTF-8")] {
            let error = found(bad).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("PERITO_NONE"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(found_nothing(&file).contains("perito-secret"));
    }

    fn found_nothing(file: &Path) -> String {
        Secret::find("PERITO_NONE", Some(file)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_says_how_to_give_it() {
        let error = Secret::require("PERITO_NONE", None, "a password").unwrap_err().to_string();
        assert!(error.contains("PERITO_NONE_FILE") && error.contains("a password"), "{error}");
    }
}
