//! Weight files on their way into the registry and out of it, without libtorch. Whatever comes in, safetensors goes out.
//!
//! | module | holds |
//! |---|---|
//! | [`torch`] | archives of `torch.save` to safetensors |
//! | [`globals`] | what a pickle names, seen before it is read |
//! | [`check`] | a file against its network's table of parameters |
//! | [`missing`] | parameters that a file leaves to chance |
//! | [`describe`] | a file that says what it is, on its way out of the registry |

mod check;
mod describe;
mod globals;
mod missing;
mod torch;

use std::{io::Read as _, path::Path};

use perito_domain::{parameters::parameters, severity::CLASSES, spec::Architecture};

pub use self::{describe::described, torch::TorchError};

/// What every archive of `torch.save` since PyTorch 1.6 begins with: it is a zip file.
const ARCHIVE: [u8; 4] = *b"PK\x03\x04";

/// A good file.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Its content as safetensors.
    pub bytes: Vec<u8>,
    /// Outputs of the head.
    pub outputs: usize,
    /// The parameters that it lacks, sorted.
    pub missing: Vec<String>,
}

impl Weights {
    /// Why the model can only start a training; `None` when it can score, as it is whole and its head tells Perito's classes.
    pub fn why_not_scoring(&self) -> Option<String> {
        if !self.missing.is_empty() {
            Some(format!("it lacks {}, which a training draws at random", self.missing.join(", ")))
        } else if self.outputs != CLASSES {
            Some(format!("its head has {} outputs", self.outputs))
        } else {
            None
        }
    }
}

/// A file that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// No such file, or it cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// An archive of `torch.save` that is damaged or holds more than tensors.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// A bare pickle, as `torch.save` wrote it before PyTorch 1.6.
    #[error(
        "this is a pickle, as torch.save wrote it before PyTorch 1.6: convert it to safetensors first, where you trust it:\n  \
         pip install torch safetensors\n  \
         python -c \"import sys, torch, safetensors.torch as s; w = torch.load(sys.argv[1], map_location='cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in w.items()}}, sys.argv[2])\" weights.pth weights.safetensors"
    )]
    Pickle,
    /// Neither safetensors nor of `torch.save`.
    #[error("this is no safetensors file, nor one of torch.save: {0}")]
    Malformed(#[from] safetensors::SafeTensorError),
    /// A name that `--allow-missing` cannot allow.
    #[error("--allow-missing {name}: {architecture} has no such parameter")]
    Unknown {
        /// The name, or pattern.
        name: String,
        /// The network that was asked for.
        architecture: Architecture,
    },
    /// Names that `--allow-missing` need not allow.
    #[error("--allow-missing names what the file has: leave out {}", .0.join(", "))]
    Present(Vec<String>),
    /// Another network, or another version of it.
    #[error("these are not the weights of {architecture} at {image_size} pixels:\n  {}", .problems.join("\n  "))]
    Mismatch {
        /// The network that was asked for.
        architecture: Architecture,
        /// Its input size.
        image_size: u32,
        /// Each tensor that is missing, unknown or mis-shaped.
        problems: Vec<String>,
    },
}

/// Reads a weight file of either format and checks it. `allow_missing` names parameters that it may lack; `*` stands for one part of
/// a name, between dots.
///
/// # Errors
/// [`WeightsError`] names the tensors, and the way out.
pub fn load(
    path: &Path,
    architecture: Architecture,
    image_size: u32,
    allow_missing: &[String],
) -> Result<Weights, WeightsError> {
    let mut bytes = read(path)?;
    let allowed = missing::expand(allow_missing, architecture, &parameters(architecture, image_size))?;
    let outputs = check::check(&bytes, architecture, image_size, &allowed)?;
    if !allowed.is_empty() {
        bytes = missing::mark(&bytes, &allowed)?;
    }
    Ok(Weights { bytes, outputs, missing: allowed.into_iter().collect() })
}

/// A file as safetensors, as far as it can be told before the check.
fn read(path: &Path) -> Result<Vec<u8>, WeightsError> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(ARCHIVE.len() as u64).read_to_end(&mut start)?;
    if start == ARCHIVE { Ok(torch::to_safetensors(path)?) } else { Ok(std::fs::read(path)?) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    /// The network's own file, with some tensors left out.
    fn lacking(names: &[&str]) -> tempfile::NamedTempFile {
        let mut tensors = check::tests::tensors(Architecture::Cnn4, 32);
        tensors.retain(|name, _| !names.contains(&name.as_str()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), check::tests::file(&tensors)).unwrap();
        file
    }

    #[test]
    fn a_whole_file_is_stored_as_it_is_and_can_score() {
        let file = lacking(&[]);
        let weights = load(file.path(), Architecture::Cnn4, 32, &[]).unwrap();
        assert_eq!(weights.bytes, std::fs::read(file.path()).unwrap());
        assert_eq!(weights.why_not_scoring(), None);
    }

    #[test]
    fn a_partial_file_is_marked_and_cannot_score() {
        let file = lacking(&["layer2.conv.weight", "layer3.conv.weight"]);
        let allowed = ["layer3.conv.weight", "layer2.conv.*"].map(str::to_owned);
        let error = load(file.path(), Architecture::Cnn4, 32, &allowed).unwrap_err();
        assert!(matches!(error, WeightsError::Present(names) if names == ["layer2.conv.bias"]));
        let allowed = ["layer3.conv.weight", "layer2.conv.weight"].map(str::to_owned);
        let weights = load(file.path(), Architecture::Cnn4, 32, &allowed).unwrap();
        let (_, header) = SafeTensors::read_metadata(&weights.bytes).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["missing"], "layer2.conv.weight,layer3.conv.weight");
        let why = weights.why_not_scoring().unwrap();
        assert!(why.starts_with("it lacks layer2.conv.weight, layer3.conv.weight, "), "{why}");
    }

    #[test]
    fn the_format_is_told_by_the_content() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let error = load(&fixtures.join("types.pth"), Architecture::Cnn4, 32, &[]).unwrap_err().to_string();
        assert!(error.contains("not the weights of cnn4") && error.contains("--allow-missing"), "{error}");
        let error = load(&fixtures.join("command.pth"), Architecture::Cnn4, 32, &[]).unwrap_err();
        assert!(matches!(error, WeightsError::Torch(TorchError::Foreign(name)) if name == "posix.system"));
        let error = load(&fixtures.join("none.pth"), Architecture::Cnn4, 32, &[]).unwrap_err();
        assert!(matches!(error, WeightsError::Io(_)));
    }
}
