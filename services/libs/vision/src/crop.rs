//! Parts of a picture: cut out and resized, or painted over.

use fast_image_resize::{PixelType, images::ImageRef};
use perito_domain::preprocessing::IMAGENET_MEAN;

use crate::{decode::DecodeError, pixels::Pixels, resize::resized};

/// A rectangle of whole pixels inside a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rectangle {
    /// Columns to its left.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its width in pixels, at least 1.
    pub width: u32,
    /// Its height in pixels, at least 1.
    pub height: u32,
}

/// Cuts a part out and resizes it to a square of `side` pixels with antialiased bilinear interpolation: torchvision's `resized_crop`.
/// No pixel outside of the part has a say.
///
/// # Errors
/// A part that is empty or not inside the picture.
pub fn resized_crop(pixels: &Pixels, part: Rectangle, side: u32) -> Result<Pixels, DecodeError> {
    let broken = |error: String| DecodeError::Corrupt(format!("crop: {error}"));
    let Rectangle { left, top, width, height } = part;
    let inside = |from: u32, length: u32| length > 0 && from.checked_add(length).is_some_and(|to| to <= pixels.side());
    if !inside(left, width) || !inside(top, height) {
        return Err(broken(format!("{part:?} is not inside of {0} x {0} pixels", pixels.side())));
    }
    // A copy, since the resizer's own crop lets its filter reach over the rim.
    let rows = pixels.pixels().chunks_exact(pixels.side() as usize).skip(top as usize).take(height as usize);
    let columns = left as usize..(left + width) as usize;
    let cut = rows.map(|row| row[columns.clone()].as_flattened()).collect::<Vec<_>>().concat();
    let source = ImageRef::new(width, height, &cut, PixelType::U8x3).map_err(|error| broken(error.to_string()))?;
    resized(&source, side).map_err(broken)
}

/// Paints a part over with the mean colour of ImageNet, which normalisation makes 0 up to rounding: torchvision's `erase` with
/// `v=0` behind `Normalize`. What of the part is outside of the picture is ignored.
pub fn erase(pixels: &Pixels, part: Rectangle) -> Pixels {
    let mean = IMAGENET_MEAN.map(|share| (share * 255.0).round() as u8);
    let Rectangle { left, top, width, height } = part;
    let side = pixels.side();
    let inside = |index: usize| {
        let (x, y) = (index as u32 % side, index as u32 / side);
        x.checked_sub(left).is_some_and(|x| x < width) && y.checked_sub(top).is_some_and(|y| y < height)
    };
    let painted = pixels.pixels().iter().enumerate().map(|(index, pixel)| if inside(index) { mean } else { *pixel });
    Pixels::new(side, painted.flatten().collect()).unwrap_or_else(|| pixels.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_picture_at_its_own_size_is_itself_and_a_part_is_that_part() {
        let bytes: Vec<u8> = (0..16_u32).flat_map(|y| (0..16_u32).flat_map(move |x| [x as u8, y as u8, 7])).collect();
        let picture = Pixels::new(16, bytes).unwrap();
        let part = |left, top, width, height| Rectangle { left, top, width, height };
        assert_eq!(resized_crop(&picture, part(0, 0, 16, 16), 16).unwrap(), picture);
        let cut = resized_crop(&picture, part(3, 5, 4, 4), 4).unwrap();
        assert_eq!((cut.pixels()[0], cut.pixels()[15]), ([3, 5, 7], [6, 8, 7]));
        for outside in [part(13, 5, 4, 4), part(5, 13, 4, 4), part(3, 5, 0, 4), part(3, u32::MAX, 4, 4)] {
            assert!(resized_crop(&picture, outside, 4).is_err(), "{outside:?}");
        }

        let erased = erase(&picture, part(3, 5, 2, 4));
        let changed = erased.pixels().iter().zip(picture.pixels()).filter(|(one, other)| one != other).count();
        assert_eq!((changed, erased.pixels()[5 * 16 + 3]), (8, [124, 116, 104]));
    }
}
