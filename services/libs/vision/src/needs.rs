//! How much memory a photograph takes while it is decoded, as its header tells.

use std::io::Cursor;

use image::{ImageDecoder, ImageFormat, ImageReader};
use perito_domain::preprocessing::{self, Preprocessing};

use crate::jpeg::{reduced_pixels, segments::Frame};

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
    // Decoders that are not libjpeg-turbo read from a copy of the file.
    let copy = bytes.len() as u64;
    if let Some(frame) = Frame::of(bytes) {
        let pixels = u64::from(frame.width) * u64::from(frame.height);
        // While coefficients are held there is one picture, and when it is turned there are two.
        let held = |out: u64| (3 * out + frame.coefficients()).max(6 * out) + resizing(side, frame.height) + copy;
        let reduced =
            (contract.version != preprocessing::EXACT).then(|| held(reduced_pixels(frame.width, frame.height, side)));
        return Needs { reduced, exact: held(pixels) };
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

impl Frame {
    /// Bytes of the coefficients that have to be held: two for each sample.
    fn coefficients(&self) -> u64 {
        let is_progressive = matches!(self.process, 0xC2 | 0xC6 | 0xCA | 0xCE);
        if !is_progressive {
            return 0;
        }
        let factors = self.components.iter().map(|part| (u64::from(part.across), u64::from(part.down)));
        let across = factors.clone().map(|factors| factors.0).max().unwrap_or(1).max(1);
        let down = factors.clone().map(|factors| factors.1).max().unwrap_or(1).max(1);
        let samples: u64 = factors.map(|(across, down)| across * down).sum();
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
