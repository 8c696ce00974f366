//! The coordinator, and through it the workers.

use crate::api::{Api, ApiError};

use super::{Finding, Report};

/// Asks the API.
pub async fn examine(api: &Api) -> Vec<Finding> {
    let mut report = Report::new("coordinator");
    let ready = match api.readiness().await {
        Ok(ready) => ready,
        Err(error) => {
            let remedy = "see that a coordinator runs and that PERITO_API_URL (or --api-url) is where it listens";
            report.fault("reach", error.to_string(), remedy);
            return report.findings;
        }
    };
    report.ok("reach", api.base().to_string());
    if ready.ready {
        report.ok("ready", "it can do its work");
    } else {
        let failed: Vec<_> = ready.failed.iter().map(|(part, why)| format!("{part}: {why}")).collect();
        report.fault("ready", failed.join("; "), "mend what it names; the other findings here may say how");
    }
    match api.workers().await {
        Ok(workers) => {
            report.ok("token", "it lets this token look");
            let living: Vec<_> = workers.value.workers.iter().filter(|worker| worker.state != "silent").collect();
            if living.is_empty() {
                report.warn("workers", "no worker lives", "start one: jobs wait until then");
            } else {
                let names: Vec<_> = living
                    .iter()
                    .map(|worker| format!("{} ({}, {})", worker.name, worker.device, worker.version))
                    .collect();
                report.ok("workers", names.join("; "));
            }
            let here = perito_runtime::version();
            let others: Vec<_> =
                living.iter().filter(|worker| worker.version != here).map(|worker| &worker.name).collect();
            if !others.is_empty() {
                let detail = format!("this program is {here}, and of another release are: {others:?}");
                report.warn(
                    "releases",
                    detail,
                    "finish the upgrade: neighbouring releases work together, older ones may not",
                );
            }
        }
        Err(error @ (ApiError::Refused { .. } | ApiError::NotFound { .. })) => {
            report.fault(
                "token",
                error.to_string(),
                "set PERITO_TOKEN or PERITO_TOKEN_FILE (perito token create makes one)",
            );
        }
        Err(error) => report.fault("token", error.to_string(), "see the coordinator's log"),
    }
    report.findings
}
