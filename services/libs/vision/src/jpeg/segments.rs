//! The segments of a JPEG file up to its first scan (ITU-T T.81, B.1.1), and what its frame header says (B.2.2).

use image::metadata::Orientation;

/// A segment: its marker's second byte, what it holds, and what comes after it.
pub(crate) struct Segment<'a> {
    pub(crate) marker: u8,
    pub(crate) payload: &'a [u8],
    pub(crate) after: &'a [u8],
}

/// Start of scan.
pub(crate) const SOS: u8 = 0xDA;

/// Segments one after the other, stray bytes between them passed over. Ends after the start of a scan, and where something is cut off.
pub(crate) struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    /// `None` for what is no JPEG.
    pub(crate) fn of(jpeg: &'a [u8]) -> Option<Self> {
        Some(Self { rest: jpeg.strip_prefix(&[0xFF, 0xD8])? })
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let start = self.rest.iter().position(|&byte| byte == 0xFF)?;
            self.rest = &self.rest[start..];
            let code = self.rest.iter().position(|&byte| byte != 0xFF)?;
            let marker = self.rest[code];
            self.rest = &self.rest[code + 1..];
            match marker {
                // Stuffing, and markers that stand alone.
                0x00 | 0x01 | 0xD0..=0xD7 => continue,
                0xD8 | 0xD9 => return None,
                _ => {}
            }
            let length = usize::from(u16::from_be_bytes(self.rest.first_chunk().copied()?));
            let payload = self.rest.get(2..length)?;
            let after = &self.rest[length..];
            self.rest = if marker == SOS { &[] } else { after };
            return Some(Segment { marker, payload, after });
        }
    }
}

/// What a decoder has to know before it begins.
pub(crate) struct Header {
    pub(crate) frame: Frame,
    pub(crate) orientation: Orientation,
}

impl Header {
    /// `None` for what is no JPEG, or has no frame header.
    pub(crate) fn of(jpeg: &[u8]) -> Option<Self> {
        let (mut frame, mut orientation) = (None, Orientation::NoTransforms);
        for segment in Segments::of(jpeg)? {
            // Exif 2.32, section 4.7.2; of several the last one counts.
            if segment.marker == 0xE1
                && let Some(exif) = segment.payload.strip_prefix(b"Exif\0\0")
            {
                orientation = Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms);
            }
            frame = frame.or_else(|| Frame::in_segment(&segment));
        }
        Some(Self { frame: frame?, orientation })
    }
}

/// A frame header.
pub(crate) struct Frame {
    /// The second byte of its marker, which names the process: 0xC0 is baseline, 0xC2 progressive.
    pub(crate) process: u8,
    /// Bits of a sample.
    pub(crate) precision: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) components: Vec<Component>,
}

/// A component of a frame, such as luma.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    pub(crate) id: u8,
    /// Horizontal and vertical sampling factors.
    pub(crate) across: u8,
    pub(crate) down: u8,
    /// Which quantization table.
    pub(crate) quantization: u8,
}

impl Frame {
    /// Of the first frame header of a file.
    pub(crate) fn of(jpeg: &[u8]) -> Option<Self> {
        Segments::of(jpeg)?.find_map(|segment| Self::in_segment(&segment))
    }

    pub(crate) fn in_segment(segment: &Segment<'_>) -> Option<Self> {
        let Segment { marker: process @ 0xC0..=0xCF, payload, .. } = *segment else { return None };
        if matches!(process, 0xC4 | 0xC8 | 0xCC) {
            return None;
        }
        let number = |at: usize| Some(u32::from(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?])));
        let components = payload.get(6..)?.as_chunks::<3>().0.iter().map(|&[id, factors, quantization]| Component {
            id,
            across: factors >> 4,
            down: factors & 15,
            quantization,
        });
        Some(Self {
            process,
            precision: payload[0],
            height: number(1)?,
            width: number(3)?,
            components: components.collect(),
        })
    }
}
