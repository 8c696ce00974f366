//! SGD, Adam and AdamW with `torch.optim`'s definitions, and state that can be saved. (The optimisers of `tch` cannot give out their
//! state, and a run that resumes without it is another run.)
//!
//! A step reads and writes each value as few times as libtorch's operations allow: `cnn4` has 26 million of them at 224 pixels.
//! Hence `a.addcmul_(b, scalar)` (`a += b * scalar` in one pass) with scalars as tensors, and gradients that are overwritten.

use std::collections::BTreeMap;

use perito_domain::spec;
use tch::Tensor;

use crate::{
    device::Device,
    error::{NetError, Result},
    weights::Tensors,
};

/// One optimiser's state over named parameters.
pub(crate) struct Optimizer {
    spec: spec::Optimizer,
    device: Device,
    /// Steps taken so far.
    steps: u64,
    /// By parameter, one tensor for each of [`state_names`].
    state: BTreeMap<String, Vec<Tensor>>,
}

/// A parameter that is to move, and its gradient.
pub(crate) struct Move<'a> {
    pub(crate) name: &'a str,
    pub(crate) parameter: Tensor,
    pub(crate) gradient: Tensor,
    /// Factor on the learning rate.
    pub(crate) scale: f64,
}

/// What an optimiser remembers of each parameter, in `torch.optim`'s names.
fn state_names(spec: &spec::Optimizer) -> &'static [&'static str] {
    match spec {
        spec::Optimizer::Sgd { momentum: 0.0, .. } => &[],
        spec::Optimizer::Sgd { .. } => &["momentum_buffer"],
        spec::Optimizer::Adam { .. } | spec::Optimizer::Adamw { .. } => &["exp_avg", "exp_avg_sq"],
    }
}

impl Optimizer {
    pub(crate) fn new(spec: spec::Optimizer, device: Device) -> Self {
        Self { spec, device, steps: 0, state: BTreeMap::new() }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves every parameter by one step. Gradients are used up.
    pub(crate) fn step<'a>(&mut self, moves: impl IntoIterator<Item = Move<'a>>, learning_rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        for Move { name, mut parameter, gradient, scale } in moves {
            let learning_rate = learning_rate * scale;
            let mut gradient = laid_out_like(&parameter, gradient)?;
            if !self.state.contains_key(name) {
                let zeros = state_names(&self.spec).iter().map(|_| Ok(parameter.f_zeros_like()?));
                self.state.insert(name.to_owned(), zeros.collect::<Result<_>>()?);
            }
            let state = self.state.entry(name.to_owned()).or_default();
            match (&self.spec, state.as_mut_slice()) {
                (&spec::Optimizer::Sgd { momentum, weight_decay, nesterov, .. }, buffer) => {
                    let sgd = Sgd { momentum, weight_decay, nesterov };
                    sgd.step(&mut parameter, gradient, buffer.first_mut(), learning_rate, self.device)?;
                }
                (&spec::Optimizer::Adam { betas, epsilon, weight_decay, .. }, [first, second]) => {
                    if weight_decay != 0.0 {
                        add(&mut gradient, &parameter, weight_decay, self.device)?;
                    }
                    let adam = Adam { betas, epsilon, steps: self.steps };
                    adam.step(&mut parameter, gradient, first, second, learning_rate)?;
                }
                (&spec::Optimizer::Adamw { betas, epsilon, weight_decay, .. }, [first, second]) => {
                    if weight_decay != 0.0 {
                        let _ = parameter.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
                    }
                    let adam = Adam { betas, epsilon, steps: self.steps };
                    adam.step(&mut parameter, gradient, first, second, learning_rate)?;
                }
                (_, state) => {
                    return Err(NetError::Checkpoint(format!("{name} has {} tensors of optimiser state", state.len())));
                }
            }
        }
        Ok(())
    }

    /// The state as `PARAMETER.STATE`.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.state.iter().flat_map(|(parameter, state)| {
            state_names(&self.spec).iter().zip(state).map(move |(name, tensor)| (format!("{parameter}.{name}"), tensor))
        })
    }

    /// An optimiser that goes on after `steps` steps. `parameters` are those that it moves; none has state before the first step.
    ///
    /// # Errors
    /// Names the state that is missing, has another shape, or belongs to nothing.
    pub(crate) fn resume(
        spec: spec::Optimizer,
        steps: u64,
        mut state: Tensors,
        parameters: &[(&str, &Tensor)],
        device: Device,
    ) -> Result<Self> {
        let mut resumed = Self { steps, ..Self::new(spec, device) };
        for &(name, parameter) in parameters.iter().filter(|_| steps > 0) {
            let tensors = state_names(&resumed.spec).iter().map(|part| {
                let key = format!("{name}.{part}");
                match state.remove(&key) {
                    Some(tensor) if tensor.size() == parameter.size() => laid_out_like(parameter, tensor),
                    Some(tensor) => {
                        let (found, expected) = (tensor.size(), parameter.size());
                        Err(NetError::Checkpoint(format!("state {key} has the shape {found:?}, expected {expected:?}")))
                    }
                    None => Err(NetError::Checkpoint(format!("state {key} is missing"))),
                }
            });
            let tensors = tensors.collect::<Result<_>>()?;
            resumed.state.insert(name.to_owned(), tensors);
        }
        match state.keys().next() {
            Some(key) => Err(NetError::Checkpoint(format!("state {key} belongs to no trained parameter of this run"))),
            None => Ok(resumed),
        }
    }
}

/// `torch.optim.SGD` with `dampening=0`.
struct Sgd {
    momentum: f64,
    weight_decay: f64,
    nesterov: bool,
}

impl Sgd {
    fn step(
        &self,
        parameter: &mut Tensor,
        mut gradient: Tensor,
        buffer: Option<&mut Tensor>,
        learning_rate: f64,
        device: Device,
    ) -> Result<()> {
        if self.weight_decay != 0.0 {
            add(&mut gradient, parameter, self.weight_decay, device)?;
        }
        if let Some(buffer) = buffer {
            if self.nesterov {
                let _ = buffer.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
                add(&mut gradient, buffer, self.momentum, device)?;
            } else {
                add(&mut gradient, buffer, self.momentum, device)?;
                *buffer = gradient.shallow_clone();
            }
        }
        add(parameter, &gradient, -learning_rate, device)
    }
}

/// `torch.optim.Adam` from the moments on (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014, algorithm 1).
struct Adam {
    betas: [f64; 2],
    epsilon: f64,
    steps: u64,
}

impl Adam {
    fn step(
        &self,
        parameter: &mut Tensor,
        mut gradient: Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
        learning_rate: f64,
    ) -> Result<()> {
        let _ = first.f_lerp_(&gradient, 1.0 - self.betas[0])?;
        let _ = gradient.f_square_()?;
        let _ = second.f_lerp_(&gradient, 1.0 - self.betas[1])?;
        let corrections = self.betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
        let step_size = learning_rate / corrections[0];
        if step_size == 0.0 {
            return Ok(());
        }
        // The step's size and sign go into the denominator, which spares a pass: first / (root * a + b) with
        // a = -1 / (sqrt(correction) * size) and b = -epsilon / size.
        let mut denominator = second.f_sqrt_out(&gradient)?;
        let _ = denominator.f_mul_scalar_(-1.0 / (corrections[1].sqrt() * step_size))?;
        let _ = denominator.f_add_scalar_(-self.epsilon / step_size)?;
        let _ = parameter.f_addcdiv_(first, &denominator)?;
        Ok(())
    }
}

/// `target += addend * factor`, in one pass.
fn add(target: &mut Tensor, addend: &Tensor, factor: f64, device: Device) -> Result<()> {
    let factor = Tensor::f_from_slice(&[factor as f32])?.f_to_device(device.0)?;
    // Of as many dimensions as the target, so that broadcasting changes nothing but the number of values.
    let factor = factor.f_reshape(vec![1; target.dim()])?;
    let _ = target.f_addcmul_(addend, &factor)?;
    Ok(())
}

/// `tensor`, with its values in the same order in memory as those of `model`. In another order, arithmetic would take another path
/// through libtorch, which is slower and may round otherwise.
fn laid_out_like(model: &Tensor, tensor: Tensor) -> Result<Tensor> {
    if tensor.stride() == model.stride() {
        return Ok(tensor);
    }
    let mut copy = model.f_empty_like()?;
    copy.f_copy_(&tensor)?;
    Ok(copy)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;

    const CPU: Device = Device(tch::Device::Cpu);

    /// Written by `tests/golden/generate.py`.
    #[derive(Deserialize)]
    struct Golden {
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        learning_rates: Vec<f64>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        optimizer: spec::Optimizer,
        /// After each step.
        parameters: Vec<Vec<f32>>,
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../tests/golden/optimizers.json")).unwrap()
    }

    #[test]
    fn twenty_steps_equal_torch_optim() {
        let golden = golden();
        assert_eq!((golden.gradients.len(), golden.cases.len()), (20, 8));
        for case in golden.cases {
            let parameter = Tensor::from_slice(&golden.start);
            let mut optimizer = Optimizer::new(case.optimizer.clone(), CPU);
            let steps = golden.gradients.iter().zip(&golden.learning_rates).zip(&case.parameters);
            for ((gradient, &learning_rate), expected) in steps {
                let gradient = Tensor::from_slice(gradient);
                let step = Move { name: "p", parameter: parameter.shallow_clone(), gradient, scale: 1.0 };
                optimizer.step([step], learning_rate).unwrap();
                let actual: Vec<f32> = Vec::try_from(&parameter).unwrap();
                for (actual, expected) in actual.iter().zip(expected) {
                    let error = ((actual - expected) / expected).abs();
                    assert!(error < 1e-6, "{:?} step {}: {actual} {expected}", case.optimizer, optimizer.steps());
                }
            }
        }
    }

    #[test]
    fn state_that_does_not_fit_is_named() {
        let golden = golden();
        for case in golden.cases.into_iter().filter(|case| !state_names(&case.optimizer).is_empty()) {
            let parameter = Tensor::from_slice(&golden.start);
            let gradient = Tensor::from_slice(&golden.gradients[0]);
            let mut optimizer = Optimizer::new(case.optimizer.clone(), CPU);
            optimizer
                .step([Move { name: "p", parameter: parameter.shallow_clone(), gradient, scale: 1.0 }], 0.1)
                .unwrap();
            let state =
                || -> Tensors { optimizer.state().map(|(name, state)| (name, state.shallow_clone())).collect() };
            let key = format!("p.{}", state_names(&case.optimizer)[0]);
            let resume = |state| {
                let resumed = Optimizer::resume(case.optimizer.clone(), 1, state, &[("p", &parameter)], CPU);
                resumed.map(|optimizer| optimizer.steps()).map_err(|error| error.to_string())
            };
            assert_eq!(resume(state()), Ok(1));
            let mut missing = state();
            missing.remove(&key);
            assert!(resume(missing).unwrap_err().contains(&key));
            let mut misshaped = state();
            misshaped.insert(key.clone(), Tensor::from_slice(&[1.0_f32]));
            assert!(resume(misshaped).unwrap_err().contains(&key));
            let mut foreign = state();
            foreign.insert("q.exp_avg".to_owned(), Tensor::from_slice(&[1.0_f32]));
            assert!(resume(foreign).unwrap_err().contains("q.exp_avg"));
        }
    }
}
