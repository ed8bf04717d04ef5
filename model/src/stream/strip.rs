//! One unbroken piece of a strip: lines in, tiles out, maps of tiles in, the map of lines out.
//!
//! Tiles are anchored at the piece's first line, so that what is seen does not depend on how the lines came. A row of tiles is due when its
//! lines are there; the last one, at the end, is shifted back. The map of a line is settled, and will not change, when the tiles that reach it
//! have been seen. A frame alone is cut into tiles in the same way: it is a piece that ends with its last line.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use crate::{
    detector::Finding,
    error::{Error, Result},
    frame::{Colorimetry, Frame, PixelFormat, Plane},
    map::{AnomalyMap, MapValues},
    mask::Mask,
    preprocess::narrowed,
    yuv,
};

use super::{
    mosaic::{self, Mosaic, Tile},
    tiling::Tiles,
};

/// A row of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileRow {
    /// First line, counted from the piece's.
    pub top: u64,
    /// Lines.
    pub height: usize,
}

impl TileRow {
    fn end(self) -> u64 {
        self.top + self.height as u64
    }
}

/// What is true of the lines from one on.
#[derive(Debug, Clone)]
struct Band {
    first: u64,
    class_score: f32,
    /// Which columns count; none for all of them.
    cover: Option<Arc<[bool]>>,
}

/// What is known of some lines.
#[derive(Debug, Clone)]
pub struct Sight {
    /// As of a frame of these lines.
    pub map: AnomalyMap,
    /// The highest probability of the abnormal class of their tiles.
    pub class_score: f32,
}

/// Lines that may come between a line and that by which it has settled, with `patches` patches along a side of a tile.
pub fn longest_delay(tiles: Tiles, patches: usize) -> usize {
    tiles.size() + mosaic::pitch(tiles.size(), patches)
}

/// A piece of a strip.
#[derive(Debug, Clone)]
pub struct Strip {
    tiles: Tiles,
    lines: Lines,
    mosaic: Mosaic,
    /// The row of tiles that was seen last.
    seen: Option<TileRow>,
    ended: bool,
    bands: VecDeque<Band>,
}

impl Strip {
    /// A piece of lines like those of `frame`, seen in `tiles` of `patches` patches a side, whose maps have values of `kind`.
    pub fn new(frame: &Frame<'_>, tiles: Tiles, patches: usize, kind: MapValues) -> Self {
        Self {
            tiles,
            lines: Lines::like(frame),
            mosaic: Mosaic::new(
                frame.width(),
                (tiles.size(), tiles.overlap()),
                patches,
                kind,
            ),
            seen: None,
            ended: false,
            bands: VecDeque::new(),
        }
    }

    /// Takes `rows` of a frame as the next lines.
    ///
    /// An error if the frame is not of the size and format of those before.
    pub fn push(&mut self, frame: &Frame<'_>, rows: Range<usize>) -> Result<()> {
        self.lines.push(frame, rows)
    }

    /// No more lines follow.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Lines taken.
    pub fn len(&self) -> u64 {
        self.lines.end
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next row of tiles to be seen, once all of its lines are there.
    pub fn due(&self) -> Option<TileRow> {
        let size = self.tiles.size() as u64;
        let len = self.len();
        let (top, seen) = match self.seen {
            Some(row) => (row.top + self.tiles.step() as u64, row.end()),
            None => (0, 0),
        };
        let row = |top, height: u64| TileRow {
            top,
            height: height as usize,
        };
        if top + size <= len {
            Some(row(top, size))
        } else if self.ended && seen < len {
            let height = size.min(len);
            Some(row(len - height, height))
        } else {
            None
        }
    }

    /// The tiles of a row, from left to right.
    pub fn tiles(&self, row: TileRow) -> Vec<Tile> {
        let width = self.tiles.size().min(self.lines.width);
        let starts = self.tiles.starts(self.lines.width).into_iter();
        starts
            .map(|x| Tile {
                x,
                top: row.top,
                width,
                height: row.height,
            })
            .collect()
    }

    /// What the network is shown of a tile.
    pub fn frame(&self, tile: Tile) -> Result<Frame<'_>> {
        let lines = self.lines.frame(tile.top, tile.height)?;
        lines.crop(tile.x, 0, tile.width, tile.height)
    }

    /// Lines that are kept, as a frame.
    ///
    /// An error if there are none or one has been forgotten.
    pub fn lines(&self, lines: Range<u64>) -> Result<Frame<'_>> {
        let height = lines.end.saturating_sub(lines.start) as usize;
        self.lines.frame(lines.start, height)
    }

    /// Takes what was found in the tiles of the row that was due, from left to right. `cover` says which columns count in it, `counts` in which
    /// tiles anything does: the others were not looked at, and are not among the findings.
    pub fn take(
        &mut self,
        row: TileRow,
        findings: &[Finding],
        cover: Option<Arc<[bool]>>,
        counts: impl Fn(Tile) -> bool,
    ) {
        // What has settled stays as it is, also under the last row, which is shifted back over it.
        let from = self
            .seen
            .map_or(0, |seen| seen.top + self.tiles.step() as u64);
        let mut seen = findings.iter();
        for tile in self.tiles(row) {
            match counts(tile).then(|| seen.next()).flatten() {
                Some(finding) => self.mosaic.add(tile, &finding.map, from),
                None => self.mosaic.pass_over(tile, from),
            }
        }
        let class_scores = findings.iter().map(|finding| finding.class_score);
        self.bands.push_back(Band {
            // Each line is judged by the row of tiles in which it has more context.
            first: self
                .seen
                .map_or(0, |seen| ((seen.end() + row.top) / 2).max(from)),
            class_score: class_scores.fold(0.0, f32::max),
            cover,
        });
        self.seen = Some(row);
        // The one that is shifted back begins after this one.
        self.lines.forget(row.top);
    }

    /// How many lines have a map that will not change.
    pub fn settled(&self) -> u64 {
        match self.seen {
            Some(row) if self.ended && row.end() == self.len() => self.len(),
            Some(row) => self
                .mosaic
                .settled(row.top + self.tiles.step() as u64)
                .min(row.end()),
            None => 0,
        }
    }

    /// Pixels of a line.
    pub fn width(&self) -> usize {
        self.lines.width
    }

    /// Pixels from node to node of the map's lattice.
    pub fn pitch(&self) -> usize {
        self.mosaic.pitch()
    }

    /// The values of a map of one line where the lattice has its nodes.
    pub fn nodes(&self, map: &AnomalyMap) -> Vec<f32> {
        let columns = (0..self.mosaic.columns()).map(|column| (column * self.pitch()) as f32);
        map.values_at(columns, std::iter::once(0.0), (self.width(), 1))
    }

    /// Bytes that are held for lines and the map.
    #[cfg(test)]
    pub(super) fn bytes_kept(&self) -> usize {
        self.lines.bytes.capacity() + self.mosaic.nodes_kept() * size_of::<f32>() + self.bands.len()
    }

    /// Which columns of a line count; none for all of them.
    pub fn cover(&self, line: u64) -> Option<Arc<[bool]>> {
        let after = self.bands.partition_point(|band| band.first <= line);
        self.bands.get(after.checked_sub(1)?)?.cover.clone()
    }

    /// What is known of settled lines.
    ///
    /// An error if there are none, or if one is not settled or is forgotten.
    pub fn sight(&self, lines: Range<u64>) -> Result<Sight> {
        let map = self.mosaic.map(lines.clone())?;
        let first = self.bands.partition_point(|band| band.first <= lines.start);
        let bands = || {
            let bands = self.bands.range(first.saturating_sub(1)..);
            bands.take_while(|band| band.first < lines.end)
        };
        let class_scores = bands().map(|band| band.class_score);
        let map = match self.mask(&lines, bands()) {
            Some(mask) => map.masked(Arc::new(mask?)),
            None => map,
        };
        Ok(Sight {
            map,
            class_score: class_scores.fold(0.0, f32::max),
        })
    }

    fn mask<'a>(
        &self,
        lines: &Range<u64>,
        bands: impl Iterator<Item = &'a Band> + Clone,
    ) -> Option<Result<Mask>> {
        if bands.clone().all(|band| band.cover.is_none()) {
            return None;
        }
        let all: Arc<[bool]> = vec![true; self.lines.width].into();
        let ends = bands.clone().skip(1).map(|band| band.first);
        let ends = ends.chain(std::iter::once(lines.end));
        let banded = bands.zip(ends).map(|(band, end)| {
            let height = end.min(lines.end) - band.first.max(lines.start);
            (height as usize, band.cover.clone().unwrap_or(all.clone()))
        });
        Some(Mask::banded(self.lines.width, &banded.collect::<Vec<_>>()))
    }

    /// Forgets what only lines before `line` need, where they are settled.
    pub fn forget(&mut self, line: u64) {
        let line = line.min(self.settled());
        self.mosaic.forget(line);
        while self.bands.get(1).is_some_and(|band| band.first <= line) {
            self.bands.pop_front();
        }
    }
}

/// Lines in memory, one after the other.
#[derive(Debug, Clone)]
struct Lines {
    format: PixelFormat,
    colorimetry: Colorimetry,
    source: PixelFormat,
    width: usize,
    /// Bytes of a line.
    stride: usize,
    bytes: Vec<u8>,
    /// Number of the first line in `bytes`.
    first: u64,
    /// Number of the line after the last.
    end: u64,
    /// Number of the first line that is needed.
    needed: u64,
}

impl Lines {
    fn like(frame: &Frame<'_>) -> Self {
        let (format, colorimetry) = match frame.format() {
            PixelFormat::Nv12 | PixelFormat::I420 => (PixelFormat::Rgb, Colorimetry::default()),
            PixelFormat::Gray16 { .. } => (PixelFormat::Gray8, frame.colorimetry()),
            format => (format, frame.colorimetry()),
        };
        Self {
            format,
            colorimetry,
            source: frame.format(),
            width: frame.width(),
            stride: format.plane_size(0, frame.width(), 1).0,
            bytes: Vec::new(),
            first: 0,
            end: 0,
            needed: 0,
        }
    }

    fn push(&mut self, frame: &Frame<'_>, rows: Range<usize>) -> Result<()> {
        if frame.width() != self.width || frame.format() != self.source {
            return Err(Error::Frame(format!(
                "wanted lines of {} pixels of {:?} as before, found {} of {:?}",
                self.width,
                self.source,
                frame.width(),
                frame.format()
            )));
        }
        if rows.start > rows.end || rows.end > frame.height() {
            return Err(Error::Frame(format!(
                "wanted rows of a frame of {}, found {rows:?}",
                frame.height()
            )));
        }
        self.make_room();
        let count = rows.len() as u64;
        match self.source {
            PixelFormat::Nv12 | PixelFormat::I420 => self.convert(frame, rows),
            PixelFormat::Gray16 { depth } => {
                for y in rows {
                    self.bytes.extend(narrowed(frame.row(0, y), depth));
                }
            }
            _ => {
                for y in rows {
                    self.bytes.extend_from_slice(frame.row(0, y));
                }
            }
        }
        self.end += count;
        Ok(())
    }

    /// Of Y'CbCr the colours, interleaved.
    fn convert(&mut self, frame: &Frame<'_>, rows: Range<usize>) {
        let mut planes = Vec::new();
        let pixels = frame.width() * rows.len();
        yuv::to_rgb_planes(frame, rows, &mut planes, &mut yuv::Scratch::default());
        for pixel in 0..pixels {
            let channels = [0, 1, 2].map(|channel| planes[channel * pixels + pixel]);
            self.bytes.extend_from_slice(&channels);
        }
    }

    /// Moves the lines that are needed to the front, once those before are as many.
    fn make_room(&mut self) {
        let (stale, kept) = (self.needed - self.first, self.end - self.needed);
        if stale >= kept {
            self.bytes.drain(..stale as usize * self.stride);
            self.first = self.needed;
        }
    }

    fn forget(&mut self, line: u64) {
        self.needed = self.needed.max(line.min(self.end));
    }

    fn frame(&self, first: u64, height: usize) -> Result<Frame<'_>> {
        let end = first.saturating_add(height as u64);
        if first < self.first || end > self.end || height == 0 {
            return Err(Error::Frame(format!(
                "wanted {height} lines of a strip from line {first} on, found lines {} to {}",
                self.first, self.end
            )));
        }
        let data = &self.bytes[(first - self.first) as usize * self.stride..];
        let planes = [Plane {
            data,
            stride: self.stride,
        }];
        Frame::new(self.format, self.width, height, &planes, self.colorimetry)
    }
}
