//! The life cycles of jobs and tasks: every state, and every move that is allowed.
//!
//! [`TaskEvent::apply`] is the one definition of the task life cycle. The SQL asks it which states an event may
//! leave, so the database cannot allow a move that this module forbids.

use crate::text_enum::text_enum;

text_enum! {
    /// What a job does. Each kind has its own queue and its own kind of task.
    JobKind ("kind of job") {
        /// Trains a model: one task.
        Train = "train",
        /// Scores a selection of images: a task for each shard.
        Score = "score",
        /// Measures a model on a labelled dataset: one task.
        Evaluate = "evaluate",
        /// Trains many recipes and registers the best one: a task for each run, and one for the winner.
        Sweep = "sweep",
    }
}

text_enum! {
    /// Where a job is. Whether it is paused is apart from this: a paused job keeps its place.
    JobState ("job state") {
        /// Submitted; the planner has not frozen its tasks yet.
        Queued = "queued",
        /// Planned; its tasks are being worked on.
        Running = "running",
        /// Every task succeeded, within the failure budget. Only now do its results show.
        Succeeded = "succeeded",
        /// A task failed for good, planning failed, or too many images failed.
        Failed = "failed",
        /// Somebody stopped it.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether nothing more will happen to a job in this state.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

text_enum! {
    /// Where a task is.
    TaskState ("task state") {
        /// Waiting for the dispatcher: for its turn, the end of its backoff, or that its job is resumed.
        Runnable = "runnable",
        /// A message for it was confirmed by the broker: a worker may claim it.
        Dispatched = "dispatched",
        /// A worker holds a lease on it.
        Running = "running",
        /// Its results are committed.
        Succeeded = "succeeded",
        /// It failed for good.
        Failed = "failed",
        /// Its job was cancelled or failed.
        Cancelled = "cancelled",
    }
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// The broker confirmed a message for it.
    Dispatch,
    /// Its message is no longer in the broker.
    LoseMessage,
    /// Its job was paused, limited or given another priority, or more urgent tasks go before it. The attempt number goes up, so that its
    /// message means nothing any more.
    Recall,
    /// A worker takes a lease; the attempt number goes up.
    Claim,
    /// The lease holder commits its results.
    Succeed,
    /// The lease holder met a transient error, and attempts are left.
    Retry,
    /// The lease holder met a permanent error, or no attempts are left.
    Fail,
    /// The lease holder gives it back unfinished, as on shutdown.
    Release,
    /// The lease ran out, and attempts are left.
    Expire,
    /// Its job ended without it.
    Cancel,
}

impl TaskEvent {
    /// Every event.
    pub const ALL: [Self; 10] = [
        Self::Dispatch,
        Self::LoseMessage,
        Self::Recall,
        Self::Claim,
        Self::Succeed,
        Self::Retry,
        Self::Fail,
        Self::Release,
        Self::Expire,
        Self::Cancel,
    ];

    /// The state that follows when this happens in `state`, or `None` when it cannot.
    pub fn apply(self, state: TaskState) -> Option<TaskState> {
        use TaskState::{Cancelled, Dispatched, Failed, Runnable, Running, Succeeded};
        match (self, state) {
            (Self::Dispatch, Runnable) => Some(Dispatched),
            (Self::LoseMessage | Self::Recall, Dispatched) => Some(Runnable),
            (Self::Claim, Dispatched) => Some(Running),
            (Self::Succeed, Running) => Some(Succeeded),
            (Self::Retry | Self::Release | Self::Expire, Running) => Some(Runnable),
            (Self::Fail, Running) => Some(Failed),
            (Self::Cancel, Runnable | Dispatched | Running) => Some(Cancelled),
            _ => None,
        }
    }

    /// The states in which this can happen, as stored.
    pub fn sources(self) -> Vec<String> {
        TaskState::ALL
            .iter()
            .filter(|state| self.apply(**state).is_some())
            .map(|state| state.as_str().to_owned())
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_a_final_state() {
        for state in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled] {
            for event in TaskEvent::ALL {
                assert_eq!(event.apply(state), None, "{event:?} in {state}");
            }
        }
    }

    #[test]
    fn results_are_committed_only_by_a_lease_holder() {
        assert_eq!(TaskEvent::Succeed.sources(), ["running"]);
        assert_eq!(TaskEvent::Claim.sources(), ["dispatched"], "what was recalled is not claimed");
        assert_eq!(TaskEvent::Cancel.sources(), ["runnable", "dispatched", "running"]);
    }

    #[test]
    fn every_open_state_leads_to_every_final_state() {
        for end in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled] {
            let mut reached = vec![TaskState::Runnable];
            let mut next = 0;
            while next < reached.len() {
                let state = reached[next];
                next += 1;
                for event in TaskEvent::ALL {
                    if let Some(follower) = event.apply(state)
                        && !reached.contains(&follower)
                    {
                        reached.push(follower);
                    }
                }
            }
            assert!(reached.contains(&end), "{end} is out of reach");
        }
    }

    #[test]
    fn text_forms_survive_a_round_trip_and_strangers_are_named() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse::<TaskState>().unwrap(), *state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        let refused = "paused".parse::<JobState>().unwrap_err().to_string();
        assert!(refused.contains("\"paused\"") && refused.contains("queued"), "{refused}");
    }
}
