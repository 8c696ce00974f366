//! A night under the autoscaler: two backlogs, workers from none to as many as are wanted and back to none, and nothing lost.
//!
//! The real binaries do the work; the test takes the decisions that KEDA and the HorizontalPodAutoscaler would, by the query and the figures
//! of `deploy/kubernetes/components/keda/scaling.yaml`, with its times sixty times shorter:
//!
//! - Each polling interval the query is asked. Above the activation value the Deployment has at least one replica; once that has not been so for
//!   the cool-down it has none.
//! - In between, replicas are the figure by the target, rounded up, at most the maximum. Up goes at once (the default policy for scaling up is left
//!   out: it never holds back so few replicas). Down goes to the highest figure of the stabilisation window, and not by more pods
//!   a period than the policy allows.
//! - A Deployment with too many pods ends the youngest: SIGTERM, and SIGKILL after the pod's grace period, which is not shortened, as the
//!   work is not. A pod that went is replaced.
#![allow(clippy::unwrap_used)]

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use perito_domain::Severity;
use perito_tests::{Process, System, models, photographs::photograph, system::PATIENCE};
use regex::Regex;
use serde_json::json;

/// The manifest's minute is the test's second.
const FASTER: f64 = 60.0;
/// The machine that runs tests has not the room for as many workers as a cluster.
const MOST_WORKERS: i64 = 3;

/// What the manifests say.
#[derive(Debug)]
struct Policy {
    query: String,
    target: i64,
    activation: i64,
    most: i64,
    polling: Duration,
    cool_down: Duration,
    stabilisation: Duration,
    fewer_pods: usize,
    fewer_period: Duration,
    pod_grace: Duration,
    worker_grace: String,
}

impl Policy {
    fn read() -> Self {
        let file = |path: &str| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes");
            std::fs::read_to_string(root.join(path)).unwrap()
        };
        let scaling = file("components/keda/scaling.yaml");
        let object = scaling
            .split("\n---\n")
            .find(|document| {
                document.contains("kind: ScaledObject") && document.contains("\n  name: perito-worker-score\n")
            })
            .unwrap();
        let down = object.split_once("scaleDown:").unwrap().1;
        let pod = file("base/worker-score.yaml");
        Self {
            query: field(object, "query").to_owned(),
            target: number(object, "targetQueryValue"),
            activation: number(object, "activationTargetQueryValue"),
            most: number(object, "maxReplicaCount").min(MOST_WORKERS),
            polling: shortened(object, "pollingInterval"),
            cool_down: shortened(object, "cooldownPeriod"),
            stabilisation: shortened(down, "stabilizationWindowSeconds"),
            fewer_pods: number(down, "value") as usize,
            fewer_period: shortened(down, "periodSeconds"),
            pod_grace: Duration::from_secs(number(&pod, "terminationGracePeriodSeconds") as u64),
            worker_grace: field(pod.split_once("PERITO_GRACE\n").unwrap().1, "value").to_owned(),
        }
    }
}

/// The first field of this name in some lines of YAML.
fn field<'a>(yaml: &'a str, name: &str) -> &'a str {
    // In a line of its own the value is the rest; in a flow mapping it ends at a comma or a brace.
    let block = Regex::new(&format!(r#"(?m)^\s*{name}: "?([^"{{\n]+?)"?\s*$"#)).unwrap();
    let flow = Regex::new(&format!(r"[{{,]\s*[^}}]*?{name}: ([^,}}]+)")).unwrap();
    let found = block.captures(yaml).or_else(|| flow.captures(yaml));
    found.unwrap_or_else(|| panic!("the manifest has no {name}")).get(1).unwrap().as_str()
}

fn number(yaml: &str, name: &str) -> i64 {
    field(yaml, name).parse().unwrap()
}

fn shortened(yaml: &str, name: &str) -> Duration {
    Duration::from_secs_f64(number(yaml, name) as f64 / FASTER)
}

struct Pod {
    name: String,
    process: Process,
    started: Instant,
    terminating: Option<Instant>,
}

/// KEDA, the HorizontalPodAutoscaler and the Deployment.
struct Cluster {
    policy: Policy,
    pods: Vec<Pod>,
    /// What the Deployment is to have.
    replicas: i64,
    last_active: Instant,
    recommended: VecDeque<(Instant, i64)>,
    removed: VecDeque<(Instant, usize)>,
    started: usize,
    killed: usize,
    most_at_once: usize,
    worker_seconds: f64,
    evicted: Option<String>,
}

impl Cluster {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            pods: Vec::new(),
            replicas: 0,
            last_active: Instant::now(),
            recommended: VecDeque::new(),
            removed: VecDeque::new(),
            started: 0,
            killed: 0,
            most_at_once: 0,
            worker_seconds: 0.0,
            evicted: None,
        }
    }

    /// One polling interval.
    async fn step(&mut self, system: &mut System) {
        tokio::time::sleep(self.policy.polling).await;
        let tasks = system.count(&self.policy.query).await;
        self.replicas = self.decide(Instant::now(), tasks);
        self.reap();
        self.reconcile(system);
    }

    fn decide(&mut self, now: Instant, tasks: i64) -> i64 {
        let policy = &self.policy;
        if tasks > policy.activation {
            self.last_active = now;
        } else if self.replicas == 0 || now - self.last_active >= policy.cool_down {
            self.recommended.clear();
            return 0;
        }
        let wanted = (tasks as u64).div_ceil(policy.target as u64) as i64;
        let wanted = wanted.clamp(1, policy.most);
        self.recommended.push_back((now, wanted));
        self.recommended.retain(|(at, _)| now - *at <= policy.stabilisation);
        self.removed.retain(|(at, _)| now - *at <= policy.fewer_period);
        let stabilised = self.recommended.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
        if stabilised >= self.replicas {
            return wanted.max(self.replicas);
        }
        let allowed = policy.fewer_pods.saturating_sub(self.removed.iter().map(|(_, pods)| pods).sum());
        let fewer = allowed.min((self.replicas - stabilised) as usize);
        self.removed.push_back((now, fewer));
        self.replicas - fewer as i64
    }

    fn reap(&mut self) {
        let grace = self.policy.pod_grace;
        let (seconds, killed) = (&mut self.worker_seconds, &mut self.killed);
        self.pods.retain_mut(|pod| {
            if pod.terminating.is_some_and(|since| since.elapsed() > grace) && pod.process.is_running() {
                pod.process.kill();
                *killed += 1;
            }
            let running = pod.process.is_running();
            if !running {
                assert!(pod.terminating.is_some(), "{} ended by itself:\n{}", pod.name, pod.process.log());
                *seconds += pod.started.elapsed().as_secs_f64();
            }
            running
        });
    }

    fn reconcile(&mut self, system: &mut System) {
        let living = self.pods.iter().filter(|pod| pod.terminating.is_none()).count();
        for _ in living..self.replicas as usize {
            self.started += 1;
            let name = format!("score-{}", self.started);
            let grace = self.policy.worker_grace.clone();
            // One thread each, as tests run side by side; the lease as a busy machine needs it.
            let arguments = [
                "--name",
                &name,
                "--grace",
                &grace,
                "--lease",
                "20s",
                "--compute-threads",
                "1",
                "--decode-threads",
                "1",
                "--batch-size",
                "8",
            ];
            let process = system.run("perito-worker", &arguments);
            self.pods.push(Pod { name, process, started: Instant::now(), terminating: None });
        }
        let surplus = living.saturating_sub(self.replicas as usize);
        self.pods.iter_mut().rev().filter(|pod| pod.terminating.is_none()).take(surplus).for_each(Pod::terminate);
        self.most_at_once = self.most_at_once.max(self.pods.len());
    }

    /// Once, a node is drained whose worker is in the middle of a task.
    async fn evict_a_busy_pod(&mut self, system: &System) {
        if self.evicted.is_some() {
            return;
        }
        for pod in self.pods.iter_mut().filter(|pod| pod.terminating.is_none()) {
            let held = format!("select count(*) from attempts where worker = '{}' and outcome is null", pod.name);
            if system.count(&held).await > 0 {
                pod.terminate();
                self.evicted = Some(pod.name.clone());
                return;
            }
        }
    }

    /// Until a job has ended, and every worker with it.
    async fn night(&mut self, system: &mut System, job: &str) {
        let started = Instant::now();
        let open = format!("select count(*) from jobs where id = '{job}' and finished_at is null");
        while system.count(&open).await > 0 || self.replicas > 0 || !self.pods.is_empty() {
            self.step(system).await;
            self.evict_a_busy_pod(system).await;
            assert!(started.elapsed() < PATIENCE, "{} replicas, {:?}", self.replicas, system.get("/v1/status").await);
        }
    }
}

impl Pod {
    fn terminate(&mut self) {
        // It may have ended between two looks; then there is nobody to tell.
        if self.process.is_running() {
            self.process.signal("TERM");
        }
        self.terminating = Some(Instant::now());
    }
}

async fn burst(system: &System, name: &str, images: u64) -> Vec<i64> {
    let pictures: Vec<_> =
        (0..4).map(|number| photograph(Severity::ALL[number as usize % 3], number, 320, 240)).collect();
    let objects: Vec<_> = (0..images)
        .map(|number| (format!("{name}/c{}/{number}.jpg", number / 3), pictures[number as usize % 4].clone()))
        .collect();
    system.register(&objects).await
}

#[tokio::test]
async fn a_night_of_two_backlogs_starts_from_no_worker_and_ends_with_none_and_nothing_is_lost() {
    let mut system = System::start().await;
    let model = models::import(&system, "cheap").await;
    // Slowly enough for workers to be in the middle of something when they are looked at.
    let _store = system.paced_store(Duration::from_millis(40)).await;
    let mut cluster = Cluster::new(Policy::read());
    let began = Instant::now();
    for (name, images) in [("evening", 240), ("morning", 100)] {
        let ids = burst(&system, name, images).await;
        assert!(cluster.pods.is_empty(), "no worker while there is nothing to do");
        let selection = json!({"by": "prefix", "bucket": system.bucket, "prefix": format!("{name}/")});
        let job =
            system.submit(json!({"kind": "score", "model": model, "selection": selection, "shard_size": 4})).await;
        cluster.night(&mut system, &job).await;
        system.success_of(&job).await;
        let scored: Vec<i64> = system.scores(&job).await.iter().map(|row| row.0).collect();
        assert_eq!(scored, ids, "each image of the {name} once");
    }
    assert!(cluster.most_at_once > 1, "it scaled beyond one worker");
    // What a worker held when it was told to end, it finished or gave back; no lease had to run out.
    assert_eq!(cluster.killed, 0, "every worker ended within its grace period");
    let others = "select count(*) from attempts where outcome is null or outcome not in ('succeeded', 'released')";
    assert_eq!(system.count(others).await, 0, "attempts that were lost");
    let evicted = cluster.evicted.as_deref().unwrap();
    let settled = format!("select count(*) from attempts where worker = '{evicted}' and outcome is not null");
    assert!(system.count(&settled).await > 0, "{evicted} was ended in the middle of a task");

    let busy = "select sum(extract(epoch from upper(span) - lower(span)) * 1000)::bigint
                from (select unnest(range_agg(tstzrange(started_at, ended_at))) as span from attempts group by worker) as spans";
    let busy = system.count(busy).await as f64 / 1000.0;
    // No assertion: it depends on the machine, and here start-up and cool-down weigh sixty times what they do in a cluster.
    println!(
        "{} workers started, at most {} at once; {:.1} worker seconds for {busy:.1} busy ones (ratio {:.2}); {:.1} had {} run all along",
        cluster.started,
        cluster.most_at_once,
        cluster.worker_seconds,
        cluster.worker_seconds / busy,
        began.elapsed().as_secs_f64() * cluster.policy.most as f64,
        cluster.policy.most,
    );
}
