//! Damage that grows with a level from 0 (a scratch) to 1 (a wreck). A severity is a range of levels, and neighbouring ranges
//! overlap: as with photographs, two people would not always agree.

use perito_domain::Severity;
use rand::{Rng, RngExt};

use super::{
    brush::{At, Canvas, Rgba, lerp, shade},
    car::{Car, along},
};

/// What has happened to a car.
#[derive(Debug, Clone)]
pub(super) struct Damage {
    blow: Blow,
    lost_wheel: Option<usize>,
    marks: Vec<Mark>,
    /// What lies about and floats above: not on the car.
    surroundings: Vec<Mark>,
}

/// Where the car was hit, and how deep the metal went.
#[derive(Debug, Clone, Copy)]
struct Blow {
    at: At,
    /// Where the metal was pushed, and how far.
    push: At,
    reach: f32,
    /// How crumpled the result is.
    crumple: f32,
    /// Makes every blow crumple in its own way.
    phase: f32,
}

/// One thing to draw.
#[derive(Debug, Clone)]
enum Mark {
    Line { points: Vec<At>, width: f32, colour: Rgba },
    Area { points: Vec<At>, colour: Rgba },
    Spot { centre: At, radius: f32, colour: Rgba },
}

/// The levels of a severity.
fn levels(severity: Severity) -> std::ops::Range<f32> {
    match severity {
        Severity::Minor => 0.02..0.30,
        Severity::Moderate => 0.27..0.66,
        Severity::Severe => 0.63..1.0,
    }
}

impl Damage {
    /// Damage of this severity to this car.
    pub(super) fn sample(severity: Severity, car: &Car, rng: &mut impl Rng) -> Self {
        let level = rng.random_range(levels(severity));
        let place = Place::sample(car, rng);
        let depth = (level - 0.30).max(0.0);
        let blow = Blow {
            at: place.at,
            push: (place.inwards.0 * depth * 0.62, place.inwards.1 * depth * 0.62),
            reach: 0.25 + 0.75 * depth,
            crumple: depth * 0.11,
            phase: rng.random_range(0.0..100.0),
        };
        let lost_wheel = (level > 0.74 && rng.random_bool(0.45)).then_some(usize::from(place.at.0 > 0.0));
        let mut damage = Self { blow, lost_wheel, marks: Vec::new(), surroundings: Vec::new() };
        damage.dent(level, &place, rng);
        damage.crush(level, &place, rng);
        damage.scratch(level, &place, rng);
        damage.break_glass(level, &place, car, rng);
        damage.break_lamps(level, &place, car, rng);
        damage.litter(level, &place, rng);
        damage
    }

    /// Nothing has happened.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        let blow = Blow { at: (0.0, 0.0), push: (0.0, 0.0), reach: 1.0, crumple: 0.0, phase: 0.0 };
        Self { blow, lost_wheel: None, marks: Vec::new(), surroundings: Vec::new() }
    }

    /// Where points of the car are after the blow.
    pub(super) fn bend(&self, mut points: Vec<At>) -> Vec<At> {
        for point in &mut points {
            *point = self.blow.bend(*point);
        }
        points
    }

    /// Whether a wheel (0 is the rear one) came off.
    pub(super) fn lost_wheel(&self, wheel: usize) -> bool {
        self.lost_wheel == Some(wheel)
    }

    /// Draws all that shows on top of the car.
    pub(super) fn draw(&self, canvas: &mut Canvas, car: &Car) {
        canvas.clip_to(&self.bend(car.outline()));
        self.marks.iter().for_each(|mark| mark.draw(canvas));
        canvas.unclip();
        self.surroundings.iter().for_each(|mark| mark.draw(canvas));
    }

    /// Soft dark hollows with a lit edge.
    fn dent(&mut self, level: f32, place: &Place, rng: &mut impl Rng) {
        for _ in 0..count(1.0 + 5.0 * level, rng) {
            let centre = place.near(0.10 + 0.35 * level, rng);
            let radius = rng.random_range(0.02..0.05) + 0.13 * level * rng.random_range(0.3..1.0);
            self.marks.push(Mark::Spot { centre, radius, colour: [0.0, 0.0, 0.0, 0.30 + 0.35 * level] });
            let lit = (centre.0 - radius * 0.35, centre.1 + radius * 0.45);
            self.marks.push(Mark::Spot { centre: lit, radius: radius * 0.5, colour: [1.0, 1.0, 1.0, 0.35] });
        }
    }

    /// Torn and folded metal: facets that are lit from different sides, holes, bare metal and rust.
    fn crush(&mut self, level: f32, place: &Place, rng: &mut impl Rng) {
        let depth = (level - 0.22).max(0.0);
        for _ in 0..count(70.0 * depth, rng) {
            let centre = place.near(0.10 + 0.90 * depth, rng);
            let size = rng.random_range(0.05..0.11) + 0.22 * depth * rng.random_range(0.2..1.0);
            let colour = match rng.random_range(0..10) {
                0..5 => [0.02, 0.02, 0.03, rng.random_range(0.5..0.9)],
                5..8 => [0.55, 0.55, 0.56, rng.random_range(0.3..0.7)],
                _ => [0.42, 0.24, 0.14, rng.random_range(0.4..0.7)],
            };
            self.marks.push(Mark::Area { points: shard(centre, size, rng), colour });
        }
        for _ in 0..count(22.0 * (level - 0.4).max(0.0), rng) {
            let (from, to) = (place.near(0.4 * level, rng), place.near(0.4 * level, rng));
            let to = lerp(from, to, 0.5);
            let colour = [0.0, 0.0, 0.0, rng.random_range(0.5..0.9)];
            self.marks.push(Mark::Line { points: jagged(from, to, 0.03, rng), width: 0.009, colour });
        }
    }

    /// Thin lines through the paint, most of them along the car.
    fn scratch(&mut self, level: f32, place: &Place, rng: &mut impl Rng) {
        for _ in 0..count(3.0 + 7.0 * level, rng) {
            let from = place.near(0.15 + 0.3 * level, rng);
            let length = rng.random_range(0.06..0.30);
            let to = (from.0 + length * rng.random_range(-1.0..1.0), from.1 + length * rng.random_range(-0.35..0.35));
            let tone = if rng.random_bool(0.6) { 0.85 } else { 0.06 };
            let colour = [tone, tone, tone, rng.random_range(0.5..0.95)];
            let width = rng.random_range(0.004..0.010);
            self.marks.push(Mark::Line { points: jagged(from, to, 0.008, rng), width, colour });
        }
    }

    /// Cracks that spread from one point of a window; at worst the pane is gone.
    fn break_glass(&mut self, level: f32, place: &Place, car: &Car, rng: &mut impl Rng) {
        for window in car.windows() {
            let middle = middle(&window);
            let near = (1.0 - (middle.0 - place.at.0).abs()).max(0.2);
            if !rng.random_bool(f64::from((1.9 * (level - 0.30) * near).clamp(0.0, 1.0))) {
                continue;
            }
            if level > 0.66 && rng.random_bool(0.5) {
                self.marks.push(Mark::Area { points: self.bend(window.clone()), colour: [0.02, 0.02, 0.02, 0.95] });
            }
            let hit = self.blow.bend((middle.0 + rng.random_range(-0.06..0.06), middle.1));
            for _ in 0..count(6.0 + 10.0 * level, rng) {
                let angle = rng.random_range(0.0..std::f32::consts::TAU);
                let length = rng.random_range(0.06..0.20);
                let to = (hit.0 + length * angle.cos(), hit.1 + length * 0.7 * angle.sin());
                let colour = [0.92, 0.95, 0.97, rng.random_range(0.6..0.95)];
                self.marks.push(Mark::Line { points: jagged(hit, to, 0.012, rng), width: 0.006, colour });
            }
        }
    }

    fn break_lamps(&mut self, level: f32, place: &Place, car: &Car, rng: &mut impl Rng) {
        for lamp in car.lamps() {
            let near = (middle(&lamp).0 - place.at.0).abs() < 0.5;
            if near && rng.random_bool(f64::from((2.2 * (level - 0.25)).clamp(0.0, 1.0))) {
                self.marks.push(Mark::Area { points: self.bend(lamp.clone()), colour: [0.05, 0.05, 0.05, 0.9] });
                let points = self.bend(vec![lamp[0], lamp[lamp.len() / 2]]);
                self.marks.push(Mark::Line { points, width: 0.01, colour: [0.8, 0.8, 0.75, 0.8] });
            }
        }
    }

    /// Debris on the ground, parts that hang down, fluid, smoke.
    fn litter(&mut self, level: f32, place: &Place, rng: &mut impl Rng) {
        let wreck = (level - 0.45).max(0.0);
        for _ in 0..count(160.0 * wreck, rng) {
            let centre = (place.at.0 + rng.random_range(-1.2..1.2), rng.random_range(-0.01..0.16));
            let tone = rng.random_range(0.05..0.7);
            let points = shard(centre, rng.random_range(0.02..0.07), rng);
            self.surroundings.push(Mark::Area { points, colour: [tone, tone, tone, 1.0] });
        }
        if wreck > 0.0 && rng.random_bool(0.6) {
            let end = (place.at.0 + rng.random_range(-0.25..0.25), 0.01);
            let points = along((place.at.0, -0.16), end);
            self.surroundings.push(Mark::Line { points, width: 0.035, colour: [0.09, 0.09, 0.10, 1.0] });
        }
        if level > 0.66 && rng.random_bool(0.85) {
            for _ in 0..22 {
                let rise = rng.random_range(0.0..0.75);
                let drift = rng.random_range(-0.12..0.12) * (1.0 + 2.0 * rise);
                let tone = rng.random_range(0.08..0.25);
                let colour = [tone, tone, tone, rng.random_range(0.35..0.7)];
                let centre = (place.at.0 * 0.85 + drift, place.at.1 - rise);
                self.surroundings.push(Mark::Spot { centre, radius: 0.14 + 0.30 * rise, colour });
            }
        }
    }
}

impl Blow {
    fn bend(&self, point: At) -> At {
        let (dx, dy) = (point.0 - self.at.0, point.1 - self.at.1);
        let share = (1.0 - (dx * dx + 0.7 * dy * dy).sqrt() / self.reach).max(0.0);
        let wave = (point.0 * 31.0 + point.1 * 17.0 + self.phase).sin() + (point.1 * 43.0 - self.phase).cos();
        let crumple = self.crumple * wave * share.sqrt();
        (point.0 + self.push.0 * share + crumple * 0.7, point.1 + self.push.1 * share + crumple)
    }
}

/// Where a car was hit.
struct Place {
    at: At,
    /// Towards the inside of the car.
    inwards: At,
    roof: f32,
    sill: f32,
}

impl Place {
    fn sample(car: &Car, rng: &mut impl Rng) -> Self {
        let (roof, sill) = (car.roof(), car.sill());
        let middle = (car.belt() + sill) / 2.0;
        let up = rng.random_range(-0.08..0.08);
        let (at, inwards) = match rng.random_range(0..10) {
            0..4 => ((0.90, middle + up), (-1.0, 0.12)),
            4..7 => ((-0.90, middle + up), (1.0, 0.12)),
            7..9 => ((rng.random_range(-0.5..0.5), middle + up), (0.0, -0.35)),
            _ => ((rng.random_range(-0.3..0.2), roof), (0.0, 1.0)),
        };
        Self { at, inwards, roof, sill }
    }

    /// A point on the body that is hardly ever farther away than `spread`.
    fn near(&self, spread: f32, rng: &mut impl Rng) -> At {
        // The mean of two uniform numbers: nearer points are more likely.
        let mut step = || rng.random_range(-spread..spread) + rng.random_range(-spread..spread);
        let (x, y) = (self.at.0 + step(), self.at.1 + step() * 0.6);
        (x.clamp(-1.0, 1.0), y.clamp(self.roof, self.sill))
    }
}

impl Mark {
    fn draw(&self, canvas: &mut Canvas) {
        match self {
            Self::Line { points, width, colour } => canvas.line(points, *width, *colour),
            Self::Area { points, colour } => {
                canvas.fill(points, *colour);
                if let [first, second, ..] = points.as_slice() {
                    canvas.line(&[*first, *second], 0.005, shade(*colour, 2.5));
                }
            }
            Self::Spot { centre, radius, colour } => canvas.spot(*centre, *radius, *colour),
        }
    }
}

/// A whole number whose mean is `mean`.
fn count(mean: f32, rng: &mut impl Rng) -> u32 {
    (mean + rng.random_range(0.0..1.0)).floor().max(0.0) as u32
}

/// A polygon of three to six sharp corners.
fn shard(centre: At, size: f32, rng: &mut impl Rng) -> Vec<At> {
    let corners = rng.random_range(3..=6_u8);
    let turn = rng.random_range(0.0..std::f32::consts::TAU);
    (0..corners)
        .map(|corner| {
            let angle = turn + f32::from(corner) * std::f32::consts::TAU / f32::from(corners);
            let radius = size * rng.random_range(0.35..1.0);
            (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin())
        })
        .collect()
}

/// A line that wanders a little.
fn jagged(from: At, to: At, wander: f32, rng: &mut impl Rng) -> Vec<At> {
    (0..=4_u8)
        .map(|step| {
            let (x, y) = lerp(from, to, f32::from(step) / 4.0);
            (x + rng.random_range(-wander..wander), y + rng.random_range(-wander..wander))
        })
        .collect()
}

fn middle(shape: &[At]) -> At {
    let count = shape.len().max(1) as f32;
    let sum = shape.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    (sum.0 / count, sum.1 / count)
}
