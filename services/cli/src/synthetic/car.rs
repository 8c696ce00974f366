//! An undamaged car, seen from the side. Its front is at x = 1, its rear at x = -1, the ground at y = 0; y grows downwards.

use rand::{Rng, RngExt};

use super::{
    brush::{At, Canvas, Rgba, lerp, shade, smooth},
    damage::Damage,
};

/// What a car looks like.
#[derive(Debug, Clone)]
pub(super) struct Car {
    shape: Shape,
    paint: Rgba,
    rim: Rgba,
    glass: Rgba,
    /// How strongly the paint shines.
    gloss: f32,
}

/// The proportions of a body style.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Where, from rear to front, the rear window begins, the roof begins, the roof ends, the windscreen ends.
    cabin: [f32; 4],
    /// Heights of the roof, the lower edge of the windows, the rear deck and the bonnet's front.
    roof: f32,
    belt: f32,
    deck: f32,
    nose: f32,
    sill: f32,
    wheel: f32,
    axles: [f32; 2],
}

const SEDAN: Shape = Shape {
    cabin: [-0.78, -0.42, 0.12, 0.48],
    roof: -0.76,
    belt: -0.50,
    deck: -0.49,
    nose: -0.40,
    sill: -0.14,
    wheel: 0.17,
    axles: [-0.62, 0.64],
};
const HATCHBACK: Shape =
    Shape { cabin: [-0.99, -0.74, 0.10, 0.50], roof: -0.80, belt: -0.50, deck: -0.56, axles: [-0.64, 0.62], ..SEDAN };
const SUV: Shape = Shape {
    cabin: [-0.99, -0.86, 0.16, 0.46],
    roof: -0.92,
    belt: -0.58,
    deck: -0.62,
    nose: -0.50,
    sill: -0.20,
    wheel: 0.20,
    axles: [-0.62, 0.62],
};
const VAN: Shape = Shape {
    cabin: [-1.0, -0.95, 0.34, 0.72],
    roof: -0.96,
    belt: -0.56,
    deck: -0.70,
    nose: -0.46,
    sill: -0.15,
    wheel: 0.16,
    axles: [-0.66, 0.66],
};

const PAINTS: [Rgba; 10] = [
    [0.88, 0.88, 0.87, 1.0],
    [0.62, 0.64, 0.66, 1.0],
    [0.34, 0.36, 0.39, 1.0],
    [0.13, 0.13, 0.15, 1.0],
    [0.66, 0.11, 0.12, 1.0],
    [0.13, 0.25, 0.52, 1.0],
    [0.22, 0.47, 0.66, 1.0],
    [0.15, 0.36, 0.24, 1.0],
    [0.76, 0.60, 0.22, 1.0],
    [0.44, 0.30, 0.22, 1.0],
];

impl Car {
    /// A car off the street.
    pub(super) fn sample(rng: &mut impl Rng) -> Self {
        let mut shape = [SEDAN, SEDAN, HATCHBACK, HATCHBACK, SUV, VAN][rng.random_range(0..6)];
        for height in [&mut shape.roof, &mut shape.belt, &mut shape.deck, &mut shape.nose] {
            *height *= rng.random_range(0.96..1.05);
        }
        for x in &mut shape.cabin[1..] {
            *x += rng.random_range(-0.04..0.04);
        }
        let paint = PAINTS[rng.random_range(0..PAINTS.len())];
        let grey = rng.random_range(0.4..0.8);
        Self {
            shape,
            paint: shade(paint, rng.random_range(0.85..1.12)),
            rim: [grey, grey, grey * 1.02, 1.0],
            glass: [0.16, 0.20, rng.random_range(0.23..0.32), 1.0],
            gloss: rng.random_range(0.1..0.4),
        }
    }

    /// The outline of the body, without wheels.
    pub(super) fn outline(&self) -> Vec<At> {
        let Shape { cabin: [rear, roof_rear, roof_front, screen], roof, deck, nose, sill, .. } = self.shape;
        let polygon = [
            (-0.98, sill),
            (-1.03, sill - 0.04),
            (-1.03, deck * 0.82),
            (rear.max(-0.99), deck),
            (rear, deck),
            (roof_rear, roof),
            (lerp((roof_rear, 0.0), (roof_front, 0.0), 0.5).0, roof - 0.015),
            (roof_front, roof),
            (screen, lerp((0.0, self.shape.belt), (0.0, nose), 0.25).1),
            (0.90, nose),
            (1.02, nose * 0.80),
            (1.03, sill - 0.05),
            (0.98, sill),
        ];
        smooth(&polygon, 3)
    }

    /// The windows, from rear to front.
    pub(super) fn windows(&self) -> Vec<Vec<At>> {
        let Shape { cabin: [rear, roof_rear, roof_front, screen], roof, belt, .. } = self.shape;
        let (top, bottom) = (roof + 0.045, belt - 0.005);
        let (left, right) = ((rear + 0.10, bottom), (screen - 0.08, bottom));
        let (top_left, top_right) = ((roof_rear + 0.06, top), (roof_front - 0.03, top));
        let pillars: &[f32] = if roof_front - roof_rear > 0.75 { &[0.34, 0.66] } else { &[0.5] };
        let mut edges = vec![(top_left, left)];
        for share in pillars {
            let top = lerp(top_left, top_right, *share);
            edges.push((top, (top.0, bottom)));
        }
        edges.push((top_right, right));
        let pane = |pair: &[(At, At)]| {
            let inset = 0.016;
            let ((top_a, low_a), (top_b, low_b)) = (pair[0], pair[1]);
            let points =
                [(top_a.0 + inset, top), (top_b.0 - inset, top), (low_b.0 - inset, bottom), (low_a.0 + inset, bottom)];
            smooth(&points, 1)
        };
        edges.windows(2).map(pane).collect()
    }

    /// The headlamp and the tail lamp.
    pub(super) fn lamps(&self) -> [Vec<At>; 2] {
        let Shape { deck, nose, .. } = self.shape;
        let (front, rear) = (nose * 0.86, deck * 0.76);
        [
            smooth(&[(0.84, front - 0.03), (1.0, front + 0.005), (1.005, front + 0.085), (0.88, front + 0.06)], 1),
            smooth(&[(-1.02, rear - 0.05), (-0.93, rear - 0.04), (-0.92, rear + 0.06), (-1.03, rear + 0.08)], 1),
        ]
    }

    /// The lower edge of the body.
    pub(super) fn sill(&self) -> f32 {
        self.shape.sill
    }

    /// The lower edge of the windows.
    pub(super) fn belt(&self) -> f32 {
        self.shape.belt
    }

    /// The upper edge of the body.
    pub(super) fn roof(&self) -> f32 {
        self.shape.roof
    }

    /// Draws the car with what the damage has made of its shape and parts.
    pub(super) fn draw(&self, canvas: &mut Canvas, damage: &Damage) {
        let shape = &self.shape;
        canvas.ellipse((0.0, 0.0), (1.12, 0.05), [0.0, 0.0, 0.0, 0.45]);
        for x in shape.axles {
            canvas.ellipse((x, -shape.wheel), (shape.wheel * 1.2, shape.wheel * 1.2), [0.03, 0.03, 0.03, 1.0]);
        }

        let body = damage.bend(self.outline());
        let light = shade(self.paint, 1.0 + self.gloss);
        canvas.fill_gradient(&body, ((0.0, shape.roof), light), ((0.0, shape.sill), shade(self.paint, 0.62)));
        canvas.clip_to(&body);
        // Reflections of the horizon and of the sky: they look like scratches to whoever does not look closely.
        let shine = [1.0, 1.0, 1.0, self.gloss * 0.8];
        canvas.line(&damage.bend(vec![(-0.98, shape.belt + 0.07), (0.95, shape.belt + 0.10)]), 0.018, shine);
        canvas.line(&damage.bend(along((-1.0, shape.sill - 0.09), (1.0, shape.sill - 0.08))), 0.010, shade(shine, 0.3));
        self.draw_joints(canvas, damage);
        let trim = [0.10, 0.10, 0.11, 1.0];
        canvas.line(&damage.bend(along((-1.03, shape.sill - 0.01), (1.03, shape.sill - 0.01))), 0.045, trim);
        for x in shape.axles {
            canvas.ellipse((x, -shape.wheel), (shape.wheel * 1.17, shape.wheel * 1.17), [0.04, 0.04, 0.04, 1.0]);
        }
        canvas.unclip();

        for window in self.windows() {
            let pane = damage.bend(window);
            let top = shade(self.glass, 1.9);
            canvas.fill_gradient(&pane, ((0.0, shape.roof), top), ((0.2, shape.belt), self.glass));
        }
        let [head, tail] = self.lamps();
        canvas.fill(&damage.bend(head), [0.95, 0.94, 0.82, 1.0]);
        canvas.fill(&damage.bend(tail), [0.72, 0.06, 0.06, 1.0]);
        for (wheel, x) in shape.axles.into_iter().enumerate() {
            if !damage.lost_wheel(wheel) {
                self.draw_wheel(canvas, x);
            }
        }
    }

    /// Door gaps and handles.
    fn draw_joints(&self, canvas: &mut Canvas, damage: &Damage) {
        let Shape { cabin: [_, roof_rear, roof_front, screen], belt, sill, .. } = self.shape;
        let gap = [0.0, 0.0, 0.0, 0.55];
        let middle = (roof_rear + roof_front) / 2.0;
        let doors = [middle, screen - 0.04, (roof_rear - 0.02).max(-0.42)];
        for x in doors {
            canvas.line(&damage.bend(along((x, belt), (x + 0.01, sill - 0.04))), 0.008, gap);
        }
        for x in [middle - 0.10, screen - 0.30] {
            canvas.line(&damage.bend(vec![(x - 0.05, belt + 0.06), (x, belt + 0.06)]), 0.014, [0.05, 0.05, 0.05, 0.8]);
        }
        let mirror = (screen - 0.10, belt - 0.02);
        canvas.ellipse(mirror, (0.035, 0.025), shade(self.paint, 0.7));
    }

    fn draw_wheel(&self, canvas: &mut Canvas, x: f32) {
        let (radius, y) = (self.shape.wheel, -self.shape.wheel);
        canvas.ellipse((x, y), (radius, radius), [0.07, 0.07, 0.08, 1.0]);
        canvas.ellipse((x, y), (radius * 0.64, radius * 0.64), self.rim);
        for spoke in 0..5_u8 {
            let angle = f32::from(spoke) * std::f32::consts::TAU / 5.0 + x;
            let end = (x + radius * 0.56 * angle.cos(), y + radius * 0.56 * angle.sin());
            canvas.line(&[(x, y), end], radius * 0.13, shade(self.rim, 0.45));
        }
        canvas.ellipse((x, y), (radius * 0.14, radius * 0.14), shade(self.rim, 0.6));
    }
}

/// A straight line with enough points on it to be bent.
pub(super) fn along(from: At, to: At) -> Vec<At> {
    (0..=24_u8).map(|step| lerp(from, to, f32::from(step) / 24.0)).collect()
}
