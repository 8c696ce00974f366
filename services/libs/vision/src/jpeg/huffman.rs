//! Huffman codes (ITU-T T.81, annex C and F.2.2), read for a block's first coefficients: all others are only counted, several at once.

use std::{cell::RefCell, rc::Rc};

/// Bits that a look into [`Skips`] sees.
const SEEN: u32 = 13;
/// Bits that a look for a single symbol sees; few codes are longer.
const FAST: u32 = 9;

/// How the blocks of a component are coded.
pub(super) struct Coding {
    /// Differences of means.
    dc: Rc<Table>,
    /// All else.
    ac: Rc<Table>,
}

impl Coding {
    /// From two tables as a file has them: how many codes there are of each length, and their symbols. `None` for what are no codes.
    pub(super) fn new(dc: &[u8], ac: &[u8]) -> Option<Self> {
        Some(Self { dc: Table::known(dc)?, ac: Table::known(ac)? })
    }
}

/// Tables that a thread keeps: those of two kinds of files.
const KEPT: usize = 8;

thread_local! {
    // Those that were read last: a camera writes the same ones again and again.
    static TABLES: RefCell<Vec<Rc<Table>>> = const { RefCell::new(Vec::new()) };
}

struct Table {
    definition: Vec<u8>,
    codes: Codes,
    skips: Skips,
}

impl Table {
    fn known(definition: &[u8]) -> Option<Rc<Self>> {
        TABLES.with_borrow_mut(|tables| {
            if let Some(known) = tables.iter().find(|table| table.definition == definition) {
                return Some(Rc::clone(known));
            }
            let (counts, symbols) = definition.split_first_chunk()?;
            let codes = Codes::new(counts, symbols)?;
            let table = Rc::new(Self { definition: definition.to_vec(), skips: Skips::new(&codes), codes });
            if tables.len() == KEPT {
                tables.remove(0);
            }
            tables.push(Rc::clone(&table));
            Some(table)
        })
    }
}

/// The codes of one table.
struct Codes {
    /// For each start of a code: its length and symbol; a length of 0 for codes that are longer than [`FAST`].
    fast: Box<[(u8, u8); 1 << FAST]>,
    /// For each length, the first number of 16 bits that is beyond its codes.
    beyond: [u32; 17],
    /// For each length, what to add to a code to have its symbol's position.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// `None` for lengths that are no prefix code.
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut codes = Self {
            fast: vec![(0, 0); 1 << FAST].try_into().ok()?,
            beyond: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut position) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            codes.offset[length as usize] = position as i32 - code as i32;
            for &symbol in symbols.get(position..position + count)? {
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    codes.fast.get_mut(first..first + (1 << (FAST - length)))?.fill((length as u8, symbol));
                }
                code += 1;
            }
            position += count;
            if code > 1 << length {
                return None;
            }
            codes.beyond[length as usize] = code << (16 - length);
            code <<= 1;
        }
        (position == symbols.len()).then_some(codes)
    }

    /// The length and symbol of the code at the start of these bits.
    #[inline]
    fn find(&self, bits: u64) -> Option<(u32, u8)> {
        let (length, symbol) = self.fast[(bits >> (64 - FAST)) as usize];
        if length != 0 { Some((u32::from(length), symbol)) } else { self.find_long(bits) }
    }

    #[cold]
    fn find_long(&self, bits: u64) -> Option<(u32, u8)> {
        let seen = (bits >> 48) as u32;
        let length = (FAST as usize + 1..=16).find(|&length| seen < self.beyond[length])?;
        let position = (seen >> (16 - length)) as i32 + self.offset[length];
        Some((length as u32, *self.symbols.get(usize::try_from(position).ok()?)?))
    }
}

/// How coefficients are passed over: for each 13 bits, all symbols that lie whole in them, each with the bits of its value.
struct Skips(Box<[Skip; 1 << SEEN]>);

/// What the next bits hold.
#[derive(Clone, Copy)]
struct Skip {
    /// Bits of all its symbols.
    bits: u8,
    /// Coefficients that they stand for, with the zeros between; the end of the block adds [`END`]. [`LONG`] when the first is not whole.
    coefficients: u8,
}

/// As many coefficients as a block has.
const END: u8 = 64;
/// More than any symbols stand for.
const LONG: u8 = u8::MAX;

impl Skips {
    fn new(codes: &Codes) -> Self {
        let mut skips = Box::new([Skip { bits: 0, coefficients: LONG }; 1 << SEEN]);
        for (start, skip) in skips.iter_mut().enumerate() {
            let mut bits = (start as u64) << (64 - SEEN);
            let (mut taken, mut passed) = (0, 0);
            while let Some((length, symbol)) = codes.find(bits)
                && let Some(coefficients) = coefficients(symbol)
                && taken + length + u32::from(symbol & 15) <= SEEN
                && (coefficients == END || passed + coefficients < END)
            {
                bits <<= length + u32::from(symbol & 15);
                taken += length + u32::from(symbol & 15);
                passed += coefficients;
                *skip = Skip { bits: taken as u8, coefficients: passed };
                if coefficients == END {
                    break;
                }
            }
        }
        Self(skips)
    }
}

/// How many coefficients an AC symbol stands for (T.81, F.1.2.2); `None` for what baseline does not have.
fn coefficients(symbol: u8) -> Option<u8> {
    match (symbol >> 4, symbol & 15) {
        (0, 0) => Some(END),
        (15, 0) => Some(16),
        (_, 0 | 11..) => None,
        (zeros, _) => Some(zeros + 1),
    }
}

/// Bits, the first of a byte its highest.
pub(super) struct Bits<'a> {
    /// With [`Self::AHEAD`] bytes behind those that count.
    bytes: &'a [u8],
    /// The first byte of which no bit counts as held.
    next: usize,
    /// The next bits from the highest on.
    held: u64,
    /// How many of them count.
    count: u32,
}

impl<'a> Bits<'a> {
    /// How many bytes it may look beyond those that count.
    pub(super) const AHEAD: usize = 16;

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, held: 0, count: 0 }
    }

    /// At least 56 bits are held after this. `None` where the bytes end.
    #[inline]
    fn fill(&mut self) -> Option<()> {
        let more = u64::from_be_bytes(*self.bytes.get(self.next..)?.first_chunk()?);
        self.held |= more >> self.count;
        self.next += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
        Some(())
    }

    #[inline]
    fn take(&mut self, bits: u32) {
        self.held <<= bits;
        self.count -= bits;
    }

    /// Whether all bits but some of the last byte were taken.
    pub(super) fn is_at_end(&self) -> bool {
        (self.next * 8 - self.count as usize).div_ceil(8) == self.bytes.len() - Self::AHEAD
    }

    /// A block: its first coefficients' numbers in zigzag order, of the mean's the difference to that of the block before (T.81, F.2.2). They
    /// are to be 0 before. `None` for what is no block.
    #[inline]
    pub(super) fn block(&mut self, coding: &Coding, first: &mut [i32]) -> Option<()> {
        self.fill()?;
        let (length, size) = coding.dc.codes.find(self.held)?;
        if size > 11 {
            return None;
        }
        self.take(length);
        first[0] = self.number(u32::from(size));
        let mut coefficient = 1;
        while coefficient < first.len() {
            self.fill()?;
            let (length, symbol) = coding.ac.codes.find(self.held)?;
            self.take(length);
            let more = usize::from(coefficients(symbol)?);
            let number = self.number(u32::from(symbol & 15));
            if more == usize::from(END) {
                return Some(());
            }
            coefficient += more;
            if let Some(place) = first.get_mut(coefficient - 1) {
                *place = number;
            }
        }
        if coefficient < usize::from(END) {
            self.pass_over(&coding.ac, coefficient as u32)
        } else {
            (coefficient == usize::from(END)).then_some(())
        }
    }

    /// A number of so many bits: those that begin with 0 are negative (T.81, F.2.2.1, "EXTEND").
    #[inline]
    fn number(&mut self, size: u32) -> i32 {
        let value = (self.held >> 1 >> (63 - size)) as i32;
        let number = if (self.held as i64) < 0 { value } else { value - (1 << size) + 1 };
        self.take(size);
        number
    }

    /// The coefficients from this one on.
    #[inline]
    fn pass_over(&mut self, ac: &Table, mut coefficient: u32) -> Option<()> {
        loop {
            self.fill()?;
            for _ in 0..56 / SEEN {
                let skip = ac.skips.0[(self.held >> (64 - SEEN)) as usize];
                let reached = coefficient + u32::from(skip.coefficients);
                if reached < u32::from(END) {
                    self.take(u32::from(skip.bits));
                    coefficient = reached;
                    continue;
                }
                // A block that is full has no end that says so: what seems to come after it belongs to the next one.
                let ends = reached == u32::from(END) || (skip.coefficients >= END && reached < 2 * u32::from(END));
                if skip.coefficients != LONG && ends {
                    self.take(u32::from(skip.bits));
                    return Some(());
                }
                self.fill()?;
                let (length, symbol) = ac.codes.find(self.held)?;
                self.take(length + u32::from(symbol & 15));
                match coefficients(symbol)? {
                    END => return Some(()),
                    more => coefficient += u32::from(more),
                }
                if coefficient >= u32::from(END) {
                    return (coefficient == u32::from(END)).then_some(());
                }
                break;
            }
        }
    }
}
