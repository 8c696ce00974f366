//! Archives of `torch.save` (`.pth`, `.pt`) to safetensors.
//!
//! `torch.load` can run any code that such a file asks for. `pytorch-reader` builds tensors and nothing else, and [`globals`] refuses
//! beforehand any file that asks for more.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use perito_domain::limits::{MAX_ARTIFACT_BYTES, MAX_PICKLE_BYTES};
use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};
use safetensors::{Dtype, SafeTensorError, tensor::TensorView};
use zip::{ZipArchive, result::ZipError};

use super::globals;

/// An archive that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// Not a whole zip file.
    #[error("this archive of torch.save cannot be read ({0}): is the file whole?")]
    Archive(#[from] ZipError),
    /// The file ended, or its disk failed.
    #[error("this archive of torch.save cannot be read ({0}): is the file whole?")]
    Io(#[from] io::Error),
    /// A zip file of something else.
    #[error("this is an archive, but none of torch.save: it should hold one data.pkl, and holds {0}")]
    Pickles(usize),
    /// It would fill the memory.
    #[error("this archive of torch.save claims {what} of {bytes} bytes, more than the {limit} that are read")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// How much is read.
        limit: u64,
    },
    /// It names something that no tensor needs.
    #[error(
        "this file of torch.save holds {0}, and not tensors alone. Nothing of it was run. Where you trust it, save the weights alone: \
         torch.save(model.state_dict(), 'weights.pth')"
    )]
    Foreign(String),
    /// An instruction that no tensor needs.
    #[error(
        "this file of torch.save has the pickle opcode {0:#04x}, which tensors have no need of. Nothing of it was run"
    )]
    Opcode(u8),
    /// Written for another pickle reader.
    #[error(
        "this file of torch.save is a pickle of protocol {0}: save it without pickle_protocol, which makes it protocol 2"
    )]
    Protocol(u8),
    /// The pickle ends early.
    #[error("this file of torch.save ends in the middle of its pickle: is the file whole?")]
    Truncated,
    /// The reader found a fault.
    #[error("this file of torch.save cannot be read: {0}")]
    Reader(#[from] PytorchError),
    /// A training's checkpoint, whose weights are one entry.
    #[error(
        "this is a checkpoint, whose weights are in its entry {0}: save them alone: \
         torch.save(torch.load('checkpoint.pth', map_location='cpu', weights_only=True)['{0}'], 'weights.pth')"
    )]
    Checkpoint(String),
    /// An entry of something else.
    #[error("{0} is no tensor: save the weights alone: torch.save(model.state_dict(), 'weights.pth')")]
    NoTensor(String),
    /// The tensors cannot be written.
    #[error("write safetensors: {0}")]
    Write(#[from] SafeTensorError),
}

/// The tensors of an archive as a safetensors file, contiguous and of their own types, without `num_batches_tracked`.
///
/// # Errors
/// [`TorchError`], when the archive is damaged or holds more than a dict of tensors.
pub(super) fn to_safetensors(path: &Path) -> Result<Vec<u8>, TorchError> {
    globals::refuse_foreign(&pickle(path)?)?;
    let tensors: BTreeMap<_, _> =
        tensors(path)?.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked")).collect();
    // Views of one storage can measure more than the archive.
    bounded("tensors", tensors.values().map(|tensor| tensor.byte_len() as u64), MAX_ARTIFACT_BYTES)?;
    let data: Vec<_> = tensors.values().map(Tensor::read).collect::<Result<_, _>>()?;
    let views = tensors.iter().zip(&data).map(|((name, tensor), data)| {
        Ok((name, TensorView::new(dtype(tensor.dtype()), tensor.shape().to_vec(), data)?))
    });
    Ok(safetensors::serialize(views.collect::<Result<Vec<_>, SafeTensorError>>()?, None)?)
}

/// The pickle of an archive, of which each entry is within bounds.
fn pickle(path: &Path) -> Result<Vec<u8>, TorchError> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
    let (mut sizes, mut pickles) = (Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        sizes.push(entry.size());
        let name = entry.name()?;
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            pickles.push(index);
        }
    }
    bounded("content", sizes, MAX_ARTIFACT_BYTES)?;
    let &[index] = &pickles[..] else { return Err(TorchError::Pickles(pickles.len())) };
    let entry = archive.by_index(index)?;
    bounded("a pickle", [entry.size()], MAX_PICKLE_BYTES)?;
    let mut pickle = Vec::new();
    entry.take(MAX_PICKLE_BYTES).read_to_end(&mut pickle)?;
    Ok(pickle)
}

fn bounded(what: &'static str, sizes: impl IntoIterator<Item = u64>, limit: u64) -> Result<(), TorchError> {
    let bytes = sizes.into_iter().fold(0, u64::saturating_add);
    if bytes > limit { Err(TorchError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// The tensors of a file whose pickle is one flat dict of them.
fn tensors(path: &Path) -> Result<HashMap<String, Tensor>, TorchError> {
    let tensors = PytorchReader::new(path)?.into_tensors();
    // The reader finds tensors in whatever lies around them; here they must be all there is.
    if let PickleValue::Dict(mut entries) = PytorchReader::read_pickle_data(path, None)? {
        // What a state_dict says about the versions of its modules. It is an attribute of the dict, but read as an entry.
        entries.remove("_metadata");
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        if let Some((name, _)) = entries.iter().find(|(_, value)| has_tensors(value)) {
            return Err(TorchError::Checkpoint(name.clone()));
        }
        if let Some((name, _)) = entries.iter().find(|(_, value)| !is_tensor(value)) {
            return Err(TorchError::NoTensor(name.clone()));
        }
    }
    Ok(tensors)
}

fn has_tensors(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Dict(entries) if entries.values().any(is_tensor))
}

/// The reader tells a tensor by its Python type, a name that [`globals`] lets no pickle give to anything else.
fn is_tensor(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Unsupported(kind) if kind == "torch.Tensor")
}

fn dtype(of: DType) -> Dtype {
    match of {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use safetensors::SafeTensors;

    use super::*;

    /// Written by `generate.py` beside them.
    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.pth"))
    }

    fn refusal(name: &str) -> String {
        to_safetensors(&fixture(name)).unwrap_err().to_string()
    }

    fn refusal_of(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        to_safetensors(file.path()).unwrap_err().to_string()
    }

    fn values(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        let values = tensor.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (tensor.shape().to_vec(), values.collect())
    }

    #[test]
    fn a_state_dict_keeps_its_names_shapes_and_values() {
        let bytes = to_safetensors(&fixture("state_dict")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        assert_eq!(names, ["0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"]);
        assert_eq!(values(&file, "0.weight"), (vec![2, 1, 2, 2], vec![0., 1., 2., 3., 4., 5., 6., 7.]));
        assert_eq!(values(&file, "1.running_var"), (vec![2], vec![1., 1.]));
        assert_eq!(bytes, to_safetensors(&fixture("state_dict")).unwrap(), "the same file is the same object");
    }

    #[test]
    fn parameters_are_tensors() {
        let bytes = to_safetensors(&fixture("parameters")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(values(&file, "weight"), (vec![2, 3], vec![0., 1., 2., 3., 4., 5.]));
    }

    #[test]
    fn views_become_contiguous() {
        let bytes = to_safetensors(&fixture("views")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(values(&file, "part"), (vec![2, 3], vec![3., 4., 5., 6., 7., 8.]));
        assert_eq!(values(&file, "column"), (vec![4], vec![1., 4., 7., 10.]));
        let transposed = vec![0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.];
        assert_eq!(values(&file, "transposed"), (vec![3, 4], transposed));
    }

    #[test]
    fn types_are_kept_for_the_check_to_name() {
        let bytes = to_safetensors(&fixture("types")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (name, dtype) in [("half", Dtype::F16), ("double", Dtype::F64), ("bfloat16", Dtype::BF16)] {
            assert_eq!(file.tensor(name).unwrap().dtype(), dtype);
        }
    }

    #[test]
    fn whatever_is_no_tensor_is_named() {
        for (name, parts) in [
            ("command", ["holds posix.system", "Nothing of it was run"]),
            ("injected", ["holds posix.system", "Nothing of it was run"]),
            ("module", ["holds torch.nn.modules.linear.Linear", "torch.save(model.state_dict()"]),
            ("checkpoint", ["weights are in its entry state_dict", "['state_dict'], 'weights.pth')"]),
            ("number", ["accuracy is no tensor", "torch.save(model.state_dict()"]),
            ("protocol4", ["pickle of protocol 4", "without pickle_protocol"]),
            ("big_endian", ["cannot be read", "Big-endian"]),
        ] {
            let text = refusal(name);
            assert!(parts.iter().all(|part| text.contains(part)), "{name}: {text}");
        }
    }

    #[test]
    fn archives_that_claim_too_much_are_refused() {
        let text = refusal("expanded");
        assert!(text.contains("claims tensors of 4294967296 bytes"), "{text}");
        let mut archive = std::fs::read(fixture("state_dict")).unwrap();
        // The directory at the end says each entry's size 24 bytes behind this mark.
        let entry = archive.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
        archive[entry + 24..entry + 28].copy_from_slice(&u32::MAX.to_le_bytes().map(|byte| byte ^ 0x10));
        let text = refusal_of(&archive);
        assert!(text.contains("claims content of"), "{text}");
    }

    #[test]
    fn damaged_archives_are_refused() {
        let text = refusal("short_storage");
        assert!(text.contains("0.weight") && text.contains("requires 8 elements"), "{text}");
        let archive = std::fs::read(fixture("state_dict")).unwrap();
        for length in [4, archive.len() / 2, archive.len() - 1] {
            let text = refusal_of(&archive[..length]);
            assert!(text.contains("is the file whole?"), "{length}: {text}");
        }
        let mut empty = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        empty.add_directory("archive", zip::write::SimpleFileOptions::default()).unwrap();
        let text = refusal_of(&empty.finish().unwrap().into_inner());
        assert!(text.contains("none of torch.save"), "{text}");
    }
}
