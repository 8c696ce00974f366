//! Heartbeats for every lease held, and what a lost one stops.
//!
//! One statement renews all leases of the process. A lease that the database no longer knows (its job was cancelled,
//! or it expired and was taken) is lost: its token is cancelled, and with it the work. While the database cannot be
//! reached a lease is presumed lost once its time has run out here, since by then another worker may own the task.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use perito_database::{ClaimedTask, Database, Lease};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

struct Held {
    task: Arc<ClaimedTask>,
    lost: CancellationToken,
    valid_until: Instant,
}

/// Every lease that this process holds.
#[derive(Clone)]
pub struct Leases {
    held: Arc<Mutex<HashMap<Uuid, Held>>>,
    database: Database,
    duration: Duration,
}

/// A lease that is being renewed until this is dropped.
pub struct LeaseGuard {
    leases: Leases,
    task: Arc<ClaimedTask>,
    lost: CancellationToken,
}

impl LeaseGuard {
    /// The task that the lease is on.
    pub fn task(&self) -> &Arc<ClaimedTask> {
        &self.task
    }

    /// Completes when the lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        // The same task may have been claimed again by this process meanwhile: that claim stays.
        let task_id = self.task.lease.task_id();
        if held.get(&task_id).is_some_and(|entry| Arc::ptr_eq(&entry.task, &self.task)) {
            held.remove(&task_id);
        }
    }
}

impl Leases {
    /// No leases yet. `duration` is how long each renewal holds.
    pub fn new(database: Database, duration: Duration) -> Self {
        Self { held: Arc::default(), database, duration }
    }

    /// How long a claim or a renewal holds.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Keeps a lease alive from now on. `claimed_at` is when its claim was sent, so that the local deadline is never later
    /// than the database's.
    pub fn hold(&self, task: ClaimedTask, claimed_at: Instant) -> LeaseGuard {
        let (task, lost) = (Arc::new(task), CancellationToken::new());
        let held = Held { task: Arc::clone(&task), lost: lost.clone(), valid_until: claimed_at + self.duration };
        self.lock().insert(task.lease.task_id(), held);
        LeaseGuard { leases: self.clone(), task, lost }
    }

    /// The tasks whose leases are held.
    pub fn tasks(&self) -> Vec<Arc<ClaimedTask>> {
        self.lock().values().map(|held| Arc::clone(&held.task)).collect()
    }

    /// Of these tasks the database knows only some as ours: the leases on the others are lost.
    pub fn keep_only(&self, asked: &[Arc<ClaimedTask>], held: &[Uuid]) {
        let entries = self.lock();
        for task in asked.iter().filter(|task| !held.contains(&task.lease.task_id())) {
            if let Some(entry) = entries.get(&task.lease.task_id()).filter(|entry| Arc::ptr_eq(&entry.task, task)) {
                entry.lost.cancel();
            }
        }
    }

    /// Renews all leases three times in each lease's duration, for ever.
    pub async fn keep_alive(self) {
        let mut ticks = tokio::time::interval(self.duration / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let tasks = self.tasks();
        if tasks.is_empty() {
            return;
        }
        let sent_at = Instant::now();
        let leases: Vec<&Lease> = tasks.iter().map(|task| &task.lease).collect();
        // A renewal that takes longer than the pause between two is as good as none.
        let answer = tokio::time::timeout(self.duration / 3, self.database.heartbeat(&leases, self.duration)).await;
        let renewed = match answer {
            Ok(Ok(renewed)) => Some(renewed),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, leases = leases.len(), "heartbeat failed");
                None
            }
            Err(_) => {
                tracing::warn!(
                    leases = leases.len(),
                    timeout.seconds = self.duration.as_secs_f64() / 3.0,
                    "heartbeat timed out"
                );
                None
            }
        };
        let mut held = self.lock();
        for task in &tasks {
            let task_id = task.lease.task_id();
            let Some(entry) = held.get_mut(&task_id).filter(|entry| Arc::ptr_eq(&entry.task, task)) else {
                continue;
            };
            match &renewed {
                Some(renewed) if renewed.contains(&task_id) => entry.valid_until = sent_at + self.duration,
                Some(_) => entry.lost.cancel(),
                None if Instant::now() >= entry.valid_until => entry.lost.cancel(),
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        // Nothing panics while it is held, and a map of leases cannot be half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
