//! What leaves a network: logits and probabilities as plain numbers.

use perito_domain::severity::CLASSES;
use tch::{Kind, Tensor};

use crate::{
    error::{NetError, Result},
    network::{Network, Pass},
};

/// A (batch, 3) tensor of logits as rows, every one of them a number.
pub(crate) fn rows(logits: &Tensor) -> Result<Vec<[f32; CLASSES]>> {
    let plain = logits.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    let mut values = vec![0.0_f32; plain.numel()];
    plain.f_copy_data(&mut values, plain.numel())?;
    let rows = values.as_chunks::<CLASSES>().0.to_vec();
    match rows.iter().position(|row| row.iter().any(|logit| !logit.is_finite())) {
        Some(image) => Err(NetError::Output { image, logits: rows[image] }),
        None => Ok(rows),
    }
}

/// Logits of normalised pixels, and with `flip` those of the mirror images. On a GPU they are still being computed.
pub(crate) fn logits(network: &Network, input: &Tensor, kind: Kind, flip: bool) -> Result<Vec<Tensor>> {
    let mut logits = vec![network.logits(input, Pass::Evaluation(kind))?];
    if flip {
        logits.push(network.logits(&input.f_flip([3])?, Pass::Evaluation(kind))?);
    }
    Ok(logits)
}

/// Class probabilities: of each image the mean over its logits here.
pub(crate) fn probabilities(logits: &[Tensor]) -> Result<Vec<[f32; CLASSES]>> {
    let mut sums: Vec<[f32; CLASSES]> = Vec::new();
    for of_one_side in logits {
        let probabilities = rows(of_one_side)?.into_iter().map(softmax);
        if sums.is_empty() {
            sums.extend(probabilities);
        } else {
            for (sum, row) in sums.iter_mut().zip(probabilities) {
                *sum = std::array::from_fn(|class| sum[class] + row[class]);
            }
        }
    }
    let sides = logits.len() as f32;
    Ok(sums.into_iter().map(|sum| sum.map(|sum| sum / sides)).collect())
}

/// Class probabilities of one image's logits.
pub(crate) fn softmax(logits: [f32; CLASSES]) -> [f32; CLASSES] {
    let largest = logits.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let powers = logits.map(|logit| (logit - largest).exp());
    let sum: f32 = powers.iter().sum();
    powers.map(|power| power / sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_libtorchs() {
        for logits in [[0.0, 0.0, 0.0], [1.5, -2.0, 0.25], [300.0, -300.0, 299.0]] {
            let expected: Vec<f32> = Tensor::from_slice(&logits).softmax(0, Kind::Float).try_into().unwrap();
            for (actual, expected) in softmax(logits).into_iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-6, "{logits:?}");
            }
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let logits = Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 0.0, f32::NAN, 1.0]).reshape([2, 3]);
        assert!(matches!(rows(&logits), Err(NetError::Output { image: 1, .. })));
    }
}
