//! Decoding by libjpeg-turbo. What it cannot read or warns of is `None` here.

use std::{borrow::Cow, cell::RefCell};

use image::RgbImage;
use turbojpeg::{Colorspace, DecompressHeader, Decompressor, Image, PixelFormat, ScalingFactor, YuvImage};

use super::{
    planes::{Plane, Planes},
    segments::Frame,
};

thread_local! {
    // It keeps its tables between pictures. `None` when there is no memory for one.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = RefCell::new(Decompressor::new().ok());
    // Planes are needed until they are resized. Memory that is used again need not be cleared by the system again.
    static SAMPLES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that a thread keeps for planes: those of a photograph of 2.7 megapixels, or of 43 at a quarter of the size.
const KEPT: usize = 4 << 20;

/// A picture in RGB at a scale; `None` for pictures of inks.
pub(super) fn rgb(jpeg: &[u8], frame: &Frame, scale: ScalingFactor) -> Option<RgbImage> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        let decompressor = decompressor.as_mut()?;
        let header = opened(decompressor, jpeg, frame)?;
        if matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK) {
            return None;
        }
        let (width, height) = (scale.scale(header.width), scale.scale(header.height));
        let mut pixels = vec![0; width * height * 3];
        let target = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
        decompressor.set_scaling_factor(scale).ok()?;
        decompressor.decompress(jpeg, target).ok()?;
        RgbImage::from_raw(width as u32, height as u32, pixels)
    })
}

/// What is made of luma and chroma at a scale; `None` for pictures that have none.
pub(super) fn planes<T>(
    jpeg: &[u8],
    frame: &Frame,
    scale: ScalingFactor,
    make: impl FnOnce(Planes<'_>) -> T,
) -> Option<T> {
    SAMPLES.with_borrow_mut(|samples| {
        let made = DECOMPRESSOR
            .with_borrow_mut(|decompressor| decode_planes(decompressor.as_mut()?, jpeg, frame, scale, samples))
            .map(make);
        if samples.len() > KEPT {
            *samples = Vec::new();
        }
        made
    })
}

fn decode_planes<'a>(
    decompressor: &mut Decompressor,
    jpeg: &[u8],
    frame: &Frame,
    scale: ScalingFactor,
    samples: &'a mut Vec<u8>,
) -> Option<Planes<'a>> {
    let header = opened(decompressor, jpeg, frame)?;
    if !matches!(header.colorspace, Colorspace::YCbCr | Colorspace::Gray) {
        return None;
    }
    let (width, height, subsamp) = (scale.scale(header.width), scale.scale(header.height), header.subsamp);
    let length = turbojpeg::yuv_pixels_len(width, 1, height, subsamp).ok()?;
    samples.resize(length.max(samples.len()), 0);
    let image = YuvImage { pixels: &mut samples[..length], width, align: 1, height, subsamp };
    let (luma, chroma) = (image.y_size(), image.uv_size());
    decompressor.set_scaling_factor(scale).ok()?;
    decompressor.decompress_to_yuv(jpeg, image).ok()?;
    let share = |length: usize, factor: usize| (length * scale.num()) as f64 / (factor * scale.denom()) as f64;
    let mut rest = &samples[..length];
    let mut plane = |(stride, rows): (usize, usize), across, down| {
        let (samples, others) = rest.split_at_checked(stride * rows)?;
        rest = others;
        let (width, height) = (share(header.width, across), share(header.height, down));
        Some(Plane { samples: Cow::Borrowed(samples), stride, width, height })
    };
    let mut planes = vec![plane(luma, 1, 1)?];
    if header.colorspace != Colorspace::Gray {
        for _ in 0..2 {
            planes.push(plane(chroma, subsamp.width(), subsamp.height())?);
        }
    }
    Planes::of(planes)
}

/// What libjpeg-turbo reads of a header, unless that is another picture than the limits were held against.
fn opened(decompressor: &mut Decompressor, jpeg: &[u8], frame: &Frame) -> Option<DecompressHeader> {
    let header = decompressor.read_header(jpeg).ok()?;
    ((header.width, header.height) == (frame.width as usize, frame.height as usize)).then_some(header)
}
