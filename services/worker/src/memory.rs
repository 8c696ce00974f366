//! What the allocator keeps.
//!
//! A training step allocates and frees gigabytes of features and gradients, the same ones a second later in the next step. An allocator
//! that gives them back to the system in between pays for page faults again: a tenth to a quarter of a step, as measured.

use std::ffi::{c_int, c_long};

use libmimalloc_sys::mi_option_set_default;

/// For libtorch too: the crate's feature `override` takes the place of `malloc`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, which the binding does not name: after how many milliseconds free memory goes back to the system.
const PURGE_DELAY: c_int = 15;
/// Longer than a step takes, shorter than anybody waits for the memory of a training that has ended.
const KEPT_MILLISECONDS: c_long = 60_000;

/// Keeps free memory for a minute, unless `MIMALLOC_PURGE_DELAY` says otherwise.
pub(crate) fn keep() {
    #[allow(unsafe_code, reason = "the binding has no safe form")]
    // SAFETY: it stores a number in a table of options, which mimalloc reads at any time.
    unsafe {
        mi_option_set_default(PURGE_DELAY, KEPT_MILLISECONDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A release of mimalloc that counts its options differently is seen here: no other option has this default.
    #[test]
    fn free_memory_is_kept_for_a_minute() {
        #[allow(unsafe_code, reason = "the binding has no safe form")]
        // SAFETY: it reads a number.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's own");
        keep();
        assert_eq!(delay(), KEPT_MILLISECONDS);
    }
}
