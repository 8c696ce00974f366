//! How much memory a photograph takes while it is decoded, as its header tells.

use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader};
use perito_domain::preprocessing::{self, Preprocessing};

use crate::jpeg::reduced_pixels;

/// Bytes that are in use at once while a photograph becomes a network's input, its own not counted.
///
/// Bounds rather than estimates: turning a picture upright takes a second one of its size, and a progressive JPEG keeps the coefficients
/// of the whole picture. Zero for a file whose header cannot be read: no decoder gets further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// To decode at a reduced scale; `None` where that is not done.
    pub reduced: Option<u64>,
    /// To decode in full.
    pub exact: u64,
}

/// Reads a photograph's header.
pub fn needs(bytes: &[u8], contract: &Preprocessing) -> Needs {
    let side = contract.image_size;
    if let Some(frame) = Frame::of(bytes) {
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        // While coefficients are held there is one picture, and when it is turned there are two.
        let held = |out: u64| (3 * out + frame.coefficients()).max(6 * out) + resizing(side, frame.height);
        let reduced =
            (contract.version != preprocessing::EXACT).then(|| held(reduced_pixels(frame.width, frame.height, side)));
        // The exact decoder reads from a copy of the file.
        return Needs { reduced, exact: held(pixels) + bytes.len() as u64 };
    }
    let decoder = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()
        .and_then(|reader| (reader.format() != Some(ImageFormat::Jpeg)).then(|| reader.into_decoder().ok()).flatten());
    let exact = decoder.map_or(0, |decoder| {
        let (width, height) = decoder.dimensions();
        let rgb = 3 * u64::from(width) * u64::from(height);
        // Samples as they are stored, and turned upright or made RGB.
        2 * decoder.total_bytes() + rgb + resizing(side, height)
    });
    Needs { reduced: None, exact }
}

/// Between the passes of resizing, and the result.
fn resizing(side: u32, height: u32) -> u64 {
    3 * u64::from(side) * (u64::from(height) + u64::from(side))
}

/// What a JPEG's frame header says (ITU-T T.81, B.2.2).
struct Frame {
    width: u32,
    height: u32,
    progressive: bool,
    /// Horizontal and vertical sampling of each component.
    sampling: Vec<(u64, u64)>,
}

impl Frame {
    fn of(jpeg: &[u8]) -> Option<Self> {
        let mut rest = jpeg.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let start = rest.iter().position(|&byte| byte == 0xFF)?;
            rest = &rest[start..];
            let code = rest.iter().position(|&byte| byte != 0xFF)?;
            let marker = rest[code];
            rest = &rest[code + 1..];
            match marker {
                // Stuffing, and markers that stand alone.
                0x00 | 0x01 | 0xD0..=0xD7 => continue,
                0xD8 | 0xD9 => return None,
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes(rest.first_chunk().copied()?));
            let segment = rest.get(2..length)?;
            if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
                let number =
                    |at: usize| Some(u32::from(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?])));
                let components = segment.get(6..)?.as_chunks::<3>().0;
                return Some(Self {
                    height: number(1)?,
                    width: number(3)?,
                    progressive: matches!(marker, 0xC2 | 0xC6 | 0xCA | 0xCE),
                    sampling: components
                        .iter()
                        .map(|[_, factors, _]| (u64::from(factors >> 4), u64::from(factors & 15)))
                        .collect(),
                });
            }
            rest = &rest[length..];
        }
    }

    /// Bytes of the coefficients that have to be held: two for each sample.
    fn coefficients(&self) -> u64 {
        if !self.progressive {
            return 0;
        }
        let across = self.sampling.iter().map(|sampling| sampling.0).max().unwrap_or(1).max(1);
        let down = self.sampling.iter().map(|sampling| sampling.1).max().unwrap_or(1).max(1);
        let samples: u64 = self.sampling.iter().map(|(horizontal, vertical)| horizontal * vertical).sum();
        2 * u64::from(self.width) * u64::from(self.height) * samples / (across * down)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::new(4000, 3000).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_reduced_jpeg_needs_less_and_an_unreadable_file_nothing() {
        let contract = Preprocessing::imagenet(224);
        let jpeg = encoded(ImageFormat::Jpeg);
        let found = needs(&jpeg, &contract);
        let full = 6 * 12_000_000;
        assert!((full..full + 4_000_000).contains(&found.exact), "{found:?}");
        // A quarter of each side.
        assert!((full / 16..full / 16 + 3_000_000).contains(&found.reduced.unwrap()), "{found:?}");
        let exactly = Preprocessing { version: preprocessing::EXACT, ..contract.clone() };
        assert_eq!(needs(&jpeg, &exactly), Needs { reduced: None, ..found });

        let png = needs(&encoded(ImageFormat::Png), &contract);
        assert!(png.reduced.is_none() && png.exact >= 3 * 36_000_000, "{png:?}");
        for broken in [&b""[..], b"not a picture", &jpeg[..20]] {
            assert_eq!(needs(broken, &contract).exact, 0);
        }
    }

    #[test]
    fn a_progressive_jpeg_holds_its_coefficients() {
        let mut jpeg = encoded(ImageFormat::Jpeg);
        let contract = Preprocessing::imagenet(224);
        let baseline = needs(&jpeg, &contract).reduced.unwrap();
        let marker = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        jpeg[marker + 1] = 0xC2;
        assert!(needs(&jpeg, &contract).reduced.unwrap() > baseline + 2 * 12_000_000);
    }
}
