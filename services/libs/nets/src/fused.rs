//! oneDNN's convolutions, with weights in its own layout and with what follows a convolution done in the same pass over memory.
//!
//! libtorch has these operators for PyTorch's compiler ("mkldnn" is oneDNN's former name): neither its C++ functions nor `tch` name them.
//! TorchScript can call any registered operator, so a module of three short methods, written here as it lies in a file of
//! `torch.jit.save`, stands between. It holds no weights: they come as arguments.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{Cursor, Write as _},
};

use tch::{CModule, IValue, Tensor};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::error::{NetError, Result};

const CODE: &str = r#"class Fused(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def pack(self: __torch__.Fused, weight: Tensor, stride: int, padding: int, size: List[int]) -> Tensor:
    return ops.mkldnn._reorder_convolution_weight(weight, [padding, padding], [stride, stride], [1, 1], 1, size)
  def then(self: __torch__.Fused, input: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, what: str) -> Tensor:
    return ops.mkldnn._convolution_pointwise(input, weight, bias, [padding, padding], [stride, stride], [1, 1], 1, what, annotate(List[Optional[number]], []), None)
  def add_relu(self: __torch__.Fused, input: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, other: Tensor) -> Tensor:
    return ops.mkldnn._convolution_pointwise_(other, input, weight, bias, [padding, padding], [stride, stride], [1, 1], 1, "add", 1, "relu", annotate(List[Optional[number]], []), None)
"#;

/// A pickle (protocol 2) of an object of that class with `training = False`, and one of an empty tuple.
const OBJECT: &[u8] = b"\x80\x02c__torch__\nFused\n)\x81}X\x08\x00\x00\x00training\x89sb.";
const CONSTANTS: &[u8] = b"\x80\x02).";

/// What follows a convolution and its batch norm.
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// ReLU.
    Relu,
    /// The sum with a shortcut, which is overwritten, then ReLU.
    AddRelu(Tensor),
}

/// Where a convolution's kernel goes over its input.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) stride: i64,
    pub(crate) padding: i64,
}

struct Weight {
    weight: Tensor,
    bias: Tensor,
    /// Whether it is in oneDNN's layout, which depends on the size of the input: known when the first one comes.
    packed: bool,
}

/// The convolutions of a network, by name.
pub(crate) struct Fused {
    module: CModule,
    weights: RefCell<BTreeMap<String, Weight>>,
}

impl Fused {
    /// Whether this processor and this libtorch have the operators.
    pub(crate) fn new() -> Result<Self> {
        let module = CModule::load_data(&mut Cursor::new(archive()?))?;
        Ok(Self { module, weights: RefCell::default() })
    }

    /// Adds a convolution.
    pub(crate) fn insert(&mut self, name: &str, weight: Tensor, bias: Tensor) {
        self.weights.get_mut().insert(name.to_owned(), Weight { weight, bias, packed: false });
    }

    /// A convolution and what follows it. Input and output are channels-last.
    pub(crate) fn convolution(
        &self,
        name: &str,
        input: &Tensor,
        Geometry { stride, padding }: Geometry,
        then: Then,
    ) -> Result<Tensor> {
        let mut weights = self.weights.borrow_mut();
        let weight =
            weights.get_mut(name).ok_or_else(|| NetError::Weights(format!("tensor {name}.weight is missing")))?;
        let place = || [IValue::Int(stride), IValue::Int(padding)];
        if !weight.packed {
            let [stride, padding] = place();
            let arguments =
                [IValue::Tensor(weight.weight.shallow_clone()), stride, padding, IValue::IntList(input.size())];
            weight.weight = self.call("pack", &arguments)?;
            weight.packed = true;
        }
        let [stride, padding] = place();
        let tensor = |tensor: &Tensor| IValue::Tensor(tensor.shallow_clone());
        let (method, last) = match then {
            Then::Nothing => ("then", IValue::String("none".to_owned())),
            Then::Relu => ("then", IValue::String("relu".to_owned())),
            Then::AddRelu(shortcut) => ("add_relu", IValue::Tensor(shortcut)),
        };
        self.call(method, &[tensor(input), tensor(&weight.weight), tensor(&weight.bias), stride, padding, last])
    }

    fn call(&self, method: &str, arguments: &[IValue]) -> Result<Tensor> {
        match self.module.method_is(method, arguments)? {
            IValue::Tensor(tensor) => Ok(tensor),
            other => Err(NetError::Torch(format!("{method} gave {other:?}, expected a tensor"))),
        }
    }
}

/// The module as `torch.jit.save` writes one.
fn archive() -> Result<Vec<u8>> {
    let written = || -> std::result::Result<Vec<u8>, zip::result::ZipError> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let parts = [
            ("data.pkl", OBJECT),
            ("code/__torch__.py", CODE.as_bytes()),
            ("constants.pkl", CONSTANTS),
            ("version", b"3\n"),
        ];
        for (name, content) in parts {
            archive.start_file(format!("fused/{name}"), SimpleFileOptions::default())?;
            archive.write_all(content)?;
        }
        Ok(archive.finish()?.into_inner())
    };
    written().map_err(|error| NetError::Torch(format!("write the module of fused convolutions: {error}")))
}
