//! `perito dataset kaggle`

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use perito_domain::names::Name;
use perito_runtime::{ObjectStoreArgs, Secret};
use url::Url;

use super::upload;
use crate::{
    commands::Context,
    exit::Usage,
    folders::labelled,
    kaggle::{Kaggle, Limits, Pace, Source, unpack},
};

const HELP: &str = "\
The key is in KAGGLE_USERNAME and KAGGLE_KEY (kaggle.com, Settings, API). A download that stops goes on where it was; the archive's size and MD5 are
checked against what the server gives. Its images are unpacked into a folder of their own and uploaded like perito dataset upload: training/ and
validation/ with class folders, which may lie some folders down (--folder says which, when there are several).

With --json: as perito dataset upload

Example:
  KAGGLE_USERNAME=ana KAGGLE_KEY=... perito dataset kaggle prajwalbhamere/car-damage-severity-dataset --name damage";

/// Downloads a dataset from Kaggle, uploads its class folders and freezes them.
#[derive(Debug, Args)]
#[command(after_help = HELP, mut_arg("s3_bucket", |bucket| bucket.visible_alias("bucket")))]
pub struct KaggleArgs {
    /// The dataset on Kaggle
    #[arg(value_name = "OWNER/NAME")]
    source: Source,
    /// Its name in Perito; the content becomes its next version [default: its name on Kaggle]
    #[arg(long, value_name = "DATASET")]
    name: Option<Name>,
    /// Its version on Kaggle [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    kaggle_version: Option<u32>,
    /// The folder in the archive that holds training/ and validation/ [default: the only one that does]
    #[arg(long, value_name = "FOLDER", value_parser = below)]
    folder: Option<PathBuf>,
    /// Where the archive is kept until all is uploaded [default: perito/kaggle in the user's cache folder]
    #[arg(long, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// Keeps the archive and the unpacked images
    #[arg(long)]
    keep: bool,
    /// Uploads at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Kaggle's URL
    #[arg(long, value_name = "URL", env = "PERITO_KAGGLE_URL", default_value = "https://www.kaggle.com")]
    kaggle_url: Url,
    #[command(flatten)]
    store: ObjectStoreArgs,
}

pub(super) async fn run(context: &Context, args: KaggleArgs) -> anyhow::Result<()> {
    let source = &args.source;
    let name = match args.name {
        Some(name) => name,
        None => {
            source.name.to_ascii_lowercase().parse().map_err(|error| Usage(format!("{error}: say one with --name")))?
        }
    };
    let (username, key) = credentials()?;
    let cache = match args.cache {
        Some(folder) => folder,
        None => user_cache()?,
    };
    let version = args.kaggle_version.map_or_else(|| "newest".to_owned(), |version| version.to_string());
    let folder = cache.join(&source.owner).join(&source.name).join(version);
    let kaggle = Kaggle::new(args.kaggle_url, username, key, Pace::default())?;
    let archive = kaggle.download(source, args.kaggle_version, &folder).await?;

    let images = folder.join("images");
    // What an interrupted run left.
    if images.exists() {
        std::fs::remove_dir_all(&images).with_context(|| format!("remove {}", images.display()))?;
    }
    std::fs::create_dir_all(&images).with_context(|| format!("make {}", images.display()))?;
    let unpacked = {
        let (archive, images) = (archive.path.clone(), images.clone());
        tokio::task::spawn_blocking(move || unpack(&archive, &images, &Limits::default())).await.context("unpack")?
    };
    let unpacked = unpacked.with_context(|| format!("unpack {source}"))?;
    eprintln!("unpacked {} images, left out {} other files", unpacked.images, unpacked.skipped);
    let root = match &args.folder {
        Some(below) => images.join(below),
        None => labelled::find(&images)?,
    };
    let version = args.kaggle_version.map(|version| format!(" version {version}")).unwrap_or_default();
    let origin = format!("Kaggle {source}{version}, archive of {} bytes with MD5 {}", archive.bytes, archive.md5);
    upload(context, &name, &root, args.concurrency, &args.store, Some(&origin)).await?;
    if args.keep {
        eprintln!("kept {}", folder.display());
    } else {
        std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

fn credentials() -> anyhow::Result<(String, Secret)> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    match (variable("KAGGLE_USERNAME"), variable("KAGGLE_KEY")) {
        (Some(username), Some(key)) => Ok((username, key.trim().parse()?)),
        _ => bail!(Usage(
            "set KAGGLE_USERNAME and KAGGLE_KEY: kaggle.com, Settings, API, makes a key (kaggle.json has both)"
                .to_owned()
        )),
    }
}

/// The user's cache folder (XDG Base Directory Specification).
fn user_cache() -> anyhow::Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let cache =
        cache.ok_or_else(|| Usage("neither XDG_CACHE_HOME nor HOME is set: say where with --cache".to_owned()))?;
    Ok(cache.join("perito/kaggle"))
}

/// A path that goes down.
fn below(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path.to_owned())
    } else {
        Err("write a path below the archive's top, such as data/images".to_owned())
    }
}
