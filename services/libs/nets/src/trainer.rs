//! One training run's state on one device: steps, measurements, weights and checkpoints.

use perito_domain::{Severity, preprocessing::Preprocessing, severity::CLASSES, spec::TrainSpec};
use tch::{Reduction, Tensor};

use crate::{
    batch::Normalizer,
    checkpoint,
    device::Device,
    dropout,
    engine::channels_last,
    error::{NetError, Result},
    initial::initial,
    network::{Network, Pass, Topology, is_trained},
    optimizer::{Move, Optimizer},
    output::{rows, softmax},
    weights::{self, Tensors},
};

/// The default of torch's cross-entropy: a label that counts for nothing. None of ours does.
const IGNORE_INDEX: i64 = -100;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLoss {
    /// Sum of the images' cross-entropies before the step, in nats.
    pub loss_sum: f64,
    /// How many images were right before the step.
    pub correct: u64,
    /// How many images there were.
    pub images: u64,
}

/// A network in training. It can move between threads; use it on one at a time.
pub struct Trainer {
    network: Network,
    normalizer: Normalizer,
    optimizer: Optimizer,
    /// The names of the parameters that gradients change, in forward order.
    trained: Vec<String>,
    left_aside: Vec<String>,
    spec: TrainSpec,
    device: Device,
}

impl Trainer {
    /// Begins a run, from random weights (a function of the seed) or from those of a safetensors file of the same architecture. The
    /// file's head is left aside when it has another number of classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit.
    pub fn new(
        spec: &TrainSpec,
        preprocessing: &Preprocessing,
        initial_weights: Option<&[u8]>,
        device: Device,
    ) -> Result<Self> {
        let topology = Topology { architecture: spec.architecture, image_size: spec.image_size, dropout: spec.dropout };
        let fresh = initial(&topology, spec.seed, device)?;
        let (tensors, left_aside) = match initial_weights {
            Some(bytes) => weights::read_backbone(&topology, bytes, fresh, device)?,
            None => (fresh, Vec::new()),
        };
        let trained = weights::table(&topology)
            .into_iter()
            .filter(|parameter| parameter.role.is_trained() && is_trained(parameter.stage, spec.freeze))
            .map(|parameter| parameter.name)
            .collect();
        let mut trainer = Self {
            network: Network { topology, tensors: Tensors::new(), folded: false },
            normalizer: Normalizer::new(&topology, preprocessing, device)?,
            optimizer: Optimizer::new(spec.optimizer.clone(), device),
            trained,
            left_aside,
            spec: spec.clone(),
            device,
        };
        trainer.network.tensors = trainer.prepare(tensors)?;
        Ok(trainer)
    }

    /// Lays convolutions out channels-last, as their input is, and marks what is trained.
    fn prepare(&self, tensors: Tensors) -> Result<Tensors> {
        tensors
            .into_iter()
            .map(|(name, tensor)| {
                let tensor = if tensor.dim() == 4 { channels_last(&tensor)? } else { tensor };
                let trained = self.trained.contains(&name);
                Ok((name, tensor.f_set_requires_grad(trained)?))
            })
            .collect()
    }

    /// The tensors of the initial weights that were not taken: a head for other classes.
    pub fn left_aside(&self) -> &[String] {
        &self.left_aside
    }

    /// One optimiser step. Images are `side * side * 3` bytes of interleaved RGB. `epoch` is counted from 1, `step` from 0; dropout
    /// is a function of the seed and these two.
    ///
    /// # Errors
    /// [`NetError::NotFinite`] when the loss is no number any more: the run cannot go on. [`NetError::Input`] for fewer than two
    /// images (batch norm has no variance of one), images of another size, or labels of another number.
    pub fn step(
        &mut self,
        images: &[&[u8]],
        labels: &[Severity],
        learning_rate: f64,
        epoch: u32,
        step: u32,
    ) -> Result<StepLoss> {
        if images.len() < 2 || images.len() != labels.len() {
            let (images, labels) = (images.len(), labels.len());
            return Err(NetError::Input(format!(
                "a step over {images} images with {labels} labels: two at least, as many"
            )));
        }
        let input = self.normalizer.tensor(images)?;
        let targets: Vec<i64> = labels.iter().map(|label| label.index() as i64).collect();
        let targets = Tensor::f_from_slice(&targets)?.f_to_device(self.device.0)?;
        let place = (self.spec.seed, epoch, step);
        let mask = dropout::mask(self.spec.dropout, (images.len(), self.features()?), place, self.device)?;

        let pass = Pass::Training { frozen: self.spec.freeze, dropout: mask.as_ref() };
        let logits = self.network.logits(&input, pass)?;
        let loss = logits.f_cross_entropy_loss::<&Tensor>(&targets, None, Reduction::Mean, IGNORE_INDEX, 0.0)?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(NetError::NotFinite { epoch, step, loss: value });
        }
        let parameters = self.network.named(&self.trained)?;
        let inputs: Vec<&Tensor> = parameters.iter().map(|&(_, tensor)| tensor).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &inputs, false, false)?;
        let moves = parameters.into_iter().zip(gradients).map(|((name, parameter), gradient)| Move {
            name,
            parameter: parameter.shallow_clone(),
            gradient,
        });
        self.optimizer.step(moves, learning_rate)?;
        let right =
            rows(&logits)?.iter().zip(labels).filter(|(row, label)| Severity::most_likely(row) == **label).count();
        Ok(StepLoss { loss_sum: value * images.len() as f64, correct: right as u64, images: images.len() as u64 })
    }

    /// How many features come before the head.
    fn features(&self) -> Result<i64> {
        let head = perito_domain::parameters::head(self.spec.architecture);
        let weight = self.network.tensor(&format!("{head}.weight"))?;
        Ok(weight.size2()?.1)
    }

    /// Class probabilities of images, in evaluation mode.
    ///
    /// # Errors
    /// An image of another size, weights that grew out of bounds, or libtorch's errors.
    pub fn probabilities(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let logits = self.network.logits(&self.normalizer.tensor(images)?, Pass::Evaluation)?;
        Ok(rows(&logits)?.into_iter().map(softmax).collect())
    }

    /// The weights as a safetensors file, with the buffers of batch norms.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn weights(&self) -> Result<Vec<u8>> {
        weights::write(&self.network.tensors, None)
    }

    /// Weights and the optimiser's state as a safetensors file, from which [`Self::restore`] goes on exactly.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn checkpoint(&self) -> Result<Vec<u8>> {
        let network = self.network.tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
        let Self { network: Network { topology, .. }, optimizer, spec, .. } = self;
        checkpoint::write(topology, &spec.optimizer, optimizer.steps(), network, optimizer.state())
    }

    /// Goes back to a checkpoint of the same run.
    ///
    /// # Errors
    /// A file that is truncated, or of another network, optimiser or choice of frozen stages: the trainer stays as it was.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<()> {
        let read = checkpoint::read(&self.network.topology, &self.spec.optimizer, checkpoint, self.device)?;
        let network = self.prepare(read.network)?;
        let parameters: Vec<(&str, &Tensor)> =
            self.trained.iter().filter_map(|name| Some((name.as_str(), network.get(name)?))).collect();
        let spec = self.spec.optimizer.clone();
        self.optimizer = Optimizer::resume(spec, read.steps, read.optimizer, &parameters, self.device)?;
        self.network.tensors = network;
        Ok(())
    }
}
