//! Every seed, cut off anywhere and changed a little, keeps the promises of its way in.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Changed copies of each seed.
const CHANGES: usize = 200;

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> =
        files.map(|file| file.unwrap().path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    seeds
}

/// A few bytes changed, removed, repeated, or the rest cut off.
fn change(bytes: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        let end = bytes.len().min(at + rng.random_range(1..=8));
        match rng.random_range(0..5) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.extend_from_within(at..end),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn seeds_and_changes_of_them_break_no_promise() {
    for (name, enter) in perito_fuzz::ALL {
        let seeds = seeds(name);
        // Whole files of these two have megabytes: their seeds are refused, late.
        let late = ["weights", "checkpoint"].contains(&name);
        assert!(late || seeds.iter().any(|(_, bytes)| enter(bytes)), "no seed of {name} is taken");
        for (path, bytes) in seeds {
            let mut rng = ChaCha8Rng::seed_from_u64(bytes.len() as u64);
            for number in 0..CHANGES {
                let changed = change(&bytes, &mut rng);
                let outcome = std::panic::catch_unwind(|| enter(&changed));
                if outcome.is_err() {
                    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broken-{name}-{number}"));
                    std::fs::write(&kept, &changed).unwrap();
                    panic!("a change of {} breaks a promise: it is in {}", path.display(), kept.display());
                }
            }
        }
    }
}
