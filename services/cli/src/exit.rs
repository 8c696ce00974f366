//! Exit codes, for scripts.

use std::process::ExitCode;

use perito_domain::lifecycle::JobState;
use uuid::Uuid;

use crate::{api::ApiError, output::printable};

/// How the codes are explained in `--help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  an error
  2  wrong usage: an unknown option, a malformed value, a specification that is refused
  3  the watched job failed
  4  the watched job was cancelled
  5  no such job, schedule, model, dataset or bucket
  6  the API cannot be reached
  7  the API refuses the caller: no token, one that is not in force, or one whose role may not do this";

/// The command line asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A watched job ended otherwise than by success.
#[derive(Debug, thiserror::Error)]
#[error("job {id} {state}{}", .reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default())]
pub struct JobEnded {
    /// The job.
    pub id: Uuid,
    /// `failed` or `cancelled`.
    pub state: JobState,
    /// Why, if the job says so.
    pub reason: Option<String>,
}

/// The exit code that an error means.
pub fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() || cause.is::<perito_domain::spec::SpecError>() {
            return 2;
        }
        if let Some(ended) = cause.downcast_ref::<JobEnded>() {
            return if ended.state == JobState::Cancelled { 4 } else { 3 };
        }
        match cause.downcast_ref::<ApiError>() {
            Some(ApiError::NotFound { .. }) => return 5,
            Some(ApiError::Unreachable { .. } | ApiError::Unavailable { .. }) => return 6,
            Some(ApiError::Refused { status: 401 | 403, .. }) => return 7,
            Some(ApiError::Refused { .. } | ApiError::Unexpected { .. }) => return 1,
            None => {}
        }
        if let Some(crate::kaggle::Error::NotFound(_)) = cause.downcast_ref() {
            return 5;
        }
        if let Some(error) = cause.downcast_ref::<perito_objects::Error>()
            && error.kind() == perito_objects::ErrorKind::NotFound
        {
            return 5;
        }
    }
    1
}

/// Tells an error on standard error, with what led to it; the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", printable(&format!("{error:#}"), false));
    ExitCode::from(code(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn codes_survive_context() {
        let of = |error: anyhow::Error| code(&error.context("while testing"));
        let ended = |state| JobEnded { id: Uuid::nil(), state, reason: Some("no luck".to_owned()) };
        assert_eq!(of(anyhow::anyhow!("anything")), 1);
        assert_eq!(of(Usage("no".to_owned()).into()), 2);
        assert_eq!(of(ended(JobState::Failed).into()), 3);
        assert_eq!(of(ended(JobState::Cancelled).into()), 4);
        assert_eq!(of(ApiError::NotFound { detail: String::new() }.into()), 5);
        assert_eq!(of(ApiError::Refused { status: 403, detail: String::new() }.into()), 7);
        let unreachable = ApiError::Unreachable { url: "http://h".to_owned(), cause: String::new(), sent: false };
        let wrapped: anyhow::Result<()> = Err(unreachable).context("list jobs");
        assert_eq!(wrapped.map_err(of).err(), Some(6));
    }

    #[test]
    fn a_failed_job_says_why() {
        let ended = JobEnded { id: Uuid::nil(), state: JobState::Failed, reason: Some("no images".to_owned()) };
        assert!(ended.to_string().ends_with("failed: no images"), "{ended}");
    }
}
