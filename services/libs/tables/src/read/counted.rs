//! A stream that counts what is read of it, and refuses to give more than a row may have.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The stream.
pub(super) struct Counted {
    stream: Box<dyn Read + Send>,
    counts: Counts,
}

/// What was read. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Counts {
    total: Arc<AtomicU64>,
    /// The total at which nothing more is given.
    limit: Arc<AtomicU64>,
}

impl Counted {
    /// Counts nothing yet. Without [`Counts::allow`] it gives nothing.
    pub(super) fn new(stream: Box<dyn Read + Send>) -> (Self, Counts) {
        let counts = Counts::default();
        (Self { stream, counts: counts.clone() }, counts)
    }
}

impl Counts {
    /// Lets so many more bytes be read.
    pub(super) fn allow(&self, bytes: u64) {
        self.limit.store(self.total() + bytes, Ordering::Relaxed);
    }

    /// How many bytes were read.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The share of this many bytes.
    pub(super) fn share(&self, length: u64) -> f64 {
        if length == 0 { 1.0 } else { (self.total() as f64 / length as f64).min(1.0) }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.counts.total() >= self.counts.limit.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a row is longer than any should be: is a quote missing?",
            ));
        }
        let read = self.stream.read(buffer)?;
        self.counts.total.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
