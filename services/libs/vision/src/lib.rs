//! Bytes to pixels: decode, resize, augment. No network, no torch.
//!
//! | module | holds |
//! |---|---|
//! | [`pixels`] | square RGB pixels, as networks take them |
//! | [`mod@decode`] | the bytes of a photograph to RGB, within limits |
//! | `jpeg` | JPEGs at a reduced scale |
//! | [`mod@needs`] | how much memory decoding takes |
//! | [`mod@resize`] | any picture to a square, antialiased |
//! | [`adjust`], [`warp`], [`crop`] | single changes with fixed parameters |
//! | [`mod@augment`] | random changes of training images |
//!
//! To add a random change: its pure form in [`adjust`], [`warp`] or [`crop`], its drawing in [`mod@augment`], its field in
//! `perito_domain::spec::Augment`.

pub mod adjust;
pub mod augment;
pub mod crop;
pub mod decode;
mod jpeg;
pub mod needs;
pub mod pixels;
pub mod resize;
pub mod warp;

use perito_domain::preprocessing::{self, Preprocessing};

pub use augment::augment;
pub use decode::{DecodeError, Limits, Scale, decode};
pub use needs::{Needs, needs};
pub use pixels::Pixels;
pub use resize::resize;

/// The whole contract from the bytes of a photograph to a network's input.
///
/// # Errors
/// What is wrong with the photograph, or a contract that this build does not fulfil.
pub fn preprocess(bytes: &[u8], contract: &Preprocessing, limits: &Limits) -> Result<Pixels, DecodeError> {
    match preprocess_reduced(bytes, contract, limits)? {
        Some(pixels) => Ok(pixels),
        None => preprocess_exactly(bytes, contract, limits),
    }
}

/// The contract's first half, for who has to know the memory that each takes ([`mod@needs`]): a JPEG at a reduced scale. `None` for what
/// [`preprocess_exactly`] is for.
///
/// # Errors
/// As for [`preprocess`].
pub fn preprocess_reduced(
    bytes: &[u8],
    contract: &Preprocessing,
    limits: &Limits,
) -> Result<Option<Pixels>, DecodeError> {
    preprocessing::check_version(contract.version)?;
    if contract.version == preprocessing::EXACT {
        return Ok(None);
    }
    let side = contract.image_size;
    if contract.version == preprocessing::REDUCED {
        return decode::reduced(bytes, side, limits)?.map(|picture| resize(&picture, side)).transpose();
    }
    decode::reduced_planes(bytes, side, limits)
}

/// The contract's second half: photographs that are decoded in full.
///
/// # Errors
/// As for [`preprocess`].
pub fn preprocess_exactly(bytes: &[u8], contract: &Preprocessing, limits: &Limits) -> Result<Pixels, DecodeError> {
    preprocessing::check_version(contract.version)?;
    resize(&decode(bytes, Scale::Full, limits)?, contract.image_size)
}
