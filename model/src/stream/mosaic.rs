//! One map out of the maps of tiles that overlap: their weighted mean, without a seam.
//!
//! It is kept on a lattice of nodes, `pitch` pixels apart and anchored at the first line, twice as dense as a tile's patches. A tile weighs
//! less towards its edges, down to nothing where its neighbour begins, so that the mean goes from one over into the other; what is averaged are the map's own
//! values (logits, or probabilities in the paper's form). Rows of nodes that no further tile will touch can be read, and forgotten.

use std::{collections::VecDeque, ops::Range};

use crate::{
    error::{Error, Result},
    map::{AnomalyMap, MapValues},
    preprocess::Placement,
};

/// Nodes a patch: a tile's values bend at the middles of its patches, which need not be nodes.
const NODES_PER_PATCH: usize = 2;

/// What a tile weighs that was not looked at, beside 1 of one that was.
const NEXT_TO_NOTHING: f32 = 1e-9;

/// Log odds of what is taken for normal: one in three thousand.
const NORMAL_LOGIT: f32 = -8.0;

/// A rectangle of a strip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Left edge, pixels.
    pub x: usize,
    /// First line.
    pub top: u64,
    /// Width, pixels.
    pub width: usize,
    /// Height, lines.
    pub height: usize,
}

/// A row of nodes: the weighted sum of values, and of weights.
#[derive(Debug, Clone)]
struct Row {
    sums: Vec<f32>,
    weights: Vec<f32>,
}

/// Pixels from node to node for tiles of `size` pixels and `patches` patches a side.
pub(super) fn pitch(size: usize, patches: usize) -> usize {
    (size / (NODES_PER_PATCH * patches.max(1))).max(1)
}

/// The map of a strip, as far as it is known and not forgotten.
#[derive(Debug, Clone)]
pub struct Mosaic {
    width: usize,
    pitch: usize,
    overlap: usize,
    kind: MapValues,
    /// Number of the first row of nodes that is kept.
    first: u64,
    rows: VecDeque<Row>,
}

impl Mosaic {
    /// Of a strip `width` pixels wide, from tiles of `size` pixels and `patches` patches a side that share `overlap` pixels.
    pub fn new(
        width: usize,
        (size, overlap): (usize, usize),
        patches: usize,
        kind: MapValues,
    ) -> Self {
        Self {
            width,
            pitch: pitch(size, patches),
            overlap,
            kind,
            first: 0,
            rows: VecDeque::new(),
        }
    }

    /// Pixels from node to node.
    pub fn pitch(&self) -> usize {
        self.pitch
    }

    /// Nodes across: the last one is on the strip's last pixel or beside it.
    pub(super) fn columns(&self) -> usize {
        (self.width - 1).div_ceil(self.pitch) + 1
    }

    /// The nodes that a tile covers or that lie next to it below and right, from line `from` on.
    fn nodes(&self, tile: Tile, from: u64) -> (Range<usize>, Range<u64>) {
        let pitch = self.pitch as u64;
        let bottom = tile.top + tile.height as u64 - 1;
        let first = tile.top.max(from).div_ceil(pitch).max(self.first);
        let right = tile.x + tile.width - 1;
        let columns = tile.x.div_ceil(self.pitch)..right.div_ceil(self.pitch) + 1;
        (columns, first..bottom.div_ceil(pitch) + 1)
    }

    /// Takes a tile for normal that was not looked at. What its neighbours say of what they share with it stands.
    pub fn pass_over(&mut self, tile: Tile, from: u64) {
        let normal = match self.kind {
            MapValues::LogitDifference => NORMAL_LOGIT,
            MapValues::Probability => 0.0,
        };
        let (columns, rows) = self.nodes(tile, from);
        for row in rows {
            let kept = self.row(row);
            let weights = kept.weights[columns.clone()].iter_mut();
            for (sum, weight) in kept.sums[columns.clone()].iter_mut().zip(weights) {
                *sum += NEXT_TO_NOTHING * normal;
                *weight += NEXT_TO_NOTHING;
            }
        }
    }

    /// Adds the map of a tile to its nodes, from line `from` on.
    pub fn add(&mut self, tile: Tile, map: &AnomalyMap, from: u64) {
        let pitch = self.pitch as u64;
        let (columns, rows) = self.nodes(tile, from);
        let across = |column: usize| (column * self.pitch - tile.x) as f32;
        let down = |row: u64| (row * pitch - tile.top) as f32;
        let values = map.values_at(
            columns.clone().map(across),
            rows.clone().map(down),
            (tile.width, tile.height),
        );
        let across: Vec<f32> = columns
            .clone()
            .map(|column| self.weight(across(column), tile.width))
            .collect();
        let mut values = values.iter();
        for row in rows {
            let down = self.weight(down(row), tile.height);
            let kept = self.row(row);
            let sums = kept.sums[columns.clone()].iter_mut();
            let weights = kept.weights[columns.clone()].iter_mut();
            for (((sum, weight), across), value) in
                sums.zip(weights).zip(&across).zip(values.by_ref())
            {
                *sum += across * down * value;
                *weight += across * down;
            }
        }
    }

    /// From nearly 0 at the edge of `len` pixels to 1 where no neighbour reaches.
    fn weight(&self, position: f32, len: usize) -> f32 {
        let to_edge = position.min(len as f32 - 1.0 - position).max(0.0);
        ((to_edge + 0.5) / (self.overlap as f32 + 0.5)).min(1.0)
    }

    fn row(&mut self, number: u64) -> &mut Row {
        let columns = self.columns();
        let index = (number - self.first) as usize;
        while self.rows.len() <= index {
            self.rows.push_back(Row {
                sums: vec![0.0; columns],
                weights: vec![0.0; columns],
            });
        }
        &mut self.rows[index]
    }

    /// How many lines can be read when every tile that begins before line `top` is there: those between rows of nodes above it.
    pub fn settled(&self, top: u64) -> u64 {
        match top {
            0 => 0,
            top => (top - 1) / self.pitch as u64 * self.pitch as u64 + 1,
        }
    }

    /// The map of `lines`, as one of a frame of these lines.
    ///
    /// An error if there are none, or if a tile of them is not there yet or is forgotten.
    pub fn map(&self, lines: Range<u64>) -> Result<AnomalyMap> {
        let pitch = self.pitch as u64;
        let missing = || {
            Error::Frame(format!(
                "wanted the map of lines {} to {} of a strip, found rows of nodes from line {} to line {}",
                lines.start,
                lines.end,
                self.first * pitch,
                (self.first + self.rows.len() as u64) * pitch
            ))
        };
        let last = lines.end.checked_sub(1).filter(|last| *last >= lines.start);
        let nodes = lines.start / pitch..last.ok_or_else(missing)?.div_ceil(pitch) + 1;
        let first = nodes.start.checked_sub(self.first).ok_or_else(missing)? as usize;
        let rows = first..first + (nodes.end - nodes.start) as usize;
        let kept = || self.rows.range(rows.clone());
        if rows.end > self.rows.len() || kept().any(|row| row.weights.contains(&0.0)) {
            return Err(missing());
        }
        let values = kept()
            .flat_map(|row| {
                row.sums
                    .iter()
                    .zip(&row.weights)
                    .map(|(sum, weight)| sum / weight)
            })
            .collect();
        let (columns, rows) = (self.columns(), rows.len());
        let extent = |nodes: usize| (nodes - 1) * self.pitch + 1;
        let placement = Placement {
            x: 0.0,
            y: (lines.start - nodes.start * pitch) as f32,
            width: self.width as f32,
            height: (lines.end - lines.start) as f32,
        };
        let input = (extent(columns), extent(rows));
        AnomalyMap::new((columns, rows), values, self.kind, input, placement)
    }

    /// Numbers that are held.
    #[cfg(test)]
    pub(super) fn nodes_kept(&self) -> usize {
        2 * self.rows.len() * self.columns()
    }

    /// Forgets what only lines before `line` need.
    pub fn forget(&mut self, line: u64) {
        let row = line / self.pitch as u64;
        while self.first < row && self.rows.pop_front().is_some() {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Of a tile: values that are a plane over the strip.
    fn plane(tile: Tile, slope: (f32, f32)) -> AnomalyMap {
        let grid = (5, 5);
        let value = |x: f32, y: f32| x * slope.0 + y * slope.1;
        let node = |i: usize, extent: usize, start: f32| {
            // Middles of patches lie on the first and last pixels of an input of 41.
            (i as f32 * 10.0 + 0.5) * extent as f32 / 41.0 - 0.5 + start
        };
        let values = (0..25)
            .map(|i| {
                value(
                    node(i % 5, tile.width, tile.x as f32),
                    node(i / 5, tile.height, tile.top as f32),
                )
            })
            .collect();
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 41.0,
            height: 41.0,
        };
        AnomalyMap::new(
            grid,
            values,
            MapValues::LogitDifference,
            (41, 41),
            placement,
        )
        .unwrap()
    }

    #[test]
    fn tiles_that_agree_make_what_they_agree_on() {
        let mut mosaic = Mosaic::new(100, (60, 20), 5, MapValues::LogitDifference);
        for x in [0, 40] {
            for top in [0, 40] {
                let tile = Tile {
                    x,
                    top,
                    width: 60,
                    height: 60,
                };
                mosaic.add(tile, &plane(tile, (0.1, -0.05)), 0);
            }
        }
        let map = mosaic.map(0..100).unwrap();
        let sampler = map.over_frame(100, 100);
        let (mut row, mut scratch) = (vec![0.0; 100], Vec::new());
        for y in 0..100 {
            sampler.row(y, &mut scratch, &mut row);
            for (x, value) in row.iter().enumerate() {
                let wanted = x as f32 * 0.1 - y as f32 * 0.05;
                // The map goes on as it is at its corner patches, half a pixel before the edge.
                assert!(
                    (value - wanted).abs() < 0.2,
                    "({x}, {y}): {value}, {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_seam_is_a_slope() {
        let mut mosaic = Mosaic::new(60, (60, 20), 5, MapValues::Probability);
        for (top, value) in [(0, 0.0), (40, 1.0)] {
            let tile = Tile {
                x: 0,
                top,
                width: 60,
                height: 60,
            };
            let mut map = plane(tile, (0.0, 0.0));
            map.values_mut().fill(value);
            mosaic.add(tile, &map, 0);
        }
        let map = mosaic.map(30..70).unwrap();
        let column: Vec<f32> =
            map.values_at([30.0].into_iter(), (0..40).map(|y| y as f32), (60, 40));
        assert!(column[0] == 0.0 && column[39] == 1.0);
        for pair in column.windows(2) {
            assert!((0.0..0.08).contains(&(pair[1] - pair[0])), "{pair:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let mut mosaic = Mosaic::new(60, (60, 20), 5, MapValues::Probability);
        let tile = Tile {
            x: 0,
            top: 0,
            width: 60,
            height: 60,
        };
        assert!(mosaic.map(0..1).is_err());
        mosaic.add(tile, &plane(tile, (0.0, 0.0)), 0);
        assert_eq!(mosaic.settled(40), 37);
        assert!(mosaic.map(0..37).is_ok());
        assert!(mosaic.map(0..70).is_err());
        assert!(mosaic.map(5..5).is_err());
        mosaic.forget(13);
        assert!(mosaic.map(11..20).is_err());
        assert!(mosaic.map(12..20).is_ok());
    }
}
