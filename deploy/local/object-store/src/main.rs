//! An S3 server over a folder, for the demo and the tests. Not for production.
//!
//! - `store`: the operations, most of them s3s-fs's
//! - `listing`: a page of keys in order
//! - `key`: which keys a folder can hold

mod key;
mod listing;
mod store;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Serves a folder by the S3 protocol, for local use. Buckets are folders, objects are files. SIGTERM stops it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder; made if it is not there.
    #[arg(long)]
    root: PathBuf,
    /// Where to listen. Keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The one access key that is let in.
    #[arg(long, env = "PERITO_S3_ACCESS_KEY_ID")]
    access_key_id: String,
    /// Its secret.
    #[arg(long, env = "PERITO_S3_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.root).map_err(|error| format!("make {}: {error}", arguments.root.display()))?;
    let service = {
        let store = store::Store::open(&arguments.root).map_err(|error| format!("open the folder: {error:?}"))?;
        let mut builder = S3ServiceBuilder::new(store);
        builder.set_auth(SimpleAuth::from_single(arguments.access_key_id, arguments.secret_access_key));
        builder.build()
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(arguments.listen).await.map_err(|error| {
        format!("listen on {} (is it taken? choose another with --listen): {error}", arguments.listen)
    })?;
    println!("serving {} on http://{}", arguments.root.display(), listener.local_addr()?);

    let server = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Most likely out of file descriptors: let some connections end first.
                    eprintln!("accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        };
        // Fails for a client that went away again; its connection ends by itself.
        let _ = socket.set_nodelay(true);
        let connection = server.serve_connection(TokioIo::new(socket), service.clone());
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // A client that goes away in the middle is not worth a word.
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
    Ok(())
}
