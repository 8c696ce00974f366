//! The faults are done, jobs submitted meanwhile, everything healed, and the books looked at.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use perito_domain::Severity;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    audit,
    plan::{Fault, Planned, plan},
    queue::Queue,
    reader,
};
use crate::{
    cluster::{Client, Cluster},
    faults::{Conditions, Servers, servers::Server},
    models,
    photographs::{bomb, photograph},
};

/// Workers of a run.
const WORKERS: usize = 3;
/// Photographs that can be scored, and those that cannot.
const WHOLE: u64 = 36;
const BROKEN: u64 = 4;
/// Jobs that are open at any time, so that a fault always hits work.
const OPEN_JOBS: i64 = 4;
/// More are not submitted in a run: each is compared photograph by photograph.
const MOST_JOBS: usize = 80;
/// Everything has to have ended by then, once all is well again: the longest backoff, and the longest that a server keeps a dead session.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a run did, survived and lost.
pub struct Report {
    /// Does it all again.
    pub seed: u64,
    /// The faults, in order, with what came of them.
    pub done: Vec<String>,
    /// What it went through.
    pub survived: Vec<String>,
    /// What it lost: nothing, if all is well.
    pub lost: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.lost.is_empty() { "nothing lost" } else { "LOST" };
        writeln!(f, "seed {}: {} faults, {verdict}", self.seed, self.done.len())?;
        let parts = [("did", &self.done), ("survived", &self.survived), ("lost", &self.lost)];
        parts.iter().try_for_each(|(what, lines)| lines.iter().try_for_each(|line| writeln!(f, "  {what} {line}")))
    }
}

/// A run of about this length, and its audit.
pub async fn run(seed: u64, length: Duration, servers: &Arc<Servers>) -> Report {
    // Told, so that a worker that starts again does not measure first.
    let others = [("PERITO_POLL_INTERVAL", "200ms"), ("PERITO_BATCH_SIZE", "4")];
    let cluster = Cluster::start(servers.addresses(), WORKERS, seed, &others).await;
    let model = models::import(&cluster.system, "chaos").await;
    let images = catalogue(&cluster).await;
    let selection = json!({"by": "prefix", "bucket": cluster.system.bucket, "prefix": "photographs/"});
    let spec = json!({"kind": "score", "model": model, "selection": selection, "shard_size": 3, "failure_budget": 0.5});

    // Work flows before anything breaks.
    let undisturbed = cluster.system.submit(spec.clone()).await;
    cluster.system.success_of(&undisturbed).await;

    let stop = CancellationToken::new();
    let reading = reader::start(cluster.system.pool().clone(), stop.clone());
    let calm = CancellationToken::new();
    let submitting = tokio::spawn(submit(cluster.client(), cluster.system.pool().clone(), spec.clone(), calm.clone()));

    let topology = cluster.system.topology();
    let queue = Queue::new(&cluster.system.addresses().rabbitmq, topology);
    let mut driver = Driver::new(cluster, queue, Arc::clone(servers));
    driver.drive(plan(seed, length, 2, WORKERS)).await;
    calm.cancel();
    let Driver { mut cluster, mut queue, done, .. } = driver;
    servers.up().await;
    cluster.heal().await;
    let healed = Instant::now();
    let mut lost = Vec::new();
    if let Err(error) = queue.litter(2).await {
        lost.push(format!("the broker takes no message any more: {error}"));
    }

    let ids = submitting.await.unwrap();
    if let Err(open) = ended(&cluster, PATIENCE).await {
        lost.push(format!("{open} jobs have not ended {} s after all was well again", PATIENCE.as_secs()));
    }
    let took = healed.elapsed();
    let disturbed = audit::outcomes(&cluster.system).await;
    lost.extend(audit::broker(&mut cluster, &mut queue, Duration::from_secs(60)).await);
    stop.cancel();
    let seen = reading.await.unwrap();
    lost.extend(audit::views(&seen));
    lost.extend(audit::jobs(&cluster.system, &ids, &undisturbed, images).await);

    // A run that hits nothing would prove nothing.
    if disturbed.iter().all(|(outcome, _)| outcome == "succeeded") {
        lost.push("no attempt was disturbed: the faults did not meet any work".to_owned());
    }
    if cluster.store.faults() == 0 {
        lost.push("the object store failed no request: its faults did not meet any work".to_owned());
    }
    let outcomes: Vec<_> = disturbed.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let survived = vec![
        format!("{} jobs of {images} photographs; attempts: {}", ids.len(), outcomes.join(", ")),
        format!(
            "{} faults of the object store, {} messages that nobody can read, {} dead letters",
            cluster.store.faults(),
            queue.garbage.len(),
            queue.dead.len()
        ),
        format!("{} looks at the views ({} without an answer), {} runs shown", seen.looks, seen.blind, seen.runs),
        format!("all jobs ended {:.1} s after all was well again", took.as_secs_f64()),
    ];
    if !lost.is_empty() {
        for member in cluster.members() {
            eprintln!("--- {} ---\n{}", member.name, member.process.log());
        }
    }
    Report { seed, done, survived, lost }
}

/// Keeps some jobs open until told otherwise; their ids. Each has a key, so that one whose answer is lost is submitted again, not twice.
async fn submit(client: Client, pool: PgPool, spec: Value, calm: CancellationToken) -> Vec<String> {
    let mut ids = Vec::new();
    while !calm.is_cancelled() && ids.len() < MOST_JOBS {
        let open = sqlx::query_scalar("select count(*) from jobs where state in ('queued', 'running')");
        // No answer while Postgres is away.
        let open = open.fetch_one(&pool).await.unwrap_or(OPEN_JOBS);
        if open < OPEN_JOBS {
            let number = ids.len();
            ids.push(client.submit(&format!("chaos-{number}"), &spec, (number % 10) as u8).await);
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    ids
}

/// Small photographs, which take a moment to decode, and some that cannot be scored. How many.
async fn catalogue(cluster: &Cluster) -> i64 {
    let pictures: Vec<_> = (0..6).map(|n| photograph(Severity::ALL[n as usize % 3], n, 1200, 900)).collect();
    let mut objects: Vec<_> = (0..WHOLE)
        .map(|number| (format!("photographs/c{}/{number:03}.jpg", number / 3), pictures[number as usize % 6].clone()))
        .collect();
    let half = pictures[0][..pictures[0].len() / 2].to_vec();
    for number in 0..BROKEN {
        let bytes = [half.clone(), b"no photograph".to_vec(), bomb(), Vec::from(&pictures[1][..40])]
            [number as usize % 4]
            .clone();
        objects.push((format!("photographs/broken/{number}.jpg"), bytes));
    }
    cluster.system.register(&objects).await.len() as i64
}

/// Waits until no job is open; else how many are.
async fn ended(cluster: &Cluster, patience: Duration) -> Result<(), i64> {
    let started = Instant::now();
    loop {
        let open = cluster.system.count("select count(*) from jobs where state in ('queued', 'running')").await;
        if open == 0 {
            return Ok(());
        }
        if started.elapsed() > patience {
            return Err(open);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What a fault's end undoes.
#[derive(Clone, Copy)]
enum Undo {
    Start(usize),
    Thaw(usize),
    Heal(usize, crate::cluster::Service),
    Store,
}

struct Driver {
    cluster: Cluster,
    queue: Queue,
    servers: Arc<Servers>,
    restarts: JoinSet<()>,
    /// Members that are down or frozen: one fault at a time to each.
    busy: Vec<bool>,
    undo: Vec<(Instant, Undo)>,
    done: Vec<String>,
}

impl Driver {
    fn new(cluster: Cluster, queue: Queue, servers: Arc<Servers>) -> Self {
        let busy = vec![false; cluster.size()];
        Self { cluster, queue, servers, restarts: JoinSet::new(), busy, undo: Vec::new(), done: Vec::new() }
    }

    async fn drive(&mut self, planned: Vec<Planned>) {
        let started = Instant::now();
        let mut waited = Duration::ZERO;
        for Planned { at, lasts, fault } in planned {
            let at = started + waited + at;
            self.undo_until(at).await;
            sleep_until(at.into()).await;
            let outcome = self.begin(fault, lasts).await;
            self.done.push(format!(
                "{:>5.1} s {fault:?} for {:.1} s: {outcome}",
                started.elapsed().as_secs_f64(),
                lasts.as_secs_f64()
            ));
            if matches!(fault, Fault::Restart(Server::RabbitMq) | Fault::Crash(Server::RabbitMq)) {
                // It takes seconds to start, in which there is no work to disturb.
                let away = Instant::now();
                self.restarted().await;
                waited += away.elapsed();
            }
            for place in 0..self.busy.len() {
                if !self.busy[place] && !self.cluster.at(place).process.is_running() {
                    let name = self.cluster.at(place).name.clone();
                    self.done.push(format!(
                        "{:>5.1} s {name} had ended by itself; started again",
                        started.elapsed().as_secs_f64()
                    ));
                    self.cluster.revive(place).await;
                }
            }
        }
        self.undo_until(Instant::now() + Duration::from_secs(60)).await;
        self.restarted().await;
    }

    /// Waits for servers that are away.
    async fn restarted(&mut self) {
        while let Some(restarted) = self.restarts.join_next().await {
            restarted.unwrap();
        }
    }

    /// Ends the faults that are to end by then, each at its time.
    async fn undo_until(&mut self, until: Instant) {
        while let Some(next) = (0..self.undo.len()).filter(|&n| self.undo[n].0 <= until).min_by_key(|&n| self.undo[n].0)
        {
            let (at, undo) = self.undo.swap_remove(next);
            sleep_until(at.into()).await;
            match undo {
                Undo::Start(place) => {
                    self.cluster.restart(place).await;
                    self.busy[place] = false;
                }
                Undo::Thaw(place) => {
                    self.cluster.at(place).process.signal("CONT");
                    self.busy[place] = false;
                }
                Undo::Heal(place, service) => self.disturb(place, service, Conditions::default()),
                Undo::Store => self.cluster.store.set(Default::default()),
            }
        }
    }

    async fn begin(&mut self, fault: Fault, lasts: Duration) -> String {
        let end = Instant::now() + lasts;
        match fault {
            Fault::Kill(place) | Fault::Freeze(place) | Fault::Terminate(place) => {
                if std::mem::replace(&mut self.busy[place], true) || !self.cluster.at(place).process.is_running() {
                    // Whoever made it busy ends that; one that ended by itself is started again after this.
                    self.busy[place] =
                        self.undo.iter().any(|(_, undo)| matches!(undo, Undo::Start(p) | Undo::Thaw(p) if *p == place));
                    return "left out, it is down or frozen".to_owned();
                }
                let process = &mut self.cluster.at(place).process;
                let undo = match fault {
                    Fault::Freeze(_) => {
                        process.signal("STOP");
                        Undo::Thaw(place)
                    }
                    Fault::Terminate(_) => {
                        process.signal("TERM");
                        Undo::Start(place)
                    }
                    _ => {
                        process.kill();
                        Undo::Start(place)
                    }
                };
                self.undo.push((end, undo));
            }
            Fault::Restart(server) => self.restart(server, lasts, false),
            Fault::Crash(server) => self.restart(server, lasts, true),
            Fault::Purge | Fault::Delete => {
                // Else it would be lost with the rest, and could not be counted.
                if !self.queue.swept(Duration::from_secs(5)).await || !self.queue.doubtful.is_empty() {
                    return "left out, garbage is in the queue".to_owned();
                }
                let outcome =
                    if matches!(fault, Fault::Purge) { self.queue.purge().await } else { self.queue.delete().await };
                return outcome.map_or_else(|error| error, |messages| format!("{messages} messages lost"));
            }
            Fault::Duplicates => return self.duplicate().await,
            Fault::Garbage(messages) => {
                return self.queue.litter(messages).await.map_or_else(|error| error, |()| "confirmed".to_owned());
            }
            Fault::Disturb(place, service, conditions) => {
                self.disturb(place, service, conditions);
                self.undo.push((end, Undo::Heal(place, service)));
            }
            Fault::Reset(place, service) => {
                if let Some(link) = self.cluster.at(place).link(service) {
                    link.reset();
                }
            }
            Fault::Store(odds) => {
                self.cluster.store.set(odds);
                self.undo.push((end, Undo::Store));
            }
        }
        "done".to_owned()
    }

    /// In the background: other faults go on while a server is away.
    fn restart(&mut self, server: Server, away: Duration, kill: bool) {
        let servers = Arc::clone(&self.servers);
        self.restarts.spawn(async move {
            if kill {
                servers.kill(server).await
            } else {
                servers.stop(server).await
            }
            tokio::time::sleep(away).await;
            servers.up().await;
        });
    }

    fn disturb(&mut self, place: usize, service: crate::cluster::Service, conditions: Conditions) {
        if let Some(link) = self.cluster.at(place).link(service) {
            link.set(conditions);
        }
    }

    async fn duplicate(&self) -> String {
        let sql = "select id::text from jobs where state = 'running'";
        let Ok(jobs) = sqlx::query_scalar::<_, String>(sql).fetch_all(self.cluster.system.pool()).await else {
            return "Postgres is away".to_owned();
        };
        let mut published = 0;
        for job in jobs {
            let Ok(messages) = self.cluster.system.try_messages(&job).await else {
                return "Postgres is away".to_owned();
            };
            published += self.queue.publish(self.cluster.system.broker(), &messages, 3).await;
        }
        format!("{published} messages")
    }
}
