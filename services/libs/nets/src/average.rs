//! An exponential moving average of weights (Polyak and Juditsky, 1992; as in Inception's training, Szegedy et al., 2015).

use crate::{
    error::Result,
    weights::{Tensors, copy},
};

/// The average of the tensors that change in training; all others are their own average.
pub(crate) struct Average {
    decay: f64,
    tensors: Tensors,
}

impl Average {
    /// Begins at the present values of these tensors.
    pub(crate) fn new(decay: f64, tensors: Tensors) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let copies = tensors.into_iter().map(|(name, tensor)| Ok((name, copy(&tensor)?)));
        Ok(Self { decay, tensors: copies.collect::<Result<_>>()? })
    }

    /// The average so far.
    pub(crate) fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Moves towards the values after `steps` steps: `average = decay * average + (1 - decay) * value` with
    /// `decay = min(decay, (1 + steps) / (10 + steps))`.
    pub(crate) fn update(&mut self, steps: u64, values: &Tensors) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let steps = steps as f64;
        let decay = self.decay.min((1.0 + steps) / (10.0 + steps));
        for (name, average) in &mut self.tensors {
            if let Some(value) = values.get(name) {
                let _ = average.f_lerp_(value, 1.0 - decay)?;
            }
        }
        Ok(())
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
    use tch::Tensor;

    #[test]
    fn the_average_is_the_recurrence() {
        let one = |value: f32| Tensors::from([("w".to_owned(), Tensor::from_slice(&[value]))]);
        let mut average = Average::new(0.5, one(4.0)).unwrap();
        let mut expected = 4.0;
        for (steps, value) in [(1_u64, 8.0_f32), (2, -1.0), (100, 3.0)] {
            average.update(steps, &one(value)).unwrap();
            let decay = 0.5_f64.min((1.0 + steps as f64) / (10.0 + steps as f64));
            expected = decay * expected + (1.0 - decay) * f64::from(value);
            assert!((average.tensors()["w"].double_value(&[0]) - expected).abs() < 1e-5, "{steps}");
        }
    }
}
