//! How the learning rate changes from epoch to epoch.

use perito_domain::spec::{Schedule, TrainSpec};

/// The learning rate of an epoch, counted from 0.
///
/// `step` is `torch.optim.lr_scheduler.StepLR`. `cosine` rises linearly over the warm-up epochs (the first one at
/// 1/warm-up of the full rate), then is `CosineAnnealingLR` over the rest (Loshchilov and Hutter, 2016, without restarts).
pub fn learning_rate(spec: &TrainSpec, epoch: u32) -> f64 {
    let full = spec.optimizer.learning_rate();
    match spec.schedule {
        Schedule::Constant {} => full,
        Schedule::Step { epochs, gamma } => full * gamma.powi((epoch / epochs).cast_signed()),
        Schedule::Cosine { warmup_epochs, .. } if epoch < warmup_epochs => {
            full * f64::from(epoch + 1) / f64::from(warmup_epochs)
        }
        Schedule::Cosine { warmup_epochs, minimum } => {
            let progress = f64::from(epoch - warmup_epochs) / f64::from((spec.epochs - warmup_epochs).max(1));
            minimum + (full - minimum) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
        }
    }
}
