//! JPEGs at a reduced scale.
//!
//! A JPEG holds the cosine transforms of blocks of 8 x 8 pixels. Whoever wants an eighth, a quarter or half of the picture's size need
//! only transform back the lowest frequencies: less arithmetic, and less of everything that comes after.
//!
//! | module | holds |
//! |---|---|
//! | [`segments`] | what a file's headers say |
//! | [`turbo`] | decoding by libjpeg-turbo |
//! | [`lowest`] | the lowest frequencies alone: an eighth, a quarter or half of the size, faster |
//! | [`huffman`] | how `lowest` passes over the codes of all others |
//! | [`inverse`] | pixels from the lowest frequencies |
//! | [`planes`] | luma and chroma, each in its own resolution, to a square of RGB |

mod huffman;
mod inverse;
mod lowest;
mod planes;
pub(crate) mod segments;
mod turbo;

use image::RgbImage;
use turbojpeg::ScalingFactor;

use crate::{decode::DecodeError, pixels::Pixels};
use segments::{Frame, Header};

/// The scales that libjpeg-turbo has vector instructions for, the smallest first.
const SCALES: [ScalingFactor; 3] = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];

/// The smallest scale that leaves both sides at least twice `side`; 1 where none does.
fn scale_for(width: usize, height: usize, side: u32) -> ScalingFactor {
    let fits = |scale: &ScalingFactor| scale.scale(width).min(scale.scale(height)) >= 2 * side as usize;
    SCALES.into_iter().find(fits).unwrap_or(ScalingFactor::ONE)
}

/// How many pixels a JPEG of so many comes out with.
pub(crate) fn reduced_pixels(width: u32, height: u32, side: u32) -> u64 {
    let (width, height) = (width as usize, height as usize);
    let scale = scale_for(width, height, side);
    scale.scale(width) as u64 * scale.scale(height) as u64
}

/// Decodes to RGB at the smallest scale that leaves both sides at least twice `side`, as it lies in the file, without its EXIF orientation.
///
/// `None` for what the exact decoder shall judge: pictures of inks, and files that libjpeg-turbo cannot read or warns of. It cannot be
/// asked how bad a warning is, and what begins with stray bytes between two segments ends with half a photograph in grey.
pub(crate) fn decode(jpeg: &[u8], header: &Header, side: u32) -> Option<RgbImage> {
    turbo::rgb(jpeg, &header.frame, scale_of(&header.frame, side))
}

/// As [`decode`], but luma and chroma are decoded as they are stored, where possible from the lowest frequencies of each block alone, and
/// resized to a square of `side` pixels, each from its own resolution.
pub(crate) fn decode_planes(jpeg: &[u8], header: &Header, side: u32) -> Option<Result<Pixels, DecodeError>> {
    let scale = scale_of(&header.frame, side);
    match lowest::planes(jpeg, scale.scale(8)) {
        Some(planes) => Some(planes.resize(side)),
        None => turbo::planes(jpeg, &header.frame, scale, |planes| planes.resize(side)),
    }
}

fn scale_of(frame: &Frame, side: u32) -> ScalingFactor {
    scale_for(frame.width as usize, frame.height as usize, side)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use turbojpeg::{Compressor, Image, OutputBuf, PixelFormat, Subsamp};

    use super::{
        planes::{Plane, Planes},
        *,
    };

    const SAMPLINGS: [Subsamp; 5] = [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub1x2, Subsamp::Sub2x2, Subsamp::Gray];
    /// By Pillow: a restart marker after every third MCU, and tables of its own.
    const RESTARTS: &[u8] = include_bytes!("../../tests/fixtures/restarts.jpg");

    /// Slopes, an edge and noise.
    fn jpeg(width: usize, height: usize, sampling: Subsamp, change: impl FnOnce(&mut Compressor)) -> Vec<u8> {
        let mut noise = 1_u32;
        let value = |at: usize| {
            let (x, y) = (at / 3 % width, at / 3 / width);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slope = (x * (at % 3 + 1) * 60 / width + y * 90 / height) as u32;
            (slope + if x + y > height { 70 } else { 0 } + (noise >> 27)) as u8
        };
        let pixels: Vec<u8> = (0..width * height * 3).map(value).collect();
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(88).unwrap();
        compressor.set_subsamp(sampling).unwrap();
        change(&mut compressor);
        let mut jpeg = OutputBuf::new_owned();
        let image = Image { pixels: &*pixels, width, pitch: width * 3, height, format: PixelFormat::RGB };
        compressor.compress(image, &mut jpeg).unwrap();
        jpeg.to_vec()
    }

    fn files() -> Vec<Vec<u8>> {
        let sizes = [(64, 48), (65, 50), (7, 9), (130, 33)];
        let of = |sampling| sizes.map(|(width, height)| jpeg(width, height, sampling, |_| {}));
        SAMPLINGS.into_iter().flat_map(of).chain([RESTARTS.to_vec()]).collect()
    }

    fn list(planes: Planes<'_>) -> Vec<Plane<'_>> {
        match planes {
            Planes::Grey(luma) => vec![luma],
            Planes::Colour(planes) => planes.into(),
        }
    }

    fn libjpegs(file: &[u8], scale: ScalingFactor) -> Vec<Plane<'static>> {
        let owned = |plane: Plane<'_>| Plane { samples: plane.samples.into_owned().into(), ..plane };
        turbo::planes(file, &Header::of(file).unwrap().frame, scale, |planes| {
            list(planes).into_iter().map(owned).collect()
        })
        .unwrap()
    }

    #[test]
    fn an_eighth_is_libjpegs_to_the_bit() {
        for file in files() {
            let ours = list(lowest::planes(&file, 1).unwrap());
            let theirs = libjpegs(&file, ScalingFactor::ONE_EIGHTH);
            assert_eq!(ours.len(), theirs.len());
            for (one, other) in ours.iter().zip(&theirs) {
                assert_eq!((one.stride, one.width, one.height), (other.stride, other.width, other.height));
                assert_eq!(one.cut(), other.cut());
            }
        }
    }

    /// The definition (ITU-T T.81, A.3.3), from the pixels that libjpeg-turbo decodes in full.
    #[test]
    fn quarters_and_halves_are_the_lowest_frequencies() {
        let wave = |position: usize, frequency: usize, of: usize| {
            let angle = (2 * position + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * of) as f64;
            angle.cos() * if frequency == 0 { 1.0 } else { 2.0_f64.sqrt() }
        };
        for file in files() {
            let full = libjpegs(&file, ScalingFactor::ONE);
            for pixels in [2, 4] {
                let ours = list(lowest::planes(&file, pixels).unwrap());
                for (full, plane) in full.iter().zip(&ours) {
                    assert_eq!(full.width * pixels as f64, plane.width * 8.0);
                    // Blocks that are there as a whole in both.
                    for block in 0..(full.stride / 8) * (full.samples.len() / full.stride / 8) {
                        let (row, column) = (block / (full.stride / 8), block % (full.stride / 8));
                        let mut frequencies = [[0.0; 4]; 4];
                        for (at, frequency) in frequencies.as_flattened_mut().iter_mut().enumerate() {
                            let (v, u) = (at / 4, at % 4);
                            let sample =
                                |y: usize, x: usize| full.samples[(row * 8 + y) * full.stride + column * 8 + x];
                            let part =
                                |at: usize| f64::from(sample(at / 8, at % 8)) * wave(at / 8, v, 8) * wave(at % 8, u, 8);
                            *frequency = (0..64).map(part).sum::<f64>() / 64.0;
                        }
                        for at in 0..pixels * pixels {
                            let (y, x) = (at / pixels, at % pixels);
                            let part = |at: usize| {
                                frequencies[at / pixels][at % pixels]
                                    * wave(y, at / pixels, pixels)
                                    * wave(x, at % pixels, pixels)
                            };
                            let expected: f64 = (0..pixels * pixels).map(part).sum();
                            let found = plane.samples[(row * pixels + y) * plane.stride + column * pixels + x];
                            assert!(
                                (f64::from(found) - expected.clamp(0.0, 255.0)).abs() < 1.5,
                                "{found}, not {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_for_the_fast_way_is_left_to_libjpeg() {
        let progressive = jpeg(64, 48, Subsamp::Sub2x2, |compressor| compressor.set_progressive(true).unwrap());
        let arithmetic = jpeg(64, 48, Subsamp::Sub2x2, |compressor| compressor.set_arithmetic(true).unwrap());
        let thin = jpeg(64, 48, Subsamp::Sub4x1, |_| {});
        for file in [progressive, arithmetic, thin] {
            assert!(lowest::planes(&file, 1).is_none());
        }
        let whole = jpeg(64, 48, Subsamp::Sub2x2, |_| {});
        let scan = whole.windows(2).position(|pair| pair == [0xFF, segments::SOS]).unwrap();
        let stray = [&whole[..whole.len() - 2], &[0; 3], &whole[whole.len() - 2..]].concat();
        let restart = RESTARTS.windows(2).position(|pair| pair == [0xFF, 0xD3]).unwrap();
        let swapped = [&RESTARTS[..restart], &[0xFF, 0xD5], &RESTARTS[restart + 2..]].concat();
        for broken in
            [&whole[..whole.len() - 2], &whole[..scan + 30], &stray, &swapped, &whole[..scan], b"\xFF\xD8", b""]
        {
            assert!(lowest::planes(broken, 2).is_none());
        }
        assert!(lowest::planes(&whole, 8).is_none(), "in full there is nothing to pass over");
    }

    #[test]
    fn no_change_of_a_file_makes_it_panic() {
        for file in [jpeg(33, 20, Subsamp::Sub2x2, |_| {}), RESTARTS.to_vec()] {
            for at in 0..file.len() {
                for bits in [0x01, 0x80, 0xFF, file[at]] {
                    let mut changed = file.clone();
                    changed[at] ^= bits;
                    for pixels in [1, 2, 4] {
                        if let Some(planes) = lowest::planes(&changed, pixels) {
                            assert!(list(planes).iter().all(|plane| plane.samples.len().is_multiple_of(plane.stride)));
                        }
                    }
                }
            }
        }
    }
}
