//! Square RGB pixels, as networks take them.

use image::RgbImage;

/// A square picture: `side * side * 3` bytes, row by row, red, green and blue of each pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    side: u32,
    bytes: Vec<u8>,
}

impl Pixels {
    /// From bytes; `None` unless there are `side * side * 3` of them.
    pub fn new(side: u32, bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() as u64 == u64::from(side) * u64::from(side) * 3).then_some(Self { side, bytes })
    }

    /// Width and height in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn pixels(&self) -> &[[u8; 3]] {
        self.bytes.as_chunks().0
    }

    /// Turned or mirrored by a change that keeps the size. `None` never comes: there are as many bytes as the size takes.
    pub(crate) fn change(self, change: impl FnOnce(RgbImage) -> RgbImage) -> Option<Self> {
        let picture = RgbImage::from_raw(self.side, self.side, self.bytes)?;
        Self::new(self.side, change(picture).into_raw())
    }

    /// A picture of the same size made pixel by pixel from this one's.
    pub(crate) fn map(&self, change: impl Fn([u8; 3]) -> [u8; 3]) -> Self {
        Self { side: self.side, bytes: self.pixels().iter().flat_map(|&pixel| change(pixel)).collect() }
    }
}
