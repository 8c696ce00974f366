//! How gradients become steps, and how large the steps are.

use serde::{Deserialize, Serialize};

use super::error::{SpecError, in_range};

/// How gradients become steps. Definitions and defaults are `torch.optim`'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent, `torch.optim.SGD` with `dampening=0`.
    Sgd {
        /// Step size.
        learning_rate: f64,
        /// Share of the last step that is kept, 0 to 1.
        #[serde(default)]
        momentum: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f64,
        /// Nesterov's momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// `torch.optim.Adam` (Kingma and Ba, 2014), weight decay as an L2 penalty.
    Adam {
        /// Step size.
        learning_rate: f64,
        /// Decay rates of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// L2 penalty added to the gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// `torch.optim.AdamW` (Loshchilov and Hutter, 2017), weight decay apart from the gradient.
    Adamw {
        /// Step size.
        learning_rate: f64,
        /// Decay rates of the two moments.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
        /// Share of each weight that is taken away in a step of size 1.
        #[serde(default = "default_weight_decay")]
        weight_decay: f64,
    },
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_epsilon() -> f64 {
    1e-8
}

fn default_weight_decay() -> f64 {
    0.01
}

impl Optimizer {
    /// The step size before any schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd { learning_rate, .. } | Self::Adam { learning_rate, .. } | Self::Adamw { learning_rate, .. } => {
                *learning_rate
            }
        }
    }
}

/// How the learning rate changes from epoch to epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    Constant {},
    /// Multiplied by `gamma` every `epochs` epochs: `StepLR`.
    Step {
        /// Epochs between changes.
        epochs: u32,
        /// The factor.
        gamma: f64,
    },
    /// Rises linearly over `warmup_epochs`, then falls along half a cosine towards `minimum`: `CosineAnnealingLR`.
    Cosine {
        /// Epochs of linear rise.
        #[serde(default)]
        warmup_epochs: u32,
        /// The learning rate that an epoch after the last would have.
        #[serde(default)]
        minimum: f64,
    },
    /// Multiplied by `factor` when the loss on the validation split has not fallen for more than `patience` epochs:
    /// `ReduceLROnPlateau` with its default threshold (a relative 1e-4) and no cooldown.
    Plateau {
        /// The factor.
        #[serde(default = "default_factor")]
        factor: f64,
        /// Epochs without a lower loss that are borne.
        #[serde(default = "default_patience")]
        patience: u32,
        /// The learning rate is not made smaller than this.
        #[serde(default)]
        minimum: f64,
    },
}

fn default_factor() -> f64 {
    0.1
}

fn default_patience() -> u32 {
    10
}

impl Schedule {
    pub(super) fn validate(&self, all_epochs: u32, learning_rate: f64) -> Result<(), SpecError> {
        match *self {
            Self::Constant {} => Ok(()),
            Self::Step { epochs, gamma } => {
                in_range("schedule.epochs", epochs, 1, 10_000)?;
                in_range("schedule.gamma", gamma, 0.0, 1.0)
            }
            Self::Cosine { warmup_epochs, minimum } => {
                in_range("schedule.warmup_epochs", warmup_epochs, 0, all_epochs.saturating_sub(1))?;
                in_range("schedule.minimum", minimum, 0.0, learning_rate)
            }
            Self::Plateau { factor, patience, minimum } => {
                in_range("schedule.factor", factor, 0.0, 1.0 - f64::EPSILON)?;
                in_range("schedule.patience", patience, 0, 10_000)?;
                in_range("schedule.minimum", minimum, 0.0, learning_rate)
            }
        }
    }
}

impl Optimizer {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        in_range("optimizer.learning_rate", self.learning_rate(), f64::MIN_POSITIVE, 10.0)?;
        match self {
            Self::Sgd { momentum, weight_decay, nesterov, .. } => {
                in_range("optimizer.momentum", *momentum, 0.0, 1.0)?;
                in_range("optimizer.weight_decay", *weight_decay, 0.0, 1.0)?;
                if *nesterov && *momentum == 0.0 {
                    return Err(SpecError::invalid("optimizer.nesterov", "needs a momentum above 0"));
                }
            }
            Self::Adam { betas, epsilon, weight_decay, .. } | Self::Adamw { betas, epsilon, weight_decay, .. } => {
                in_range("optimizer.betas", betas[0].max(betas[1]), 0.0, 1.0 - f64::EPSILON)?;
                in_range("optimizer.betas", betas[0].min(betas[1]), 0.0, 1.0 - f64::EPSILON)?;
                in_range("optimizer.epsilon", *epsilon, f64::MIN_POSITIVE, 1.0)?;
                in_range("optimizer.weight_decay", *weight_decay, 0.0, 1.0)?;
            }
        }
        Ok(())
    }
}
