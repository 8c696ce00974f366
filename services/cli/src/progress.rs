//! Standard error while something takes long: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is written where there is no terminal.
pub const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The length of a bar of shares.
const SHARES: u64 = 10_000;

/// Whether bars can be seen.
pub fn interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// A style of bar. Templates are constants of this crate: one that cannot be read falls back to the plain bar.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Progress through a number of things, and the bytes of them.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    bar: ProgressBar,
    /// How many things are done of how many; `None` when nobody knows.
    total: Option<u64>,
    done: Mutex<Done>,
}

#[derive(Debug)]
struct Done {
    things: u64,
    bytes: u64,
    told: Instant,
}

impl Progress {
    /// Begins to do something (`uploading`) to this many things of this many bytes together.
    pub fn with_bytes(what: &'static str, things: u64, bytes: u64) -> Self {
        let template = "{prefix:>11} [{bar:30}] {msg}  {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}";
        Self::new(what, Some(things), Some(bytes), template)
    }

    /// Begins to do something (`drawing`) to this many things.
    pub fn with_count(what: &'static str, things: u64) -> Self {
        Self::new(what, Some(things), None, "{prefix:>11} [{bar:30}] {pos}/{len}  {per_sec}  ETA {eta}")
    }

    /// Begins to do something (`registering`) to nobody knows how many things.
    pub fn unknown(what: &'static str) -> Self {
        Self::new(what, None, None, "{prefix:>11} {spinner} {pos}  {per_sec}")
    }

    /// Begins to do something (`registering`) to nobody knows how many things of a file.
    pub fn share(what: &'static str) -> Self {
        Self::new(what, None, Some(SHARES), "{prefix:>11} [{bar:30}] {percent} %  {msg}  ETA {eta}")
    }

    /// This share of the file is done, 0 to 1.
    pub fn at(&self, share: f64) {
        self.bar.set_position((share * SHARES as f64) as u64);
    }

    /// Tells something without disturbing the bar.
    pub fn tell(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn new(what: &'static str, total: Option<u64>, bytes: Option<u64>, template: &str) -> Self {
        let target = if interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(bytes.or(total), target).with_style(style(template)).with_prefix(what);
        let progress = Self { what, bar, total, done: Mutex::new(Done { things: 0, bytes: 0, told: Instant::now() }) };
        progress.advance(0, 0);
        progress
    }

    /// Some are done.
    pub fn advance(&self, things: u64, bytes: u64) {
        // A thread that panicked while it counted leaves counts that are as good as any.
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.things += things;
        done.bytes += bytes;
        match (self.total, self.bar.length()) {
            // By shares.
            (None, Some(_)) => {}
            (total, length) if total != length => self.bar.inc(bytes),
            _ => self.bar.inc(things),
        }
        self.bar.set_message(self.count(done.things));
        if !interactive() && done.told.elapsed() >= LINE_INTERVAL {
            done.told = Instant::now();
            eprintln!("{}: {}{}", self.what, self.count(done.things), in_bytes(done.bytes));
        }
    }

    /// All are done: the bar goes, a line stays.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        let done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seconds = self.bar.elapsed().as_secs_f64();
        eprintln!("{}: {}{} in {seconds:.1} s", self.what, self.count(done.things), in_bytes(done.bytes));
    }

    fn count(&self, things: u64) -> String {
        match self.total {
            Some(total) if total != things => format!("{}/{}", HumanCount(things), HumanCount(total)),
            _ => HumanCount(things).to_string(),
        }
    }
}

fn in_bytes(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(", {}", HumanBytes(bytes)) }
}

/// Progress through the bytes of one transfer, which may begin in its middle or start over.
#[derive(Debug)]
pub struct Transfer {
    what: &'static str,
    bar: ProgressBar,
    told: Mutex<Instant>,
}

impl Transfer {
    /// Begins to do something (`downloading`).
    pub fn new(what: &'static str) -> Self {
        let target = if interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let template = "{prefix:>11} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}";
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(template)).with_prefix(what);
        Self { what, bar, told: Mutex::new(Instant::now()) }
    }

    /// So many bytes are there already, of so many, if that is known.
    pub fn resume(&self, have: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(have);
        self.bar.reset_eta();
    }

    /// More bytes are there.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !interactive() && told.elapsed() >= LINE_INTERVAL {
            *told = Instant::now();
            let of = self.bar.length().map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
            eprintln!("{}: {}{of}", self.what, HumanBytes(self.bar.position()));
        }
    }

    /// All is there: the bar goes, a line stays.
    pub fn finish(&self) {
        let (bytes, seconds) = (self.bar.position(), self.bar.elapsed().as_secs_f64());
        self.bar.finish_and_clear();
        eprintln!("{}: {} in {seconds:.1} s", self.what, HumanBytes(bytes));
    }
}
