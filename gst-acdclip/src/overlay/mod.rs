//! What is drawn over a frame: the heatmap, its contour, boxes, marks of alerts and the score. Plain arithmetic over maps and pixels.
//!
//! The scale is fixed: a colour always stands for the same probability, on every frame of every stream. Nothing is drawn below half
//! the map threshold, so a normal frame keeps its pixels bit for bit (but for the score, where that is asked for), and
//! [`Overlay::plan`] tells so before anybody maps the frame for writing.
//!
//! A drawing is made two rows at a time as codes into a palette of at most [`INKS`] inks; [`canvas`] lays them on the frame's own
//! format. One code holds both opacity and colour, so a pixel costs one interpolation, one multiplication and one look-up.

pub(crate) mod canvas;
pub(crate) mod colormap;
mod contour;
mod label;
mod marker;

use std::ops::Range;

use acdclip_model::{
    frame::{Colorimetry, PixelFormat},
    map::{AnomalyMap, Sampler},
};
use gst::glib;

use canvas::{Canvas, Ink, OPAQUE};
pub(crate) use colormap::Colormap;
use contour::{Edge, Rows};
use label::{Label, Part};
pub(crate) use marker::Marker;
use marker::{Brackets, STRENGTHS};

use crate::rect::Rect;

/// What an overlay may consist of.
#[glib::flags(name = "AcdClipOverlay")]
pub(crate) enum Parts {
    /// Colour where the map is above half its threshold.
    #[flags_value(name = "Colour where something is abnormal", nick = "heatmap")]
    HEATMAP = 1 << 0,
    /// A line where the map crosses its threshold, around regions.
    #[flags_value(
        name = "A line around each region, where the map crosses its threshold",
        nick = "contour"
    )]
    CONTOUR = 1 << 1,
    /// The bounding boxes of regions.
    #[flags_value(name = "The bounding box of each region", nick = "box")]
    BOX = 1 << 2,
    /// The frame's score as text.
    #[flags_value(name = "The score, on red when the frame is anomalous", nick = "score")]
    SCORE = 1 << 3,
    /// Brackets at the corners of alerts.
    #[flags_value(
        name = "Brackets at the corners of each region that is alerted of, which fade in and out",
        nick = "marker"
    )]
    MARKER = 1 << 4,
}

/// How an overlay looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Style {
    /// What is drawn.
    pub(crate) parts: Parts,
    /// Opacity of the heatmap at probability 1, in [0, 1].
    pub(crate) opacity: f32,
    /// Colours of the heatmap; a grey frame has only room for [`Colormap::Grey`].
    pub(crate) colormap: Colormap,
}

impl Style {
    /// The same with other parts.
    pub(crate) fn with(self, parts: Parts) -> Self {
        Self { parts, ..self }
    }

    /// What is left of it where alerts are muted.
    pub(crate) fn muted(self) -> Self {
        self.with(self.parts - (Parts::MARKER | Parts::SCORE))
    }
}

/// A map and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlacedMap<'a> {
    /// The map.
    pub(crate) map: &'a AnomalyMap,
    /// What it covers, frame pixels; within the frame.
    pub(crate) area: Rect,
}

/// What is known of a frame, as far as it is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finding<'a> {
    /// The map, where there is one.
    pub(crate) map: Option<PlacedMap<'a>>,
    /// Probability from which a pixel is abnormal: that of the contour.
    pub(crate) map_threshold: f32,
    /// Regions in frame pixels.
    pub(crate) regions: &'a [Rect],
    /// Marks of alerts.
    pub(crate) markers: &'a [Marker],
    /// The frame's score.
    pub(crate) score: f32,
    /// Whether it is at or above its threshold.
    pub(crate) anomalous: bool,
}

/// Steps of the heatmap's palette; step 0 is no ink.
const STEPS: usize = 256;
const LIGHT: u16 = 256;
const DARK: u16 = 257;
const BOX: u16 = 258;
const TEXT: u16 = 259;
const BACKING: u16 = 260;
/// Marks, by strength: the first of each is none.
const MARK_LIGHT: u16 = 261;
const MARK_DARK: u16 = MARK_LIGHT + STRENGTHS as u16 + 1;
/// Length of the palette.
const INKS: usize = MARK_DARK as usize + STRENGTHS + 1;

/// Highest probability that the heatmap tells from those above it; keeps the logit scale finite.
const TOP: f32 = 0.999;

/// A drawing that is known to change its frame.
pub(crate) struct Overlay<'a> {
    style: Style,
    finding: Finding<'a>,
    layer: Option<Layer<'a>>,
    label: Option<Label>,
    marks: Vec<Brackets>,
    width: usize,
    height: usize,
}

/// A map that has something to draw.
struct Layer<'a> {
    map: &'a AnomalyMap,
    sampler: Sampler<'a>,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// The map's value at which the heatmap starts and that of the contour.
    start: f32,
    threshold: f32,
}

impl<'a> Layer<'a> {
    fn new(style: Style, finding: Finding<'a>) -> Option<Self> {
        let PlacedMap { map, area } = finding.map?;
        let threshold = map.value(finding.map_threshold);
        let start = map.value(start_probability(finding.map_threshold));
        let mut lowest = f32::INFINITY;
        if style.parts.contains(Parts::HEATMAP) && style.opacity > 0.0 {
            lowest = start;
        }
        if style.parts.contains(Parts::CONTOUR) && !finding.regions.is_empty() {
            lowest = lowest.min(threshold);
        }
        let visible = map.values().iter().any(|value| *value >= lowest);
        let (width, height) = (area.w as usize, area.h as usize);
        visible.then(|| Self {
            map,
            sampler: map.over_frame(width, height),
            left: area.x as usize,
            top: area.y as usize,
            width,
            height,
            start,
            threshold,
        })
    }

    /// The part of a frame's row that it covers.
    fn part<'c>(&self, codes: &'c mut [u16]) -> &'c mut [u16] {
        &mut codes[self.left..self.left + self.width]
    }

    /// Columns of the frame as its own.
    fn columns(&self, frame: Range<usize>) -> Range<usize> {
        frame.start.saturating_sub(self.left)..frame.end.saturating_sub(self.left)
    }
}

impl<'a> Overlay<'a> {
    /// What there is to draw of `finding` on a frame of `width` x `height`; `None` where its pixels would stay as they are.
    pub(crate) fn plan(
        style: Style,
        finding: Finding<'a>,
        width: usize,
        height: usize,
    ) -> Option<Self> {
        let layer = Layer::new(style, finding);
        let label = style
            .parts
            .contains(Parts::SCORE)
            .then(|| Label::new(&format!("{:.2}", finding.score), width, height))
            .flatten();
        let boxes = style.parts.contains(Parts::BOX) && !finding.regions.is_empty();
        let markers = finding
            .markers
            .iter()
            .filter(|_| style.parts.contains(Parts::MARKER));
        let marks: Vec<_> = markers
            .filter_map(|marker| Brackets::new(marker, width, height))
            .collect();
        let is_any = layer.is_some() || label.is_some() || boxes || !marks.is_empty();
        is_any.then_some(Self {
            style,
            finding,
            layer,
            label,
            marks,
            width,
            height,
        })
    }

    /// Draws on `canvas`, which has the size that the plan was made for.
    pub(crate) fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        format: PixelFormat,
        colorimetry: Colorimetry,
    ) {
        debug_assert_eq!((canvas.width(), canvas.height()), (self.width, self.height));
        let palette = self.palette(format, colorimetry);
        let thickness = line_thickness(self.width, self.height);
        let mut layer = self.layer.as_ref().map(|layer| {
            let size = (layer.width, layer.height);
            (layer, Rows::new(&layer.sampler, size, thickness))
        });
        let mut codes = [vec![0; self.width], vec![0; self.width]];
        for y in (0..self.height).step_by(2) {
            let mut inked = false;
            for (below, codes) in codes.iter_mut().enumerate() {
                codes.fill(0);
                if y + below < self.height {
                    if let Some((layer, rows)) = &mut layer {
                        inked |= self.draw_map(layer, rows, y + below, codes);
                    }
                    inked |= self.draw_boxes(y + below, codes);
                    inked |= self.draw_marks(y + below, codes);
                    inked |= self.draw_label(y + below, codes);
                }
            }
            if inked {
                canvas.blend_rows(y, [&codes[0], &codes[1]], &palette);
            }
        }
    }

    fn draw_map(
        &self,
        layer: &Layer<'_>,
        rows: &mut Rows<'_>,
        y: usize,
        codes: &mut [u16],
    ) -> bool {
        let own = y.checked_sub(layer.top).filter(|own| *own < layer.height);
        let Some(own) = own else { return false };
        let codes = layer.part(codes);
        let parts = self.style.parts;
        let mut inked = false;
        if parts.contains(Parts::HEATMAP) && rows.bound(own) >= layer.start {
            let scale = (STEPS - 1) as f32 / (layer.map.value(TOP) - layer.start);
            for (code, value) in codes.iter_mut().zip(rows.values(own)) {
                // A cast saturates: below the start is step 0, NaN and what was not looked at too.
                *code = ((*value - layer.start) * scale).min((STEPS - 1) as f32) as u16;
            }
            inked = true;
        }
        if parts.contains(Parts::CONTOUR) {
            let outlined: Vec<_> = self.outlined(y).map(|x| layer.columns(x)).collect();
            inked |= rows.edges(own, layer.threshold, &outlined, |x, edge| {
                codes[x] = match edge {
                    Edge::Inside => LIGHT,
                    Edge::Outside => DARK,
                };
            });
        }
        inked
    }

    /// The columns of row `y` in which the contour may lie: in and just around a region. A speck that is no region has none.
    fn outlined(&self, y: usize) -> impl Iterator<Item = Range<usize>> {
        let reach = line_thickness(self.width, self.height);
        let span = move |start: u32, length: u32| {
            let (start, length) = (start as usize, length as usize);
            start.saturating_sub(reach)..start + length + reach
        };
        let regions = self.finding.regions.iter();
        regions
            .filter(move |region| span(region.y, region.h).contains(&y))
            .map(move |region| span(region.x, region.w))
    }

    fn draw_boxes(&self, y: usize, codes: &mut [u16]) -> bool {
        if !self.style.parts.contains(Parts::BOX) {
            return false;
        }
        let thickness = line_thickness(self.width, self.height);
        let mut inked = false;
        for region in self.finding.regions {
            let (left, top) = (region.x as usize, region.y as usize);
            let right = (left + region.w as usize).min(self.width);
            let bottom = top + region.h as usize;
            if !(top..bottom).contains(&y) || left >= right {
                continue;
            }
            inked = true;
            let row = &mut codes[left..right];
            if y < top + thickness || y + thickness >= bottom {
                row.fill(BOX);
            } else {
                let side = thickness.min(row.len());
                let from = row.len() - side;
                row[..side].fill(BOX);
                row[from..].fill(BOX);
            }
        }
        inked
    }

    fn draw_marks(&self, y: usize, codes: &mut [u16]) -> bool {
        let mut inked = false;
        for mark in &self.marks {
            for (columns, part) in mark.row(y, self.width) {
                let first = match part {
                    marker::Part::Light => MARK_LIGHT,
                    marker::Part::Dark => MARK_DARK,
                };
                codes[columns].fill(first + mark.strength as u16);
                inked = true;
            }
        }
        inked
    }

    fn draw_label(&self, y: usize, codes: &mut [u16]) -> bool {
        let Some(label) = self.label.as_ref().filter(|label| label.covers_row(y)) else {
            return false;
        };
        let (left, parts) = label.row(y);
        for (code, part) in codes[left..].iter_mut().zip(parts) {
            *code = match part {
                Part::Text => TEXT,
                Part::Backing => BACKING,
            };
        }
        true
    }

    fn palette(&self, format: PixelFormat, colorimetry: Colorimetry) -> [Ink; INKS] {
        let ink = |rgb, alpha: f32| Ink {
            alpha: (alpha * f32::from(OPAQUE)).round() as u16,
            color: canvas::encode(rgb, format, colorimetry),
        };
        let colormap = match format {
            PixelFormat::Gray8 | PixelFormat::Gray16 { .. } => Colormap::Grey,
            _ => self.style.colormap,
        };
        let mut palette = [Ink::default(); INKS];
        if let Some(Layer { map, start, .. }) = &self.layer {
            let top = map.value(TOP);
            for (step, entry) in palette[..STEPS].iter_mut().enumerate().skip(1) {
                let value = start + (top - start) * step as f32 / (STEPS - 1) as f32;
                let p = map.probability(value);
                *entry = ink(colormap.color(p), self.style.opacity * self.ramp(p));
            }
        }
        let backing = if self.finding.anomalous {
            ink([200, 16, 16], 0.9)
        } else {
            ink([0, 0, 0], 0.6)
        };
        palette[usize::from(LIGHT)] = ink([255, 255, 255], 1.0);
        palette[usize::from(DARK)] = ink([0, 0, 0], 0.7);
        palette[usize::from(BOX)] = ink([255, 200, 0], 1.0);
        palette[usize::from(TEXT)] = ink([255, 255, 255], 1.0);
        palette[usize::from(BACKING)] = backing;
        for strength in 1..=STRENGTHS {
            let part = strength as f32 / STRENGTHS as f32;
            palette[usize::from(MARK_LIGHT) + strength] = ink([255, 255, 255], part);
            palette[usize::from(MARK_DARK) + strength] = ink([0, 0, 0], 0.75 * part);
        }
        palette
    }

    /// Opacity of a probability before the style's own: 0 at the start, 1 at probability 1.
    fn ramp(&self, p: f32) -> f32 {
        let start = start_probability(self.finding.map_threshold);
        ((p - start) / (1.0 - start)).clamp(0.0, 1.0)
    }
}

/// Probability at which the heatmap starts: half the threshold, but never so low that a map of nothing would be drawn.
fn start_probability(map_threshold: f32) -> f32 {
    (map_threshold / 2.0).clamp(0.02, 0.5)
}

/// What lines and text grow with, in pixels: the height, but on a strip, which is shown as small as its width demands, a share of that.
fn visible_size(width: usize, height: usize) -> usize {
    height.max(width / 4)
}

/// Thickness of lines in pixels: one at 360 rows and below, three at 1080, and never much of a strip's height.
fn line_thickness(width: usize, height: usize) -> usize {
    (visible_size(width, height) / 360).min(height / 64).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::{
        frame::{self, Matrix},
        map::MapValues,
        preprocess::Placement,
    };

    use super::{canvas::PlaneMut, *};

    const EVERYTHING: Parts = Parts::all();

    fn style(parts: Parts) -> Style {
        Style {
            parts,
            opacity: 0.6,
            colormap: Colormap::Turbo,
        }
    }

    /// A map on a grid of 8 x 8 with one patch at `peak` and the others at `floor`.
    fn map(floor: f32, peak: f32) -> AnomalyMap {
        let mut values = vec![floor; 64];
        values[3 * 8 + 5] = peak;
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 112.0,
            height: 112.0,
        };
        AnomalyMap::new(
            (8, 8),
            values,
            MapValues::LogitDifference,
            (112, 112),
            placement,
        )
        .unwrap()
    }

    /// A map over a whole frame of the given size.
    fn finding(map: &AnomalyMap, width: u32, height: u32) -> Finding<'_> {
        let area = Rect::from([0, 0, width, height]);
        Finding {
            map: Some(PlacedMap { map, area }),
            map_threshold: 0.5,
            regions: &[],
            markers: &[],
            score: 0.87,
            anomalous: true,
        }
    }

    fn rects(map: &AnomalyMap, width: u32, height: u32) -> Vec<Rect> {
        let regions = map.regions(0.5, 0, width, height);
        regions.iter().map(Rect::from).collect()
    }

    fn draw(
        overlay: &Overlay<'_>,
        format: PixelFormat,
        colorimetry: Colorimetry,
        fill: u8,
    ) -> Vec<Vec<u8>> {
        let (width, height) = (overlay.width, overlay.height);
        let mut planes: Vec<(Vec<u8>, usize)> = (0..format.plane_count())
            .map(|plane| {
                let (bytes, rows) = format.plane_size(plane, width, height);
                (vec![fill; (bytes + 3) * rows], bytes + 3)
            })
            .collect();
        let views = planes
            .iter_mut()
            .map(|(data, stride)| PlaneMut {
                data,
                stride: *stride,
            })
            .collect();
        let mut canvas = Canvas::new(format, width, height, views).unwrap();
        overlay.draw(&mut canvas, format, colorimetry);
        planes.into_iter().map(|(data, _)| data).collect()
    }

    const FORMATS: [PixelFormat; 9] = [
        PixelFormat::Rgb,
        PixelFormat::Bgr,
        PixelFormat::Rgbx,
        PixelFormat::Bgrx,
        PixelFormat::Xrgb,
        PixelFormat::Xbgr,
        PixelFormat::Gray8,
        PixelFormat::Nv12,
        PixelFormat::I420,
    ];

    #[test]
    fn a_normal_map_draws_nothing() {
        let normal = map(-6.0, -1.2);
        let parts = Parts::HEATMAP | Parts::CONTOUR | Parts::BOX;
        assert!(Overlay::plan(style(parts), finding(&normal, 64, 48), 64, 48).is_none());
        let abnormal = map(5.0, 5.0);
        let nothing = style(Parts::empty());
        assert!(Overlay::plan(nothing, finding(&abnormal, 64, 48), 64, 48).is_none());
    }

    #[test]
    fn pixels_below_half_the_threshold_keep_their_bytes() {
        let map = map(-6.0, 5.0);
        let (width, height) = (61, 47);
        let overlay =
            Overlay::plan(style(Parts::HEATMAP), finding(&map, 61, 47), width, height).unwrap();
        let probabilities = map.upsample_to_frame(width, height);
        for fill in [0, 77, 255] {
            let planes = draw(&overlay, PixelFormat::Rgb, Colorimetry::default(), fill);
            let mut changed = 0;
            for (i, p) in probabilities.iter().enumerate() {
                let at = i / width * (width * 3 + 3) + i % width * 3;
                let same = planes[0][at..at + 3] == [fill; 3];
                assert!(*p > 0.25 || same, "a pixel of probability {p} changed");
                changed += usize::from(!same);
            }
            assert!(changed > 20, "{changed} pixels changed");
        }
    }

    #[test]
    fn the_same_probability_has_the_same_colour_on_every_frame() {
        // Another maximum elsewhere in the frame must not change what the first patch looks like.
        let alone = map(-6.0, 1.0);
        let mut values = alone.values().to_vec();
        values[56] = 8.0;
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 112.0,
            height: 112.0,
        };
        let beside = AnomalyMap::new(
            (8, 8),
            values,
            MapValues::LogitDifference,
            (112, 112),
            placement,
        )
        .unwrap();
        let top_half = |map: &AnomalyMap| {
            let regions = rects(map, 64, 64);
            let finding = Finding {
                regions: &regions,
                ..finding(map, 64, 64)
            };
            let overlay =
                Overlay::plan(style(Parts::HEATMAP | Parts::CONTOUR), finding, 64, 64).unwrap();
            draw(&overlay, PixelFormat::Rgb, Colorimetry::default(), 90)[0][..32 * 195].to_vec()
        };
        assert_eq!(top_half(&alone), top_half(&beside));
    }

    #[test]
    fn what_is_too_small_for_a_region_has_no_contour() {
        let mut values = vec![-6.0; 64];
        // A speck in the first row, and a region of four patches in the last two.
        for (at, value) in [(1, 2.0), (53, 5.0), (54, 5.0), (61, 5.0), (62, 5.0)] {
            values[at] = value;
        }
        let placement = Placement {
            x: 0.0,
            y: 0.0,
            width: 112.0,
            height: 112.0,
        };
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((8, 8), values, kind, (112, 112), placement).unwrap();
        let all = rects(&map, 96, 96);
        assert_eq!(all.len(), 2, "{all:?}");
        let inked = |regions: &[Rect]| {
            let finding = Finding {
                regions,
                ..finding(&map, 96, 96)
            };
            let plan = Overlay::plan(style(Parts::CONTOUR), finding, 96, 96);
            let Some(overlay) = plan else { return [0, 0] };
            let picture = draw(&overlay, PixelFormat::Gray8, Colorimetry::default(), 90);
            let ink = |rows: &[u8]| rows.iter().filter(|byte| **byte != 90).count();
            let (top, bottom) = picture[0].split_at(48 * 99);
            [ink(top), ink(bottom)]
        };
        let [speck, region] = inked(&all);
        assert!(speck > 0 && region > 0, "{speck} {region}");
        assert_eq!(inked(&all[..1]), [0, region]);
        assert_eq!(inked(&[]), [0, 0]);
    }

    /// The pixels of a grey frame of 96 x 96 that a drawing of `map` over `area` changes.
    fn changed_pixels(parts: Parts, map: &AnomalyMap, area: Rect) -> Vec<(u32, u32)> {
        let regions: Vec<Rect> = rects(map, area.w, area.h)
            .into_iter()
            .map(|rect| Rect {
                x: rect.x + area.x,
                y: rect.y + area.y,
                ..rect
            })
            .collect();
        let finding = Finding {
            map: Some(PlacedMap { map, area }),
            regions: &regions,
            ..finding(map, 96, 96)
        };
        let overlay = Overlay::plan(style(parts), finding, 96, 96).unwrap();
        let picture = draw(&overlay, PixelFormat::Gray8, Colorimetry::default(), 90);
        let rows = picture[0].chunks_exact(99).enumerate();
        rows.flat_map(|(y, row)| {
            let changed =
                move |(x, byte): (usize, &u8)| (*byte != 90).then_some((x as u32, y as u32));
            row[..96].iter().enumerate().filter_map(changed)
        })
        .collect()
    }

    #[test]
    fn a_map_of_a_part_of_the_frame_is_drawn_there_as_on_a_frame_of_that_size() {
        // Abnormal up to its border, so that whatever leaves the area shows.
        let mut values = vec![-6.0; 64];
        values[..24].fill(4.0);
        let placement = map(0.0, 0.0).placement();
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((8, 8), values, kind, (112, 112), placement).unwrap();
        let area = |x, y| Rect { x, y, w: 41, h: 37 };
        for parts in [Parts::HEATMAP, Parts::CONTOUR] {
            let at_corner = changed_pixels(parts, &map, area(0, 0));
            assert!(at_corner.len() > 30, "{parts:?}");
            let moved = changed_pixels(parts, &map, area(55, 13));
            let back: Vec<_> = moved.iter().map(|(x, y)| (x - 55, y - 13)).collect();
            assert_eq!(at_corner, back, "{parts:?}");
        }
    }

    #[test]
    fn a_mark_fades_and_leaves_its_region_as_it_was() {
        let region = Rect::from([30, 30, 30, 30]);
        let drawn = |strength, format| {
            let markers = [Marker { region, strength }];
            let bare = Finding {
                map: None,
                map_threshold: 0.5,
                regions: &[],
                markers: &markers,
                score: 0.9,
                anomalous: true,
            };
            let plan = Overlay::plan(style(Parts::MARKER), bare, 96, 96)?;
            Some(draw(&plan, format, Colorimetry::default(), 90))
        };
        assert_eq!(drawn(0.0, PixelFormat::Gray8), None);
        let ends = |strength| {
            let picture = drawn(strength, PixelFormat::Gray8).unwrap();
            let bytes = &picture[0];
            (*bytes.iter().max().unwrap(), *bytes.iter().min().unwrap())
        };
        let (faint, half, full) = (ends(0.2), ends(0.5), ends(1.0));
        assert!(
            90 < faint.0 && faint.0 < half.0 && half.0 < full.0,
            "{faint:?} {half:?} {full:?}"
        );
        assert!(
            90 > faint.1 && faint.1 > half.1 && half.1 > full.1,
            "{faint:?} {half:?} {full:?}"
        );
        for format in FORMATS {
            let planes = drawn(1.0, format).unwrap();
            let (bytes, _) = format.plane_size(0, 96, 96);
            let step = bytes / 96;
            for y in 30..60 {
                let row = &planes[0][y * (bytes + 3)..];
                assert!(
                    row[30 * step..60 * step].iter().all(|b| *b == 90),
                    "{format:?} row {y}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_looked_at_keeps_its_bytes() {
        let mut values = vec![5.0; 64];
        for row in 0..8 {
            values[row * 8 + 4..row * 8 + 8].fill(f32::NEG_INFINITY);
        }
        let placement = map(0.0, 0.0).placement();
        let kind = MapValues::LogitDifference;
        let map = AnomalyMap::new((8, 8), values, kind, (112, 112), placement).unwrap();
        let changed = changed_pixels(
            Parts::HEATMAP | Parts::CONTOUR,
            &map,
            Rect::from([0, 0, 96, 96]),
        );
        let right = changed.iter().map(|(x, _)| x).max();
        assert_eq!(changed.len(), 48 * 96, "the left half");
        assert_eq!(right, Some(&47));
    }

    #[test]
    fn without_a_map_there_are_boxes_and_the_score() {
        let regions = [Rect {
            x: 10,
            y: 40,
            w: 20,
            h: 20,
        }];
        let bare = Finding {
            map: None,
            map_threshold: 0.5,
            regions: &regions,
            markers: &[],
            score: 0.5,
            anomalous: false,
        };
        for (parts, drawn) in [
            (Parts::HEATMAP | Parts::CONTOUR, false),
            (Parts::BOX, true),
            (Parts::SCORE, true),
        ] {
            let plan = Overlay::plan(style(parts), bare, 96, 96);
            assert_eq!(plan.is_some(), drawn, "{parts:?}");
        }
    }

    #[test]
    fn lines_are_as_thick_as_the_frame_is_large_and_strips_can_be_read() {
        let frames = [
            (640, 360),
            (1920, 1080),
            (3840, 2160),
            (8192, 512),
            (8192, 64),
        ];
        let thickness = frames.map(|(width, height)| line_thickness(width, height));
        assert_eq!(thickness, [1, 3, 6, 5, 1]);
    }

    #[test]
    fn opacity_grows_with_the_value() {
        let map = map(-6.0, 5.0);
        let overlay = Overlay::plan(style(Parts::HEATMAP), finding(&map, 64, 64), 64, 64).unwrap();
        let palette = overlay.palette(PixelFormat::Rgb, Colorimetry::default());
        let alphas: Vec<_> = palette[..STEPS].iter().map(|ink| ink.alpha).collect();
        assert!(alphas.is_sorted());
        assert_eq!(alphas[0], 0);
        assert_eq!(alphas[STEPS - 1], 153, "0.6 of 256");
    }

    #[test]
    fn a_hot_spot_turns_red_in_every_colour_format_and_bright_in_grey() {
        let map = map(-6.0, 9.0);
        let overlay = Overlay::plan(style(Parts::HEATMAP), finding(&map, 64, 64), 64, 64).unwrap();
        let (x, y) = (5 * 64 / 7 + 1, 3 * 64 / 7);
        for format in FORMATS {
            let planes = draw(&overlay, format, Colorimetry::default(), 90);
            let at = |plane: usize, step: usize, offset: usize, shift: usize| {
                let (bytes, _) = format.plane_size(plane, 64, 64);
                planes[plane][(y >> shift) * (bytes + 3) + (x >> shift) * step + offset]
            };
            let (more, less) = match format {
                PixelFormat::Rgb => (at(0, 3, 0, 0), at(0, 3, 2, 0)),
                PixelFormat::Bgr => (at(0, 3, 2, 0), at(0, 3, 0, 0)),
                PixelFormat::Rgbx => (at(0, 4, 0, 0), at(0, 4, 2, 0)),
                PixelFormat::Bgrx => (at(0, 4, 2, 0), at(0, 4, 0, 0)),
                PixelFormat::Xrgb => (at(0, 4, 1, 0), at(0, 4, 3, 0)),
                PixelFormat::Xbgr => (at(0, 4, 3, 0), at(0, 4, 1, 0)),
                PixelFormat::Gray8 => (at(0, 1, 0, 0), 90),
                PixelFormat::Gray16 { .. } => (at(0, 2, 1, 0), 90),
                PixelFormat::Nv12 => (at(1, 2, 1, 1), at(1, 2, 0, 1)),
                PixelFormat::I420 => (at(2, 1, 0, 1), at(1, 1, 0, 1)),
            };
            assert!(more > less + 30, "{format:?}: {more} against {less}");
        }
    }

    #[test]
    fn padding_and_alpha_bytes_are_never_touched() {
        let map = map(5.0, 9.0);
        let regions = rects(&map, 33, 17);
        let everything = Finding {
            regions: &regions,
            ..finding(&map, 33, 17)
        };
        let overlay = Overlay::plan(style(EVERYTHING), everything, 33, 17).unwrap();
        for format in FORMATS {
            let planes = draw(&overlay, format, Colorimetry::default(), 90);
            for (plane, data) in planes.iter().enumerate() {
                let (bytes, _) = format.plane_size(plane, 33, 17);
                for row in data.chunks_exact(bytes + 3) {
                    assert_eq!(row[bytes..], [90; 3], "{format:?} plane {plane}");
                    let ignored = match format {
                        PixelFormat::Rgbx | PixelFormat::Bgrx => Some(3),
                        PixelFormat::Xrgb | PixelFormat::Xbgr => Some(0),
                        _ => None,
                    };
                    let kept = |offset| {
                        row[..bytes]
                            .iter()
                            .skip(offset)
                            .step_by(4)
                            .all(|b| *b == 90)
                    };
                    assert!(ignored.is_none_or(kept), "{format:?}");
                }
            }
        }
    }

    #[test]
    fn the_smallest_frames_and_extreme_thresholds_are_drawn_without_complaint() {
        let map = map(-6.0, 9.0);
        let regions = rects(&map, 1, 1);
        for (width, height) in [(1, 1), (1, 9), (9, 1), (3, 5), (17, 33)] {
            for map_threshold in [0.0, 0.5, 1.0] {
                let finding = Finding {
                    map_threshold,
                    regions: &regions,
                    ..finding(&map, width, height)
                };
                let (width, height) = (width as usize, height as usize);
                for format in FORMATS {
                    let plan = Overlay::plan(style(EVERYTHING), finding, width, height);
                    if let Some(overlay) = plan {
                        draw(&overlay, format, Colorimetry::default(), 90);
                    }
                }
            }
        }
    }

    #[test]
    fn colours_meet_the_standards_values() {
        let encode =
            |rgb, format, matrix, range| canvas::encode(rgb, format, Colorimetry { matrix, range });
        // 75 % and 100 % colour bars: SMPTE EG 1 and ITU-R BT.471 tables for BT.601 and BT.709.
        let limited = |rgb, matrix| encode(rgb, PixelFormat::I420, matrix, frame::Range::Limited);
        assert_eq!(limited([255, 0, 0], Matrix::Bt601), [81, 90, 240]);
        assert_eq!(limited([0, 0, 255], Matrix::Bt601), [41, 240, 110]);
        assert_eq!(limited([255, 0, 0], Matrix::Bt709), [63, 102, 240]);
        assert_eq!(limited([255, 255, 255], Matrix::Bt2020), [235, 128, 128]);
        let full = |rgb| encode(rgb, PixelFormat::Nv12, Matrix::Bt601, frame::Range::Full);
        assert_eq!(full([255, 0, 0]), [76, 85, 255]);
        assert_eq!(
            encode(
                [255, 0, 128],
                PixelFormat::Rgb,
                Matrix::Bt601,
                frame::Range::Limited
            ),
            [235, 16, 126]
        );
    }
}
