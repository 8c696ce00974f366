//! Logits held against labels: cross-entropy, with mixed labels, label smoothing and class weights.

use perito_domain::{Severity, severity::CLASSES, spec::Loss};
use tch::{Kind, Reduction, Tensor};

use crate::{device::Device, error::Result, mix::Partner};

/// The default of torch's cross-entropy: a label that counts for nothing. None of ours does.
const IGNORE_INDEX: i64 = -100;

/// `torch.nn.CrossEntropyLoss(weight, label_smoothing)`, the mean over a batch.
pub(crate) struct CrossEntropy {
    class_weights: Option<Tensor>,
    label_smoothing: f64,
    device: Device,
}

impl CrossEntropy {
    /// For a training split with so many images of each class.
    pub(crate) fn new(spec: &Loss, images: [u64; CLASSES], device: Device) -> Result<Self> {
        let weights = spec.class_weights.map(|weights| weights.values(images).map(|weight| weight as f32));
        let class_weights = match weights {
            Some(weights) => Some(Tensor::f_from_slice(&weights)?.f_to_device(device.0)?),
            None => None,
        };
        Ok(Self { class_weights, label_smoothing: spec.label_smoothing, device })
    }

    /// Of logits (batch, 3), labels and, in a mixed batch, whose labels count too.
    pub(crate) fn of(&self, logits: &Tensor, labels: &[Severity], partner: Option<&Partner>) -> Result<Tensor> {
        let indices: Vec<i64> = labels.iter().map(|label| label.index() as i64).collect();
        let mut targets = Tensor::f_from_slice(&indices)?.f_to_device(self.device.0)?;
        if let Some(Partner { share, .. }) = partner {
            let own = targets.f_one_hot(CLASSES as i64)?.f_to_kind(Kind::Float)?;
            targets = own.f_roll([1], [0])?.f_mul_scalar(1.0 - share)?.f_add(&own.f_mul_scalar(*share)?)?;
        }
        let weights = self.class_weights.as_ref();
        Ok(logits.f_cross_entropy_loss(&targets, weights, Reduction::Mean, IGNORE_INDEX, self.label_smoothing)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mix::Part;
    use serde::Deserialize;

    /// Written by `tests/golden/generate.py`.
    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<f32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        spec: Loss,
        share: Option<f64>,
        loss: f64,
    }

    #[test]
    fn losses_equal_torchs() {
        let golden: Golden = serde_json::from_str(include_str!("../tests/golden/losses.json")).unwrap();
        assert_eq!(golden.cases.len(), 8);
        let logits = Tensor::from_slice(&golden.logits).reshape([4, 3]);
        let labels = [Severity::Minor, Severity::Severe, Severity::Moderate, Severity::Severe];
        for Case { spec, share, loss } in golden.cases {
            let partner = share.map(|share| Partner { share, part: Part::Blend });
            let cross_entropy = CrossEntropy::new(&spec, [1, 1, 2], Device(tch::Device::Cpu)).unwrap();
            let actual = cross_entropy.of(&logits, &labels, partner.as_ref()).unwrap().double_value(&[]);
            assert!((actual / loss - 1.0).abs() < 1e-6, "{spec:?} {share:?}: {actual} {loss}");
        }
    }
}
