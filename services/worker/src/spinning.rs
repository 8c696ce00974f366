//! How long threads of libtorch that have no work burn a core before they sleep.
//!
//! OpenMP's threads compute each operation in parts and wait for the slowest one. GNU's libgomp has them spin for milliseconds meanwhile,
//! which is right where they are alone. Here photographs are decoded on the same cores, at a lower priority: decoding is kept
//! from a core on which a thread of libtorch only waits, and a batch comes the later for it. Decision 28 has the figures.

use std::{env, os::unix::process::CommandExt as _, process::Command};

/// Where libgomp reads how often its threads look for work before they sleep.
const SPINS: &str = "GOMP_SPINCOUNT";
/// Few enough that a waiting thread sleeps before a photograph is decoded; more made whole jobs slower, and none at all was no faster (decision 28).
const FEW: &str = "1000";

/// Who waits how is settled already.
const SETTLED_BY: [&str; 2] = [SPINS, "OMP_WAIT_POLICY"];

/// Begins this program again with few spins, unless the environment settles how to wait. libgomp reads its environment when it is
/// loaded, which is before `main`; the process stays the same.
pub(crate) fn few() {
    if SETTLED_BY.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let error = match env::current_exe() {
        Ok(program) => {
            let mut arguments = env::args_os();
            let name = arguments.next().unwrap_or_else(|| program.clone().into());
            // It comes back only when it fails.
            Command::new(program).arg0(name).args(arguments).env(SPINS, FEW).exec()
        }
        Err(error) => error,
    };
    // Slower, and no worse than that.
    eprintln!("perito-worker: goes on without {SPINS}={FEW}, for it cannot begin again: {error}");
}
