//! The average of a run's weights that is measured and kept in their place: a moving one (Polyak and Juditsky, 1992; as in
//! Inception's training, Szegedy et al., 2015), or from some epoch on the equal mean (stochastic weight averaging, Izmailov et al.,
//! 2018; `torch.optim.swa_utils.AveragedModel`, once a step).

use perito_domain::spec::TrainSpec;

use crate::{
    error::Result,
    weights::{Tensors, copy},
};

/// The average of the tensors that change in training; all others are their own average.
pub(crate) struct Average {
    tensors: Tensors,
}

impl Average {
    /// Begins at the present values of these tensors.
    pub(crate) fn new(tensors: Tensors) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let copies = tensors.into_iter().map(|(name, tensor)| Ok((name, copy(&tensor)?)));
        Ok(Self { tensors: copies.collect::<Result<_>>()? })
    }

    /// Whether a recipe has one.
    pub(crate) fn is_kept(spec: &TrainSpec) -> bool {
        spec.ema_decay > 0.0 || spec.swa_start.is_some()
    }

    /// The average so far.
    pub(crate) fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Moves towards these values: `average = (1 - share) * average + share * value`.
    pub(crate) fn update(&mut self, share: f64, values: &Tensors) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (name, average) in &mut self.tensors {
            if let Some(value) = values.get(name) {
                let _ = average.f_lerp_(value, share)?;
            }
        }
        Ok(())
    }
}

/// The newest weights' share of the average after `steps` steps in all, the last of them step `step` (from 0) of this epoch (from 1).
///
/// It is `1 - min(decay, (1 + steps) / (10 + steps))`; from the first step of [`TrainSpec::swa_epoch`] on, `1/n` in the n-th step.
pub(crate) fn share(spec: &TrainSpec, steps: u64, epoch: u32, step: u32) -> f64 {
    match spec.swa_epoch().filter(|&start| epoch >= start) {
        Some(start) => {
            // Every epoch has as many steps, so the place in the run alone says how many there were before: nothing to remember.
            let steps_an_epoch = steps.saturating_sub(1 + u64::from(step)) / u64::from(epoch.saturating_sub(1).max(1));
            1.0 / steps.saturating_sub(steps_an_epoch * u64::from(start - 1)).max(1) as f64
        }
        None => {
            let steps = steps as f64;
            1.0 - spec.ema_decay.min((1.0 + steps) / (10.0 + steps))
        }
    }
}

/// These tensors in the place of those of the same names.
pub(crate) fn overlaid(below: &Tensors, above: Option<&Tensors>) -> Tensors {
    let mut all: Tensors = below.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    all.extend(above.into_iter().flatten().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use perito_domain::spec::JobSpec;
    use serde_json::{Value, json};
    use tch::Tensor;

    fn spec(more: Value) -> TrainSpec {
        let mut spec = json!({"kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let JobSpec::Train(spec) = JobSpec::parse(spec).unwrap() else { panic!("not a training specification") };
        *spec
    }

    fn one(value: f32) -> Tensors {
        Tensors::from([("w".to_owned(), Tensor::from_slice(&[value]))])
    }

    #[test]
    fn the_moving_average_is_the_recurrence() {
        let spec = spec(json!({"ema_decay": 0.5}));
        let mut average = Average::new(one(4.0)).unwrap();
        let mut expected = 4.0;
        for (steps, value) in [(1_u64, 8.0_f32), (2, -1.0), (100, 3.0)] {
            average.update(share(&spec, steps, 1, steps as u32 - 1), &one(value)).unwrap();
            let decay = 0.5_f64.min((1.0 + steps as f64) / (10.0 + steps as f64));
            expected = decay * expected + (1.0 - decay) * f64::from(value);
            assert!((average.tensors()["w"].double_value(&[0]) - expected).abs() < 1e-5, "{steps}");
        }
    }

    #[test]
    fn from_its_epoch_on_it_is_the_equal_mean_of_each_steps_weights() {
        for (start, decay, steps_an_epoch) in [(1, 0.9, 5), (2, 0.9, 1), (3, 0.0, 4), (4, 0.9, 7)] {
            let spec = spec(json!({"epochs": 6, "ema_decay": decay, "swa_start": f64::from(start - 1) / 6.0}));
            let mut average = Average::new(one(100.0)).unwrap();
            assert_eq!(spec.swa_epoch(), Some(start));
            let (mut steps, mut since) = (0, Vec::new());
            for epoch in 1..=6 {
                for step in 0..steps_an_epoch {
                    steps += 1;
                    let value = (steps * steps % 11) as f32;
                    average.update(share(&spec, steps, epoch, step), &one(value)).unwrap();
                    if epoch >= start {
                        since.push(f64::from(value));
                        let mean = since.iter().sum::<f64>() / since.len() as f64;
                        let actual = average.tensors()["w"].double_value(&[0]);
                        assert!((actual - mean).abs() < 1e-5, "epoch {epoch}, step {step}: {actual} {mean}");
                    }
                }
            }
        }
    }
}
