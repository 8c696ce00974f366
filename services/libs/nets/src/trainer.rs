//! One training run's state on one device: steps, measurements, weights and checkpoints.

use std::collections::BTreeMap;

use perito_domain::{
    Severity,
    preprocessing::Preprocessing,
    random::{Purpose, rng},
    severity::CLASSES,
    spec::{Stage, TrainSpec},
};
use rand::RngExt;
use safetensors::SafeTensors;
use tch::{Kind, Reduction, Tensor};

use crate::{
    batch::Normalizer,
    device::Device,
    engine::{channels_last, rows},
    error::{NetError, Result},
    network::{Network, Pass, Topology},
    optimizer::Optimizer,
    weights::{self, Tensors},
};

/// The default of torch's cross-entropy: a label that counts for nothing. None of ours does.
const IGNORE_INDEX: i64 = -100;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Sum of the images' cross-entropies, in nats.
    pub loss_sum: f64,
    /// How many images were right.
    pub correct: u64,
    /// How many images there were.
    pub images: u64,
}

/// A network in training. It can move between threads; use it on one at a time.
pub struct Trainer {
    network: Network,
    normalizer: Normalizer,
    optimizer: Optimizer,
    frozen: Option<Stage>,
    seed: u64,
    device: Device,
}

impl Trainer {
    /// Begins a run, from random weights or from those of a safetensors file. The file's head is left aside when it has another number of
    /// classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit.
    pub fn new(
        spec: &TrainSpec,
        preprocessing: &Preprocessing,
        initial: Option<&[u8]>,
        device: Device,
    ) -> Result<Self> {
        let topology = Topology { architecture: spec.architecture, image_size: spec.image_size, dropout: spec.dropout };
        let fresh = weights::initial(&topology, spec.seed, device)?;
        let tensors = match initial {
            Some(bytes) => weights::read_backbone(&topology, bytes, fresh, device)?,
            None => fresh,
        };
        let mut trainer = Self {
            network: Network { topology, tensors: BTreeMap::new(), folded: false },
            normalizer: Normalizer::new(preprocessing, device)?,
            optimizer: Optimizer::new(spec.optimizer.clone()),
            frozen: spec.freeze,
            seed: spec.seed,
            device,
        };
        trainer.adopt(tensors)?;
        Ok(trainer)
    }

    /// Takes over tensors: convolutions channels-last, as their input is, and gradients for what is trained.
    fn adopt(&mut self, mut tensors: Tensors) -> Result<()> {
        for parameter in weights::table(&self.network.topology) {
            let Some(tensor) = tensors.remove(&parameter.name) else { continue };
            let tensor = if parameter.shape.len() == 4 { channels_last(&tensor)? } else { tensor };
            let trained = parameter.role.is_trained()
                && parameter.stage.is_none_or(|stage| self.frozen.is_none_or(|frozen| stage > frozen));
            self.network.tensors.insert(parameter.name, tensor.f_set_requires_grad(trained)?);
        }
        Ok(())
    }

    /// One optimiser step. Images are `side * side * 3` bytes of interleaved RGB. `epoch` is counted from 1, `step` from 0; dropout
    /// is a function of the seed and these two.
    ///
    /// # Errors
    /// [`NetError::NotFinite`] when the loss is no number any more: nothing was changed.
    pub fn step(
        &mut self,
        images: &[&[u8]],
        labels: &[Severity],
        learning_rate: f64,
        epoch: u32,
        step: u32,
    ) -> Result<StepOutcome> {
        let input = self.normalizer.tensor(images)?;
        let targets: Vec<i64> = labels.iter().map(|label| label.index() as i64).collect();
        let targets = Tensor::f_from_slice(&targets)?.f_to_device(self.device.0)?;
        tch::manual_seed(rng(self.seed, Purpose::Dropout, epoch.into(), step.into()).random::<i64>());

        let logits = self.network.logits(&input, Pass::Training { frozen: self.frozen })?;
        let loss = logits.f_cross_entropy_loss::<&Tensor>(&targets, None, Reduction::Mean, IGNORE_INDEX, 0.0)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(NetError::NotFinite { epoch, step, loss: value });
        }
        let trained = || self.network.tensors.values().filter(|tensor| tensor.requires_grad());
        for tensor in trained() {
            tensor.shallow_clone().zero_grad();
        }
        loss.f_backward()?;
        tch::no_grad(|| {
            let trained = self.network.tensors.iter_mut().filter(|(_, tensor)| tensor.requires_grad());
            self.optimizer.step(trained, learning_rate)
        })?;
        let right = logits.f_argmax(1, false)?.f_eq_tensor(&targets)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok(StepOutcome {
            loss_sum: value * images.len() as f64,
            correct: right.unsigned_abs(),
            images: images.len() as u64,
        })
    }

    /// Class probabilities of images, in evaluation mode.
    ///
    /// # Errors
    /// An image of another size, or libtorch's errors.
    pub fn probabilities(&mut self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        let input = self.normalizer.tensor(images)?;
        let logits = tch::no_grad(|| self.network.logits(&input, Pass::Evaluation))?;
        rows(&logits.f_softmax(1, Kind::Float)?)
    }

    /// The weights as a safetensors file, with the buffers of batch norms.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn weights(&mut self) -> Result<Vec<u8>> {
        weights::write(&self.network.tensors)
    }

    /// Weights and the optimiser's state as a safetensors file, from which [`Self::restore`] goes on exactly.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn checkpoint(&mut self) -> Result<Vec<u8>> {
        let network =
            self.network.tensors.iter().map(|(name, tensor)| (format!("network.{name}"), tensor.shallow_clone()));
        let optimizer = self.optimizer.state()?.into_iter().map(|(name, tensor)| (format!("optimizer.{name}"), tensor));
        let all: Tensors = network.chain(optimizer).collect();
        weights::write(&all)
    }

    /// Goes back to a checkpoint of the same run.
    ///
    /// # Errors
    /// A file that is truncated, or of another network: the trainer stays as it was.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<()> {
        let file = SafeTensors::deserialize(checkpoint)
            .map_err(|error| NetError::Checkpoint(format!("not a whole safetensors file: {error}")))?;
        let (mut network, mut optimizer) = (Tensors::new(), Tensors::new());
        for (name, view) in file.iter() {
            let tensor = weights::tensor(view.data(), view.shape(), self.device)?;
            if let Some(name) = name.strip_prefix("network.") {
                network.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("optimizer.") {
                optimizer.insert(name.to_owned(), tensor);
            }
        }
        for parameter in weights::table(&self.network.topology) {
            let fits = network.get(&parameter.name).is_some_and(|tensor| {
                tensor.size().iter().map(|&side| side as usize).eq(parameter.shape.iter().copied())
            });
            if !fits {
                return Err(NetError::Checkpoint(format!("tensor {} is missing or has another shape", parameter.name)));
            }
        }
        self.optimizer.restore(optimizer)?;
        self.adopt(network)
    }
}
