//! Rotation and perspective: torchvision's functional transforms on 8-bit RGB, with Pillow's conventions (a pixel's centre is at
//! one half). What comes from outside is black.

use crate::pixels::Pixels;

/// Rotates counter-clockwise about the centre by this many degrees, nearest neighbour: `rotate`, as `RandomRotation` calls it.
/// As Pillow does it, in steps of 1/65536 pixel, so that pixels whose source lies on an edge fall on the same side of it.
pub fn rotate(pixels: &Pixels, degrees: f64) -> Pixels {
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let fixed = |position: f64| (position * 65536.0 + 0.5).floor() as i64;
    let centre = f64::from(pixels.side()) / 2.0;
    // From the centre of the turn to that of the first pixel.
    let first = 0.5 - centre;
    let (first_x, first_y) = (fixed(cos * first + sin * first + centre), fixed(cos * first - sin * first + centre));
    let (cos, sin, minus_sin) = (fixed(cos), fixed(sin), fixed(-sin));
    sample(pixels, |column, row| {
        let (column, row) = (i64::from(column), i64::from(row));
        let (x, y) = (first_x + column * cos + row * sin, first_y + column * minus_sin + row * cos);
        at(pixels, x >> 16, y >> 16).unwrap_or([0; 3])
    })
}

/// The eight numbers of a projection: output (x, y) comes from input
/// `((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1))`.
pub type Projection = [f64; 8];

/// The projection that takes each of four output corners to its input corner: torchvision's `_get_perspective_coeffs`, which solves
/// in double precision and rounds to single. `None` when three corners lie on a line.
pub fn projection(input: [[f64; 2]; 4], output: [[f64; 2]; 4]) -> Option<Projection> {
    let mut rows = [[0.0; 9]; 8];
    for (corner, ([from_x, from_y], [x, y])) in input.into_iter().zip(output).enumerate() {
        rows[2 * corner] = [x, y, 1.0, 0.0, 0.0, 0.0, -from_x * x, -from_x * y, from_x];
        rows[2 * corner + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -from_y * x, -from_y * y, from_y];
    }
    Some(solve(rows)?.map(|number| f64::from(number as f32)))
}

/// Applies a projection with bilinear interpolation: `perspective`, as `RandomPerspective` calls it.
pub fn perspective(pixels: &Pixels, [a, b, c, d, e, f, g, h]: Projection) -> Pixels {
    sample(pixels, |column, row| {
        let (x, y) = (f64::from(column) + 0.5, f64::from(row) + 0.5);
        let scale = g * x + h * y + 1.0;
        bilinear(pixels, (a * x + b * y + c) / scale, (d * x + e * y + f) / scale)
    })
}

/// A picture of the same size whose pixels are computed from their column and row.
fn sample(pixels: &Pixels, value: impl Fn(u32, u32) -> [u8; 3]) -> Pixels {
    let side = pixels.side();
    let places = (0..side).flat_map(|row| (0..side).map(move |column| (column, row)));
    let bytes = places.flat_map(|(column, row)| value(column, row)).collect();
    Pixels::new(side, bytes).unwrap_or_else(|| pixels.clone())
}

fn at(pixels: &Pixels, x: i64, y: i64) -> Option<[u8; 3]> {
    let side = i64::from(pixels.side());
    let inside = (0..side).contains(&x) && (0..side).contains(&y);
    inside.then(|| pixels.pixels()[(y * side + x) as usize])
}

/// Pillow's bilinear filter: a position outside of the picture is black; at its rim the outermost pixels are repeated. Fractions are
/// cut off, not rounded.
fn bilinear(pixels: &Pixels, x: f64, y: f64) -> [u8; 3] {
    let side = f64::from(pixels.side());
    if !(0.0..side).contains(&x) || !(0.0..side).contains(&y) {
        return [0; 3];
    }
    let last = i64::from(pixels.side()) - 1;
    let split = |position: f64| {
        let shifted = position - 0.5;
        let whole = shifted.floor();
        ((whole as i64).clamp(0, last), (whole as i64 + 1).clamp(0, last), shifted - whole)
    };
    let ((left, right, along_x), (top, bottom, along_y)) = (split(x), split(y));
    let corner = |x, y| at(pixels, x, y).unwrap_or([0; 3]);
    let (top_left, top_right, bottom_left, bottom_right) =
        (corner(left, top), corner(right, top), corner(left, bottom), corner(right, bottom));
    std::array::from_fn(|channel| {
        let mix = |from: u8, to: u8, share: f64| f64::from(from) + (f64::from(to) - f64::from(from)) * share;
        let upper = mix(top_left[channel], top_right[channel], along_x);
        let lower = mix(bottom_left[channel], bottom_right[channel], along_x);
        (upper + (lower - upper) * along_y) as u8
    })
}

/// Gaussian elimination with partial pivoting; each row ends with its right-hand side.
fn solve(mut rows: [[f64; 9]; 8]) -> Option<Projection> {
    for column in 0..8 {
        let pivot = (column..8).max_by(|&one, &other| rows[one][column].abs().total_cmp(&rows[other][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < 1e-12 {
            return None;
        }
        let pivot = rows[column];
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / pivot[column];
                row.iter_mut().zip(pivot).for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    Some(std::array::from_fn(|row| rows[row][8] / rows[row][row]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn gradient() -> Pixels {
        let bytes =
            (0..32_u32).flat_map(|y| (0..32_u32).flat_map(move |x| [(x * 8) as u8, (y * 8) as u8, 99])).collect();
        Pixels::new(32, bytes).unwrap()
    }

    #[test]
    fn nothing_moves_without_a_reason() {
        let picture = gradient();
        assert_eq!(rotate(&picture, 0.0), picture);
        let corners = [[0.0, 0.0], [31.0, 0.0], [31.0, 31.0], [0.0, 31.0]];
        assert_eq!(perspective(&picture, projection(corners, corners).unwrap()), picture);
    }

    #[test]
    fn four_quarter_turns_are_a_whole_one() {
        let picture = gradient();
        let turned = (0..4).fold(picture.clone(), |picture, _| rotate(&picture, 90.0));
        assert_eq!(turned, picture);
        // Counter-clockwise: the right edge comes to the top.
        assert_eq!(rotate(&picture, 90.0).pixels()[0], picture.pixels()[31]);
    }

    #[test]
    fn corners_on_a_line_have_no_projection() {
        let corners = [[0.0, 0.0], [31.0, 0.0], [31.0, 31.0], [0.0, 31.0]];
        assert_eq!(projection(corners, [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), None);
    }
}
