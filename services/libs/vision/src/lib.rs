//! Bytes to pixels: decode, resize, augment. No network, no torch.
//!
//! | module | holds |
//! |---|---|
//! | [`pixels`] | square RGB pixels, as networks take them |
//! | [`mod@decode`] | the bytes of a photograph to RGB, within limits |
//! | `jpeg` | JPEGs at a reduced scale |
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
pub mod pixels;
pub mod resize;
pub mod warp;

use perito_domain::preprocessing::{self, Preprocessing};

pub use augment::augment;
pub use decode::{DecodeError, Limits, Scale, decode};
pub use pixels::Pixels;
pub use resize::resize;

/// The whole contract from the bytes of a photograph to a network's input.
///
/// # Errors
/// What is wrong with the photograph, or a contract that this build does not fulfil.
pub fn preprocess(bytes: &[u8], contract: &Preprocessing, limits: &Limits) -> Result<Pixels, DecodeError> {
    preprocessing::check_version(contract.version)?;
    let scale = match contract.version {
        preprocessing::EXACT => Scale::Full,
        _ => Scale::ReducedFor(contract.image_size),
    };
    resize(&decode(bytes, scale, limits)?, contract.image_size)
}
