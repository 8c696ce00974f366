//! A TCP proxy whose conditions a test changes while connections are open.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The largest piece that is passed on at once.
const PIECE: usize = 16 * 1024;
/// For the server behind to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a link does to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// They pass.
    #[default]
    Open,
    /// Connections are closed, and new ones closed as soon as they are made.
    Cut,
    /// Half open: connections stay and new ones are taken, but nothing passes, and nobody is told of an end. A connection that met this
    /// stays silent when the link has healed, as after a router has forgotten it.
    Silent,
}

/// The conditions of a link. The default is a healthy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// What happens to bytes.
    pub path: Path,
    /// Waited before each piece is passed on, in each direction.
    pub latency: Duration,
    /// The most bytes a second, in each direction of each connection.
    pub bandwidth: Option<u32>,
}

/// A proxy on loopback. It ends when this is dropped, and its connections with it.
pub struct Link {
    address: SocketAddr,
    conditions: watch::Sender<Conditions>,
    resets: broadcast::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A healthy link to a server, `HOST:PORT`.
    pub async fn to(server: impl Into<String>) -> Self {
        let server = server.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (conditions, _) = watch::channel(Conditions::default());
        let (resets, _) = broadcast::channel(4);
        let (seen, reset) = (conditions.clone(), resets.clone());
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and what is in it is aborted.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            connections.spawn(carry(client, server.clone(), seen.subscribe(), reset.subscribe()));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, conditions, resets, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the conditions, for open connections too.
    pub fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// Healthy again.
    pub fn heal(&self) {
        self.set(Conditions::default());
    }

    /// Ends every open connection with RST; new ones are as the conditions are.
    pub fn reset(&self) {
        // Nobody may be connected.
        let _ = self.resets.send(());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    client: TcpStream,
    server: String,
    mut conditions: watch::Receiver<Conditions>,
    mut resets: broadcast::Receiver<()>,
) {
    let path = conditions.borrow_and_update().path;
    let upstream = match path {
        Path::Cut => return,
        Path::Silent => return silence(client, resets).await,
        Path::Open => match timeout(CONNECT_TIMEOUT, TcpStream::connect(&server)).await {
            Ok(Ok(upstream)) => upstream,
            _ => return,
        },
    };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let mut up = Direction { from: from_client, to: to_server, conditions: conditions.clone(), buffer: vec![0; PIECE] };
    let mut down =
        Direction { from: from_server, to: to_client, conditions: conditions.clone(), buffer: vec![0; PIECE] };
    enum End {
        Closed,
        Reset,
        Silent,
    }
    let end = {
        let both = async { tokio::join!(up.pump(), down.pump()) };
        tokio::select! {
            _ = both => End::Closed,
            _ = resets.recv() => End::Reset,
            changed = until_not_open(&mut conditions) => if changed == Path::Cut { End::Closed } else { End::Silent },
        }
    };
    let (Ok(client), Ok(upstream)) = (up.from.reunite(down.to), down.from.reunite(up.to)) else { return };
    match end {
        End::Closed => {}
        End::Reset => {
            let _ = (client.set_zero_linger(), upstream.set_zero_linger());
        }
        // The server's side is held open too: it waits for a client that says nothing.
        End::Silent => {
            silence(client, resets).await;
            drop(upstream);
        }
    }
}

/// Reads and forgets until the client gives up.
async fn silence(mut client: TcpStream, mut resets: broadcast::Receiver<()>) {
    let mut buffer = vec![0; PIECE];
    let swallow = async { while !matches!(client.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::select! {
        () = swallow => {}
        _ = resets.recv() => {}
    }
}

async fn until_not_open(conditions: &mut watch::Receiver<Conditions>) -> Path {
    match conditions.wait_for(|conditions| conditions.path != Path::Open).await {
        Ok(conditions) => conditions.path,
        Err(_) => Path::Cut,
    }
}

struct Direction {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    conditions: watch::Receiver<Conditions>,
    buffer: Vec<u8>,
}

impl Direction {
    /// Passes bytes on until the end of either side, and the end too.
    async fn pump(&mut self) -> io::Result<()> {
        loop {
            let read = self.from.read(&mut self.buffer).await.unwrap_or(0);
            if read == 0 {
                return self.to.shutdown().await;
            }
            let Conditions { latency, bandwidth, .. } = *self.conditions.borrow();
            let sending =
                bandwidth.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(read as f64 / f64::from(rate.max(1))));
            sleep(latency + sending).await;
            self.to.write_all(&self.buffer[..read]).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn said(stream: &mut TcpStream) -> io::Result<usize> {
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        timeout(Duration::from_millis(300), stream.read(&mut answer)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    fn path(path: Path) -> Conditions {
        Conditions { path, ..Conditions::default() }
    }

    #[tokio::test]
    async fn a_link_carries_is_cut_falls_silent_is_reset_and_heals() {
        let link = Link::to(echo().await).await;
        let connect = || TcpStream::connect(link.address());
        let mut stream = connect().await.unwrap();
        assert_eq!(said(&mut stream).await.unwrap(), 5);

        link.set(path(Path::Cut));
        assert_ne!(said(&mut stream).await.unwrap_or(0), 5, "an open connection is closed");
        let mut refused = connect().await.unwrap();
        assert_ne!(said(&mut refused).await.unwrap_or(0), 5, "and a new one too");

        link.heal();
        let mut silenced = connect().await.unwrap();
        assert_eq!(said(&mut silenced).await.unwrap(), 5);
        link.set(path(Path::Silent));
        assert_eq!(said(&mut silenced).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut unheard = connect().await.unwrap();
        assert_eq!(said(&mut unheard).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        link.heal();
        assert_eq!(said(&mut silenced).await.unwrap_err().kind(), io::ErrorKind::TimedOut, "forgotten for good");

        let mut stream = connect().await.unwrap();
        assert_eq!(said(&mut stream).await.unwrap(), 5);
        link.reset();
        let mut answer = [0; 1];
        assert_eq!(stream.read(&mut answer).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(said(&mut connect().await.unwrap()).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_slow_link_is_slow() {
        let link = Link::to(echo().await).await;
        link.set(Conditions { latency: Duration::from_millis(60), bandwidth: Some(250), ..Conditions::default() });
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let started = std::time::Instant::now();
        assert_eq!(said(&mut stream).await.unwrap(), 5);
        // Both ways: 60 ms and 5 bytes at 250 a second.
        assert!(started.elapsed() >= Duration::from_millis(160), "{:?}", started.elapsed());
    }
}
