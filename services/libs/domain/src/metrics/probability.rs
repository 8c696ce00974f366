//! Metrics that need the probabilities, not only the predicted classes.

use crate::severity::{CLASSES, Severity};

/// Bins of the calibration error, as many as in Guo et al.
pub const CALIBRATION_BINS: usize = 15;

/// Mean cross-entropy of the actual classes, in nats: scikit-learn's `log_loss`. A probability that has underflowed to zero counts as
/// the smallest normal number, since it would make the mean infinite. 0 for no images.
pub fn log_loss(scored: &[(Severity, [f32; CLASSES])]) -> f64 {
    let loss = |(actual, probabilities): &(Severity, [f32; CLASSES])| {
        -f64::from(probabilities[actual.index()].max(f32::MIN_POSITIVE)).ln()
    };
    scored.iter().map(loss).sum::<f64>() / scored.len().max(1) as f64
}

/// Expected calibration error of the top label, 0 to 1: the mean distance between confidence and accuracy over [`CALIBRATION_BINS`]
/// bins of equal width, weighted by their images (Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3). A bin
/// holds its upper bound. 0 for no images.
pub fn calibration_error(scored: &[(Severity, [f32; CLASSES])]) -> f64 {
    // For each bin: the sum of confidences less the number of images that were right.
    let mut gaps = [0.0; CALIBRATION_BINS];
    for (actual, probabilities) in scored {
        let predicted = Severity::most_likely(probabilities);
        let confidence = f64::from(probabilities[predicted.index()]);
        let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
        gaps[bin.clamp(1, CALIBRATION_BINS) - 1] += confidence - f64::from(u8::from(predicted == *actual));
    }
    gaps.iter().map(|gap| gap.abs()).sum::<f64>() / scored.len().max(1) as f64
}

/// Area under the ROC curve of one class against the other two, 0 to 1: the chance that an image of the class has a higher probability
/// of it than one of another class, ties counting half (scikit-learn's `roc_auc_score`; Fawcett, 2006). `None` unless there are images
/// of the class and of others.
pub fn roc_auc(scored: &[(Severity, [f32; CLASSES])], class: Severity) -> Option<f64> {
    let mut ranked: Vec<(f32, bool)> =
        scored.iter().map(|(actual, probabilities)| (probabilities[class.index()], *actual == class)).collect();
    ranked.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut wins, mut below) = (0.0, 0.0);
    for tied in ranked.chunk_by(|one, other| one.0 == other.0) {
        let positives = tied.iter().filter(|(_, is_class)| *is_class).count() as f64;
        let negatives = tied.len() as f64 - positives;
        wins += positives * (below + negatives / 2.0);
        below += negatives;
    }
    let positives = ranked.len() as f64 - below;
    (positives > 0.0 && below > 0.0).then(|| wins / (positives * below))
}
