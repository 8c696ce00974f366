//! Where the broker is and how long to wait.

use std::{fmt, time::Duration};

/// How to reach RabbitMQ.
#[derive(Clone)]
pub struct BrokerOptions {
    /// `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps`.
    pub url: String,
    /// Certificate authorities (PEM) that are trusted besides the machine's own.
    pub certificate_authorities: Option<String>,
    /// The first part of the names of exchanges and queues.
    pub namespace: String,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For the broker to answer a request on a connection that is there.
    pub request_timeout: Duration,
    /// For the broker to confirm a batch of messages.
    pub publish_timeout: Duration,
    /// How long a consumer to which nothing comes trusts its subscription.
    pub renew_after: Duration,
}

impl BrokerOptions {
    /// Options with the default timeouts.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            certificate_authorities: None,
            namespace: namespace.into(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            renew_after: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions")
            .field("url", &"***")
            .field("namespace", &self.namespace)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("publish_timeout", &self.publish_timeout)
            .field("renew_after", &self.renew_after)
            .finish()
    }
}
