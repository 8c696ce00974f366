//! The archive of a dataset. The API answers with a redirect to a storage service, whose URL is signed and ends soon: each attempt asks anew.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};
use perito_domain::{limits::MAX_ARCHIVE_BYTES, retry::Backoff};
use perito_runtime::Secret;
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER},
    redirect::Policy,
};
use serde::{Deserialize, Serialize};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt as _,
};
use url::Url;

use super::{Error, Source};
use crate::progress::Transfer;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The longest wait that a server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How patient a download is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Attempts altogether.
    pub attempts: usize,
    /// Between two attempts.
    pub backoff: Backoff,
    /// To connect.
    pub connect: Duration,
    /// Without any byte.
    pub silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempts: 8,
            backoff: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
        }
    }
}

/// A client of Kaggle's API.
#[derive(Debug, Clone)]
pub struct Kaggle {
    http: reqwest::Client,
    base: Url,
    username: String,
    key: Secret,
    pace: Pace,
}

/// A downloaded archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its MD5 in hexadecimal. The server's, if it gave one.
    pub md5: String,
}

/// What the server said of the archive that a partial file is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    md5: Option<String>,
    etag: Option<String>,
    bytes: Option<u64>,
}

/// How an attempt ended without an archive.
enum Failure {
    /// Another one may do better; the server may have said when.
    Transient(String, Option<Duration>),
    Permanent(Error),
}

type Attempt<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL may be signed: whoever has it can download.
        let error = error.without_url();
        let mut detail = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(source) = next {
            detail = source.to_string();
            next = source.source();
        }
        Self::Transient(if error.is_timeout() { "no answer in time".to_owned() } else { detail }, None)
    }
}

impl Kaggle {
    /// A client for the server at this URL. Nothing is sent yet.
    ///
    /// # Errors
    /// When the TLS implementation cannot be set up.
    pub fn new(base: Url, username: String, key: Secret, pace: Pace) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(pace.connect)
            .read_timeout(pace.silence)
            // By hand: the key is for the API alone, not for where it sends us.
            .redirect(Policy::none())
            .user_agent(format!("perito/{}", perito_runtime::version()))
            .build()?;
        Ok(Self { http, base, username, key, pace })
    }

    /// Downloads a dataset's archive into a folder, or goes on where the last download into it stopped.
    ///
    /// # Errors
    /// See [`Error`]. What has come stays in the folder.
    pub async fn download(&self, source: &Source, version: Option<u32>, folder: &Path) -> Result<Archive, Error> {
        fs::create_dir_all(folder).await.map_err(Error::file("make the folder", folder))?;
        let place = Place::new(folder);
        let transfer = Transfer::new("downloading");
        let mut failures = 0;
        loop {
            match self.attempt(source, version, &place, &transfer).await {
                Ok(archive) => {
                    transfer.finish();
                    return Ok(archive);
                }
                Err(Failure::Permanent(error)) => return Err(error),
                Err(Failure::Transient(detail, wait)) => {
                    failures += 1;
                    if failures >= self.pace.attempts {
                        return Err(Error::Unavailable { what: "the download", attempts: failures, detail });
                    }
                    let jittered = self.pace.backoff.delay(failures as u32, &mut rand::rng());
                    let wait = wait.map_or(jittered, |wait| wait.min(MAX_WAIT) + jittered / 4);
                    tracing::warn!(error.message = detail, wait.seconds = wait.as_secs_f64(), "trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        source: &Source,
        version: Option<u32>,
        place: &Place,
        transfer: &Transfer,
    ) -> Attempt<Archive> {
        let (mut have, known) = place.state().await?;
        // A whole file is only asked whether it is still the one there is.
        let complete = known.as_ref().is_some_and(|facts| facts.bytes == Some(have));
        let range = (have > 0 && !complete).then(|| format!("bytes={have}-"));
        let mut response = self.request(source, version, range.as_deref()).await?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            place.forget().await?;
            return Err(Failure::Transient(
                "the partial file is longer than the archive: starting over".to_owned(),
                None,
            ));
        }
        let facts = Facts::of(&response)?;
        let same = known.as_ref().is_some_and(|known| known.is(&facts));
        if complete && same {
            drop(response);
            transfer.resume(have, facts.bytes);
            return place.finish(&facts, have).await;
        }
        if status == StatusCode::PARTIAL_CONTENT {
            if !same || starts_at(response.headers()) != Some(have) {
                place.forget().await?;
                return Err(Failure::Transient("the archive has changed since: starting over".to_owned(), None));
            }
        } else {
            have = 0;
        }
        if facts.bytes.is_some_and(|bytes| bytes > MAX_ARCHIVE_BYTES) {
            let detail = format!("it has {} bytes: the limit is {MAX_ARCHIVE_BYTES}", facts.bytes.unwrap_or_default());
            return Err(Error::Unexpected { what: "download the archive", detail }.into());
        }
        let mut file = place.open(have, &facts).await?;
        transfer.resume(have, facts.bytes);
        let outcome =
            copy(&mut response, &mut file, &mut have, facts.bytes.unwrap_or(MAX_ARCHIVE_BYTES), place, transfer).await;
        // Whatever has come is kept, however it ended.
        file.flush().await.map_err(Error::file("write", &place.part))?;
        file.sync_all().await.map_err(Error::file("write", &place.part))?;
        outcome?;
        if let Some(bytes) = facts.bytes.filter(|bytes| *bytes != have) {
            return Err(Failure::Transient(format!("the connection ended after {have} of {bytes} bytes"), None));
        }
        place.finish(&facts, have).await
    }

    /// Asks for the archive, from the API to wherever it leads.
    async fn request(&self, source: &Source, version: Option<u32>, range: Option<&str>) -> Attempt<Response> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1", "datasets", "download", &source.owner, &source.name]);
        }
        if let Some(version) = version {
            url.query_pairs_mut().append_pair("datasetVersionNumber", &version.to_string());
        }
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.http.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let of_the_api = url.origin() == self.base.origin();
            if of_the_api {
                request = request.basic_auth(&self.username, Some(self.key.expose()));
            }
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            let response = request.send().await?;
            if !response.status().is_redirection() {
                return checked(response, source, of_the_api).await;
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location
                .and_then(|location| url.join(location).ok())
                .ok_or_else(|| unexpected("a redirect to nowhere"))?;
            if !matches!(next.scheme(), "http" | "https") || url.scheme() == "https" && next.scheme() == "http" {
                return Err(unexpected("a redirect away from HTTPS"));
            }
            url = next;
        }
        Err(unexpected("too many redirects"))
    }
}

fn unexpected(detail: impl Into<String>) -> Failure {
    Error::Unexpected { what: "ask Kaggle for the archive", detail: detail.into() }.into()
}

/// Sorts what is no archive by who is at fault.
async fn checked(response: Response, source: &Source, of_the_api: bool) -> Attempt<Response> {
    let status = response.status();
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(response),
        // What the storage service refuses is a signed URL that has run out.
        _ if !of_the_api && status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Transient(format!("the storage service answers {status}"), None));
        }
        StatusCode::UNAUTHORIZED => return Err(Error::Unauthorized(status.as_u16()).into()),
        StatusCode::FORBIDDEN => return Err(Error::Forbidden { source_name: source.to_string() }.into()),
        StatusCode::NOT_FOUND => return Err(Error::NotFound(source.to_string()).into()),
        _ => {}
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error() {
        let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        return Err(Failure::Transient(format!("the server answers {status}"), wait.map(Duration::from_secs)));
    }
    Err(unexpected(format!("status {status}")))
}

/// Writes the body, counting in `have` what the file holds.
async fn copy(
    response: &mut Response,
    file: &mut File,
    have: &mut u64,
    most: u64,
    place: &Place,
    transfer: &Transfer,
) -> Attempt<()> {
    while let Some(chunk) = response.chunk().await? {
        if *have + chunk.len() as u64 > most {
            return Err(unexpected(format!("more than the {most} bytes that were announced")));
        }
        file.write_all(&chunk).await.map_err(Error::file("write", &place.part))?;
        *have += chunk.len() as u64;
        transfer.advance(chunk.len() as u64);
    }
    Ok(())
}

impl Facts {
    fn of(response: &Response) -> Attempt<Self> {
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value: &reqwest::header::HeaderValue| value.to_str().ok());
        let bytes = if response.status() == StatusCode::PARTIAL_CONTENT {
            text(CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok())
        } else {
            text(CONTENT_LENGTH).and_then(|length| length.parse().ok())
        };
        Ok(Self { md5: md5_of(headers), etag: text(ETAG).map(str::to_owned), bytes })
    }

    /// Whether both are of the same archive. What the server does not tell cannot be the same.
    fn is(&self, other: &Self) -> bool {
        let identified = match (&self.md5, &other.md5) {
            (Some(one), Some(another)) => one == another,
            _ => self.etag.is_some() && self.etag == other.etag,
        };
        identified && self.bytes == other.bytes
    }
}

/// The MD5 in hexadecimal: `x-goog-hash: crc32c=…,md5=…` as Google's storage writes it, or `Content-MD5`.
fn md5_of(headers: &HeaderMap) -> Option<String> {
    let google = headers.get_all("x-goog-hash").iter().filter_map(|value| value.to_str().ok());
    let google = google.flat_map(|value| value.split(',')).find_map(|part| part.trim().strip_prefix("md5="));
    let plain = || headers.get("content-md5").and_then(|value| value.to_str().ok());
    let bytes = BASE64_STANDARD.decode(google.or_else(plain)?).ok()?;
    (bytes.len() == 16).then(|| hex::encode(bytes))
}

fn starts_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

/// The files of a download: the archive, and beside it what it is of.
struct Place {
    part: PathBuf,
    facts: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Self {
        Self { part: folder.join("archive.zip"), facts: folder.join("archive.json") }
    }

    /// How many bytes are there, and of what. A file of nobody knows what is no start.
    async fn state(&self) -> Result<(u64, Option<Facts>), Error> {
        let facts = match fs::read(&self.facts).await {
            Ok(bytes) => serde_json::from_slice::<Facts>(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("read", &self.facts)(error)),
        };
        let Some(facts) = facts else { return Ok((0, None)) };
        match fs::metadata(&self.part).await {
            Ok(metadata) => Ok((metadata.len(), Some(facts))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((0, None)),
            Err(error) => Err(Error::file("look at", &self.part)(error)),
        }
    }

    /// Opens the archive to write on from here. Facts go first: bytes without them are thrown away.
    async fn open(&self, from: u64, facts: &Facts) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        if from == 0 {
            self.forget().await?;
            let text = serde_json::to_vec(facts).map_err(|error| Error::file("write", &self.facts)(error.into()))?;
            fs::write(&self.facts, text).await.map_err(Error::file("write", &self.facts))?;
            options.write(true).create(true).truncate(true);
        } else {
            options.append(true);
        }
        options.open(&self.part).await.map_err(Error::file("open", &self.part))
    }

    async fn forget(&self) -> Result<(), Error> {
        for path in [&self.part, &self.facts] {
            match fs::remove_file(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks the whole archive. One that is not what the server said is thrown away.
    async fn finish(&self, facts: &Facts, bytes: u64) -> Attempt<Archive> {
        let path = self.part.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hash = Md5::new();
            let mut buffer = vec![0; 1024 * 1024];
            let mut file = std::fs::File::open(path)?;
            loop {
                match std::io::Read::read(&mut file, &mut buffer)? {
                    0 => return Ok(hex::encode(hash.finalize())),
                    read => hash.update(&buffer[..read]),
                }
            }
        });
        let hashed = hashing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let md5 = hashed.map_err(Error::file("read", &self.part))?;
        if let Some(expected) = facts.md5.as_ref().filter(|expected| **expected != md5) {
            self.forget().await?;
            return Err(Failure::Transient(
                format!("the MD5 of the archive is {md5}, not {expected}: starting over"),
                None,
            ));
        }
        Ok(Archive { path: self.part.clone(), bytes, md5 })
    }
}
