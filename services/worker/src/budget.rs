//! Memory for images on their way to the device: bounded, whatever their size.
//!
//! An image has room for its file before it is fetched and room for decoding, as its header says, before it is decoded. These are two
//! budgets: one that waits for room to be decoded holds none of it, so those that decode always come to an end.

use std::{fs, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a process has beside images, at most: libtorch, a network and its activations, buffers.
const BESIDE_IMAGES: u64 = 1 << 30;
/// The share of the machine's or the container's memory that is used unless told.
const SHARE: f64 = 0.75;
/// Where neither says how much it has.
const UNKNOWN: u64 = 4 << 30;
/// The smallest unit that is handed out.
const UNIT: u64 = 1024;

/// Room that is given back when this is dropped.
#[must_use]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

/// One budget.
#[derive(Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

impl Budget {
    fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// All of it, in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Room for so many bytes, at once or when it becomes free: who comes first has it first. `None` for more than there will ever be.
    pub async fn room(&self, bytes: u64) -> Option<Room> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|units| *units <= self.units)?;
        // Closed never: it lives as long as the budget.
        Some(Room { _permit: Arc::clone(&self.free).acquire_many_owned(units).await.ok() })
    }
}

/// The budgets of a process.
#[derive(Clone)]
pub struct ImageMemory {
    /// For files as they were fetched.
    pub files: Budget,
    /// For decoding.
    pub decoding: Budget,
}

impl ImageMemory {
    /// What is left for images of a process's memory: all but a GiB, and half of less than two.
    pub fn within(max_memory: u64) -> Self {
        let images = max_memory - BESIDE_IMAGES.min(max_memory / 2);
        Self { files: Budget::new(images / 4), decoding: Budget::new(images / 4 * 3) }
    }
}

/// Three quarters of what the container may have, or of what the machine has.
pub fn default_max_memory() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok();
    let containers = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        // `max`, where there is no limit, is no number.
        .filter_map(|path| read(path)?.trim().parse().ok());
    let machine = read("/proc/meminfo").as_deref().and_then(total_memory);
    let least: u64 = containers.chain(machine).min().unwrap_or(UNKNOWN);
    (least as f64 * SHARE) as u64
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_waited_for_and_never_more_than_there_is() {
        let budget = Budget::new(10 * UNIT);
        assert!(budget.room(10 * UNIT + 1).await.is_none());
        let most = budget.room(9 * UNIT).await.unwrap();
        let waiting = budget.room(2 * UNIT);
        let mut waiting = std::pin::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
        // It asked first, and is not passed by those that would fit.
        assert!(tokio::time::timeout(Duration::from_secs(1), budget.room(1)).await.is_err());
        drop(most);
        assert!(waiting.await.is_some());
    }

    #[test]
    fn a_process_keeps_some_memory_beside_images() {
        let images = |max: u64| {
            let memory = ImageMemory::within(max);
            (memory.files.bytes() + memory.decoding.bytes()) >> 20
        };
        assert_eq!((images(4 << 30), images(1 << 30)), (3072, 512));
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert!(default_max_memory() > 64 << 20);
    }
}
