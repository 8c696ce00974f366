//! One connection, made anew when it is lost.

use std::{io, sync::Arc, time::Duration};

use lapin::{
    Channel, Connection, ConnectionProperties,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::AMQPUri,
};
use perito_domain::retry::Backoff;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    error::{Error, ErrorKind, Result, within},
    options::BrokerOptions,
    topology::Topology,
};

/// Between attempts to reach the broker.
pub(crate) const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };
/// Both sides say that they are there at half this interval, and give a silent peer up after two.
const HEARTBEAT_SECONDS: u16 = 10;

/// Holds the one connection of a publisher or of a consumer.
pub(crate) struct Connector {
    options: BrokerOptions,
    /// `perito-publisher` or `perito-consumer`, for whoever looks at the broker's connections.
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failures: u32,
    /// The last attempt's error and when the next attempt may be made. Until then everybody gets that error at once.
    failed: Option<(Error, Instant)>,
}

impl Connector {
    pub(crate) fn new(options: BrokerOptions, name: &'static str) -> Self {
        Self { options, name, state: Mutex::default() }
    }

    pub(crate) fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// The connection, made if there is none.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>> {
        // Held while connecting, so that all who need it wait for one attempt.
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(Arc::clone(connection));
        }
        state.connection = None;
        if let Some((error, until)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state = State { connection: Some(Arc::clone(&connection)), ..State::default() };
                Ok(connection)
            }
            Err(error) => {
                state.failures += 1;
                let delay = BACKOFF.delay(state.failures, &mut rand::rng());
                state.failed = Some((error.clone(), Instant::now() + delay));
                Err(error)
            }
        }
    }

    /// A new channel, on which all exchanges and queues have been declared.
    pub(crate) async fn channel(&self, topology: &Topology) -> Result<Channel> {
        let connection = self.connection().await?;
        let limit = self.options.request_timeout;
        let opened = within(limit, "open a channel", connection.create_channel()).await;
        let declared = match opened {
            Ok(channel) => {
                within(limit, "declare exchanges and queues", topology.declare(&channel)).await.map(|()| channel)
            }
            Err(error) => Err(error),
        };
        match declared {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                // A connection that does not answer is not worth keeping.
                self.discard(&connection).await;
                Err(error)
            }
            declared => declared,
        }
    }

    /// Gives a connection up, so that the next user makes a new one.
    pub(crate) async fn discard(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock().await;
        if state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.connection = None;
        }
    }

    async fn connect(&self) -> Result<Connection> {
        const OPERATION: &str = "connect to RabbitMQ";
        let mut uri: AMQPUri = self.options.url.parse().map_err(|reason: String| {
            let reason = reason.replace(&self.options.url, "this");
            Error::new(
                ErrorKind::Invalid,
                "read the URL of RabbitMQ",
                format!("{reason}: expected amqp://USER:PASSWORD@HOST:PORT/VHOST (PERITO_AMQP_URL)"),
            )
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let place = format!("{}:{}, virtual host {:?}", uri.authority.host, uri.authority.port, uri.vhost);
        let limit = self.options.connect_timeout;
        let runtime = lapin::runtime::default_runtime().map_err(|error| Error::client(OPERATION, &error))?;
        let properties = ConnectionProperties::default().with_connection_name(self.name.into());
        let authorities = self.options.certificate_authorities.clone();
        // Its own limit on reaching the server, because the client's thread goes on when the future below is dropped.
        let reach = async move |uri: AMQPUri, runtime| {
            let tls = OwnedTLSConfig { cert_chain: authorities.clone(), ..OwnedTLSConfig::default() };
            match timeout(limit, uri.connect_with_config_async(tls.as_ref(), &runtime)).await {
                Ok(reached) => Ok(reached?),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        };
        within(limit, OPERATION, Connection::connector(uri, runtime, reach, properties))
            .await
            .map_err(|error| error.at(&place))
    }
}
