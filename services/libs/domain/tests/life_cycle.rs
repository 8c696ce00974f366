//! The life of a job's tasks as a model, explored in every order of events: messages that are doubled, lost or late, workers that die,
//! hang and wake up, leases that run out, an operator who takes tasks back or cancels.
//!
//! Every move is [`TaskEvent::step`]'s, which the SQL is held to by a test of its own (`life_cycle.rs` among the database's tests), and what
//! becomes of a dead lease is [`after_expiry`]'s. The model can fail: with a rule left out, the checker finds how it goes wrong.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use perito_domain::{
    lifecycle::{JobKind, TaskEvent, TaskRow, TaskState},
    poison::{Expired, after_expiry},
};
use stateright::{Checker, HasDiscoveries, Model, Property, StateRecorder};

const WORKERS: usize = 2;
const IMAGES: usize = 2;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// None: the design as it is.
    None,
    /// Commits ask whether the task runs, and not in which attempt.
    CommitWithoutFence,
    /// Commits ask for nothing.
    CommitWithoutState,
    /// A split ends a task and makes no halves.
    SplitWithoutHalves,
    /// Jobs end when nothing runs, whatever waits.
    FinishTooEarly,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Task {
    state: TaskState,
    attempt: u32,
    /// Attempts that count.
    spent: u32,
    crashes: u32,
    images: Vec<usize>,
    is_half: bool,
}

impl Task {
    fn new(images: &[usize], is_half: bool) -> Self {
        let (images, state) = (images.to_vec(), TaskState::Runnable);
        Self { state, attempt: 0, spent: 0, crashes: 0, images, is_half }
    }

    /// Whether it happened.
    fn step(&mut self, event: TaskEvent, token: u32) -> bool {
        let Some(next) = event.step(TaskRow { state: self.state, attempt: self.attempt }, token) else { return false };
        (self.state, self.attempt) = (next.state, next.attempt);
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

/// Attempts that workers believe to be theirs, and messages: (task, attempt).
type Token = (usize, u32);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    job: Job,
    tasks: Vec<Task>,
    messages: Vec<Token>,
    /// In order, for it does not matter which worker it is.
    workers: Vec<Option<Token>>,
    /// How many results each image has.
    results: [u8; IMAGES],
    /// A result was taken from an attempt that was not the current one.
    stale_commit: bool,
    /// Results were taken after the job's end.
    late_commit: bool,
    /// Somebody has cancelled the job.
    cancelled: bool,
    disturbances: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Dispatch(usize),
    /// A worker takes the message; the broker keeps it, or not.
    Deliver {
        message: usize,
        worker: usize,
        again: bool,
    },
    LoseMessage(usize),
    /// The reaper believes that the task's message is lost; it may be wrong.
    ReapLost(usize),
    Recall(usize),
    /// The lease has run out, as it may at any moment. The worker was heard of, or not.
    Reap {
        task: usize,
        silent: bool,
    },
    Commit(usize),
    Fail {
        worker: usize,
        event: TaskEvent,
    },
    Release(usize),
    Crash(usize),
    Finish,
    Cancel,
    /// An operator lets the failed job run again.
    Retry,
}

/// What is explored: both images in one task, which may be split, or each in its own. Both at once are too many states for a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LifeCycle {
    flaw: Flaw,
    tasks: usize,
    max_attempts: u32,
    /// How often, over one whole history, a message is doubled or lost, a task is taken back, released or fails, or the job runs again.
    max_disturbances: u8,
}

/// Each image in its own task.
const WHOLE: LifeCycle = LifeCycle { flaw: Flaw::None, tasks: 2, max_attempts: 2, max_disturbances: 1 };
/// Both in one task. A half is given up after its third attempt. Workers die, hang and wake up, but nothing else disturbs.
const SPLIT: LifeCycle = LifeCycle { flaw: Flaw::None, tasks: 1, max_attempts: 3, max_disturbances: 0 };

impl Model for LifeCycle {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            job: Job::Running,
            tasks: [0, 1].chunks(IMAGES / self.tasks).map(|images| Task::new(images, false)).collect(),
            messages: Vec::new(),
            workers: vec![None; WORKERS],
            results: [0; IMAGES],
            stale_commit: false,
            late_commit: false,
            cancelled: false,
            disturbances: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let disturb = state.disturbances < self.max_disturbances;
        for (place, task) in state.tasks.iter().enumerate() {
            if state.job == Job::Running && task.state == TaskState::Runnable {
                actions.push(Action::Dispatch(place));
            }
            if task.state == TaskState::Dispatched {
                let lost = !state.messages.iter().any(|message| message.0 == place);
                if lost || disturb {
                    actions.push(Action::ReapLost(place));
                }
                if disturb {
                    actions.push(Action::Recall(place));
                }
            }
            if task.state == TaskState::Running {
                actions.extend([true, false].map(|silent| Action::Reap { task: place, silent }));
            }
        }
        for message in 0..state.messages.len() {
            // The first idle one: which one does not matter.
            if let Some(worker) = state.workers.iter().position(Option::is_none) {
                actions.push(Action::Deliver { message, worker, again: false });
                if disturb {
                    actions.push(Action::Deliver { message, worker, again: true });
                }
            }
            if disturb {
                actions.push(Action::LoseMessage(message));
            }
        }
        for (worker, held) in state.workers.iter().enumerate() {
            if held.is_some() {
                actions.extend([Action::Commit(worker), Action::Crash(worker)]);
                if disturb {
                    actions.extend([TaskEvent::Retry, TaskEvent::Fail].map(|event| Action::Fail { worker, event }));
                    actions.push(Action::Release(worker));
                }
            }
        }
        if state.job == Job::Running {
            actions.extend([Action::Finish, Action::Cancel]);
        }
        if state.job == Job::Failed && disturb {
            actions.push(Action::Retry);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Dispatch(task) => {
                let hint = state.tasks[task].attempt + 1;
                state.tasks[task].step(TaskEvent::Dispatch, 0).then(|| state.messages.push((task, hint)))?;
            }
            Action::Deliver { message, worker, again } => {
                let (task, hint) = state.messages[message];
                if again {
                    state.disturbances += 1;
                } else {
                    state.messages.remove(message);
                }
                if state.job == Job::Running && state.tasks[task].step(TaskEvent::Claim, hint) {
                    state.tasks[task].spent += 1;
                    state.workers[worker] = Some((task, hint));
                }
            }
            Action::LoseMessage(message) => {
                state.messages.remove(message);
                state.disturbances += 1;
            }
            Action::ReapLost(task) => {
                if state.messages.iter().any(|message| message.0 == task) {
                    state.disturbances += 1;
                }
                state.tasks[task].step(TaskEvent::LoseMessage, 0).then_some(())?;
            }
            Action::Recall(task) => {
                state.tasks[task].step(TaskEvent::Recall, 0).then_some(())?;
                state.disturbances += 1;
            }
            Action::Reap { task, silent } => self.reap(&mut state, task, silent)?,
            Action::Commit(worker) => {
                let (task, attempt) = state.workers[worker].take()?;
                self.commit(&mut state, task, attempt);
            }
            Action::Fail { worker, event } => {
                let (task, attempt) = state.workers[worker].take()?;
                state.disturbances += 1;
                let out = event == TaskEvent::Retry && state.tasks[task].spent >= self.max_attempts;
                state.tasks[task].step(if out { TaskEvent::Fail } else { event }, attempt);
            }
            Action::Release(worker) => {
                let (task, attempt) = state.workers[worker].take()?;
                state.disturbances += 1;
                if state.tasks[task].step(TaskEvent::Release, attempt) {
                    state.tasks[task].spent -= 1;
                }
            }
            Action::Crash(worker) => state.workers[worker] = None,
            Action::Finish => state.job = self.end(&state)?,
            Action::Cancel => (state.job, state.cancelled) = (Job::Cancelled, true),
            Action::Retry => {
                state.disturbances += 1;
                state.job = Job::Running;
                for task in &mut state.tasks {
                    if task.step(TaskEvent::Reopen, 0) {
                        (task.spent, task.crashes) = (0, 0);
                    }
                }
            }
        }
        if state.job != Job::Running && last.job == Job::Running {
            for task in &mut state.tasks {
                task.step(TaskEvent::Cancel, 0);
            }
        }
        state.messages.sort_unstable();
        state.workers.sort_unstable();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no image has two results", |_, state: &State| {
                state.results.iter().all(|results| *results <= 1)
            }),
            Property::always("only the current attempt commits", |_, state: &State| !state.stale_commit),
            Property::always("nothing is committed to a job that has ended", |_, state: &State| !state.late_commit),
            Property::always("a run is shown whole", |_, state: &State| {
                state.job != Job::Succeeded || state.results == [1; IMAGES]
            }),
            Property::always("each image is in one task", |_, state: &State| {
                (0..IMAGES).all(|image| {
                    let has = |task: &&Task| task.state != TaskState::Split && task.images.contains(&image);
                    state.tasks.iter().filter(has).count() == 1
                })
            }),
            Property::always("a job that has ended has no open tasks", |_, state: &State| {
                state.job == Job::Running || state.tasks.iter().all(|task| !is_open(task))
            }),
            Property::always("a job that was cancelled stays so", |_, state: &State| {
                !state.cancelled || state.job == Job::Cancelled
            }),
            Property::sometimes("a run succeeds", |_, state: &State| state.job == Job::Succeeded),
            Property::sometimes("a run succeeds with what could be split", |model: &Self, state: &State| {
                state.job == Job::Succeeded && (model.tasks > 1 || state.tasks.len() > 1)
            }),
        ]
    }
}

fn is_open(task: &Task) -> bool {
    matches!(task.state, TaskState::Runnable | TaskState::Dispatched | TaskState::Running)
}

impl LifeCycle {
    fn reap(&self, state: &mut State, place: usize, silent: bool) -> Option<()> {
        let task = &mut state.tasks[place];
        task.crashes += u32::from(silent);
        let event = after_expiry(Expired {
            kind: JobKind::Score,
            images: task.images.len(),
            is_half: task.is_half,
            crashes: task.crashes,
            attempts_left: task.spent < self.max_attempts,
        });
        task.step(event, 0).then_some(())?;
        let images = task.images.clone();
        match event {
            TaskEvent::Split if self.flaw != Flaw::SplitWithoutHalves => {
                let (one, other) = images.split_at(images.len() / 2);
                state.tasks.extend([one, other].map(|images| Task::new(images, true)));
            }
            TaskEvent::GiveUp => state.results[images[0]] += 1,
            _ => {}
        }
        Some(())
    }

    fn commit(&self, state: &mut State, place: usize, attempt: u32) {
        let task = &mut state.tasks[place];
        let is_current = task.attempt == attempt;
        let committed = match self.flaw {
            Flaw::CommitWithoutFence => task.step(TaskEvent::Succeed, task.attempt),
            Flaw::CommitWithoutState => true,
            _ => task.step(TaskEvent::Succeed, attempt),
        };
        if committed {
            state.stale_commit |= !is_current;
            state.late_commit |= state.job != Job::Running;
            task.images.iter().for_each(|image| state.results[*image] += 1);
        }
    }

    /// How the job ends now, if it does.
    fn end(&self, state: &State) -> Option<Job> {
        let any = |wanted: fn(&Task) -> bool| state.tasks.iter().any(wanted);
        if any(|task| task.state == TaskState::Failed) {
            return Some(Job::Failed);
        }
        let open = match self.flaw {
            Flaw::FinishTooEarly => any(|task| task.state == TaskState::Running),
            _ => any(is_open),
        };
        (!open).then_some(Job::Succeeded)
    }
}

fn explore(model: LifeCycle) {
    let (recorder, states) = StateRecorder::new_with_accessor();
    let checker = model.checker().visitor(recorder).spawn_bfs().join();
    checker.assert_properties();
    let states: HashSet<State> = states().into_iter().collect();
    println!("{model:?}: {} states", states.len());
    assert_eq!(states.len(), checker.unique_state_count(), "all of them were seen");
    assert_every_job_can_still_end(model, &states);
}

#[test]
fn nothing_goes_wrong_in_any_order_of_events() {
    explore(WHOLE);
}

#[test]
fn nothing_goes_wrong_when_tasks_are_split() {
    explore(SPLIT);
}

/// From wherever a job is there is a way to its end, without anybody cancelling it: backwards from the ends, every state is reached.
fn assert_every_job_can_still_end(model: LifeCycle, states: &HashSet<State>) {
    let mut before: HashMap<State, Vec<&State>> = HashMap::new();
    let mut actions = Vec::new();
    for state in states {
        model.actions(state, &mut actions);
        for action in actions.drain(..).filter(|action| *action != Action::Cancel) {
            if let Some(next) = model.next_state(state, action) {
                before.entry(next).or_default().push(state);
            }
        }
    }
    let mut reached: HashSet<&State> = states.iter().filter(|state| state.job != Job::Running).collect();
    let mut next: Vec<&State> = reached.iter().copied().collect();
    while let Some(state) = next.pop() {
        for earlier in before.get(state).into_iter().flatten() {
            if reached.insert(*earlier) {
                next.push(*earlier);
            }
        }
    }
    let stuck = states.iter().find(|state| !reached.contains(state));
    assert!(stuck.is_none(), "no way out of {stuck:#?}");
}

/// The model is worth something only if it notices.
#[test]
fn each_rule_that_is_left_out_is_missed() {
    for (flaw, model, broken) in [
        (Flaw::CommitWithoutFence, WHOLE, "only the current attempt commits"),
        (Flaw::CommitWithoutState, WHOLE, "no image has two results"),
        (Flaw::SplitWithoutHalves, SPLIT, "each image is in one task"),
        (Flaw::FinishTooEarly, WHOLE, "a run is shown whole"),
    ] {
        let found = HasDiscoveries::AllOf([broken].into());
        let checker = LifeCycle { flaw, ..model }.checker().finish_when(found).spawn_bfs().join();
        let history = checker.discovery(broken).unwrap_or_else(|| panic!("{flaw:?} goes unnoticed"));
        println!("{flaw:?}: {broken}: no more, after {:?}", history.into_actions());
    }
}
