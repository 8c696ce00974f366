//! How a watched job looks on standard error: a bar on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget};
use perito_domain::lifecycle::{JobKind, JobState};

use crate::{
    api::{ApiError, Epoch, Job},
    progress::{LINE_INTERVAL, interactive, style},
    report::epoch_line,
};

const WAITING: &str = "{prefix:>9} {spinner} {msg}";
const IMAGES: &str = "{prefix:>9} [{bar:30}] {pos}/{len} images{msg}  {per_sec}  ETA {eta}";
const EPOCHS: &str = "{prefix:>9} [{bar:30}] {pos}/{len} epochs{msg}";

/// What is shown of a job.
pub(super) struct Display {
    bar: ProgressBar,
    interactive: bool,
    shown: Option<Shown>,
    /// Since when the API is away.
    outage: Option<Instant>,
}

/// What a line has said, and when.
struct Shown {
    state: JobState,
    paused: bool,
    done: u64,
    at: Instant,
}

impl Display {
    pub(super) fn new(job: &Job) -> Self {
        let interactive = interactive();
        let target = if interactive { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(WAITING));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.println(format!("job {}", job.id));
        Self { bar, interactive, shown: None, outage: None }
    }

    /// Shows how far the job is.
    pub(super) fn show(&mut self, job: &Job) {
        let (done, total) = progress(job);
        if let Some(since) = self.outage.take() {
            self.say(&format!("the API is back after {:.0} s", since.elapsed().as_secs_f64()));
        }
        if self.interactive {
            self.show_bar(job, done, total);
        } else if self.is_news(job, done) {
            eprintln!("{}", line(job, done, total, self.rate(done)));
        } else {
            return;
        }
        let begun = self.shown.as_ref().is_none_or(|shown| shown.state != job.state);
        if begun || !self.interactive {
            let paused = job.paused_at.is_some();
            self.shown = Some(Shown { state: job.state, paused, done, at: Instant::now() });
        }
    }

    fn show_bar(&self, job: &Job, done: u64, total: Option<u64>) {
        let bar = &self.bar;
        bar.set_prefix(if job.paused_at.is_some() { "paused" } else { job.state.as_str() });
        match total {
            Some(total) if job.state == JobState::Running => {
                if bar.length().is_none() {
                    bar.set_style(style(if job.kind == JobKind::Train { EPOCHS } else { IMAGES }));
                    bar.set_length(total);
                    // What was done before somebody looked says nothing about the speed.
                    bar.set_position(done);
                    bar.reset_eta();
                }
                bar.set_position(done);
                bar.set_message(failures(job));
            }
            _ => bar.set_message(format!("{} tasks", job.tasks.total)),
        }
    }

    /// Whether a line is due: the state changed, or whether it is paused, or there is progress and the last line is a while ago.
    fn is_news(&self, job: &Job, done: u64) -> bool {
        self.shown.as_ref().is_none_or(|shown| {
            (shown.state, shown.paused) != (job.state, job.paused_at.is_some())
                || (done > shown.done && shown.at.elapsed() >= LINE_INTERVAL)
        })
    }

    /// Things per second since the last line.
    fn rate(&self, done: u64) -> Option<f64> {
        let shown = self.shown.as_ref().filter(|shown| done > shown.done)?;
        Some((done - shown.done) as f64 / shown.at.elapsed().as_secs_f64())
    }

    /// Shows an epoch that has ended.
    pub(super) fn epoch(&self, job: &Job, epoch: &Epoch) {
        self.say(&epoch_line(epoch, epochs(job)));
    }

    /// Says, once, that the API is away.
    pub(super) fn outage(&mut self, error: &ApiError, patience: Duration) {
        if self.outage.is_none() {
            let seconds = patience.as_secs();
            self.say(&format!("{error}; the job goes on meanwhile, trying again for up to {seconds} s"));
            self.outage = Some(Instant::now());
        }
    }

    /// Takes the bar away. What the job came to is told on standard output.
    pub(super) fn end(&self, job: &Job) {
        self.bar.finish_and_clear();
        if self.interactive {
            let (done, total) = progress(job);
            eprintln!("{}", line(job, done, total, None));
        }
    }

    fn say(&self, text: &str) {
        // A bar that is hidden swallows lines.
        if self.interactive { self.bar.println(text) } else { eprintln!("{text}") }
    }
}

/// How many images or epochs are done, of how many.
fn progress(job: &Job) -> (u64, Option<u64>) {
    match job.kind {
        JobKind::Train => (job.epochs_done, epochs(job)),
        // The winner's training is planned last.
        JobKind::Sweep => (job.tasks.succeeded, Some(job.tasks.total)),
        JobKind::Score | JobKind::Evaluate => (job.images.scored + job.images.failed, job.images.total),
    }
}

fn epochs(job: &Job) -> Option<u64> {
    job.spec.get("epochs").and_then(serde_json::Value::as_u64)
}

fn failures(job: &Job) -> String {
    if job.images.failed == 0 { String::new() } else { format!(", {} failed", job.images.failed) }
}

fn line(job: &Job, done: u64, total: Option<u64>, rate: Option<f64>) -> String {
    let what = match job.kind {
        JobKind::Train => "epochs",
        JobKind::Sweep => "training runs",
        JobKind::Score | JobKind::Evaluate => "images",
    };
    let paused = if job.paused_at.is_some() { " (paused)" } else { "" };
    let mut line = format!("job {} {}{paused}", job.id, job.state);
    if let Some(total) = total {
        line.push_str(&format!(": {done}/{total} {what}{}", failures(job)));
        if let Some(rate) = rate {
            let eta = total.saturating_sub(done) as f64 / rate;
            line.push_str(&format!(", {rate:.1} {what}/s, {eta:.0} s left"));
        }
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(kind: &str) -> Job {
        serde_json::from_value(json!({
            "id": "0199a5f2-7c3e-7d51-9b1e-2f6c8a4d0e11", "kind": kind, "state": "running", "spec": {"epochs": 8},
            "priority": 4, "model": null, "dataset": null, "images": {"total": 120, "scored": 44, "failed": 2},
            "tasks": {"total": 3, "runnable": 1, "dispatched": 0, "running": 1, "succeeded": 1, "failed": 0, "cancelled": 0},
            "epochs_done": 3, "error": null, "created_at": "2026-10-01T02:00:00Z", "planned_at": null, "finished_at": null,
        }))
        .unwrap()
    }

    #[test]
    fn lines_count_what_the_kind_of_job_counts() {
        let text = |kind, rate| {
            let job = job(kind);
            let (done, total) = progress(&job);
            line(&job, done, total, rate)
        };
        let scoring = text("score", Some(10.0));
        assert!(scoring.ends_with("running: 46/120 images, 2 failed, 10.0 images/s, 7 s left"), "{scoring}");
        assert!(text("train", None).contains("3/8 epochs"));
    }
}
