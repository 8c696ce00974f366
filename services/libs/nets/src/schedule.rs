//! How the learning rate changes from epoch to epoch.

use perito_domain::spec::{Schedule, TrainSpec};

/// The learning rate of an epoch, counted from 0.
///
/// `step` is `StepLR` of `torch.optim.lr_scheduler`. `cosine` is `CosineAnnealingLR` (Loshchilov and Hutter, 2016, without restarts)
/// over the epochs after the warm-up, and would arrive at its minimum one epoch after the last, so that the last one still learns. The
/// warm-up of `n` epochs before it is `LinearLR` from 1/(n + 1) of the full rate.
pub fn learning_rate(spec: &TrainSpec, epoch: u32) -> f64 {
    let full = spec.optimizer.learning_rate();
    match spec.schedule {
        Schedule::Constant {} => full,
        Schedule::Step { epochs, gamma } => full * gamma.powf(f64::from(epoch / epochs.max(1))),
        Schedule::Cosine { warmup_epochs, .. } if epoch < warmup_epochs => {
            full * f64::from(epoch + 1) / f64::from(warmup_epochs + 1)
        }
        Schedule::Cosine { warmup_epochs, minimum } => {
            let falling = spec.epochs.saturating_sub(warmup_epochs).max(1);
            let progress = f64::from(epoch - warmup_epochs) / f64::from(falling);
            minimum + (full - minimum) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use perito_domain::spec::JobSpec;
    use serde::Deserialize;
    use serde_json::{Value, json};

    /// Written by `tests/golden/generate.py`.
    #[derive(Deserialize)]
    struct Golden {
        schedule: Value,
        epochs: u32,
        learning_rate: f64,
        rates: Vec<f64>,
    }

    #[test]
    fn rates_equal_torchs_schedulers() {
        let goldens: Vec<Golden> = serde_json::from_str(include_str!("../tests/golden/schedules.json")).unwrap();
        assert_eq!(goldens.len(), 5);
        for golden in goldens {
            let spec = JobSpec::parse(json!({
                "kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4", "epochs": golden.epochs,
                "optimizer": {"name": "sgd", "learning_rate": golden.learning_rate}, "schedule": golden.schedule,
            }));
            let JobSpec::Train(spec) = spec.unwrap() else { panic!("not a training specification") };
            assert_eq!(golden.rates.len(), golden.epochs as usize);
            for (epoch, expected) in (0..).zip(golden.rates) {
                let actual = learning_rate(&spec, epoch);
                assert!(
                    (actual - expected).abs() <= 1e-9 * expected,
                    "{:?} {epoch}: {actual} {expected}",
                    spec.schedule
                );
            }
        }
    }
}
