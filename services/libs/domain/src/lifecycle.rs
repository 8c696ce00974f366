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
        /// Its workers died: two tasks with half of its images each take its place.
        Split = "split",
    }
}

/// A task as far as its life cycle goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskRow {
    /// Where it is.
    pub state: TaskState,
    /// The fencing token: the number of the last attempt.
    pub attempt: u32,
}

/// What an event has to know of the task that it happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Nothing: it is decided in the database, where the task is locked.
    None,
    /// The attempt that comes next, as a message has it.
    Next,
    /// The attempt that runs, as its worker has it.
    Held,
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
    /// The lease ran out, and no attempts are left.
    Exhaust,
    /// The lease ran out, and one of its images may be what crashes workers: see [`crate::poison`].
    Split,
    /// The lease ran out, and its one image is what crashes workers: the task ends with that image as a failure.
    GiveUp,
    /// Its job ended without it.
    Cancel,
    /// An operator lets its failed job run again.
    Reopen,
}

impl TaskEvent {
    /// Every event.
    pub const ALL: [Self; 14] = [
        Self::Dispatch,
        Self::LoseMessage,
        Self::Recall,
        Self::Claim,
        Self::Succeed,
        Self::Retry,
        Self::Fail,
        Self::Release,
        Self::Expire,
        Self::Exhaust,
        Self::Split,
        Self::GiveUp,
        Self::Cancel,
        Self::Reopen,
    ];

    /// The state that follows when this happens in `state`, or `None` when it cannot.
    pub fn apply(self, state: TaskState) -> Option<TaskState> {
        use TaskState::{Cancelled, Dispatched, Failed, Runnable, Running, Split, Succeeded};
        match (self, state) {
            (Self::Dispatch, Runnable) => Some(Dispatched),
            (Self::LoseMessage | Self::Recall, Dispatched) => Some(Runnable),
            (Self::Claim, Dispatched) => Some(Running),
            (Self::Succeed | Self::GiveUp, Running) => Some(Succeeded),
            (Self::Retry | Self::Release | Self::Expire, Running) => Some(Runnable),
            (Self::Fail | Self::Exhaust, Running) => Some(Failed),
            (Self::Split, Running) => Some(Split),
            (Self::Reopen, Failed | Cancelled) => Some(Runnable),
            (Self::Cancel, Runnable | Dispatched | Running) => Some(Cancelled),
            _ => None,
        }
    }

    /// Whose word counts: which attempt number it has to come with.
    pub fn fence(self) -> Fence {
        match self {
            Self::Claim => Fence::Next,
            Self::Succeed | Self::Retry | Self::Fail | Self::Release => Fence::Held,
            _ => Fence::None,
        }
    }

    /// The task that follows when this happens with the attempt number `token`, or `None` when it cannot. This is the whole rule: the
    /// model of the life cycle is explored by it, and a test holds the SQL to it.
    pub fn step(self, task: TaskRow, token: u32) -> Option<TaskRow> {
        let allowed = match self.fence() {
            Fence::None => true,
            Fence::Next => token == task.attempt + 1,
            Fence::Held => token == task.attempt,
        };
        let state = self.apply(task.state).filter(|_| allowed)?;
        let moves_the_fence = matches!(self, Self::Claim | Self::Recall);
        Some(TaskRow { state, attempt: task.attempt + u32::from(moves_the_fence) })
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
    fn nothing_leaves_a_final_state_but_by_an_operators_hand() {
        for state in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled, TaskState::Split] {
            for event in TaskEvent::ALL.into_iter().filter(|event| *event != TaskEvent::Reopen) {
                assert_eq!(event.apply(state), None, "{event:?} in {state}");
            }
        }
    }

    #[test]
    fn results_are_committed_only_by_a_lease_holder() {
        assert_eq!(TaskEvent::Succeed.sources(), ["running"]);
        assert_eq!(TaskEvent::Reopen.sources(), ["failed", "cancelled"], "what has results keeps them");
        assert_eq!(TaskEvent::Claim.sources(), ["dispatched"], "what was recalled is not claimed");
        assert_eq!(TaskEvent::Cancel.sources(), ["runnable", "dispatched", "running"]);
    }

    #[test]
    fn every_open_state_leads_to_every_final_state() {
        for end in [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled, TaskState::Split] {
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
