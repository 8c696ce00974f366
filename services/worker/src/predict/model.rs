//! A model file, and what it says of itself.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use perito_domain::{
    artifact::ArtifactDescription,
    preprocessing::{self, Preprocessing},
    spec::Architecture,
};
use perito_nets::{Device, Engine, EngineOptions, Topology};

/// Which model, and what its file does not say.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// The model: a safetensors file.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// The network of a file that does not say it: cnn4 or resnet18.
    #[arg(long, value_name = "NETWORK")]
    pub arch: Option<Architecture>,
    /// Side of the square input in pixels, of a file that does not say it.
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32).range(32..=1024))]
    pub image_size: u32,
    /// Decodes by this version of the preprocessing contract in place of the model's own: 1 exactly, 2 and 3 large JPEGs at
    /// a reduced scale.
    #[arg(long, value_name = "VERSION")]
    pub preprocessing: Option<u32>,
}

/// A model as read.
pub struct ModelFile {
    /// What it is.
    pub description: ArtifactDescription,
    name: String,
    weights: Vec<u8>,
}

impl ModelFile {
    /// Reads it, and puts together what it is.
    ///
    /// # Errors
    /// A file that is no safetensors file, that says too little, or of a model that cannot score.
    pub fn read(args: &ModelArgs) -> anyhow::Result<Self> {
        let name = args.model.display().to_string();
        let weights = std::fs::read(&args.model).with_context(|| format!("read the model {name}"))?;
        let described = perito_nets::describe(&weights).with_context(|| name.clone())?;
        let mut description = match (described, args.arch) {
            (Some(description), Some(arch)) if arch != description.architecture => {
                bail!("{name} is a {}: leave out --arch {arch}", description.architecture)
            }
            (Some(description), _) => description,
            (None, Some(arch)) => ArtifactDescription::new(arch, Preprocessing::imagenet(args.image_size)),
            (None, None) => bail!(
                "{name} does not say what it is: add --arch cnn4 or --arch resnet18, and --image-size unless it is 224 (a file of \
                 perito model download says it)"
            ),
        };
        if let Some(version) = args.preprocessing {
            description.preprocessing.version = version;
        }
        preprocessing::check_version(description.preprocessing.version).with_context(|| name.clone())?;
        if let Some(why) = description.why_not_scoring() {
            bail!("{name}: {why}");
        }
        Ok(Self { description, name, weights })
    }

    /// The network, ready to run.
    ///
    /// # Errors
    /// Names the tensor that does not fit.
    pub fn engine(&self, device: Device, options: EngineOptions) -> anyhow::Result<Engine> {
        let ArtifactDescription { architecture, preprocessing, .. } = &self.description;
        // Nothing is dropped when a network scores.
        let topology = Topology { architecture: *architecture, image_size: preprocessing.image_size, dropout: 0.0 };
        Engine::prepare(&topology, preprocessing, &self.weights, device, options)
            .with_context(|| format!("load {} as {architecture} at {} pixels", self.name, preprocessing.image_size))
    }
}
