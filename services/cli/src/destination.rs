//! Where a file goes: to disk, to the object store or to standard output. It shows when it is whole, and not before.

use std::{io::Write as _, path::PathBuf, str::FromStr};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use perito_objects::{ObjectStore, Upload};
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

/// What a user names: `FILE`, `s3://BUCKET/KEY` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file.
    File(PathBuf),
    /// An object.
    Object {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
    },
    /// Standard output.
    Stdout,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Self::Stdout);
        }
        let Some(place) = text.strip_prefix("s3://") else {
            return if text.is_empty() { Err("name a file".to_owned()) } else { Ok(Self::File(text.into())) };
        };
        match place.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() && !key.ends_with('/') => {
                Ok(Self::Object { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err("write s3://BUCKET/KEY".to_owned()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Stdout => f.write_str("standard output"),
        }
    }
}

/// Bytes on their way to a target. Dropped unfinished, a file leaves nothing; an object wants [`Self::abort`].
#[derive(Debug)]
pub struct Destination {
    sink: Sink,
    bytes: u64,
    digest: Sha256,
}

#[derive(Debug)]
enum Sink {
    File { file: tokio::fs::File, temporary: TempPath, path: PathBuf },
    Object(Upload),
    Stdout,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Destination {
    /// Begins to write. `store` is asked for when the target is an object.
    ///
    /// # Errors
    /// The target's folder cannot be written, or the store's options are wrong.
    pub fn open(
        target: &Target,
        content_type: &str,
        store: impl FnOnce() -> anyhow::Result<ObjectStore>,
    ) -> anyhow::Result<Self> {
        let sink = match target {
            Target::Stdout => Sink::Stdout,
            Target::Object { bucket, key } => Sink::Object(store()?.upload(bucket, key, content_type)),
            Target::File(path) => {
                ensure!(!path.is_dir(), "{} is a folder: name a file in it", path.display());
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
                // In the same folder, and so on the same disk: then taking the name is one step.
                let mut builder = tempfile::Builder::new();
                builder.prefix(".perito-").suffix(".part");
                #[cfg(unix)]
                builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
                let temporary =
                    builder.tempfile_in(folder).with_context(|| format!("write into {}", folder.display()))?;
                let (file, temporary) = temporary.into_parts();
                Sink::File { file: tokio::fs::File::from_std(file), temporary, path: path.clone() }
            }
        };
        Ok(Self { sink, bytes: 0, digest: Sha256::new() })
    }

    /// Writes.
    ///
    /// # Errors
    /// The disk or the store fails.
    pub async fn write(&mut self, bytes: &Bytes) -> anyhow::Result<()> {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
        match &mut self.sink {
            Sink::File { file, path, .. } => {
                file.write_all(bytes).await.with_context(|| format!("write {}", path.display()))
            }
            Sink::Object(upload) => Ok(upload.write(bytes).await?),
            // Whoever reads it sets the pace.
            Sink::Stdout => std::io::stdout().write_all(bytes).context("write to standard output"),
        }
    }

    /// Lets what was written show under its name, in place of what was there.
    ///
    /// # Errors
    /// The disk or the store fails.
    pub async fn finish(self) -> anyhow::Result<Written> {
        match self.sink {
            Sink::File { mut file, temporary, path } => {
                let named = || format!("write {}", path.display());
                file.flush().await.with_context(named)?;
                file.sync_all().await.with_context(named)?;
                temporary.persist(&path).with_context(named)?;
            }
            Sink::Object(upload) => drop(upload.complete().await?),
            Sink::Stdout => std::io::stdout().flush().context("write to standard output")?,
        }
        Ok(Written { bytes: self.bytes, sha256: hex::encode(self.digest.finalize()) })
    }

    /// Gives up, and leaves nothing behind.
    pub async fn abort(self) {
        if let Sink::Object(upload) = self.sink
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(error.message = %error, "parts of the upload stay behind until a rule of the bucket removes them");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_meant() {
        assert_eq!("-".parse(), Ok(Target::Stdout));
        assert_eq!("a/b.csv".parse(), Ok(Target::File("a/b.csv".into())));
        let object = Target::Object { bucket: "b".to_owned(), key: "k/x.parquet".to_owned() };
        assert_eq!("s3://b/k/x.parquet".parse(), Ok(object));
        for wrong in ["", "s3://", "s3://b", "s3://b/", "s3:///k", "s3://b/k/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_file_shows_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.csv");
        std::fs::write(&path, "old").unwrap();
        let target = Target::File(path.clone());
        let open = || Destination::open(&target, "text/csv", || anyhow::bail!("no store"));
        let mut destination = open().unwrap();
        destination.write(&Bytes::from_static(b"new")).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        destination.abort().await;
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 1, "nothing is left of it");
        let mut destination = open().unwrap();
        destination.write(&Bytes::from_static(b"new")).await.unwrap();
        let written = destination.finish().await.unwrap();
        assert_eq!((written.bytes, written.sha256), (3, hex::encode(Sha256::digest("new"))));
        assert_eq!((std::fs::read(&path).unwrap(), names()), (b"new".to_vec(), 1));
    }
}
