//! A proxy before the broker that can be cut and frozen.

use std::{net::SocketAddr, time::Duration};

use lapin::uri::AMQPUri;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::url;

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything.
    Up,
    /// Nothing; connections are closed, and new ones at once.
    Cut,
    /// Nothing; connections stay open in silence.
    Frozen,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
}

impl Proxy {
    pub(crate) async fn start(link: Link) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (link, state) = watch::channel(link);
        let uri: AMQPUri = url().parse().unwrap();
        let broker = (uri.authority.host, uri.authority.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, broker.clone(), state.clone()));
            }
        });
        Self { address, link }
    }

    /// The broker's URL by way of the proxy.
    pub(crate) fn url(&self, heartbeat_seconds: u16) -> String {
        let mut uri: AMQPUri = url().parse().unwrap();
        uri.authority.host = self.address.ip().to_string();
        uri.authority.port = self.address.port();
        uri.query.heartbeat = Some(heartbeat_seconds);
        uri.to_string()
    }

    pub(crate) fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn carry(client: TcpStream, broker: (String, u16), mut state: watch::Receiver<Link>) {
    // An error means that the proxy is gone.
    if *state.borrow() == Link::Cut || state.wait_for(|link| *link != Link::Frozen).await.is_err() {
        return;
    }
    let broker = TcpStream::connect(broker).await.unwrap();
    let ((client_read, client_write), (broker_read, broker_write)) = (client.into_split(), broker.into_split());
    let mut cut = state.clone();
    tokio::select! {
        () = pump(client_read, broker_write, state.clone()) => {}
        () = pump(broker_read, client_write, state) => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut state: watch::Receiver<Link>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|link| *link == Link::Up).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// An address where connections are accepted and nothing is ever said.
pub(crate) async fn mute_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            kept.push(client);
        }
        tokio::time::sleep(Duration::MAX).await;
    });
    address
}
