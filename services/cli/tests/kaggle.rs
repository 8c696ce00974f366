//! Downloads from a server on loopback that answers as Kaggle's API does: Basic authentication, then a redirect to a storage service of another
//! origin, which knows ranges and gives the MD5 as Google's storage writes it.
#![allow(clippy::unwrap_used)]

use std::{
    io::{Cursor, Write as _},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path as Segments, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::stream;
use md5::{Digest as _, Md5};
use perito_cli::kaggle::{Archive, Error, Kaggle, Limits, Pace, unpack};
use perito_domain::retry::Backoff;
use tokio::net::TcpListener;
use url::Url;

/// What the two servers do, and what they have seen.
#[derive(Default)]
struct Script {
    content: Vec<u8>,
    /// Answers of the API before it redirects, the first one first.
    api_refusals: Vec<u16>,
    /// The storage service breaks off after so many bytes of a body, the first one first.
    break_offs: Vec<usize>,
    /// It does not know ranges.
    ranges_unknown: bool,
    /// It gives this MD5 in place of the content's.
    wrong_md5: Option<[u8; 16]>,
    /// It is silent after the first bytes.
    silent: bool,
    storage: String,
    /// The `Range` headers that it was asked with.
    ranges: Vec<Option<String>>,
    /// Whether the key was ever sent to it.
    key_seen: bool,
    queries: Vec<String>,
}

type Shared = Arc<Mutex<Script>>;

async fn api(
    State(script): State<Shared>,
    Segments((owner, name)): Segments<(String, String)>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut script = script.lock().unwrap();
    if headers
        .get(header::AUTHORIZATION)
        .is_none_or(|value| value != &format!("Basic {}", BASE64_STANDARD.encode("ana:s3cret")))
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match (owner.as_str(), name.as_str()) {
        ("ana", "cars") => {}
        ("ana", "private") => return StatusCode::FORBIDDEN.into_response(),
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    if !script.api_refusals.is_empty() {
        let status = StatusCode::from_u16(script.api_refusals.remove(0)).unwrap();
        return (status, [(header::RETRY_AFTER, "0")]).into_response();
    }
    script.queries.push(format!("{query:?}"));
    let location = format!("{}/bucket/archive.zip?X-Goog-Signature=s1gned", script.storage);
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

async fn storage(State(script): State<Shared>, headers: HeaderMap) -> Response {
    let mut script = script.lock().unwrap();
    script.key_seen |= headers.contains_key(header::AUTHORIZATION);
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    script.ranges.push(range.clone());
    let total = script.content.len();
    let md5 = script.wrong_md5.unwrap_or_else(|| Md5::digest(&script.content).into());
    let mut answer = Response::builder()
        .header("x-goog-hash", format!("crc32c=AAAAAA==,md5={}", BASE64_STANDARD.encode(md5)))
        .header(header::ACCEPT_RANGES, "bytes");
    let from: usize = match range.filter(|_| !script.ranges_unknown) {
        None => 0,
        Some(range) => range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap(),
    };
    if from > 0 {
        if from >= total {
            return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        }
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1));
    }
    let body = script.content[from..].to_vec();
    answer = answer.header(header::CONTENT_LENGTH, body.len());
    let cut = if script.break_offs.is_empty() { body.len() } else { script.break_offs.remove(0).min(body.len()) };
    let broken = cut < body.len();
    let silent = script.silent;
    let first = Bytes::copy_from_slice(&body[..cut]);
    let chunks = stream::unfold(Some(first), move |chunk| async move {
        match chunk {
            Some(chunk) => Some((Ok(chunk), None)),
            None if silent => std::future::pending().await,
            // The bytes before it are on their way first.
            None if broken => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Err(std::io::Error::other("broken off")), None))
            }
            None => None,
        }
    });
    answer.body(Body::from_stream(chunks)).unwrap()
}

struct Server {
    script: Shared,
    kaggle: Kaggle,
    base: Url,
    folder: tempfile::TempDir,
}

async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn pace() -> Pace {
    Pace {
        attempts: 4,
        backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(5) },
        connect: Duration::from_secs(5),
        silence: Duration::from_millis(300),
    }
}

impl Server {
    async fn start(content: Vec<u8>) -> Self {
        perito_runtime::install_crypto_provider();
        let script = Shared::default();
        let store = listen(Router::new().route("/bucket/archive.zip", get(storage)).with_state(script.clone())).await;
        let router =
            Router::new().route("/api/v1/datasets/download/{owner}/{name}", get(api)).with_state(script.clone());
        let base: Url = listen(router).await.parse().unwrap();
        {
            let mut script = script.lock().unwrap();
            (script.content, script.storage) = (content, store);
        }
        let kaggle = Kaggle::new(base.clone(), "ana".to_owned(), "s3cret".parse().unwrap(), pace()).unwrap();
        Self { script, kaggle, base, folder: tempfile::tempdir().unwrap() }
    }

    fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    async fn download(&self) -> Result<Archive, Error> {
        self.kaggle.download(&"ana/cars".parse().unwrap(), None, self.folder.path()).await
    }

    fn ranges(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.script.lock().unwrap().ranges)
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn assert_whole(archive: &Archive, content: &[u8]) {
    assert_eq!(
        (archive.bytes, archive.md5.as_str()),
        (content.len() as u64, hex::encode(Md5::digest(content)).as_str())
    );
    assert_eq!(std::fs::read(&archive.path).unwrap(), content);
}

#[tokio::test]
async fn a_download_goes_on_where_it_stopped() {
    let content = noise(300_000);
    let server = Server::start(content.clone()).await;
    server.set(|script| script.break_offs = vec![100_000, 50_000]);
    assert_whole(&server.download().await.unwrap(), &content);
    let ranges = server.ranges();
    assert_eq!((ranges.len(), &ranges[0]), (3, &None));
    let froms: Vec<u64> = ranges[1..]
        .iter()
        .map(|range| range.as_ref().unwrap()["bytes=".len()..].trim_end_matches('-').parse().unwrap())
        .collect();
    assert!(0 < froms[0] && froms[0] <= 100_000 && froms[0] < froms[1] && froms[1] <= 150_000, "{froms:?}");
    assert!(!server.script.lock().unwrap().key_seen, "the key is for the API alone");
    // What is whole is asked for once more, and not sent again.
    assert_whole(&server.download().await.unwrap(), &content);
    assert_eq!(server.ranges(), [None]);
}

#[tokio::test]
async fn what_has_come_outlives_the_program() {
    let content = noise(200_000);
    let server = Server::start(content.clone()).await;
    server.set(|script| script.break_offs = vec![20_000; 4]);
    let given_up = server.download().await.unwrap_err();
    assert!(
        matches!(given_up, Error::Unavailable { attempts: 4, .. }) && given_up.to_string().contains("run it again"),
        "{given_up}"
    );
    server.ranges();
    assert_whole(&server.download().await.unwrap(), &content);
    assert!(server.ranges()[0].as_ref().is_some_and(|range| range != "bytes=0-"));
}

#[tokio::test]
async fn another_archive_or_a_server_without_ranges_starts_over() {
    let server = Server::start(noise(100_000)).await;
    server.set(|script| script.break_offs = vec![10_000; 4]);
    server.download().await.unwrap_err();
    let other: Vec<u8> = noise(100_000).into_iter().rev().collect();
    server.set(|script| script.content = other.clone());
    assert_whole(&server.download().await.unwrap(), &other);

    let server = Server::start(noise(100_000)).await;
    server.set(|script| (script.break_offs, script.ranges_unknown) = (vec![30_000], true));
    assert_whole(&server.download().await.unwrap(), &noise(100_000));
    // An archive that has become shorter.
    server.set(|script| script.content = noise(50_000));
    assert_whole(&server.download().await.unwrap(), &noise(50_000));
}

#[tokio::test]
async fn damage_on_the_way_is_found() {
    let server = Server::start(noise(10_000)).await;
    server.set(|script| script.wrong_md5 = Some([7; 16]));
    let damaged = server.download().await.unwrap_err().to_string();
    assert!(damaged.contains("MD5") && damaged.contains("07070707"), "{damaged}");
    server.set(|script| script.wrong_md5 = None);
    assert_whole(&server.download().await.unwrap(), &noise(10_000));
}

#[tokio::test]
async fn silence_ends_and_overload_is_waited_out() {
    let server = Server::start(noise(10_000)).await;
    server.set(|script| script.api_refusals = vec![503, 429]);
    assert_whole(&server.download().await.unwrap(), &noise(10_000));
    server.set(|script| {
        script.content = noise(20_000);
        (script.silent, script.break_offs) = (true, vec![1_000; 4]);
    });
    let silent = server.download().await.unwrap_err().to_string();
    assert!(silent.contains("no answer in time"), "{silent}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_hold_no_secret() {
    let server = Server::start(noise(10)).await;
    let of = async |source: &str| {
        server.kaggle.download(&source.parse().unwrap(), None, server.folder.path()).await.unwrap_err()
    };
    assert!(matches!(of("ana/nothing").await, Error::NotFound(_)));
    let terms = of("ana/private").await.to_string();
    assert!(terms.contains("accept its terms"), "{terms}");
    let wrong = Kaggle::new(server.base.clone(), "ana".to_owned(), "guess".parse().unwrap(), pace()).unwrap();
    let refused = wrong.download(&"ana/cars".parse().unwrap(), None, server.folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("KAGGLE_KEY") && !refused.to_string().contains("guess"), "{refused}");
    assert!(!format!("{:?}", server.kaggle).contains("s3cret"));
    server.set(|script| script.break_offs = vec![1; 4]);
    let broken = server.download().await.unwrap_err().to_string();
    assert!(!broken.contains("s1gned") && !broken.contains("s3cret"), "{broken}");
    // Nobody listens at the storage service any more.
    server.set(|script| script.storage = "http://127.0.0.1:9".to_owned());
    let away = server.download().await.unwrap_err().to_string();
    assert!(!away.contains("s1gned"), "{away}");
}

#[tokio::test]
async fn a_version_is_asked_for_by_number() {
    let server = Server::start(noise(10)).await;
    server.kaggle.download(&"ana/cars".parse().unwrap(), Some(3), server.folder.path()).await.unwrap();
    assert!(server.script.lock().unwrap().queries[0].contains("\"datasetVersionNumber\": \"3\""));
}

#[tokio::test]
async fn what_was_downloaded_unpacks_to_class_folders() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for name in ["data3a/training/01-minor/a.jpg", "data3a/validation/03-severe/b.jpg", "data3a/readme.md"] {
        zip.start_file(name, options).unwrap();
        zip.write_all(&noise(500)).unwrap();
    }
    let server = Server::start(zip.finish().unwrap().into_inner()).await;
    let archive = server.download().await.unwrap();
    let images = server.folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    let unpacked = unpack(&archive.path, &images, &Limits::default()).unwrap();
    assert_eq!((unpacked.images, unpacked.skipped), (2, 1));
    let root = perito_cli::folders::labelled::find(&images).unwrap();
    assert_eq!(root, Path::new(&images).join("data3a"));
    assert_eq!(perito_cli::folders::labelled::read(&root).unwrap().photos.len(), 2);
}
