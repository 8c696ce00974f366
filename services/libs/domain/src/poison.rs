//! What becomes of a task whose worker went silent. An image may crash whatever decodes it, or take more memory than there is; no other
//! image and no job may pay for that.
//!
//! A crash is an attempt that ended without a report while the database could be reached, and of whose worker nothing was heard
//! afterwards. A worker that is merely cut off, stopped or slow is heard of again, and an outage of the database says nothing about
//! anybody: neither is a crash.

use crate::lifecycle::{JobKind, TaskEvent};

/// Crashes after which a scoring task is split in halves.
pub const SPLIT_AFTER: u32 = 2;
/// Likewise for a task that is itself a half: something in its parent crashed workers, and splitting once too often costs nothing.
pub const SPLIT_HALF_AFTER: u32 = 1;
/// Crashes after which the one image of a task is given up. More than for a split, because there is no way back.
pub const GIVE_UP_AFTER: u32 = 3;

/// A task whose lease has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expired {
    /// Its kind.
    pub kind: JobKind,
    /// How many images it has; none but for scoring.
    pub images: usize,
    /// Whether it is a half of another task.
    pub is_half: bool,
    /// Its crashes, this one included if it is one.
    pub crashes: u32,
    /// Whether it may be tried again.
    pub attempts_left: bool,
}

/// What happens to a task whose lease has run out: [`TaskEvent::Expire`], [`TaskEvent::Split`], [`TaskEvent::GiveUp`] or
/// [`TaskEvent::Exhaust`].
pub fn after_expiry(task: Expired) -> TaskEvent {
    let Expired { kind, images, is_half, crashes, attempts_left } = task;
    let split_after = if is_half { SPLIT_HALF_AFTER } else { SPLIT_AFTER };
    match (kind, images) {
        (JobKind::Score, 2..) if crashes >= split_after => TaskEvent::Split,
        (JobKind::Score, 1) if crashes >= GIVE_UP_AFTER => TaskEvent::GiveUp,
        _ if attempts_left => TaskEvent::Expire,
        _ => TaskEvent::Exhaust,
    }
}

/// Whether a task may be what crashes workers. No worker has two such tasks at once, so that a crash tells which one it was.
pub fn is_suspect(is_half: bool, crashes: u32) -> bool {
    is_half || crashes > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: Expired =
        Expired { kind: JobKind::Score, images: 500, is_half: false, crashes: 0, attempts_left: true };

    #[test]
    fn a_shard_is_split_after_two_crashes_and_its_halves_after_one() {
        assert_eq!(after_expiry(SHARD), TaskEvent::Expire);
        assert_eq!(after_expiry(Expired { crashes: 1, ..SHARD }), TaskEvent::Expire);
        assert_eq!(after_expiry(Expired { crashes: 2, ..SHARD }), TaskEvent::Split);
        assert_eq!(after_expiry(Expired { crashes: 2, attempts_left: false, ..SHARD }), TaskEvent::Split);
        assert_eq!(after_expiry(Expired { crashes: 1, is_half: true, images: 2, ..SHARD }), TaskEvent::Split);
        assert_eq!(after_expiry(Expired { is_half: true, images: 2, ..SHARD }), TaskEvent::Expire, "no crash");
    }

    #[test]
    fn one_image_is_given_up_after_three() {
        for is_half in [true, false] {
            let one = Expired { images: 1, is_half, ..SHARD };
            assert_eq!(after_expiry(Expired { crashes: 2, ..one }), TaskEvent::Expire);
            assert_eq!(after_expiry(Expired { crashes: 3, ..one }), TaskEvent::GiveUp);
        }
    }

    #[test]
    fn what_cannot_be_split_uses_up_its_attempts() {
        for kind in [JobKind::Train, JobKind::Evaluate, JobKind::Sweep] {
            let task = Expired { kind, images: 0, crashes: 4, ..SHARD };
            assert_eq!(after_expiry(task), TaskEvent::Expire);
            assert_eq!(after_expiry(Expired { crashes: 5, attempts_left: false, ..task }), TaskEvent::Exhaust);
        }
        assert_eq!(after_expiry(Expired { attempts_left: false, ..SHARD }), TaskEvent::Exhaust, "hung, and not dead");
    }

    /// However large the shard: each attempt that crashes brings the end nearer.
    #[test]
    fn one_image_of_ten_thousand_costs_few_crashes() {
        let (mut task, mut crashes) = (Expired { images: 10_000, ..SHARD }, 0);
        loop {
            crashes += 1;
            task.crashes += 1;
            match after_expiry(task) {
                TaskEvent::Split => {
                    task = Expired { images: task.images.div_ceil(2), is_half: true, crashes: 0, ..task }
                }
                TaskEvent::GiveUp => break,
                event => assert_eq!(event, TaskEvent::Expire),
            }
        }
        assert_eq!(crashes, 2 + 13 + 3);
    }
}
