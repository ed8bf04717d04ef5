//! A picture of each defect: its box and what lies around it, cut out of lines that are kept for a while.

use std::{collections::VecDeque, ops::Range, path::Path};

use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops};

use super::{defect::Defect, source::band::Band, state::remove};
use crate::outcome::{Failure, Outcome};

/// Bytes of lines that are kept behind those that have settled.
const KEPT: usize = 48 << 20;

/// Lines that are kept, at most.
const MAX_LINES: u64 = 8192;

/// Around a box, pixels at least; else half of its side.
const MARGIN: u32 = 48;

/// A box that is longer is shown around its worst line.
const MAX_SIDE: u32 = 2400;

/// A picture's longer side, at most.
const SHOWN: u32 = 640;

/// Defects that a picture is made of, at most: a flood of false alarms must not fill the disk.
const MAX_CROPS: u64 = 20_000;

const JPEG_QUALITY: u8 = 88;

const BOX: Rgb<u8> = Rgb([230, 40, 60]);

/// The folder of pictures in a report.
pub(super) const FOLDER: &str = "crops";

/// The lines that were read last.
#[derive(Default)]
pub(super) struct Kept {
    /// With the number of its first line.
    bands: VecDeque<(u64, Band)>,
    end: u64,
}

impl Kept {
    /// Takes those rows of a band that are the next lines, as `line` says.
    pub(super) fn push(&mut self, band: &Band, line: impl Fn(usize) -> Option<u64>) {
        let stride = (band.width * band.pixel()).max(1);
        let mut kept = Band {
            is_grey: band.is_grey,
            width: band.width,
            bytes: Vec::with_capacity(band.bytes.len()),
        };
        let mut next = self.end;
        for (row, bytes) in band.bytes.chunks_exact(stride).enumerate() {
            if line(row) == Some(next) {
                kept.bytes.extend_from_slice(bytes);
                next += 1;
            }
        }
        self.bands.push_back((self.end, kept));
        self.end = next;
    }

    /// Forgets lines that are so far before `line` that no picture is made of them.
    pub(super) fn forget(&mut self, line: u64) {
        let stride = |band: &Band| (band.width * band.pixel()).max(1) as u64;
        while let Some((first, band)) = self.bands.front() {
            let lines = (KEPT as u64 / stride(band)).clamp(1, MAX_LINES);
            if first + band.len() as u64 + lines > line {
                return;
            }
            self.bands.pop_front();
        }
    }

    fn lines(&self) -> Range<u64> {
        self.bands.front().map_or(self.end, |(first, _)| *first)..self.end
    }

    fn line(&self, line: u64) -> Option<(&Band, &[u8])> {
        let after = self.bands.partition_point(|(first, _)| *first <= line);
        let (first, band) = self.bands.get(after.checked_sub(1)?)?;
        let stride = band.width * band.pixel();
        let from = (line - first) as usize * stride;
        Some((band, band.bytes.get(from..from + stride)?))
    }

    fn cut(&self, columns: &Range<u32>, lines: &Range<u64>) -> Option<RgbImage> {
        let height = u32::try_from(lines.end - lines.start).ok()?;
        let width = columns.end - columns.start;
        let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
        for line in lines.clone() {
            let (band, bytes) = self.line(line)?;
            let step = band.pixel();
            let bytes = bytes.get(columns.start as usize * step..columns.end as usize * step)?;
            match step {
                1 => pixels.extend(bytes.iter().flat_map(|grey| [*grey; 3])),
                _ => pixels.extend_from_slice(bytes),
            }
        }
        RgbImage::from_raw(width, height, pixels)
    }

    /// Which part of the strip a defect's picture shows; none where its lines are no longer there.
    fn shown(&self, defect: &Defect) -> Option<(Range<u32>, Range<u64>)> {
        let kept = self.lines();
        let width = self.bands.back().map_or(0, |(_, band)| band.width as u32);
        let across = around(
            u64::from(defect.x),
            u64::from(defect.w),
            u64::from(defect.worst_x),
        );
        let along = around(defect.line, defect.h, defect.worst_line);
        let columns =
            across.start.min(u64::from(width)) as u32..across.end.min(width.into()) as u32;
        let lines = along.start.max(kept.start)..along.end.min(kept.end);
        (!lines.is_empty() && !columns.is_empty()).then_some((columns, lines))
    }

    /// Whether a picture can be made of a defect.
    pub(super) fn shows(&self, defect: &Defect) -> bool {
        self.shown(defect).is_some()
    }

    /// What a defect looks like, as a JPEG; none where its lines are no longer there.
    pub(super) fn picture(&self, defect: &Defect) -> Outcome<Option<Vec<u8>>> {
        let Some((columns, lines)) = self.shown(defect) else {
            return Ok(None);
        };
        let Some(picture) = self.cut(&columns, &lines) else {
            return Ok(None);
        };
        let part = picture.width().max(picture.height());
        let scale = f64::from(SHOWN.min(part)) / f64::from(part);
        let mut shown = smaller(picture, scale);
        let edges = [
            (
                f64::from(defect.x) - f64::from(columns.start),
                f64::from(defect.w),
            ),
            (defect.line as f64 - lines.start as f64, defect.h as f64),
        ];
        draw_box(&mut shown, edges, scale);
        let mut file = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
        shown.write_with_encoder(encoder).map_err(|e| {
            let reason = format!("the picture of defect {} cannot be made: {e}", defect.id);
            Failure::Arguments(reason)
        })?;
        Ok(Some(file))
    }
}

/// A side of a box with its margins; of a long one the part around its worst.
fn around(first: u64, len: u64, worst: u64) -> Range<u64> {
    let margin = u64::from(MARGIN).max(len / 2);
    let (start, end) = (first.saturating_sub(margin), first + len + margin);
    let most = u64::from(MAX_SIDE);
    if end - start <= most {
        return start..end;
    }
    let start = worst.saturating_sub(most / 2).clamp(start, end - most);
    start..start + most
}

fn smaller(picture: RgbImage, scale: f64) -> RgbImage {
    if scale >= 1.0 {
        return picture;
    }
    let (width, height) = picture.dimensions();
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    imageops::thumbnail(&picture, side(width), side(height))
}

/// Draws the outline of a box just outside of it; `edges` are its starts and lengths before scaling, across and along.
fn draw_box(picture: &mut RgbImage, edges: [(f64, f64); 2], scale: f64) {
    let [(left, right), (top, bottom)] = edges.map(|(start, len)| {
        let end = ((start + len) * scale).ceil() as i64;
        ((start * scale).floor() as i64 - 1, end)
    });
    let (width, height) = picture.dimensions();
    let mut dot = |x: i64, y: i64| {
        let inside = (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y);
        if inside {
            picture.put_pixel(x as u32, y as u32, BOX);
        }
    };
    for thick in 0..2 {
        let (left, top, right, bottom) = (left - thick, top - thick, right + thick, bottom + thick);
        for x in left.max(0)..=right.min(i64::from(width)) {
            dot(x, top);
            dot(x, bottom);
        }
        for y in top.max(0)..=bottom.min(i64::from(height)) {
            dot(left, y);
            dot(right, y);
        }
    }
}

/// Where the picture of defect number `id` lies in a report; none where there are enough.
pub(super) fn name(id: u64) -> Option<String> {
    (id <= MAX_CROPS).then(|| format!("{FOLDER}/{id:06}.jpg"))
}

/// Makes the folder for pictures.
pub(super) fn make_folder(root: &Path) -> Outcome {
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(Failure::io(&folder))
}

/// Removes the pictures of a report, and no others.
pub(super) fn clear(root: &Path) -> Outcome {
    let folder = root.join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Failure::io(folder)(e)),
    };
    for entry in entries {
        let entry = entry.map_err(Failure::io(&folder))?;
        let id = entry.file_name().to_string_lossy().into_owned();
        let id = id.strip_suffix(".jpg").and_then(|id| id.parse().ok());
        if id
            .and_then(name)
            .is_some_and(|name| root.join(name) == entry.path())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scan::ledger::tests::defect;

    fn band(lines: usize, width: usize, grey: u8) -> Band {
        Band {
            is_grey: true,
            width,
            bytes: vec![grey; lines * width],
        }
    }

    #[test]
    fn a_picture_shows_the_box_and_what_is_around_it() {
        let mut kept = Kept::default();
        kept.push(&band(30, 200, 100), |row| Some(row as u64));
        kept.push(&band(170, 200, 100), |row| Some(row as u64 + 30));
        let defect = Defect {
            x: 90,
            w: 20,
            line: 80,
            h: 10,
            ..defect(1)
        };
        let file = kept.picture(&defect).unwrap().unwrap();
        let picture = image::load_from_memory(&file).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (116, 106));
        let [red, green, _] = picture.get_pixel(60, 46).0;
        assert!(red > 180 && green < 90, "{red} {green}");
        assert!(picture.get_pixel(60, 53).0[0].abs_diff(100) < 12);
    }

    #[test]
    fn lines_that_are_gone_are_left_out() {
        let mut kept = Kept::default();
        for first in (0..30 * 512).step_by(512) {
            kept.push(&band(512, 10, 0), |row| Some(row as u64 + first));
        }
        kept.forget(15_000);
        assert!(kept.lines().start > 5_000);
        assert!(kept.picture(&defect(1)).unwrap().is_none());
        let long = Defect {
            line: 100,
            h: 14_000,
            worst_line: 9_000,
            ..defect(1)
        };
        let file = kept.picture(&long).unwrap().unwrap();
        let picture = image::load_from_memory(&file).unwrap();
        assert_eq!(picture.height(), SHOWN);
    }

    #[test]
    fn a_long_side_is_shown_around_its_worst() {
        assert_eq!(around(100, 10, 105), 52..158);
        assert_eq!(around(10_000, 4_000, 12_000), 10_800..13_200);
        assert_eq!(around(10_000, 4_000, 10_000), 8_800..11_200);
        assert_eq!(around(10, 4_000, 10), 0..2400);
    }
}
