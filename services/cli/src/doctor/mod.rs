//! Looking for faults: each part that Perito stands on is asked, and every finding says what to do about it.
//!
//! | module | asks |
//! |---|---|
//! | [`coordinator`] | the API: reachable, this token's rights, ready, the releases of all programs |
//! | [`postgres`] | the database: version, schema, rights, connections, its clock |
//! | [`rabbitmq`] | the broker: reachable, held back, queues and their arguments, dead letters, consumers |
//! | [`store`] | the object store: the bucket, writing, reading, listing and removing, its clock |
//!
//! To add a check: a [`Finding`] in the module of its part.

pub mod coordinator;
pub mod postgres;
pub mod rabbitmq;
pub mod store;

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Nobody told where the part is, or what it takes to look.
    Skipped,
    /// Perito works, but somebody should look at it.
    Warning,
    /// Perito does not work like this.
    Fault,
}

/// One check and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `coordinator`, `postgres`, `rabbitmq` or `s3`.
    pub part: &'static str,
    /// What was looked at.
    pub check: &'static str,
    /// What was found.
    pub verdict: Verdict,
    /// In words.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Collects what is found out about a part.
#[derive(Debug)]
struct Report {
    part: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    fn new(part: &'static str) -> Self {
        Self { part, findings: Vec::new() }
    }

    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Ok, detail.into(), None);
    }

    fn skip(mut self, detail: impl Into<String>, remedy: impl Into<String>) -> Vec<Finding> {
        self.add("reach", Verdict::Skipped, detail.into(), Some(remedy.into()));
        self.findings
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Warning, detail.into(), Some(remedy.into()));
    }

    fn fault(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Fault, detail.into(), Some(remedy.into()));
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, detail: String, remedy: Option<String>) {
        self.findings.push(Finding { part: self.part, check, verdict, detail, remedy });
    }

    /// Whether two clocks agree. Leases go by Postgres' clock alone, but schedules, tokens and logs are read beside each other, and
    /// stores refuse requests that are signed a quarter of an hour off.
    fn clock(&mut self, theirs: DateTime<Utc>, asked: SystemTime, answered: SystemTime, resolution: f64) {
        const TOLERATED_SECONDS: f64 = 2.0;
        let (asked, answered) = (DateTime::<Utc>::from(asked), DateTime::<Utc>::from(answered));
        let seconds = |from: DateTime<Utc>, to: DateTime<Utc>| (to - from).as_seconds_f64();
        // Somewhere between asking and the answer it read its clock.
        let behind = seconds(theirs, asked) - resolution;
        let ahead = seconds(answered, theirs);
        let (skew, which) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
        if skew > TOLERATED_SECONDS {
            self.warn(
                "clock",
                format!("{skew:.1} s {which} this machine's"),
                "synchronise the clocks (NTP, such as chrony) of this machine and the server's",
            );
        } else {
            self.ok("clock", format!("agrees with this machine's within {TOLERATED_SECONDS} s"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(theirs: i64, asked: u64, answered: u64, resolution: f64) -> (Verdict, String) {
        let mut report = Report::new("postgres");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        report.clock(DateTime::from_timestamp(theirs, 0).unwrap_or_default(), at(asked), at(answered), resolution);
        let finding = report.findings.remove(0);
        (finding.verdict, finding.detail)
    }

    #[test]
    fn a_slow_answer_is_no_skew_and_a_skewed_clock_is() {
        assert_eq!(verdict(100, 100, 100, 0.0).0, Verdict::Ok);
        assert_eq!(verdict(109, 100, 110, 0.0).0, Verdict::Ok, "it took ten seconds");
        assert_eq!(verdict(97, 100, 100, 1.0).0, Verdict::Ok, "told to the second");
        assert_eq!(verdict(200, 100, 101, 0.0), (Verdict::Warning, "99.0 s ahead of this machine's".to_owned()));
        assert_eq!(verdict(40, 100, 101, 0.0), (Verdict::Warning, "60.0 s behind this machine's".to_owned()));
    }
}
