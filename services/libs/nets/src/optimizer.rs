//! SGD, Adam and AdamW with torch.optim's definitions, and state that can be saved. (The optimisers of `tch` cannot give out their
//! state, and a run that resumes without it is another run.)

use std::collections::BTreeMap;

use perito_domain::spec;
use tch::Tensor;

use crate::error::{NetError, Result};

/// One optimiser's state over named parameters.
pub(crate) struct Optimizer {
    spec: spec::Optimizer,
    /// Steps taken so far.
    steps: i64,
    /// Momentum buffers or moments, by `NAME.momentum`, `NAME.first`, `NAME.second`.
    state: BTreeMap<String, Tensor>,
}

/// The entry that holds the number of steps.
const STEPS: &str = "steps";

impl Optimizer {
    pub(crate) fn new(spec: spec::Optimizer) -> Self {
        Self { spec, steps: 0, state: BTreeMap::new() }
    }

    /// Moves every parameter that has a gradient by one step.
    pub(crate) fn step<'a>(
        &mut self,
        parameters: impl Iterator<Item = (&'a String, &'a mut Tensor)>,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (name, parameter) in parameters {
            let gradient = parameter.f_grad()?;
            if !gradient.defined() {
                continue;
            }
            match self.spec {
                spec::Optimizer::Sgd { momentum, weight_decay, nesterov, .. } => {
                    let gradient = decayed(gradient, parameter, weight_decay)?;
                    let step = self.momentum(name, gradient, momentum, nesterov)?;
                    let _ = parameter.f_sub_(&step.f_mul_scalar(learning_rate)?)?;
                }
                spec::Optimizer::Adam { betas, epsilon, weight_decay, .. } => {
                    let gradient = decayed(gradient, parameter, weight_decay)?;
                    let step = self.adam(name, &gradient, betas, epsilon, learning_rate)?;
                    let _ = parameter.f_sub_(&step)?;
                }
                spec::Optimizer::Adamw { betas, epsilon, weight_decay, .. } => {
                    let _ = parameter.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
                    let step = self.adam(name, &gradient, betas, epsilon, learning_rate)?;
                    let _ = parameter.f_sub_(&step)?;
                }
            }
        }
        Ok(())
    }

    fn momentum(&mut self, name: &str, gradient: Tensor, momentum: f64, nesterov: bool) -> Result<Tensor> {
        if momentum == 0.0 {
            return Ok(gradient);
        }
        let key = format!("{name}.momentum");
        let buffer = match self.state.get_mut(&key) {
            Some(buffer) => {
                let _ = buffer.f_mul_scalar_(momentum)?.f_add_(&gradient)?;
                buffer
            }
            // torch.optim starts the buffer at the first gradient, not at zero.
            None => self.state.entry(key).or_insert(gradient.f_detach_copy()?),
        };
        if nesterov { Ok(buffer.f_mul_scalar(momentum)?.f_add(&gradient)?) } else { Ok(buffer.shallow_clone()) }
    }

    fn adam(
        &mut self,
        name: &str,
        gradient: &Tensor,
        betas: [f64; 2],
        epsilon: f64,
        learning_rate: f64,
    ) -> Result<Tensor> {
        let mut moment = |part: &str| -> Result<Tensor> {
            Ok(match self.state.get(&format!("{name}.{part}")) {
                Some(moment) => moment.shallow_clone(),
                None => {
                    let zeros = gradient.f_zeros_like()?;
                    self.state.insert(format!("{name}.{part}"), zeros.shallow_clone());
                    zeros
                }
            })
        };
        // In place: the state shares these tensors.
        let (mut first, mut second) = (moment("first")?, moment("second")?);
        let _ = first.f_lerp_(gradient, 1.0 - betas[0])?;
        let _ = second.f_mul_scalar_(betas[1])?.f_add_(&gradient.f_square()?.f_mul_scalar(1.0 - betas[1])?)?;
        let corrections = betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
        let root = second.f_sqrt()?.f_div_scalar(corrections[1].sqrt())?.f_add_scalar(epsilon)?;
        Ok(first.f_div(&root)?.f_mul_scalar(learning_rate / corrections[0])?)
    }

    /// The state, by name.
    pub(crate) fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state: BTreeMap<_, _> =
            self.state.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        // A count is exact in a float of 32 bits up to 16 million steps.
        state.insert(STEPS.to_owned(), Tensor::f_from_slice(&[self.steps as f32])?);
        Ok(state)
    }

    /// Takes a state back.
    pub(crate) fn restore(&mut self, mut state: BTreeMap<String, Tensor>) -> Result<()> {
        let steps = state
            .remove(STEPS)
            .ok_or_else(|| NetError::Checkpoint("the optimiser's number of steps is missing".to_owned()))?;
        self.steps = steps.f_double_value(&[0])? as i64;
        self.state = state;
        Ok(())
    }
}

fn decayed(gradient: Tensor, parameter: &Tensor, weight_decay: f64) -> Result<Tensor> {
    if weight_decay == 0.0 {
        return Ok(gradient);
    }
    Ok(gradient.f_add(&parameter.f_mul_scalar(weight_decay)?)?)
}
