//! The lowest frequencies of a JPEG's blocks: the photograph at an eighth, a quarter or half of its size.
//!
//! A block of 8 x 8 pixels is stored as 64 frequencies, the lowest first (ITU-T T.81, A.3.3 and A.3.6). Its N x N lowest ones are those of a block of
//! N x N pixels. Whoever wants no more can pass over the codes of the others without computing anything from them, several at a
//! time; reading them one by one is where decoders spend their time. For baseline files with all components in one scan, as cameras
//! write them. Strict within a scan: where anything is amiss there, another decoder is to judge. Bytes between two segments are passed over.

use super::{
    huffman::{Bits, Coding},
    inverse::{Inverse, MOST},
    planes::{Plane, Planes},
    segments::{Component, Frame, SOS, Segments},
};

/// Luma and chroma, with blocks of so many pixels each way. `None` for files that are not for here, and for 8 pixels.
pub(super) fn planes(jpeg: &[u8], pixels: usize) -> Option<Planes<'static>> {
    let decode = match pixels {
        1 => Scan::decode::<1>,
        2 => Scan::decode::<2>,
        4 => Scan::decode::<4>,
        _ => return None,
    };
    let scan = Scan::read(jpeg)?;
    decode(&scan, &Intervals::of(scan.coded)?)
}

/// What the headers say.
struct Scan<'a> {
    width: u32,
    height: u32,
    channels: Vec<Channel>,
    /// MCUs between two restart markers; 0 where there are none.
    interval: usize,
    coded: &'a [u8],
}

/// A component and how it is coded.
struct Channel {
    /// Blocks of an MCU, side by side and one below the other.
    across: u32,
    down: u32,
    /// What the numbers of the lowest frequencies are multiplied with.
    steps: [u16; MOST],
    coding: Coding,
}

impl<'a> Scan<'a> {
    fn read(jpeg: &'a [u8]) -> Option<Self> {
        let (mut frame, mut interval) = (None, 0);
        let mut steps = [None; 4];
        let mut tables = [[None; 4]; 2];
        for segment in Segments::of(jpeg)? {
            let mut rest = segment.payload;
            match segment.marker {
                // Adobe's marker: colours other than YCbCr are not for here.
                0xEE if rest.starts_with(b"Adobe") && rest.get(11) != Some(&1) => return None,
                // Quantization tables (B.2.4.1).
                0xDB => {
                    while let Some((&kind, table)) = rest.split_first() {
                        let length = if kind >> 4 == 0 { 64 } else { 128 };
                        let (table, others) = table.split_at_checked(length)?;
                        let step = |at: usize| match kind >> 4 {
                            0 => u16::from(table[at]),
                            _ => u16::from_be_bytes([table[2 * at], table[2 * at + 1]]),
                        };
                        *steps.get_mut(usize::from(kind & 15))? = Some(std::array::from_fn(step));
                        rest = others;
                    }
                }
                // Huffman tables (B.2.4.2): how many codes there are of each length, and their symbols.
                0xC4 => {
                    while let Some((&kind, table)) = rest.split_first() {
                        let symbols = table.get(..16)?.iter().map(|&count| usize::from(count)).sum::<usize>();
                        let (table, others) = table.split_at_checked(16 + symbols)?;
                        *tables.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(table);
                        rest = others;
                    }
                }
                // The restart interval (B.2.4.4).
                0xDD => interval = usize::from(u16::from_be_bytes(*rest.first_chunk()?)),
                SOS => {
                    let frame: Frame = frame?;
                    let (&count, selectors) = rest.split_first()?;
                    let selectors = selectors.get(..2 * usize::from(count))?.as_chunks::<2>().0;
                    if !is_for_here(&frame) || selectors.len() != frame.components.len() {
                        return None;
                    }
                    // A single component has no MCUs to speak of (A.2.2).
                    let factor = |of: u8| if selectors.len() == 1 { 1 } else { u32::from(of) };
                    let channel = |(part, &[id, chosen]): (&Component, &[u8; 2])| {
                        let table = |class: usize, number: u8| *tables[class].get(usize::from(number))?;
                        (part.id == id).then_some(Channel {
                            across: factor(part.across),
                            down: factor(part.down),
                            steps: (*steps.get(usize::from(part.quantization))?)?,
                            coding: Coding::new(table(0, chosen >> 4)?, table(1, chosen & 15)?)?,
                        })
                    };
                    let channels = frame.components.iter().zip(selectors).map(channel).collect::<Option<_>>()?;
                    let Frame { width, height, .. } = frame;
                    return Some(Self { width, height, channels, interval, coded: segment.after });
                }
                _ => frame = frame.or_else(|| Frame::in_segment(&segment)),
            }
        }
        None
    }

    fn decode<const N: usize>(&self, intervals: &Intervals) -> Option<Planes<'static>> {
        let most = |of: fn(&Channel) -> u32| self.channels.iter().map(of).max();
        let (most_across, most_down) = (most(|channel| channel.across)?, most(|channel| channel.down)?);
        let columns = self.width.div_ceil(8 * most_across) as usize;
        let rows = self.height.div_ceil(8 * most_down) as usize;
        let strides: Vec<usize> = self.channels.iter().map(|channel| columns * channel.across as usize * N).collect();
        let blank = |(channel, stride): (&Channel, &usize)| vec![0_u8; stride * rows * channel.down as usize * N];
        let mut samples: Vec<Vec<u8>> = self.channels.iter().zip(&strides).map(blank).collect();
        let inverses: Vec<Inverse<N>> = self.channels.iter().map(|channel| Inverse::new(&channel.steps)).collect();
        let mut mcus = 0..columns * rows;
        let length = if self.interval == 0 { mcus.len() } else { self.interval };
        for coded in intervals.iter() {
            let mut bits = Bits::new(coded);
            let mut means = [0; 3];
            if mcus.is_empty() {
                return None;
            }
            for mcu in mcus.by_ref().take(length) {
                let (row, column) = (mcu / columns, mcu % columns);
                for (number, channel) in self.channels.iter().enumerate() {
                    let (across, down) = (channel.across as usize, channel.down as usize);
                    for y in 0..down {
                        for x in 0..across {
                            let mut block = [0; MOST];
                            let block = &mut block[..Inverse::<N>::WANTED];
                            bits.block(&channel.coding, block)?;
                            // No photograph has such means: nothing overflows.
                            means[number] = (means[number] + block[0]).clamp(-(1 << 14), 1 << 14);
                            block[0] = means[number];
                            let at = (row * down + y) * N * strides[number] + (column * across + x) * N;
                            inverses[number].write(block, &mut samples[number][at..], strides[number]);
                        }
                    }
                }
            }
            bits.is_at_end().then_some(())?;
        }
        if !mcus.is_empty() {
            return None;
        }
        let share = |length: u32, factor: u32, most: u32| {
            f64::from(length) * f64::from(factor) * N as f64 / f64::from(8 * most)
        };
        let planes = samples.into_iter().zip(strides).zip(&self.channels).map(|((samples, stride), channel)| Plane {
            samples: samples.into(),
            stride,
            width: share(self.width, channel.across, most_across),
            height: share(self.height, channel.down, most_down),
        });
        Planes::of(planes.collect())
    }
}

/// Whether a file is baseline, or extended with no more bits, and grey or YCbCr.
fn is_for_here(frame: &Frame) -> bool {
    let ids: Vec<u8> = frame.components.iter().map(|part| part.id).collect();
    matches!(frame.process, 0xC0 | 0xC1)
        && frame.precision == 8
        && matches!(ids.len(), 1 | 3)
        && ids != *b"RGB"
        && frame.components.iter().all(|part| (1..=2).contains(&part.across) && (1..=2).contains(&part.down))
}

/// The coded bytes between restart markers, without the zeros that are stuffed behind each 0xFF (B.1.1.5).
struct Intervals {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Intervals {
    /// `None` unless the end of the image follows.
    fn of(mut coded: &[u8]) -> Option<Self> {
        let mut intervals = Self { bytes: Vec::with_capacity(coded.len() + Bits::AHEAD), ends: Vec::new() };
        loop {
            let (plain, rest) = coded.split_at(memchr::memchr(0xFF, coded)?);
            intervals.bytes.extend_from_slice(plain);
            coded = rest.get(2..)?;
            match rest[1] {
                0x00 => intervals.bytes.push(0xFF),
                // A marker may have more than one of them before it.
                0xFF => coded = &rest[1..],
                restart @ 0xD0..=0xD7 if usize::from(restart & 7) == intervals.ends.len() & 7 => intervals.end(),
                0xD9 => {
                    intervals.end();
                    return Some(intervals);
                }
                _ => return None,
            }
        }
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(&[0xFF; Bits::AHEAD]);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}
