//! A strip as a line-scan camera gives it, in frames cut anywhere: which of a frame's rows are which lines, what the network is to be shown,
//! and what is known of a frame once its lines have settled.
//!
//! Lines are numbered from 0 in the order in which they came, those seen before left out: of frames that overlap only the rows that are new,
//! and of a counter that stands only the first line. Where the counter jumps or turns a new [piece](super::strip) begins, and nothing is
//! glued over it.
//!
//! Whoever scans pushes frames, shows the network every [row of tiles](Scan::due) that is due, gives back what it found, and reads frames whose
//! lines have settled.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use crate::{
    calibration::Scale,
    detector::Finding,
    error::{Error, Result},
    frame::{Frame, PixelFormat},
    map::{AnomalyMap, MapValues},
    mask::Mask,
    preprocess::Placement,
    record::Place,
};

use super::{
    edges::Edges,
    flaws::{Change, Flaw, FlawTracker, Rules},
    mosaic::Tile,
    place::{Break, Odometer, Pitch, Stretch, StretchKind},
    strip::{Sight, Strip, TileRow},
    tiling::Tiles,
};

/// Breaks in one frame, at most: a wheel may tremble, but where every line jumps there is no counter.
const MAX_BREAKS: usize = 16;

/// How a strip is looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tiles that the network is shown.
    pub tiles: Tiles,
    /// Patches along a side of the network's input.
    pub patches: usize,
    /// What its maps' values are.
    pub kind: MapValues,
    /// New lines at the end of each frame but the first; 0 for all of its rows.
    pub line_advance: usize,
    /// Whether what lies beside the strip's bright part is left out.
    pub finds_edges: bool,
    /// Which columns count, whatever is seen; none for all of them.
    pub cover: Option<Arc<[bool]>>,
    /// What lines and pixels are on the track.
    pub pitch: Pitch,
}

/// What a camera's counter says of the new rows of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Counters<'a> {
    /// There is no counter: lines follow one another.
    None,
    /// That of the frame's first row; each row below it is one more, or one less after the counter has turned.
    First(i64),
    /// One a row, of all rows of the frame.
    Each(&'a [i64]),
}

/// Rows of a frame that are lines in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    rows: Range<usize>,
    /// The line of the first row.
    line: u64,
    /// Whether every row shows that line.
    stands: bool,
}

/// Which lines a frame shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameLines {
    spans: Vec<Span>,
    height: usize,
    /// The frame's new lines.
    pub new: Range<u64>,
    /// Where the strip was broken, and before which line.
    pub breaks: Vec<(u64, Break)>,
}

impl FrameLines {
    /// The oldest line that the frame shows.
    pub fn first(&self) -> u64 {
        self.spans
            .iter()
            .map(|span| span.line)
            .min()
            .unwrap_or(self.new.start)
    }

    /// The line of a row, where the frame has it.
    pub fn line(&self, row: usize) -> Option<u64> {
        let span = self.spans.iter().find(|span| span.rows.contains(&row))?;
        Some(if span.stands {
            span.line
        } else {
            span.line + (row - span.rows.start) as u64
        })
    }
}

/// A row of tiles to be seen.
#[derive(Debug, Clone)]
pub struct Due {
    piece: u64,
    row: TileRow,
    /// Which columns count; none for all of them.
    cover: Option<Arc<[bool]>>,
}

impl Due {
    /// Whether anything of a tile counts. One of which nothing does need not be looked at.
    fn counts(&self, tile: Tile) -> bool {
        let columns = self.cover.as_deref();
        columns.is_none_or(|columns| columns[tile.x..tile.x + tile.width].contains(&true))
    }
}

/// A tile to be shown to the network.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Its pixels.
    pub frame: Frame<'a>,
    /// What of it counts; none for all of it.
    pub mask: Option<Arc<Mask>>,
    /// Whether the network is to see what does not count as mean colour. Where edges are found it sees what is there: an edge to a colour that
    /// does not belong there would itself be abnormal.
    pub blanks: bool,
}

/// An unbroken piece, and where in the strip it begins.
struct Piece {
    number: u64,
    first: u64,
    strip: Strip,
    ended: bool,
}

impl Piece {
    fn end(&self) -> u64 {
        self.first + self.strip.len()
    }

    fn settled(&self) -> u64 {
        self.first + self.strip.settled()
    }

    fn holds(&self, line: u64) -> bool {
        (self.first..self.end()).contains(&line)
    }
}

/// A strip.
pub struct Scan {
    plan: Plan,
    odometer: Odometer,
    pieces: VecDeque<Piece>,
    begun: u64,
    /// Frames that went by unseen since the last.
    missed: usize,
    /// Height of the last frame, and what its rows show.
    last_frame: (usize, Vec<Span>),
    /// Of all pieces, for the rail lies where it lay before a break; made with the first line.
    edges: Option<Edges>,
    /// The line after those that edges were found in.
    edged: u64,
    flaws: FlawTracker,
}

impl Scan {
    /// A strip of which nothing is known.
    pub fn new(plan: Plan) -> Self {
        Self {
            odometer: Odometer::new(plan.pitch),
            plan,
            pieces: VecDeque::new(),
            begun: 0,
            missed: 0,
            last_frame: (0, Vec::new()),
            edges: None,
            edged: 0,
            flaws: FlawTracker::default(),
        }
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.odometer.lines()
    }

    /// The counter of the last line.
    pub fn last_counter(&self) -> Option<i64> {
        self.odometer.counter(self.lines().checked_sub(1)?)
    }

    /// Flaws so far.
    pub fn flaw_count(&self) -> u64 {
        self.flaws.count()
    }

    /// Takes a frame.
    ///
    /// An error if it is not as wide as those before or has another format, or if there is not one counter a row where each has one.
    pub fn push(&mut self, frame: &Frame<'_>, counters: Counters<'_>) -> Result<FrameLines> {
        let height = frame.height();
        let advance = match self.plan.line_advance {
            _ if self.lines() == 0 => height,
            0 => height,
            advance => advance.min(height),
        };
        // Of frames that overlap this one shows again what went by with those before it, or some of it.
        let unseen = advance.saturating_mul(1 + std::mem::take(&mut self.missed));
        let advance = unseen.min(height);
        let old = height - advance;
        if matches!(counters, Counters::None) {
            self.odometer.miss(unseen - advance);
        }
        let first = self.lines();
        let stretches = match counters {
            Counters::None => self.odometer.advance(advance),
            Counters::First(counter) => {
                let counters = self.counted(counter, height);
                self.odometer.take(&counters[old..])
            }
            Counters::Each(all) if all.len() == height => self.odometer.take(&all[old..]),
            Counters::Each(all) => {
                return Err(Error::Frame(format!(
                    "wanted one counter for each of {height} rows, found {}",
                    all.len()
                )));
            }
        };
        let begins = |stretch: &&Stretch| matches!(stretch.kind, StretchKind::Begins(_));
        let broken = stretches.iter().filter(begins).count();
        if broken > MAX_BREAKS {
            return Err(Error::Frame(format!(
                "wanted a counter that goes on by one a line, found {broken} jumps in a frame of {height} lines; is a counter written there? Else \
                 set encoder=pitch"
            )));
        }
        let mut spans = self.seen_before(old);
        let mut breaks = Vec::new();
        let mut line = first;
        for stretch in stretches {
            let rows = old + stretch.rows.start..old + stretch.rows.end;
            let stands = matches!(stretch.kind, StretchKind::Repeats);
            if let StretchKind::Begins(why) = stretch.kind {
                breaks.push((line, why));
                self.end_piece();
            }
            spans.push(Span {
                rows: rows.clone(),
                line: if stands { line.saturating_sub(1) } else { line },
                stands,
            });
            if !stands {
                line += rows.len() as u64;
                self.piece(frame).strip.push(frame, rows)?;
            }
        }
        if line == first {
            // The camera stands: what waits for more lines would wait as long.
            self.end_piece();
        }
        let spans = merged(spans);
        self.last_frame = (height, spans.clone());
        Ok(FrameLines {
            spans,
            height,
            new: first..line,
            breaks,
        })
    }

    /// So many frames have gone by unseen.
    pub fn miss(&mut self, frames: usize) {
        self.missed = self.missed.saturating_add(frames);
    }

    /// What the first `old` rows of a frame show, which are the last of the frame before.
    fn seen_before(&self, old: usize) -> Vec<Span> {
        let (height, spans) = &self.last_frame;
        let shift = height.saturating_sub(old);
        let shifted = spans
            .iter()
            .filter(|span| span.rows.end > shift)
            .map(|span| {
                let hidden = shift.saturating_sub(span.rows.start);
                Span {
                    rows: span.rows.start + hidden - shift..span.rows.end - shift,
                    line: if span.stands {
                        span.line
                    } else {
                        span.line + hidden as u64
                    },
                    stands: span.stands,
                }
            });
        shifted.filter(|span| span.rows.end <= old).collect()
    }

    /// The counters of a frame's rows after that of its first: up, or down where that goes on below the last line's.
    fn counted(&self, first: i64, height: usize) -> Vec<i64> {
        let turned = |last: i64| first == last || first == last.wrapping_sub(1);
        let step = if self.last_counter().is_some_and(turned) {
            -1
        } else {
            1
        };
        (0..height as i64)
            .map(|row| first.wrapping_add(step * row))
            .collect()
    }

    /// The piece that goes on, or a new one.
    fn piece(&mut self, frame: &Frame<'_>) -> &mut Piece {
        let goes_on = self.pieces.back().is_some_and(|piece| !piece.ended);
        if !goes_on {
            let first = self.pieces.back().map_or(self.flaws.line(), Piece::end);
            let plan = &self.plan;
            self.pieces.push_back(Piece {
                number: self.begun,
                first,
                strip: Strip::new(frame, plan.tiles, plan.patches, plan.kind),
                ended: false,
            });
            self.begun += 1;
        }
        let last = self.pieces.len() - 1;
        &mut self.pieces[last]
    }

    fn end_piece(&mut self) {
        if let Some(piece) = self.pieces.back_mut() {
            piece.strip.end();
            piece.ended = true;
        }
    }

    /// No line that comes later belongs to those so far.
    pub fn end(&mut self) {
        self.end_piece();
    }

    /// The next row of tiles to be seen. What is due must be taken before the next is asked for.
    pub fn due(&mut self) -> Result<Option<Due>> {
        let due = |piece: &Piece| Some((piece.number, piece.first, piece.strip.due()?));
        let Some((piece, first, row)) = self.pieces.iter().find_map(due) else {
            return Ok(None);
        };
        if self.plan.finds_edges {
            self.find_edges(first + row.top + row.height as u64)?;
        }
        let cover = self.cover().or(self.plan.cover.clone());
        Ok(Some(Due { piece, row, cover }))
    }

    /// Looks for edges in all lines before `end` that were not looked at.
    fn find_edges(&mut self, end: u64) -> Result<()> {
        let mut luma = Vec::new();
        for piece in &self.pieces {
            let lines = self.edged.max(piece.first)..end.min(piece.end());
            if lines.is_empty() {
                continue;
            }
            let edges = self
                .edges
                .get_or_insert_with(|| Edges::new(piece.strip.width()));
            let within = lines.start - piece.first..lines.end - piece.first;
            let frame = piece.strip.lines(within)?;
            for y in 0..frame.height() {
                luma_of(&frame, y, &mut luma);
                edges.push_line(&luma);
            }
            self.edged = lines.end;
        }
        Ok(())
    }

    /// Which columns lie between the edges and count by the plan; none where there are no edges.
    fn cover(&self) -> Option<Arc<[bool]>> {
        let span = self.edges.as_ref()?.span()?;
        let fixed = self.plan.cover.as_deref();
        let width = self.pieces.front()?.strip.width();
        let counts = |x: usize| span.contains(&x) && fixed.is_none_or(|fixed| fixed[x]);
        Some((0..width).map(counts).collect())
    }

    /// The tiles of a row that is due of which something counts, from left to right.
    pub fn views(&self, due: &Due) -> Result<Vec<View<'_>>> {
        let strip = &self.find(due)?.strip;
        let tiles = strip.tiles(due.row).into_iter();
        tiles
            .filter(|tile| due.counts(*tile))
            .map(|tile| {
                let mask = due.cover.as_ref().map(|cover| {
                    let columns = &cover[tile.x..tile.x + tile.width];
                    Mask::banded(tile.width, &[(tile.height, columns.into())]).map(Arc::new)
                });
                Ok(View {
                    frame: strip.frame(tile)?,
                    mask: mask.transpose()?,
                    blanks: !self.plan.finds_edges,
                })
            })
            .collect()
    }

    fn find(&self, due: &Due) -> Result<&Piece> {
        let found = self.pieces.iter().find(|piece| piece.number == due.piece);
        found.ok_or_else(|| {
            Error::Frame(
                "wanted a piece of the strip that is known, found one that was forgotten".into(),
            )
        })
    }

    /// Takes what the network found in the [views](Self::views) of a row.
    pub fn take(&mut self, due: Due, findings: &[Finding]) {
        let mut pieces = self.pieces.iter_mut();
        if let Some(piece) = pieces.find(|piece| piece.number == due.piece) {
            let cover = due.cover.clone();
            piece
                .strip
                .take(due.row, findings, cover, |tile| due.counts(tile));
        }
    }

    /// Lines before this one have settled.
    pub fn settled(&self) -> u64 {
        let open = self
            .pieces
            .iter()
            .find(|piece| piece.settled() < piece.end());
        open.map_or(self.lines(), Piece::settled)
    }

    /// What is known of a frame whose lines have settled.
    pub fn sight(&self, frame: &FrameLines) -> Result<Sight> {
        match &frame.spans[..] {
            [span] if !span.stands && span.rows == (0..frame.height) => {
                let lines = span.line..span.line + frame.height as u64;
                let inside =
                    |piece: &&Piece| piece.holds(lines.start) && piece.holds(lines.end - 1);
                match self.pieces.iter().find(inside) {
                    Some(piece) => piece
                        .strip
                        .sight(lines.start - piece.first..lines.end - piece.first),
                    None => self.assembled(frame),
                }
            }
            _ => self.assembled(frame),
        }
    }

    /// Of a frame whose rows are of several pieces, or show lines twice: row of nodes by row of nodes. Rows that nothing is known of do not
    /// count.
    fn assembled(&self, frame: &FrameLines) -> Result<Sight> {
        let height = frame.height;
        let pitch = self.pieces.front().map_or(1, |piece| piece.strip.pitch());
        let nodes = (height - 1).div_ceil(pitch) + 1;
        let rows = (0..nodes).map(|node| (node * pitch).min(height - 1));
        let seen: Vec<_> = rows.map(|row| self.seen_line(frame.line(row)?)).collect();
        let known = || seen.iter().flatten();
        let first = known().next().ok_or_else(|| {
            Error::Frame(format!(
                "wanted a frame of {height} rows of which some were seen, found none"
            ))
        })?;
        let (columns, input, width) = (
            first.sight.map.grid().0,
            first.sight.map.input().0,
            first.sight.map.placement().width,
        );
        let values = seen.iter().flat_map(|line| {
            let line = line.as_ref().unwrap_or(first);
            line.values.iter().copied()
        });
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width,
            height: height as f32,
        };
        let input = (input, (nodes - 1) * pitch + 1);
        let kind = self.plan.kind;
        let map = AnomalyMap::new((columns, nodes), values.collect(), kind, input, placement)?;
        let none: Arc<[bool]> = vec![false; width as usize].into();
        let bands = seen.iter().enumerate().map(|(node, line)| {
            let rows = pitch.min(height - (node * pitch).min(height - 1));
            let cover = match line {
                Some(line) => line.cover.clone(),
                None => Some(none.clone()),
            };
            (rows, cover)
        });
        let map = match covered(width as usize, height, bands.collect()) {
            Some(mask) => map.masked(Arc::new(mask?)),
            None => map,
        };
        let class_scores = known().map(|line| line.sight.class_score);
        Ok(Sight {
            class_score: class_scores.fold(0.0, f32::max),
            map,
        })
    }

    /// What is known of a line, if it has settled and is not forgotten.
    fn seen_line(&self, line: u64) -> Option<SeenLine> {
        let piece = self.pieces.iter().find(|piece| piece.holds(line))?;
        let line = line - piece.first;
        let sight = piece.strip.sight(line..line + 1).ok()?;
        Some(SeenLine {
            values: piece.strip.nodes(&sight.map),
            cover: piece.strip.cover(line),
            sight,
        })
    }

    /// Finds flaws in the lines before `to`, as far as they have settled and were not looked at before. Probabilities are on the scale given.
    pub fn follow(&mut self, to: u64, scale: Option<Scale>, rules: &Rules) -> Result<Change> {
        let to = to.min(self.settled());
        let mut change = Change::default();
        for piece in &self.pieces {
            let lines = self.flaws.line().max(piece.first)..to.min(piece.end());
            if !lines.is_empty() {
                let within = lines.start - piece.first..lines.end - piece.first;
                let height = (lines.end - lines.start) as usize;
                let map = piece.strip.sight(within)?.map;
                let map = match scale {
                    Some(scale) => map.calibrated(scale),
                    None => map,
                };
                change.append(self.flaws.push(&map, (piece.strip.width(), height), rules));
            }
            if piece.ended && self.flaws.line() == piece.end() {
                change.append(self.flaws.cut());
            }
        }
        Ok(change)
    }

    /// The flaw that covers most of a rectangle: `columns` and `lines`, their ends not included.
    pub fn flaw_at(&self, columns: (u32, u32), lines: (u64, u64)) -> Option<u64> {
        self.flaws.at(columns, lines)
    }

    /// Gives up the lines that have not been looked at: what follows is a new piece. Flaws that are open stay so until [`Self::finish`].
    pub fn abandon(&mut self) {
        self.pieces.clear();
        self.flaws.skip_to(self.odometer.lines());
    }

    /// Ends every flaw that is open, complete or not.
    pub fn finish(&mut self) -> Change {
        self.flaws.cut()
    }

    /// Where columns and lines are, their ends included. What has been forgotten has no position.
    pub fn place(&self, (left, right): (u32, u32), (first, last): (u64, u64)) -> Place {
        let pitch = self.plan.pitch;
        let ends = self
            .odometer
            .position_mm(first)
            .zip(self.odometer.position_mm(last));
        Place {
            line: first,
            last_line: last,
            position_mm: ends.map(|(a, b)| a.min(b)),
            length_mm: ends.and_then(|(a, b)| Some((a - b).abs() + pitch.line_mm?)),
            width_mm: pitch.pixel_mm.map(|mm| f64::from(right - left + 1) * mm),
        }
    }

    /// Where a flaw is.
    pub fn place_of(&self, flaw: &Flaw) -> Place {
        self.place((flaw.left, flaw.right), (flaw.first, flaw.last))
    }

    /// Forgets what only frames and flaws before `line` need.
    pub fn forget(&mut self, line: u64) {
        // The next frame may show again what the last one shows.
        let shown = self.last_frame.1.iter().map(|span| span.line).min();
        let line = line.min(self.flaws.line()).min(shown.unwrap_or(line));
        while self
            .pieces
            .front()
            .is_some_and(|piece| piece.ended && piece.end() <= line)
        {
            self.pieces.pop_front();
        }
        if let Some(piece) = self.pieces.front_mut() {
            piece.strip.forget(line.saturating_sub(piece.first));
        }
        self.flaws.forget(line);
        self.odometer
            .forget(self.flaws.oldest().unwrap_or(line).min(line));
    }
}

/// One line, as it was seen.
struct SeenLine {
    sight: Sight,
    /// The map at the lattice's nodes.
    values: Vec<f32>,
    cover: Option<Arc<[bool]>>,
}

/// Spans that follow one another as one.
fn merged(spans: Vec<Span>) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::new();
    for span in spans.into_iter().filter(|span| !span.rows.is_empty()) {
        match merged.last_mut() {
            Some(last)
                if !last.stands
                    && !span.stands
                    && last.rows.end == span.rows.start
                    && last.line + last.rows.len() as u64 == span.line =>
            {
                last.rows.end = span.rows.end;
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// A mask of `height` rows in bands, of which some count as a whole; none where all do.
fn covered(
    width: usize,
    height: usize,
    bands: Vec<(usize, Option<Arc<[bool]>>)>,
) -> Option<Result<Mask>> {
    if bands.iter().all(|(_, cover)| cover.is_none()) {
        return None;
    }
    let all: Arc<[bool]> = vec![true; width].into();
    let mut left = height;
    let mut banded = Vec::with_capacity(bands.len());
    for (rows, cover) in bands {
        let rows = rows.min(left);
        left -= rows;
        banded.push((rows, cover.unwrap_or_else(|| all.clone())));
    }
    Some(Mask::banded(width, &banded))
}

/// The brightness of a row of packed pixels: of colours the green, which most of it is.
fn luma_of(frame: &Frame<'_>, y: usize, luma: &mut Vec<u8>) {
    let (step, offset) = match frame.format() {
        PixelFormat::Rgb | PixelFormat::Bgr => (3, 1),
        PixelFormat::Rgbx | PixelFormat::Bgrx => (4, 1),
        PixelFormat::Xrgb | PixelFormat::Xbgr => (4, 2),
        // Lines are packed: others have become one of these.
        _ => (1, 0),
    };
    luma.clear();
    luma.extend(frame.row(0, y).iter().skip(offset).step_by(step));
}

#[cfg(test)]
mod tests;
