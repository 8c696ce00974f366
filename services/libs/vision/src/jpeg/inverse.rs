//! The inverse cosine transform of a block's lowest frequencies.

/// Coefficients, in zigzag order, up to the last of the 4 x 4 lowest frequencies.
pub(super) const MOST: usize = 25;

/// Row and column of each (ITU-T T.81, figure A.6).
const PLACES: [(usize, usize); MOST] = [
    (0, 0),
    (0, 1),
    (1, 0),
    (2, 0),
    (1, 1),
    (0, 2),
    (0, 3),
    (1, 2),
    (2, 1),
    (3, 0),
    (4, 0),
    (3, 1),
    (2, 2),
    (1, 3),
    (0, 4),
    (0, 5),
    (1, 4),
    (2, 3),
    (3, 2),
    (4, 1),
    (5, 0),
    (6, 0),
    (5, 1),
    (4, 2),
    (3, 3),
];

/// To blocks of N x N pixels, of N = 1, 2 or 4.
///
/// With frequencies F of T.81, A.3.3, pixels are 1/8 times the sum over u and v of a(u) a(v) F(v, u) cos((2x + 1) u pi / 2N) cos((2y + 1) v pi / 2N), where a(0) is 1 and
/// all else the root of 2: the transform of N x N values, scaled so that the mean stays.
pub(super) struct Inverse<const N: usize> {
    /// For each coefficient that is wanted, what its number is multiplied with.
    steps: [f32; MOST],
    /// For each pixel of a row, the share of each frequency.
    shares: [[f32; N]; N],
}

impl<const N: usize> Inverse<N> {
    /// How many coefficients it takes.
    pub(super) const WANTED: usize = match N {
        1 => 1,
        2 => 5,
        _ => MOST,
    };

    /// With the steps of quantization, in zigzag order.
    pub(super) fn new(steps: &[u16; MOST]) -> Self {
        let share = |pixel: usize, frequency: usize| {
            let angle = (2 * pixel + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * N) as f64;
            (if frequency == 0 { 1.0 } else { std::f64::consts::SQRT_2 * libm::cos(angle) }) as f32
        };
        Self {
            steps: steps.map(f32::from),
            shares: std::array::from_fn(|pixel| std::array::from_fn(|frequency| share(pixel, frequency))),
        }
    }

    /// Writes a block's pixels, from coefficients in zigzag order.
    #[inline]
    pub(super) fn write(&self, coefficients: &[i32], pixels: &mut [u8], stride: usize) {
        let mut frequencies = [[0.0; N]; N];
        for ((&number, step), &(row, column)) in coefficients.iter().zip(&self.steps).zip(&PLACES).take(Self::WANTED) {
            if row < N && column < N {
                frequencies[row][column] = number as f32 * step;
            }
        }
        // Columns first: each line of the sum is over whole rows.
        let mut lines = [[0.0; N]; N];
        for (line, shares) in lines.iter_mut().zip(&self.shares) {
            for (share, row) in shares.iter().zip(&frequencies) {
                for (sum, frequency) in line.iter_mut().zip(row) {
                    *sum += share * frequency;
                }
            }
        }
        for (y, line) in lines.iter().enumerate() {
            let target = &mut pixels[y * stride..][..N];
            for (shares, pixel) in self.shares.iter().zip(target) {
                let sum: f32 = line.iter().zip(shares).map(|(value, share)| value * share).sum();
                // Towards the nearest, and held within 0 to 255.
                *pixel = (sum / 8.0 + 128.5) as u8;
            }
        }
    }
}
