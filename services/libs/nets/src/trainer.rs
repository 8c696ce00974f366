//! One training run's state on one device: steps, measurements, weights and checkpoints.

use perito_domain::{
    Severity,
    artifact::ArtifactDescription,
    preprocessing::Preprocessing,
    severity::CLASSES,
    spec::{Precision, TrainSpec},
};
use tch::{Kind, Tensor};

use crate::{
    average::{Average, overlaid, share},
    batch::Normalizer,
    checkpoint,
    device::Device,
    dropout,
    engine::channels_last,
    error::{NetError, Result},
    initial::{initial, zero_residuals},
    loss::CrossEntropy,
    mix::Partner,
    network::{Form, Network, Pass, Topology, is_trained},
    optimizer::{Move, Optimizer},
    output::{logits, probabilities, rows},
    weights::{self, Backbone, Tensors},
};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepLoss {
    /// Sum of the images' losses before the step, in nats, of mixed images and smoothed labels where the recipe has them.
    pub loss_sum: f64,
    /// How many images were right before the step, by their own labels.
    pub correct: u64,
    /// How many images there were.
    pub images: u64,
}

/// A parameter that gradients change.
struct Trained {
    name: String,
    /// Factor on the learning rate.
    scale: f64,
}

/// A network in training. It can move between threads; use it on one at a time.
pub struct Trainer {
    network: Network,
    normalizer: Normalizer,
    optimizer: Optimizer,
    loss: CrossEntropy,
    /// The parameters that gradients change, in forward order.
    trained: Vec<Trained>,
    /// What is measured and kept instead of the weights themselves.
    average: Option<Average>,
    random: Vec<String>,
    preprocessing: Preprocessing,
    spec: TrainSpec,
    device: Device,
}

impl Trainer {
    /// Begins a run over a training split with so many images of each class, from random weights (a function of the seed) or from
    /// those of a safetensors file of the same architecture. The file's head is left aside when it has another number of classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or does not fit.
    pub fn new(
        spec: &TrainSpec,
        preprocessing: &Preprocessing,
        images: [u64; CLASSES],
        initial_weights: Option<&[u8]>,
        device: Device,
    ) -> Result<Self> {
        let topology = Topology { architecture: spec.architecture, image_size: spec.image_size, dropout: spec.dropout };
        let table = weights::table(&topology);
        let fresh = initial(&topology, spec.seed, device)?;
        let Backbone { mut tensors, random } = match initial_weights {
            Some(bytes) => weights::read_backbone(&topology, bytes, fresh, device)?,
            None => Backbone { tensors: fresh, random: table.iter().map(|parameter| parameter.name.clone()).collect() },
        };
        if spec.zero_init_residual {
            zero_residuals(&mut tensors, &random)?;
        }
        let trained = table.iter().filter(|it| it.role.is_trained() && is_trained(it.stage, spec.freeze)).map(|it| {
            let scale = it.stage.and_then(|stage| spec.learning_rate_scales.get(&stage));
            Trained { name: it.name.clone(), scale: scale.copied().unwrap_or(1.0) }
        });
        let mut trainer = Self {
            trained: trained.collect(),
            network: Network { topology, tensors: Tensors::new(), form: Form::Plain },
            normalizer: Normalizer::new(&topology, preprocessing, device)?,
            optimizer: Optimizer::new(spec.optimizer.clone(), device),
            loss: CrossEntropy::new(&spec.loss, images, device)?,
            average: None,
            random: if initial_weights.is_some() { random } else { Vec::new() },
            preprocessing: preprocessing.clone(),
            spec: spec.clone(),
            device,
        };
        trainer.network.tensors = trainer.prepare(tensors)?;
        trainer.average = trainer.start_average(None)?;
        Ok(trainer)
    }

    /// Lays convolutions out channels-last, as their input is, and marks what is trained.
    fn prepare(&self, tensors: Tensors) -> Result<Tensors> {
        tensors
            .into_iter()
            .map(|(name, tensor)| {
                let tensor = if tensor.dim() == 4 { channels_last(&tensor)? } else { tensor };
                let trained = self.trained.iter().any(|trained| trained.name == name);
                Ok((name, tensor.f_set_requires_grad(trained)?))
            })
            .collect()
    }

    /// The average of the weights, if the recipe has one, from where it stood or from the present weights.
    fn start_average(&self, stood: Option<Tensors>) -> Result<Option<Average>> {
        let other = || NetError::Checkpoint("its average of the weights is of other tensors".to_owned());
        if !Average::is_kept(&self.spec) {
            return if stood.is_none_or(|stood| stood.is_empty()) { Ok(None) } else { Err(other()) };
        }
        let statistics = self.spec.freeze.max(self.spec.freeze_statistics);
        let changes = weights::table(&self.network.topology).into_iter().filter(|parameter| {
            let frozen = if parameter.role.is_trained() { self.spec.freeze } else { statistics };
            is_trained(parameter.stage, frozen)
        });
        let now = changes.map(|parameter| {
            let tensor = self.network.tensor(&parameter.name)?.shallow_clone();
            Ok((parameter.name, tensor))
        });
        let mut now: Tensors = now.collect::<Result<_>>()?;
        if let Some(stood) = stood {
            if !stood.keys().eq(now.keys()) {
                return Err(other());
            }
            now = stood;
        }
        Ok(Some(Average::new(now)?))
    }

    /// The network that is measured and kept: the weights, or their average.
    fn kept(&self) -> Network {
        let tensors = overlaid(&self.network.tensors, self.average.as_ref().map(Average::tensors));
        Network { topology: self.network.topology, tensors, form: Form::Plain }
    }

    /// The parameters that begin at random although there are initial weights: a head for other classes, and what the file lacks.
    pub fn random(&self) -> &[String] {
        &self.random
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
        let mut input = self.normalizer.tensor(images)?;
        let place = (self.spec.seed, epoch, step);
        let partner = Partner::draw(&self.spec.mix, self.spec.image_size.into(), place)?;
        if let Some(partner) = &partner {
            input = partner.mix(&input)?;
        }
        let mask = dropout::mask(self.spec.dropout, (images.len(), self.features()?), place, self.device)?;
        let TrainSpec { freeze: frozen, freeze_statistics: frozen_statistics, .. } = self.spec;
        let kind = match self.spec.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bfloat16 => Kind::BFloat16,
        };
        let pass = Pass::Training { frozen, frozen_statistics, kind, dropout: mask.as_ref() };
        let logits = self.network.logits(&input, pass)?;
        let loss = self.loss.of(&logits, labels, partner.as_ref())?;
        let value = loss.f_double_value(&[])?;
        if !value.is_finite() {
            return Err(NetError::NotFinite { epoch, step, loss: value });
        }
        let parameters = self.trained.iter().map(|it| self.network.tensor(&it.name)).collect::<Result<Vec<_>>>()?;
        let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
        let moves = self.trained.iter().zip(parameters).zip(gradients).map(|((trained, parameter), gradient)| Move {
            name: &trained.name,
            parameter: parameter.shallow_clone(),
            gradient,
            scale: trained.scale,
        });
        self.optimizer.step(moves, learning_rate)?;
        if let Some(average) = &mut self.average {
            average.update(share(&self.spec, self.optimizer.steps(), epoch, step), &self.network.tensors)?;
        }
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

    /// Class probabilities of images in evaluation mode, as the model that would be registered now gives them.
    ///
    /// # Errors
    /// An image of another size, weights that grew out of bounds, or libtorch's errors.
    pub fn probabilities(&self, images: &[&[u8]]) -> Result<Vec<[f32; CLASSES]>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let logits =
            logits(&self.kept(), &self.normalizer.tensor(images)?, Kind::Float, self.preprocessing.test_time_flip)?;
        probabilities(&logits)
    }

    /// The weights, or their average, as a safetensors file, with the buffers of batch norms and a description of the model.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn weights(&self) -> Result<Vec<u8>> {
        let description = ArtifactDescription::new(self.spec.architecture, self.preprocessing.clone());
        weights::write(&self.kept().tensors, Some(weights::description(&description)?))
    }

    /// Weights, the optimiser's state and the average as a safetensors file, from which [`Self::restore`] goes on exactly.
    ///
    /// # Errors
    /// libtorch's errors.
    pub fn checkpoint(&self) -> Result<Vec<u8>> {
        let network = self.network.tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
        let Self { network: Network { topology, .. }, optimizer, spec, .. } = self;
        let average = self.average.iter().flat_map(|average| average.tensors()).map(|(name, it)| (name.clone(), it));
        checkpoint::write(topology, &spec.optimizer, optimizer.steps(), network, optimizer.state(), average)
    }

    /// Goes back to a checkpoint of the same run.
    ///
    /// # Errors
    /// A file that is truncated, or of another network, optimiser or choice of frozen stages: the trainer stays as it was.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<()> {
        let read = checkpoint::read(&self.network.topology, &self.spec.optimizer, checkpoint, self.device)?;
        let network = self.prepare(read.network)?;
        let parameters: Vec<(&str, &Tensor)> =
            self.trained.iter().filter_map(|it| Some((it.name.as_str(), network.get(&it.name)?))).collect();
        let spec = self.spec.optimizer.clone();
        let optimizer = Optimizer::resume(spec, read.steps, read.optimizer, &parameters, self.device)?;
        let average = self.start_average(Some(self.prepare(read.average)?))?;
        self.optimizer = optimizer;
        self.average = average;
        self.network.tensors = network;
        Ok(())
    }
}
