//! Random changes of training images, in the order of the recipe: part, mirror, rotation, colour, perspective, erasing.

use perito_domain::spec::{Augment, Crop, Perspective};
use rand::{Rng, RngExt, seq::SliceRandom};

use crate::{
    adjust,
    crop::{self, Rectangle},
    pixels::Pixels,
    warp,
};

/// How often a part is drawn anew that does not fit, in torchvision.
const TRIES: u32 = 10;
/// Defaults of `RandomErasing`: shares of the area, and heights over widths.
const ERASED_SCALE: [f64; 2] = [0.02, 0.33];
const ERASED_RATIO: [f64; 2] = [0.3, 3.3];

/// Changes a picture as `augment` says, with torchvision's sampling ranges, to one of `side` pixels. What is zero there draws no
/// numbers and changes nothing. The picture has the side of the recipe's crop, or `side` when it has none.
pub fn augment(pixels: &Pixels, augment: &Augment, side: u32, rng: &mut impl Rng) -> Pixels {
    let mut picture = match &augment.crop {
        // A part that was drawn inside the picture is inside it.
        Some(crop) => {
            crop::resized_crop(pixels, part(pixels.side(), crop, rng), side).unwrap_or_else(|_| pixels.clone())
        }
        None => pixels.clone(),
    };
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
    if augment.erasing.probability > 0.0 && rng.random_bool(augment.erasing.probability) {
        picture = erased(side, rng).map_or_else(|| picture.clone(), |part| crop::erase(&picture, part));
    }
    picture
}

/// `RandomResizedCrop.get_params`: a part of a square with a share of its area and a ratio in these ranges. After ten parts that do
/// not fit, the largest one in the middle with a ratio in the range.
fn part(side: u32, crop: &Crop, rng: &mut impl Rng) -> Rectangle {
    let drawn = (0..TRIES).find_map(|_| rectangle(side, crop.scale, crop.ratio, rng));
    drawn.unwrap_or_else(|| {
        let ratio = 1_f64.clamp(crop.ratio[0], crop.ratio[1]);
        let length = f64::from(side);
        let (width, height) = (nearest(length.min(length * ratio)), nearest(length.min(length / ratio)));
        let (width, height) = (width.max(1), height.max(1));
        Rectangle { left: (side - width) / 2, top: (side - height) / 2, width, height }
    })
}

/// One draw of a rectangle, by its share of the area and, uniformly by its logarithm, its width over its height. `None` when it does
/// not fit.
fn rectangle(side: u32, scale: [f64; 2], ratio: [f64; 2], rng: &mut impl Rng) -> Option<Rectangle> {
    let area = f64::from(side) * f64::from(side) * rng.random_range(scale[0]..=scale[1]);
    let ratio = rng.random_range(ratio[0].ln()..=ratio[1].ln()).exp();
    let (width, height) = (nearest((area * ratio).sqrt()), nearest((area / ratio).sqrt()));
    if !(1..=side).contains(&width) || !(1..=side).contains(&height) {
        return None;
    }
    let (left, top) = (rng.random_range(0..=side - width), rng.random_range(0..=side - height));
    Some(Rectangle { left, top, width, height })
}

/// Python's `round`.
fn nearest(length: f64) -> u32 {
    length.round_ties_even() as u32
}

/// `RandomErasing.get_params`: a rectangle lower and narrower than the picture. `None` after ten that are not. Its ratios are heights
/// over widths.
fn erased(side: u32, rng: &mut impl Rng) -> Option<Rectangle> {
    (0..TRIES).find_map(|_| {
        let Rectangle { left, top, width, height } = rectangle(side, ERASED_SCALE, ERASED_RATIO, rng)?;
        let part = Rectangle { left: top, top: left, width: height, height: width };
        (width < side && height < side).then_some(part)
    })
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
    use perito_domain::spec::Erasing;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const NOTHING: Augment = Augment {
        horizontal_flip: 0.0,
        rotation_degrees: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        perspective: Perspective { distortion: 0.0, probability: 0.0 },
        crop: None,
        erasing: Erasing { probability: 0.0 },
    };

    fn picture() -> Pixels {
        Pixels::new(16, (0..16 * 16 * 3).map(|byte| (byte * 7 % 256) as u8).collect()).unwrap()
    }

    #[test]
    fn nothing_asked_nothing_changed() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(augment(&picture(), &NOTHING, 16, &mut rng), picture());
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
            crop: Some(Crop { from: 16, scale: [0.2, 1.0], ratio: [0.75, 1.33] }),
            erasing: Erasing { probability: 0.5 },
        };
        let draw = |seed| augment(&picture(), &all, 12, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(1).side(), 12);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn parts_are_inside_and_have_the_shares_and_ratios_that_were_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let crop = Crop { from: 256, scale: [0.3, 0.9], ratio: [0.5, 2.0] };
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for _ in 0..5000 {
            let Rectangle { left, top, width, height } = part(256, &crop, &mut rng);
            assert!(left + width <= 256 && top + height <= 256);
            let share = f64::from(width * height) / (256.0 * 256.0);
            assert!((0.29..0.91).contains(&share), "{share}");
            assert!((0.48..2.06).contains(&(f64::from(width) / f64::from(height))));
            (least, most) = (least.min(share), most.max(share));
        }
        assert!(least < 0.32 && most > 0.88, "{least} {most}");
        // Nothing of this shape fits: the largest one in the middle.
        let flat = Crop { from: 100, scale: [1.0, 1.0], ratio: [4.0, 5.0] };
        assert_eq!(part(100, &flat, &mut rng), Rectangle { left: 0, top: 37, width: 100, height: 25 });
    }

    #[test]
    fn erased_rectangles_are_inside_and_have_the_shares_and_ratios_of_random_erasing() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let side = 512;
        let (mut shares, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..5000 {
            let Rectangle { left, top, width, height } = erased(side, &mut rng).unwrap();
            assert!(left + width <= side && top + height <= side && width < side && height < side);
            shares.push(f64::from(width * height) / f64::from(side * side));
            ratios.push(f64::from(height) / f64::from(width));
        }
        let range = |values: &[f64]| {
            (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(f64::MIN, f64::max))
        };
        // Whole pixels: sides of about 40 to 511 are off by up to a half.
        let (least, most) = range(&shares);
        assert!((0.0196..0.022).contains(&least) && (0.32..0.332).contains(&most), "{least} {most}");
        let (flattest, tallest) = range(&ratios);
        assert!((0.296..0.31).contains(&flattest) && (3.2..3.34).contains(&tallest), "{flattest} {tallest}");
        // Uniform by its logarithm, around 0.99: as many are tall as are flat.
        let tall = ratios.iter().filter(|&&ratio| ratio > (0.3_f64 * 3.3).sqrt()).count();
        assert!((2350..2650).contains(&tall), "{tall}");
    }

    #[test]
    fn erasing_paints_with_the_mean_colour_and_nothing_else() {
        let erasing = Augment { erasing: Erasing { probability: 1.0 }, ..NOTHING };
        let before = picture();
        let erased = augment(&before, &erasing, 16, &mut ChaCha8Rng::seed_from_u64(5));
        let changed = || erased.pixels().iter().zip(before.pixels()).filter(|(one, other)| one != other);
        assert!(changed().count() > 0 && changed().all(|(pixel, _)| *pixel == [124, 116, 104]));
    }
}
