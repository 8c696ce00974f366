//! How the learning rate changes from epoch to epoch.

use perito_domain::spec::{Schedule, TrainSpec};

/// The learning rate of the epoch that follows those with these losses on the validation split. Only `plateau` looks at the losses;
/// the others count them.
///
/// `step` is `StepLR` of `torch.optim.lr_scheduler`. `cosine` is `CosineAnnealingLR` (Loshchilov and Hutter, 2016, without restarts)
/// over the epochs after the warm-up, and would arrive at its minimum one epoch after the last, so that the last one still learns. The
/// warm-up of `n` epochs before it is `LinearLR` from 1/(n + 1) of the full rate. `plateau` is `ReduceLROnPlateau(mode="min")`.
pub fn learning_rate(spec: &TrainSpec, losses: &[f64]) -> f64 {
    let epoch = losses.len() as u32;
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
        Schedule::Plateau { factor, patience, minimum } => plateau(full, losses, factor, patience, minimum),
    }
}

/// `ReduceLROnPlateau` with its defaults `threshold=1e-4`, `threshold_mode="rel"`, `cooldown=0` and `eps=1e-8`.
fn plateau(full: f64, losses: &[f64], factor: f64, patience: u32, minimum: f64) -> f64 {
    let (mut rate, mut best, mut bad_epochs) = (full, f64::INFINITY, 0);
    for &loss in losses {
        if loss < best * (1.0 - 1e-4) {
            best = loss;
            bad_epochs = 0;
        } else {
            bad_epochs += 1;
        }
        if bad_epochs > patience {
            bad_epochs = 0;
            let lower = (rate * factor).max(minimum);
            // A change too small to matter is not made.
            rate = if rate - lower > 1e-8 { lower } else { rate };
        }
    }
    rate
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
        /// The loss on the validation split after each epoch.
        losses: Vec<f64>,
    }

    #[test]
    fn rates_equal_torchs_schedulers() {
        let goldens: Vec<Golden> = serde_json::from_str(include_str!("../tests/golden/schedules.json")).unwrap();
        assert_eq!(goldens.len(), 7);
        for golden in goldens {
            let spec = JobSpec::parse(json!({
                "kind": "train", "model": "m", "dataset": "d", "architecture": "cnn4", "epochs": golden.epochs,
                "optimizer": {"name": "sgd", "learning_rate": golden.learning_rate}, "schedule": golden.schedule,
            }));
            let JobSpec::Train(spec) = spec.unwrap() else { panic!("not a training specification") };
            assert_eq!(golden.rates.len(), golden.epochs as usize);
            for (epoch, expected) in golden.rates.into_iter().enumerate() {
                let actual = learning_rate(&spec, &golden.losses[..epoch]);
                assert!(
                    (actual - expected).abs() <= 1e-9 * expected,
                    "{:?} {epoch}: {actual} {expected}",
                    spec.schedule
                );
            }
        }
    }
}
