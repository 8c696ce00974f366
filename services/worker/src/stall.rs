//! What each stage of the scoring pipeline does with its time: it works, it is starved, or it is blocked.
//!
//! One clock for the process. Stages are told apart by counts that guards keep: images that are being worked on, and those that wait for
//! room. Time counts while a scoring task is in hand. What passes between the end of one task's inference and the end of the next one's is
//! the next one's: so the reports of all tasks add up to the time that passed, though tasks overlap.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use perito_domain::stages::{STAGES, Stage, StageSeconds};

/// Seconds of every stage.
pub type Reading = [StageSeconds; STAGES];

/// The clock. Clones share it.
#[derive(Clone)]
pub struct StallClock(Arc<Mutex<State>>);

struct State {
    at: Instant,
    tasks: usize,
    /// How many may be in hand.
    most_tasks: usize,
    stages: [Load; STAGES],
    total: Reading,
    /// Up to where time has been given to tasks.
    reported: Reading,
}

#[derive(Clone, Copy)]
struct Load {
    /// How much of it makes the stage busy altogether.
    places: usize,
    working: usize,
    waiting_for_room: usize,
}

/// What a guard counts.
#[derive(Clone, Copy)]
enum Count {
    Task,
    Working(Stage),
    WaitingForRoom(Stage),
}

/// Counts until it is dropped.
#[must_use]
pub struct Counted {
    clock: StallClock,
    what: Count,
}

impl Drop for Counted {
    fn drop(&mut self) {
        *self.clock.advanced().count(self.what) -= 1;
    }
}

/// A task in hand.
#[must_use]
pub struct TaskInHand {
    counted: Counted,
    since: Reading,
}

impl TaskInHand {
    /// What passed for this task until now. To be asked once, when its last batch has come back.
    pub fn report(&self) -> Vec<(Stage, StageSeconds)> {
        let mut state = self.counted.clock.advanced();
        let (total, since) = (state.total, self.since);
        let before = std::mem::replace(&mut state.reported, total);
        let passed = |index: usize| total[index] - since[index].max(before[index]);
        Stage::ALL.iter().enumerate().map(|(index, stage)| (*stage, passed(index))).collect()
    }
}

impl StallClock {
    /// A clock for a pipeline with so many decoding threads that has at most so many tasks in hand.
    pub fn new(decode_threads: usize, most_tasks: usize) -> Self {
        let stages = std::array::from_fn(|index| Load {
            // One request keeps the connection to the store busy, and there is one device and one transaction at a time.
            places: if Stage::ALL[index] == Stage::Decode { decode_threads.max(1) } else { 1 },
            working: 0,
            waiting_for_room: 0,
        });
        Self(Arc::new(Mutex::new(State {
            at: Instant::now(),
            tasks: 0,
            most_tasks,
            stages,
            total: Reading::default(),
            reported: Reading::default(),
        })))
    }

    /// From now on a task is in hand.
    pub fn task(&self) -> TaskInHand {
        let counted = self.counted(Count::Task);
        let since = self.lock().total;
        TaskInHand { counted, since }
    }

    /// From now on the stage works on one thing more.
    pub fn working(&self, stage: Stage) -> Counted {
        self.counted(Count::Working(stage))
    }

    /// From now on one thing more in the stage waits for room, in memory or in the stage after.
    pub fn waiting_for_room(&self, stage: Stage) -> Counted {
        self.counted(Count::WaitingForRoom(stage))
    }

    /// Brings the metrics up to date.
    pub fn publish(&self) {
        self.advanced().publish();
    }

    fn counted(&self, what: Count) -> Counted {
        *self.advanced().count(what) += 1;
        Counted { clock: self.clone(), what }
    }

    fn advanced(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.advance(Instant::now());
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and counts cannot be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, what: Count) -> &mut usize {
        match what {
            Count::Task => &mut self.tasks,
            Count::Working(stage) => &mut self.stages[stage as usize].working,
            Count::WaitingForRoom(stage) => &mut self.stages[stage as usize].waiting_for_room,
        }
    }

    /// Gives the time since the last change to what each stage did in it.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.at, now)).as_secs_f64();
        if self.tasks == 0 {
            return;
        }
        let full_hands = self.tasks >= self.most_tasks;
        let mut work_before = false;
        for (load, total) in self.stages.iter().zip(&mut self.total) {
            let busy = passed * (load.working as f64 / load.places as f64).min(1.0);
            total.busy += busy;
            // Without anything on its way to it, a stage waits for another task; and with full hands, for the end of one.
            if load.waiting_for_room > 0 || (full_hands && !work_before) {
                total.blocked += passed - busy;
            } else {
                total.starved += passed - busy;
            }
            work_before |= load.working > 0;
        }
    }

    /// Counters are whole numbers; what is left of a second comes with the next one.
    fn publish(&self) {
        for (index, stage) in Stage::ALL.iter().enumerate() {
            let StageSeconds { busy, starved, blocked } = self.total[index];
            for (state, seconds) in [("busy", busy), ("starved", starved), ("blocked", blocked)] {
                metrics::counter!("perito_stage_seconds_total", "stage" => stage.as_str(), "state" => state)
                    .absolute(seconds as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pass(clock: &StallClock, seconds: u64) {
        let mut state = clock.lock();
        let later = state.at + Duration::from_secs(seconds);
        state.advance(later);
    }

    /// What passed of whole seconds; the moments between calls do not count.
    fn rounded(report: &[(Stage, StageSeconds)]) -> Vec<[f64; 3]> {
        report.iter().map(|(_, of)| [of.busy, of.starved, of.blocked].map(f64::round)).collect()
    }

    #[test]
    fn time_is_given_to_what_each_stage_did() {
        let clock = StallClock::new(2, 2);
        pass(&clock, 100);
        let task = clock.task();
        let fetching = clock.working(Stage::Fetch);
        pass(&clock, 10);
        drop(fetching);
        let fetched = clock.waiting_for_room(Stage::Fetch);
        let decoding = clock.working(Stage::Decode);
        let inferring = clock.working(Stage::Infer);
        pass(&clock, 20);
        drop((fetched, decoding, inferring));
        assert_eq!(
            rounded(&task.report()),
            [[10.0, 0.0, 20.0], [10.0, 20.0, 0.0], [20.0, 10.0, 0.0], [0.0, 30.0, 0.0]],
            "nothing of the time before the task; one of two decoding threads is half of them"
        );
    }

    #[test]
    fn overlapping_tasks_share_the_time_and_full_hands_block() {
        let clock = StallClock::new(1, 2);
        let first = clock.task();
        pass(&clock, 5);
        let second = clock.task();
        pass(&clock, 5);
        let total = |report: &[(Stage, StageSeconds)]| report[0].1.total().round();
        assert_eq!(total(&first.report()), 10.0);
        let inferring = clock.working(Stage::Infer);
        pass(&clock, 3);
        drop(inferring);
        let report = second.report();
        assert_eq!(total(&report), 3.0, "what the first one had is not counted twice");
        assert_eq!(
            rounded(&report),
            [[0.0, 0.0, 3.0], [0.0, 0.0, 3.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0]],
            "two tasks are all that may be in hand: the device limits"
        );
        let writing = [clock.working(Stage::Write), clock.working(Stage::Write)];
        pass(&clock, 4);
        assert_eq!(rounded(&second.report())[2..], [[0.0, 0.0, 4.0], [4.0, 0.0, 0.0]]);
        drop((writing, first));
    }
}
