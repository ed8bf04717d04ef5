//! The outline of an endoscope's picture: a circle that the frame may cut off, a rectangle with or without cut corners, or the whole frame.
//!
//! How one is fitted to what is lit stands in `edge`.

use super::{cells::Cells, edge::Edge};

/// The part of what is lit that a circle must enclose.
const ENCLOSED: f64 = 0.95;

/// The frame has no black beside the picture where that takes up a smaller part of both sides.
const SMALLEST_BORDER: f64 = 0.02;

/// What the picture looks like from afar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The whole frame.
    Whole,
    /// A circle, which the frame may cut off; an ellipse in pixels that are not square.
    Circle,
    /// A rectangle.
    Rectangle,
    /// A rectangle with cut corners.
    Octagon,
}

/// Where the picture ends, in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outline {
    kind: Kind,
    /// Left, top, right and bottom, within the frame.
    sides: [f64; 4],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Circle {
        centre: [f64; 2],
        radii: [f64; 2],
    },
    /// How far each corner is cut across and down: top left, top right, bottom left, bottom right.
    Box([[f64; 2]; 4]),
}

impl Outline {
    /// That of a frame of `size` which is all picture.
    pub(super) fn whole(size: (usize, usize)) -> Self {
        Self {
            kind: Kind::Whole,
            sides: [0.0, 0.0, size.0 as f64, size.1 as f64],
        }
    }

    /// The one that fits what is lit best, of a frame of `size` whose pixels are `aspect` times as wide as high. `None` where nothing is lit.
    pub(super) fn fit(lit: &Cells, size: (usize, usize), aspect: f64) -> Option<Self> {
        let edge = Edge::of(lit)?;
        let scale = [
            size.0 as f64 / lit.width as f64,
            size.1 as f64 / lit.height as f64,
        ];
        let found = edge
            .circle([scale[0] * aspect, scale[1]])
            .map(|(centre, radius)| {
                let centre = [centre[0] / aspect, centre[1]];
                Self::circle(centre, [radius / aspect, radius], size)
            })
            // The edge of something dark in the picture is bent the other way.
            .filter(|circle| circle.share_of(lit, scale) >= ENCLOSED);
        let found = found.unwrap_or_else(|| {
            let (sides, cuts) = edge.rectangle(scale);
            Self {
                kind: Kind::Box(cuts),
                sides,
            }
        });
        Some(if found.fills(size) {
            Self::whole(size)
        } else {
            found
        })
    }

    /// The part of what is lit that it encloses, by some of it.
    fn share_of(&self, lit: &Cells, scale: [f64; 2]) -> f64 {
        let cells = (0..lit.set.len()).filter(|cell| lit.set[*cell]).step_by(7);
        let is_inside = |cell: &usize| {
            let at = [cell % lit.width, cell / lit.width];
            let middle = [0, 1].map(|axis| (at[axis] as f64 + 0.5) * scale[axis]);
            self.contains(middle, 0.0)
        };
        let (inside, all) = cells.fold((0, 0), |(inside, all), cell| {
            (inside + u32::from(is_inside(&cell)), all + 1)
        });
        f64::from(inside) / f64::from(all.max(1))
    }

    fn circle(centre: [f64; 2], radii: [f64; 2], size: (usize, usize)) -> Self {
        let side = |axis: usize, sign: f64, len: usize| {
            (centre[axis] + sign * radii[axis]).clamp(0.0, len as f64)
        };
        Self {
            kind: Kind::Circle { centre, radii },
            sides: [
                side(0, -1.0, size.0),
                side(1, -1.0, size.1),
                side(0, 1.0, size.0),
                side(1, 1.0, size.1),
            ],
        }
    }

    /// What it looks like from afar.
    pub fn shape(&self) -> Shape {
        match self.kind {
            Kind::Whole => Shape::Whole,
            Kind::Circle { .. } => Shape::Circle,
            Kind::Box(cuts) if cuts == [[0.0; 2]; 4] => Shape::Rectangle,
            Kind::Box(_) => Shape::Octagon,
        }
    }

    /// Left, top, right and bottom of what it encloses of the frame.
    pub fn sides(&self) -> [f64; 4] {
        self.sides
    }

    /// Whether a place lies within, `margin` pixels or more from its edge. A side of the frame is no edge.
    pub fn contains(&self, [x, y]: [f64; 2], margin: f64) -> bool {
        let [left, top, right, bottom] = self.sides;
        match self.kind {
            Kind::Whole => true,
            Kind::Circle { centre, radii } => {
                let part = |at: f64, axis: usize| (at - centre[axis]) / (radii[axis] - margin);
                radii.iter().all(|radius| *radius > margin) && part(x, 0).hypot(part(y, 1)) <= 1.0
            }
            Kind::Box(cuts) => {
                let across = [x - left, right - x];
                let down = [y - top, bottom - y];
                let is_inside = |corner: usize| {
                    let ([dx, dy], x, y) = (cuts[corner], across[corner % 2], down[corner / 2]);
                    // How far beyond the line from (dx, 0) to (0, dy), which is long for a cut of nothing.
                    dx * dy == 0.0 || (x * dy + y * dx - dx * dy) / dx.hypot(dy) >= margin
                };
                across.iter().chain(&down).all(|inside| *inside >= margin) && (0..4).all(is_inside)
            }
        }
    }

    /// Whether it is the whole frame but for a narrow border.
    fn fills(&self, size: (usize, usize)) -> bool {
        let (width, height) = (size.0 as f64, size.1 as f64);
        let [left, top, right, bottom] = self.sides;
        let border = (width - right + left).max(0.0) / width + (height - bottom + top) / height;
        let has_corners = match self.kind {
            Kind::Circle { .. } => [[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]]
                .into_iter()
                .all(|corner| self.contains(corner, 0.0)),
            _ => self.shape() != Shape::Octagon,
        };
        has_corners && border < SMALLEST_BORDER
    }

    /// How far apart two are, as the part of the smaller one's sides that the sides furthest apart are away from each other. The corners of one
    /// that has them do not matter to one that has none.
    pub(super) fn distance(&self, other: &Self) -> f64 {
        let [width, height] = [0, 1].map(|axis| {
            let len = |outline: &Self| outline.sides[axis + 2] - outline.sides[axis];
            len(self).min(len(other)).max(1.0)
        });
        let apart = |side: usize, len: f64| (self.sides[side] - other.sides[side]).abs() / len;
        let sides = [
            apart(0, width),
            apart(1, height),
            apart(2, width),
            apart(3, height),
        ];
        let corners = match (self.kind, other.kind) {
            (Kind::Box(own), Kind::Box(others)) => own
                .iter()
                .zip(others)
                .map(|(a, b)| ((a[0] - b[0]).abs() / width).max((a[1] - b[1]).abs() / height) / 2.0)
                .fold(0.0, f64::max),
            (a, b) if std::mem::discriminant(&a) == std::mem::discriminant(&b) => 0.0,
            _ => 1.0,
        };
        sides.into_iter().fold(corners, f64::max)
    }
}
