//! Two coordinator replicas and some workers, each with a link of its own to each server, on which faults are done to it alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    faults::{Link, StoreFaults},
    process::Process,
    system::{Addresses, PATIENCE, System, client, free_address},
};

/// Longer than other tests have it: all of this runs on two cores, and a lease shall be lost to a fault, not to that.
pub const LEASE: Duration = Duration::from_secs(4);
/// How long a member may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// A server that a member has a link to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Postgres.
    Postgres,
    /// RabbitMQ.
    RabbitMq,
    /// The object store.
    Store,
}

/// A replica or a worker.
pub struct Member {
    /// Its name.
    pub name: String,
    /// The process; a dead one until it is started again.
    pub process: Process,
    binary: &'static str,
    variables: Vec<(String, String)>,
    links: Vec<(Service, Link)>,
}

impl Member {
    /// Its link to a server. Coordinators have none to the object store.
    pub fn link(&self, service: Service) -> Option<&Link> {
        self.links.iter().find(|(to, _)| *to == service).map(|(_, link)| link)
    }

    /// The URL of its API.
    pub fn api(&self) -> Option<&str> {
        self.variables.iter().find(|(name, _)| name == "PERITO_API_URL").map(|(_, url)| url.as_str())
    }
}

/// A running system of several processes.
pub struct Cluster {
    /// Database, bucket, namespace, and requests to the first replica.
    pub system: System,
    /// The replicas.
    pub coordinators: Vec<Member>,
    /// The workers.
    pub workers: Vec<Member>,
    /// What the object store does to all of them.
    pub store: StoreFaults,
}

impl Cluster {
    /// Two coordinators and so many workers, on these servers, with these further variables.
    pub async fn start(addresses: Addresses, workers: usize, seed: u64, others: &[(&str, &str)]) -> Self {
        let mut system = System::start_on(addresses).await;
        // It has shown that everything is there; the replicas take its place.
        system.coordinator.kill();
        let set = |name: &str, value: String| (name.to_owned(), value);
        system.variables.extend([
            set("PERITO_LEASE", format!("{}s", LEASE.as_secs())),
            set("PERITO_GRACE", format!("{}s", GRACE.as_secs())),
        ]);
        system.variables.extend(others.iter().map(|(name, value)| set(name, (*value).to_owned())));
        let store = StoreFaults::before(&system.addresses().store, seed).await;
        let mut cluster = Self { system, coordinators: Vec::new(), workers: Vec::new(), store };
        for number in 0..2 {
            let api = if number == 0 { cluster.system.api.clone() } else { format!("http://{}", free_address()) };
            let listen = api.trim_start_matches("http://").to_owned();
            let variables = vec![set("PERITO_LISTEN", listen), set("PERITO_API_URL", api)];
            let member = cluster.member("perito-coordinator", format!("coordinator-{number}"), variables).await;
            cluster.coordinators.push(member);
        }
        for number in 0..workers {
            let name = format!("worker-{number}");
            let threads = ["PERITO_COMPUTE_THREADS", "PERITO_DECODE_THREADS"].map(|name| set(name, "1".to_owned()));
            let variables = threads.into_iter().chain([set("PERITO_WORKER_NAME", name.clone())]).collect();
            let member = cluster.member("perito-worker", name, variables).await;
            cluster.workers.push(member);
        }
        cluster.until_ready().await;
        cluster
    }

    async fn member(&mut self, binary: &'static str, name: String, mut variables: Vec<(String, String)>) -> Member {
        let (postgres, rabbitmq) = (self.system.database.url.clone(), self.system.addresses().rabbitmq.clone());
        let mut links = Vec::new();
        for (service, variable, url) in
            [(Service::Postgres, "PERITO_DATABASE_URL", postgres), (Service::RabbitMq, "PERITO_AMQP_URL", rabbitmq)]
        {
            let server = authority(&url).to_owned();
            let link = Link::to(&server).await;
            variables.push((variable.to_owned(), url.replacen(&server, &link.address().to_string(), 1)));
            links.push((service, link));
        }
        if binary == "perito-worker" {
            let link = Link::to(self.store.address()).await;
            variables.push(("PERITO_S3_ENDPOINT".to_owned(), format!("http://{}", link.address())));
            links.push((Service::Store, link));
        }
        let process = self.system.run_with(binary, &[], &variables);
        Member { name, process, binary, variables, links }
    }

    /// Every member, coordinators first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.coordinators.iter().chain(&self.workers)
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.coordinators.len() + self.workers.len()
    }

    /// A member by its place, coordinators first.
    pub fn at(&mut self, place: usize) -> &mut Member {
        let coordinators = self.coordinators.len();
        if place < coordinators { &mut self.coordinators[place] } else { &mut self.workers[place - coordinators] }
    }

    /// Starts a member again. One that was told to end is waited for.
    pub async fn restart(&mut self, place: usize) {
        let member = self.at(place);
        if member.process.is_running() {
            // It may wait for servers that are away, within its own limits.
            member.process.wait(PATIENCE).await;
        }
        let (binary, variables) = (member.binary, member.variables.clone());
        let process = self.system.run_with(binary, &[], &variables);
        self.at(place).process = process;
    }

    /// Everything heals: links, the object store, and members that are not running, which start again.
    pub async fn heal(&mut self) {
        self.store.set(Default::default());
        self.members().flat_map(|member| &member.links).for_each(|(_, link)| link.heal());
        for place in 0..self.size() {
            self.revive(place).await;
        }
        self.until_ready().await;
    }

    /// Starts a member again if it has ended by itself: a coordinator gives up when Postgres stays away as it starts.
    pub async fn revive(&mut self, place: usize) {
        if !self.at(place).process.is_running() {
            self.restart(place).await;
        }
    }

    async fn until_ready(&mut self) {
        let http = client(self.system.token());
        let started = Instant::now();
        for place in 0..self.coordinators.len() {
            let url = format!("{}/readyz", self.coordinators[place].api().unwrap_or_default());
            while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                self.revive(place).await;
                let log = || self.coordinators[place].process.log();
                assert!(started.elapsed() < PATIENCE, "coordinator {place} is not ready:\n{}", log());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// How to submit jobs while everything is disturbed.
    pub fn client(&self) -> Client {
        Client {
            http: client(self.system.token()),
            replicas: self.coordinators.iter().filter_map(|member| member.api().map(str::to_owned)).collect(),
        }
    }
}

/// Submits jobs to whichever replica answers.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    replicas: Vec<String>,
}

impl Client {
    /// Submits a job, as often as it takes, under a key that makes it one job; its id.
    pub async fn submit(&self, key: &str, spec: &Value, priority: u8) -> String {
        let started = Instant::now();
        let mut last = String::new();
        for replica in self.replicas.iter().cycle() {
            assert!(started.elapsed() < 2 * PATIENCE, "no replica takes a job: {last}");
            let request = self.http.post(format!("{replica}/v1/jobs")).timeout(Duration::from_secs(5));
            let body = json!({ "spec": spec, "priority": priority });
            match request.header("Idempotency-Key", key).json(&body).send().await {
                Ok(answer) => {
                    let status = answer.status();
                    let job: Value = answer.json().await.unwrap_or_default();
                    assert!(!status.is_client_error() || status == 429, "{status}: {job}");
                    if let (true, Some(id)) = (status.is_success(), job["id"].as_str()) {
                        return id.to_owned();
                    }
                    last = format!("{status}: {job}");
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!("the replicas are tried in turn until one answers or patience ends")
    }
}

/// `HOST:PORT` of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
