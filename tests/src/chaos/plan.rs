//! A seed becomes faults, each with its moment.

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    cluster::Service,
    faults::{Conditions, Odds, link::Path, servers::Server},
};

/// One fault that is done.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// SIGKILL; started again at its end.
    Kill(usize),
    /// SIGSTOP, longer than a lease holds; SIGCONT at its end: a zombie wakes up and tries to commit.
    Freeze(usize),
    /// SIGTERM; started again at its end.
    Terminate(usize),
    /// A server stops in good order, and starts after a while.
    Restart(Server),
    /// A server is killed, and starts after a while.
    Crash(Server),
    /// The queue of scoring tasks loses its messages.
    Purge,
    /// The queue of scoring tasks is gone.
    Delete,
    /// Each message of every open job is published again, thrice.
    Duplicates,
    /// Messages that nobody can read.
    Garbage(usize),
    /// A member's link to a server, bad until the end of the fault.
    Disturb(usize, Service, Conditions),
    /// All connections of a link are reset, once.
    Reset(usize, Service),
    /// The object store fails by chance until the end of the fault.
    Store(Odds),
}

/// A fault with its moment, from the start of the run, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts, where it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// How long it takes to do every kind of fault once.
const ROUND: Duration = Duration::from_secs(18);

/// The faults of a run of this length, in order. In each round of 18 s every kind of fault is done once at least, in an order, to members
/// and for a time that the seed decides.
pub fn plan(seed: u64, length: Duration, coordinators: usize, workers: usize) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut planned = Vec::new();
    let rounds = (length.as_secs_f64() / ROUND.as_secs_f64()).round().max(1.0) as u32;
    for round in 0..rounds {
        let mut faults = deck(&mut rng, coordinators, workers);
        faults.shuffle(&mut rng);
        let slot = ROUND / u32::try_from(faults.len()).unwrap_or(1);
        for (place, (fault, shortest, longest)) in faults.into_iter().enumerate() {
            let begins = ROUND * round + slot * u32::try_from(place).unwrap_or(0);
            let at = begins + slot.mul_f64(rng.random_range(0.0..1.0));
            planned.push(Planned { at, lasts: Duration::from_millis(rng.random_range(shortest..=longest)), fault });
        }
    }
    planned
}

/// Every kind of fault, with the shortest and the longest time in milliseconds that it lasts.
fn deck(rng: &mut impl Rng, coordinators: usize, workers: usize) -> Vec<(Fault, u64, u64)> {
    let coordinator = rng.random_range(0..coordinators);
    let mut worker = || coordinators + rng.random_range(0..workers);
    let (first, second, third, fourth) = (worker(), worker(), worker(), worker());
    let path = |path| Conditions { path, ..Conditions::default() };
    let slow = Conditions { latency: Duration::from_millis(40), bandwidth: Some(400_000), path: Path::Open };
    let anybody = rng.random_range(0..coordinators + workers);
    let other = (coordinator + 1) % coordinators;
    let server = |kill: bool, server| if kill { Fault::Crash(server) } else { Fault::Restart(server) };
    let (rude, ruder) = (rng.random_bool(0.5), rng.random_bool(0.5));
    vec![
        (Fault::Kill(first), 200, 3_000),
        (Fault::Kill(coordinator), 200, 4_000),
        (Fault::Freeze(second), 4_500, 7_000),
        (Fault::Freeze(other), 1_000, 5_000),
        (Fault::Terminate(third), 200, 3_000),
        (Fault::Terminate(coordinator), 200, 3_000),
        (server(rude, Server::RabbitMq), 0, 2_000),
        (server(ruder, Server::Postgres), 0, 2_000),
        (Fault::Purge, 0, 0),
        (Fault::Delete, 0, 0),
        (Fault::Duplicates, 0, 0),
        (Fault::Garbage(rng.random_range(1..4)), 0, 0),
        (Fault::Disturb(fourth, Service::Postgres, path(Path::Cut)), 500, 5_000),
        (Fault::Disturb(anybody, Service::RabbitMq, path(Path::Cut)), 500, 4_000),
        (Fault::Disturb(first, Service::Store, path(Path::Cut)), 500, 3_000),
        (Fault::Disturb(second, Service::Postgres, path(Path::Silent)), 500, 5_000),
        (Fault::Disturb(coordinator, Service::Postgres, path(Path::Silent)), 500, 3_000),
        (Fault::Disturb(third, Service::RabbitMq, path(Path::Silent)), 500, 3_000),
        (Fault::Disturb(fourth, Service::Store, path(Path::Silent)), 500, 3_000),
        (Fault::Disturb(third, Service::Postgres, slow), 1_000, 5_000),
        (Fault::Disturb(first, Service::Store, slow), 1_000, 5_000),
        (Fault::Reset(anybody, Service::Postgres), 0, 0),
        (Fault::Reset(other, Service::RabbitMq), 0, 0),
        (Fault::Store(Odds { error: 0.1, slow_down: 0.1, truncated: 0.1, stalled: 0.01 }), 2_000, 6_000),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_another_seed_another_one() {
        let text = |seed| format!("{:?}", plan(seed, Duration::from_secs(40), 2, 3));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn every_round_has_every_kind_of_fault_and_they_come_in_order() {
        let faults = plan(1, 3 * ROUND, 2, 3);
        assert!(faults.is_sorted_by_key(|planned| planned.at));
        assert_eq!(faults.iter().filter(|planned| matches!(planned.fault, Fault::Purge)).count(), 3);
        assert!(faults.iter().all(|planned| planned.at < 3 * ROUND));
    }
}
