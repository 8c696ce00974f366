//! Luma and chroma, each in its own resolution, to a square of RGB.
//!
//! Resizing and the change of colours are both linear, so their order does not matter but for rounding and for colours out of range.
//! Resized first, chroma never has to be made as large as luma, and only the square's pixels change their colours.

use std::borrow::Cow;

use crate::{decode::DecodeError, pixels::Pixels, resize::resized_plane};

/// A grey picture: luma, or one of two chroma planes.
pub(crate) struct Plane<'a> {
    /// Row by row.
    pub(super) samples: Cow<'a, [u8]>,
    /// Samples in a row: those of the picture, and what fills up the last block.
    pub(super) stride: usize,
    /// How many columns and rows belong to the picture. The last of them may do so in part.
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A picture as a JPEG has it (JFIF 1.02, "Color space").
pub(crate) enum Planes<'a> {
    Grey(Plane<'a>),
    /// Luma, blueness and redness.
    Colour([Plane<'a>; 3]),
}

impl<'a> Planes<'a> {
    /// One plane or three.
    pub(super) fn of(mut planes: Vec<Plane<'a>>) -> Option<Self> {
        if planes.len() == 1 { planes.pop().map(Self::Grey) } else { planes.try_into().ok().map(Self::Colour) }
    }

    /// Resizes to a square of `side` pixels with antialiased bilinear interpolation, and changes the colours to RGB.
    ///
    /// # Errors
    /// A picture without pixels.
    pub(crate) fn resize(&self, side: u32) -> Result<Pixels, DecodeError> {
        let bytes = match self {
            Self::Grey(luma) => luma.resize(side).map(|luma| luma.into_iter().flat_map(|value| [value; 3]).collect()),
            Self::Colour([luma, blue, red]) => {
                luma.resize(side).and_then(|luma| Ok(rgb(&luma, &blue.resize(side)?, &red.resize(side)?)))
            }
        };
        let pixels = bytes.and_then(|bytes| Pixels::new(side, bytes).ok_or_else(|| "another size came out".to_owned()));
        pixels.map_err(|error| DecodeError::Corrupt(format!("resize: {error}")))
    }
}

impl Plane<'_> {
    fn resize(&self, side: u32) -> Result<Vec<u8>, String> {
        resized_plane(&self.cut(), (self.width, self.height), side)
    }

    /// The picture's samples: what fills up the last blocks has no say.
    pub(super) fn cut(&self) -> Cow<'_, [u8]> {
        let (columns, rows) = (self.width.ceil() as usize, self.height.ceil() as usize);
        if self.stride == columns {
            return Cow::Borrowed(&self.samples[..columns * rows]);
        }
        let rows = self.samples.chunks_exact(self.stride).take(rows);
        rows.flat_map(|row| row.iter().take(columns).copied()).collect()
    }
}

/// The colours of JFIF 1.02, rounded as libjpeg does: in 16 bits behind the point.
fn rgb(luma: &[u8], blue: &[u8], red: &[u8]) -> Vec<u8> {
    let pixels = luma.iter().zip(blue).zip(red).flat_map(|((&luma, &blue), &red)| {
        let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
        let value = |of: i32| (luma + ((of + (1 << 15)) >> 16)).clamp(0, 255) as u8;
        [value(91_881 * red), value(-22_554 * blue - 46_802 * red), value(116_130 * blue)]
    });
    pixels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_jfif() {
        // White, black, and the primary colours as JFIF 1.02 has them.
        for (yuv, expected) in [
            ([255, 128, 128], [255, 255, 255]),
            ([0, 128, 128], [0, 0, 0]),
            ([76, 85, 255], [254, 0, 0]),
            ([150, 44, 21], [0, 255, 1]),
            ([29, 255, 107], [0, 0, 254]),
        ] {
            let [luma, blue, red] = yuv.map(|value| [value]);
            assert_eq!(rgb(&luma, &blue, &red), expected);
        }
    }
}
