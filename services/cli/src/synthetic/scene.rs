//! Where a car stands: sky, background and ground. Drawn in units of the picture's height, its left upper corner at (0, 0).

use rand::{Rng, RngExt};

use super::brush::{At, Canvas, Rgba, shade};

/// A place.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    sky: [Rgba; 2],
    ground: Rgba,
    horizon: f32,
    /// Buildings, trees and fences: left edge, width, height, colour.
    backdrop: Vec<(f32, f32, f32, Rgba)>,
    trees: Vec<(At, f32, Rgba)>,
    /// Stones, leaves, stains and lines on the ground.
    litter: Vec<(At, At, Rgba)>,
}

const SKIES: [[Rgba; 2]; 4] = [
    [[0.36, 0.56, 0.82, 1.0], [0.78, 0.86, 0.92, 1.0]],
    [[0.60, 0.62, 0.65, 1.0], [0.76, 0.77, 0.78, 1.0]],
    [[0.28, 0.30, 0.38, 1.0], [0.72, 0.55, 0.45, 1.0]],
    // The wall of a workshop.
    [[0.55, 0.53, 0.50, 1.0], [0.66, 0.64, 0.60, 1.0]],
];
const GROUNDS: [Rgba; 4] =
    [[0.33, 0.33, 0.34, 1.0], [0.50, 0.49, 0.47, 1.0], [0.38, 0.42, 0.28, 1.0], [0.46, 0.38, 0.30, 1.0]];

impl Scene {
    /// A street, a yard, a field or a workshop.
    pub(super) fn sample(rng: &mut impl Rng) -> Self {
        let horizon: f32 = rng.random_range(0.45..0.66);
        let mut grey = |low: f32, high: f32| {
            let tone = rng.random_range(low..high);
            [tone, tone * rng.random_range(0.9..1.0), tone * rng.random_range(0.8..1.0), 1.0]
        };
        let colours: Vec<Rgba> = (0..6).map(|_| grey(0.3, 0.7)).collect();
        let backdrop = colours
            .into_iter()
            .take(rng.random_range(0..6))
            .map(|colour| {
                let (left, width) = (rng.random_range(-0.2..1.6), rng.random_range(0.12..0.6));
                (left, width, rng.random_range(0.08..0.34), colour)
            })
            .collect();
        let trees = (0..rng.random_range(0..5))
            .map(|_| {
                let green = [rng.random_range(0.12..0.28), rng.random_range(0.26..0.42), 0.16, 1.0];
                let size = rng.random_range(0.05..0.13);
                ((rng.random_range(-0.1..1.9), horizon - size * 0.7), size, green)
            })
            .collect();
        let litter = (0..rng.random_range(4..26))
            .map(|_| {
                let centre = (rng.random_range(0.0..1.8), rng.random_range(horizon..1.0));
                let size = rng.random_range(0.003..0.02);
                let tone = rng.random_range(0.1..0.6);
                (centre, (size * rng.random_range(1.0..5.0), size * 0.5), [tone, tone, tone * 0.9, 0.6])
            })
            .collect();
        Self {
            sky: SKIES[rng.random_range(0..SKIES.len())],
            ground: shade(GROUNDS[rng.random_range(0..GROUNDS.len())], rng.random_range(0.75..1.2)),
            horizon,
            backdrop,
            trees,
            litter,
        }
    }

    /// Draws the place over the whole picture, which is `width` heights wide.
    pub(super) fn draw(&self, canvas: &mut Canvas, width: f32) {
        let horizon = self.horizon;
        let sky = rectangle(0.0, 0.0, width, horizon);
        canvas.fill_gradient(&sky, ((0.0, 0.0), self.sky[0]), ((0.0, horizon), self.sky[1]));
        for (left, across, height, colour) in &self.backdrop {
            let top = horizon - height;
            canvas.fill(&rectangle(*left, top, left + across, horizon), *colour);
            for window in 0..3_u8 {
                let x = left + across * (0.15 + 0.28 * f32::from(window));
                let pane = rectangle(x, top + height * 0.2, x + across * 0.14, top + height * 0.5);
                canvas.fill(&pane, shade(*colour, 0.55));
            }
        }
        for (centre, size, colour) in &self.trees {
            canvas.line(&[*centre, (centre.0, horizon)], size * 0.2, [0.25, 0.18, 0.12, 1.0]);
            canvas.ellipse(*centre, (*size, size * 1.1), *colour);
        }
        let near = shade(self.ground, 0.8);
        let ground = rectangle(0.0, horizon, width, 1.0);
        canvas.fill_gradient(&ground, ((0.0, horizon), self.ground), ((0.0, 1.0), near));
        for (centre, radii, colour) in &self.litter {
            canvas.ellipse(*centre, *radii, *colour);
        }
    }
}

fn rectangle(left: f32, top: f32, right: f32, bottom: f32) -> [At; 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}
