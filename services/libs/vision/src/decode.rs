//! The bytes of a photograph to RGB, within limits.

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage, metadata::Orientation};
use perito_domain::{
    failure::FailureReason,
    limits::{MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS},
    preprocessing::UnknownContract,
};

use crate::{
    jpeg::{self, segments::Header},
    pixels::Pixels,
};

/// Limits that are checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// The largest picture, in pixels, as its header announces it.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: MAX_IMAGE_BYTES, max_pixels: MAX_IMAGE_PIXELS }
    }
}

/// Why bytes did not become pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// More bytes than the limit.
    #[error("the file has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// How many.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More pixels than the limit.
    #[error("the header announces {width} x {height} pixels, the limit is {limit}")]
    TooManyPixels {
        /// The width in the header.
        width: u32,
        /// The height in the header.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// Not an image of a format that is read here.
    #[error("not a JPEG, PNG or WebP image: {0}")]
    Unsupported(String),
    /// Truncated or broken.
    #[error("the image is broken: {0}")]
    Corrupt(String),
    /// A contract that this build does not fulfil.
    #[error(transparent)]
    UnknownContract(#[from] UnknownContract),
}

impl DecodeError {
    /// The reason as stored for a failed image.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Empty => FailureReason::Empty,
            Self::TooLarge { .. } => FailureReason::TooLarge,
            Self::TooManyPixels { .. } => FailureReason::TooManyPixels,
            Self::Unsupported(_) | Self::UnknownContract(_) => FailureReason::Unsupported,
            Self::Corrupt(_) => FailureReason::Corrupt,
        }
    }
}

/// How large a picture has to come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// As it is.
    Full,
    /// Large JPEGs may come out smaller, both sides at least twice as long as this.
    ReducedFor(u32),
}

/// Decodes a photograph to 8-bit RGB, turned upright as its EXIF orientation says. Alpha is dropped, grey and palette become RGB,
/// 16-bit samples are reduced to the nearest of 256 levels, CMYK (with or without Adobe's marker) and YCCK are converted as Pillow does.
///
/// # Errors
/// What is wrong with it. A picture over the limits is refused before memory is taken for it.
pub fn decode(bytes: &[u8], scale: Scale, limits: &Limits) -> Result<RgbImage, DecodeError> {
    if let Scale::ReducedFor(side) = scale
        && let Some(picture) = reduced(bytes, side, limits)?
    {
        return Ok(picture);
    }
    guarded(bytes, limits, || {
        let (decoder, orientation) = open(bytes, limits)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| corrupt(&error))?;
        picture.apply_orientation(orientation);
        Ok(picture.into_rgb8())
    })
}

/// A JPEG at a reduced scale, both sides at least twice `side`, turned upright. `None` for what has to be decoded in full.
pub(crate) fn reduced(bytes: &[u8], side: u32, limits: &Limits) -> Result<Option<RgbImage>, DecodeError> {
    guarded_jpeg(bytes, limits, |header| {
        Ok(jpeg::decode(bytes, header, side).map(|picture| upright(picture, header.orientation)))
    })
}

/// A JPEG at a reduced scale, resized to a square of `side` pixels plane by plane, and then turned upright. `None` for what has to be
/// decoded in full.
pub(crate) fn reduced_planes(bytes: &[u8], side: u32, limits: &Limits) -> Result<Option<Pixels>, DecodeError> {
    guarded_jpeg(bytes, limits, |header| {
        let pixels = jpeg::decode_planes(bytes, header, side).transpose()?;
        Ok(pixels.and_then(|pixels| pixels.change(|picture| upright(picture, header.orientation))))
    })
}

fn upright(picture: RgbImage, orientation: Orientation) -> RgbImage {
    let mut picture = DynamicImage::from(picture);
    picture.apply_orientation(orientation);
    picture.into_rgb8()
}

/// Other ways to decode a file that is a JPEG, once its header is known to be within the limits. What cannot be read of it is for the
/// exact decoder to say.
fn guarded_jpeg<T>(
    bytes: &[u8],
    limits: &Limits,
    decode: impl FnOnce(&Header) -> Result<Option<T>, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    guarded(bytes, limits, || {
        let Some(header) = Header::of(bytes) else { return Ok(None) };
        check(header.frame.width, header.frame.height, limits)?;
        check_end(bytes)?;
        decode(&header)
    })
}

/// Photographs come from strangers, and a decoder's bug is one image's failure. Nothing outlives the panic.
fn guarded<T>(
    bytes: &[u8],
    limits: &Limits,
    decode: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.max_bytes {
        return Err(DecodeError::TooLarge { bytes: bytes.len() as u64, limit: limits.max_bytes });
    }
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(DecodeError::Corrupt("the decoder panicked".to_owned())))
}

/// A photograph whose header has been read and is within the limits, and its orientation.
fn open<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(impl ImageDecoder + 'a, Orientation), DecodeError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| corrupt(&error))?;
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        ImageError::Unsupported(error) => DecodeError::Unsupported(error.to_string()),
        error => corrupt(&error),
    })?;
    let (width, height) = decoder.dimensions();
    check(width, height, limits)?;
    let orientation = decoder.orientation().map_err(|error| corrupt(&error))?;
    if is_jpeg {
        check_end(bytes)?;
    }
    Ok((decoder, orientation))
}

fn check(width: u32, height: u32, limits: &Limits) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(DecodeError::TooManyPixels { width, height, limit: limits.max_pixels });
    }
    Ok(())
}

/// Refuses a JPEG without an end-of-image marker behind the last start of a scan (ITU-T T.81, annex B). The decoder would fill what is
/// missing with grey; a grade of half a photograph must not be taken for one of a whole. (Inside a scan 0xFF is always stuffed, and a
/// thumbnail's markers come before the scan.)
fn check_end(jpeg: &[u8]) -> Result<(), DecodeError> {
    let marks = |marker: u8| move |pair: &[u8]| pair == [0xFF, marker];
    // From the end, where it is in a whole file: what has megabytes is read only when it has none.
    let end = jpeg.windows(2).rposition(marks(0xD9));
    if end.is_none_or(|end| jpeg[end..].windows(2).any(marks(0xDA))) {
        return Err(DecodeError::Corrupt("the JPEG ends before its end-of-image marker".to_owned()));
    }
    Ok(())
}

fn corrupt(error: &impl std::fmt::Display) -> DecodeError {
    DecodeError::Corrupt(error.to_string())
}
