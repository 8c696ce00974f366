//! Random changes of training images, in the order of the recipe: mirror, rotation, colour, perspective.

use perito_domain::spec::{Augment, Perspective};
use rand::{Rng, RngExt, seq::SliceRandom};

use crate::{adjust, pixels::Pixels, warp};

/// Changes a picture as `augment` says, with torchvision's sampling ranges. What is zero there draws no numbers and changes
/// nothing.
pub fn augment(pixels: &Pixels, augment: &Augment, rng: &mut impl Rng) -> Pixels {
    let mut picture = pixels.clone();
    if augment.horizontal_flip > 0.0 && rng.random_bool(augment.horizontal_flip) {
        picture = adjust::mirror(&picture);
    }
    if augment.rotation_degrees > 0.0 {
        picture = warp::rotate(&picture, rng.random_range(-augment.rotation_degrees..=augment.rotation_degrees));
    }
    picture = jitter(picture, augment, rng);
    let Perspective { distortion, probability } = augment.perspective;
    if distortion > 0.0 && probability > 0.0 && rng.random_bool(probability) {
        picture = tilt(&picture, distortion, rng);
    }
    picture
}

/// `ColorJitter`: factors from 1 plus or minus each strength, applied in a random order.
fn jitter(mut picture: Pixels, augment: &Augment, rng: &mut impl Rng) -> Pixels {
    type Adjust = fn(&Pixels, f32) -> Pixels;
    let mut changes: Vec<(Adjust, f64)> = [
        (adjust::brightness as Adjust, augment.brightness),
        (adjust::contrast as Adjust, augment.contrast),
        (adjust::saturation as Adjust, augment.saturation),
    ]
    .into_iter()
    .filter(|(_, strength)| *strength > 0.0)
    .collect();
    changes.shuffle(rng);
    for (change, strength) in changes {
        picture = change(&picture, rng.random_range(1.0 - strength..=1.0 + strength) as f32);
    }
    picture
}

/// `RandomPerspective.get_params`: each corner moves inwards by up to half of `distortion` of the side.
fn tilt(picture: &Pixels, distortion: f64, rng: &mut impl Rng) -> Pixels {
    let side = i64::from(picture.side());
    let reach = (distortion * (side / 2) as f64) as i64;
    let mut inwards = || rng.random_range(0..=reach);
    let corners = [
        [inwards(), inwards()],
        [side - 1 - inwards(), inwards()],
        [side - 1 - inwards(), side - 1 - inwards()],
        [inwards(), side - 1 - inwards()],
    ];
    let whole = [[0, 0], [side - 1, 0], [side - 1, side - 1], [0, side - 1]];
    let number = |corners: [[i64; 2]; 4]| corners.map(|corner| corner.map(|position| position as f64));
    match warp::projection(number(whole), number(corners)) {
        Some(projection) => warp::perspective(picture, projection),
        // Corners on a line, in a picture of very few pixels: it stays as it is.
        None => picture.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const NOTHING: Augment = Augment {
        horizontal_flip: 0.0,
        rotation_degrees: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        perspective: Perspective { distortion: 0.0, probability: 0.0 },
    };

    fn picture() -> Pixels {
        Pixels::new(16, (0..16 * 16 * 3).map(|byte| (byte * 7 % 256) as u8).collect()).unwrap()
    }

    #[test]
    fn nothing_asked_nothing_changed() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(augment(&picture(), &NOTHING, &mut rng), picture());
        let mut fresh = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(rng.random::<u64>(), fresh.random::<u64>(), "and no number drawn");
    }

    #[test]
    fn the_same_numbers_make_the_same_picture() {
        let all = Augment {
            horizontal_flip: 0.5,
            rotation_degrees: 15.0,
            brightness: 0.2,
            contrast: 0.2,
            saturation: 0.2,
            perspective: Perspective { distortion: 0.5, probability: 0.5 },
        };
        let draw = |seed| augment(&picture(), &all, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
