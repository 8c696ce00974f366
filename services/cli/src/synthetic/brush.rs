//! Drawing by points: thin helpers over tiny-skia, so that cars and damage are written as shapes and colours.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Mask, Paint, Path, PathBuilder, Pixmap, Point,
    RadialGradient, Rect, Shader, SpreadMode, Stroke, Transform,
};

/// A point in the coordinates of whoever draws.
pub(super) type At = (f32, f32);

/// A colour with red, green, blue and opacity in 0 to 1.
pub(super) type Rgba = [f32; 4];

/// A picture, and the coordinates in which it is being drawn.
pub(super) struct Canvas {
    pub(super) pixmap: Pixmap,
    pub(super) transform: Transform,
    clip: Option<Mask>,
}

impl Canvas {
    /// A blank picture; `None` when a side is zero.
    pub(super) fn new(width: u32, height: u32) -> Option<Self> {
        Some(Self { pixmap: Pixmap::new(width, height)?, transform: Transform::identity(), clip: None })
    }

    /// Fills a closed shape with one colour.
    pub(super) fn fill(&mut self, shape: &[At], colour: Rgba) {
        self.fill_shaded(shape, Shader::SolidColor(self::colour(colour)));
    }

    /// Fills a closed shape with a gradient from one point to another.
    pub(super) fn fill_gradient(&mut self, shape: &[At], from: (At, Rgba), to: (At, Rgba)) {
        let stops = vec![GradientStop::new(0.0, colour(from.1)), GradientStop::new(1.0, colour(to.1))];
        if let Some(shader) =
            LinearGradient::new(from.0.into(), to.0.into(), stops, SpreadMode::Pad, Transform::identity())
        {
            self.fill_shaded(shape, shader);
        }
    }

    /// A soft round spot that fades towards its edge.
    pub(super) fn spot(&mut self, centre: At, radius: f32, inner: Rgba) {
        let outer = [inner[0], inner[1], inner[2], 0.0];
        let stops = vec![GradientStop::new(0.0, colour(inner)), GradientStop::new(1.0, colour(outer))];
        let middle = Point::from(centre);
        let shader = RadialGradient::new(middle, 0.0, middle, radius, stops, SpreadMode::Pad, Transform::identity());
        if let (Some(shader), Some(path)) = (shader, PathBuilder::from_circle(centre.0, centre.1, radius)) {
            self.paint(&path, shader);
        }
    }

    /// An ellipse of one colour.
    pub(super) fn ellipse(&mut self, centre: At, radii: At, fill: Rgba) {
        let bounds = Rect::from_ltrb(centre.0 - radii.0, centre.1 - radii.1, centre.0 + radii.0, centre.1 + radii.1);
        if let Some(path) = bounds.and_then(PathBuilder::from_oval) {
            self.paint(&path, Shader::SolidColor(colour(fill)));
        }
    }

    /// A line of this width through points.
    pub(super) fn line(&mut self, points: &[At], width: f32, stroke: Rgba) {
        let Some(path) = path(points, false) else { return };
        let pen = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        let paint = Paint { shader: Shader::SolidColor(colour(stroke)), ..Paint::default() };
        self.pixmap.stroke_path(&path, &paint, &pen, self.transform, self.clip.as_ref());
    }

    /// Draws only inside of a shape from here on.
    pub(super) fn clip_to(&mut self, shape: &[At]) {
        self.clip = Mask::new(self.pixmap.width(), self.pixmap.height()).and_then(|mut mask| {
            mask.fill_path(&path(shape, true)?, FillRule::Winding, true, self.transform);
            Some(mask)
        });
    }

    /// Draws everywhere again.
    pub(super) fn unclip(&mut self) {
        self.clip = None;
    }

    fn fill_shaded(&mut self, shape: &[At], shader: Shader<'_>) {
        if let Some(path) = path(shape, true) {
            self.paint(&path, shader);
        }
    }

    fn paint(&mut self, path: &Path, shader: Shader<'_>) {
        let paint = Paint { shader, ..Paint::default() };
        self.pixmap.fill_path(path, &paint, FillRule::Winding, self.transform, self.clip.as_ref());
    }
}

/// This colour, lighter (above 1) or darker (below 1).
pub(super) fn shade(base: Rgba, factor: f32) -> Rgba {
    [base[0] * factor, base[1] * factor, base[2] * factor, base[3]]
}

/// A polygon with its corners cut `rounds` times, and so a smooth outline (Chaikin's algorithm, 1974).
pub(super) fn smooth(polygon: &[At], rounds: u32) -> Vec<At> {
    let mut points = polygon.to_vec();
    for _ in 0..rounds {
        points = (0..points.len())
            .flat_map(|index| {
                let (a, b) = (points[index], points[(index + 1) % points.len()]);
                [lerp(a, b, 0.25), lerp(a, b, 0.75)]
            })
            .collect();
    }
    points
}

/// The point that lies this share of the way from `a` to `b`.
pub(super) fn lerp(a: At, b: At, share: f32) -> At {
    (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share)
}

fn path(points: &[At], closed: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut builder = PathBuilder::new();
    builder.move_to(first.0, first.1);
    for (x, y) in rest {
        builder.line_to(*x, *y);
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

fn colour(rgba: Rgba) -> Color {
    let [red, green, blue, alpha] = rgba.map(|channel| channel.clamp(0.0, 1.0));
    // Every channel is in range by now; black is never seen.
    Color::from_rgba(red, green, blue, alpha).unwrap_or(Color::BLACK)
}
