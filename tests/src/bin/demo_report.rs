//! What `make demo` tells at its end: a summary of the records, and one picture of the stills.
//!
//!     demo-report DIR MILLISECONDS
//!
//! DIR holds `frames.jsonl` and `stills/*.png`; `contact_sheet.png` is written beside them. MILLISECONDS is how long the pipeline ran.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use acdclip_model::record::Record;
use image::{RgbImage, imageops};

/// Stills in a row of the contact sheet, the width of each, and the gap between two, in pixels.
const COLUMNS: u32 = 4;
const STILL_WIDTH: u32 = 384;
const GAP: u32 = 8;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The records of one event.
struct Event<'a> {
    first: &'a Record,
    last: &'a Record,
    peak: f32,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, milliseconds] = arguments.as_slice() else {
        eprintln!("usage: demo-report DIR MILLISECONDS");
        return ExitCode::from(2);
    };
    match report(Path::new(directory), milliseconds) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("demo-report: error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn report(directory: &Path, milliseconds: &str) -> Outcome<String> {
    let seconds = milliseconds.parse::<f64>()? / 1e3;
    let records = read_records(&directory.join("frames.jsonl"))?;
    let sheet = directory.join("contact_sheet.png");
    contact_sheet(&stills(&directory.join("stills"))?)?.save(&sheet)?;
    Ok(summary(&records, seconds, directory))
}

fn read_records(path: &Path) -> Outcome<Vec<Record>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let records: Vec<Record> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    if records.is_empty() {
        return Err(format!("{}: no frame was scored", path.display()).into());
    }
    Ok(records)
}

fn summary(records: &[Record], seconds: f64, directory: &Path) -> String {
    let frames = records.len();
    let scored = || records.iter().filter(|record| record.age == 0);
    let latency =
        scored().map(|r| r.latency_us as f64).sum::<f64>() / scored().count() as f64 / 1e3;
    let mut out = format!(
        "\n{frames} frames in {seconds:.1} s: {:.1} frames/s, reading and writing video included; {latency:.1} ms a frame for the score alone\n",
        frames as f64 / seconds.max(1e-3)
    );
    let events = events(records);
    let plural = if events.len() == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "{} event{plural} (score at or above {})",
        events.len(),
        records[0].threshold
    );
    for event in events {
        let at = |record: &Record| record.pts.unwrap_or(0) as f64 / 1e9;
        let _ = writeln!(
            out,
            "  {:5.2} s to {:5.2} s, highest score {:.3}",
            at(event.first),
            at(event.last),
            event.peak
        );
    }
    let _ = writeln!(out, "look at:");
    for (name, what) in [
        (
            "annotated.mp4",
            "the video with heatmap, contour, boxes and score",
        ),
        ("contact_sheet.png", "a still a second"),
        ("frames.jsonl", "a record a frame: scores and regions"),
    ] {
        let _ = writeln!(out, "  {:<36} {what}", directory.join(name).display());
    }
    out.truncate(out.trim_end().len());
    out
}

/// The events that the element told, by number, which is the order in which they began.
fn events(records: &[Record]) -> Vec<Event<'_>> {
    let mut events: BTreeMap<u64, Event<'_>> = BTreeMap::new();
    for record in records {
        for id in events_of(record) {
            let event = events.entry(id).or_insert(Event {
                first: record,
                last: record,
                peak: record.score,
            });
            event.last = record;
            event.peak = event.peak.max(record.score);
        }
    }
    events.into_values().collect()
}

/// The events whose regions are seen in a frame, or the one without a region that it belongs to.
fn events_of(record: &Record) -> Vec<u64> {
    let seen: Vec<u64> = record.regions.iter().filter_map(|r| r.event_id).collect();
    if seen.is_empty() {
        record.event_id.into_iter().collect()
    } else {
        seen
    }
}

fn stills(directory: &Path) -> Outcome<Vec<RgbImage>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    paths
        .iter()
        .map(|path| Ok(image::open(path)?.into_rgb8()))
        .collect()
}

fn contact_sheet(stills: &[RgbImage]) -> Outcome<RgbImage> {
    let first = stills.first().ok_or("no stills were written")?;
    let height = (first.height() * STILL_WIDTH).div_ceil(first.width());
    let rows = (stills.len() as u32).div_ceil(COLUMNS);
    let mut sheet = RgbImage::new(
        COLUMNS * (STILL_WIDTH + GAP) - GAP,
        rows * (height + GAP) - GAP,
    );
    for (i, still) in (0..).zip(stills) {
        let small = imageops::resize(still, STILL_WIDTH, height, imageops::FilterType::Triangle);
        let (x, y) = (
            i % COLUMNS * (STILL_WIDTH + GAP),
            i / COLUMNS * (height + GAP),
        );
        imageops::replace(&mut sheet, &small, x.into(), y.into());
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use acdclip_model::map::Region;

    use super::*;

    /// Scores with the events that they belong to.
    fn records(scores: &[(f32, Option<u64>)]) -> Vec<Record> {
        let record = |(frame, (score, event_id)): (u64, &(f32, Option<u64>))| Record {
            pts: Some(frame * 40_000_000),
            frame,
            score: *score,
            threshold: 0.5,
            anomalous: *score >= 0.5,
            event_id: *event_id,
            latency_us: 2000,
            ..Record::default()
        };
        (0..).zip(scores).map(record).collect()
    }

    #[test]
    fn events_are_those_that_the_records_name() {
        let scores = [
            (0.5, Some(1)),
            (0.1, None),
            (0.6, Some(2)),
            (0.9, Some(2)),
            (0.4, Some(2)),
            (0.7, Some(3)),
        ];
        let records = records(&scores);
        let found: Vec<_> = events(&records)
            .iter()
            .map(|event| (event.first.frame, event.last.frame, event.peak))
            .collect();
        assert_eq!(found, [(0, 0, 0.5), (2, 4, 0.9), (5, 5, 0.7)]);
    }

    #[test]
    fn two_things_in_view_are_two_events_for_as_long_as_each_is_seen() {
        let mut records = records(&[(0.6, Some(1)), (0.8, Some(1)), (0.7, Some(2))]);
        let seen = [vec![1], vec![1, 2], vec![2]];
        for (record, ids) in records.iter_mut().zip(&seen) {
            let region = |id: &u64| Region {
                x: 0,
                y: 0,
                w: 1,
                h: 1,
                score: 0.9,
                area: 1,
                centroid: [0.0, 0.0],
                event_id: Some(*id),
                place: None,
            };
            record.regions = ids.iter().map(region).collect();
        }
        let found: Vec<_> = events(&records)
            .iter()
            .map(|event| (event.first.frame, event.last.frame))
            .collect();
        assert_eq!(found, [(0, 1), (1, 2)]);
    }

    #[test]
    fn the_summary_counts_frames_and_names_every_file() {
        let summary = summary(
            &records(&[(0.1, None), (0.7, Some(1))]),
            0.5,
            Path::new("out"),
        );
        for part in [
            "2 frames in 0.5 s: 4.0 frames/s",
            "2.0 ms",
            "1 event (",
            "0.700",
            "out/annotated.mp4",
            "out/contact_sheet.png",
        ] {
            assert!(summary.contains(part), "{part:?} in {summary}");
        }
    }

    #[test]
    fn five_stills_take_two_rows() {
        let stills: Vec<_> = (0..5)
            .map(|i| RgbImage::from_pixel(64, 32, image::Rgb([50 * i, 0, 0])))
            .collect();
        let sheet = contact_sheet(&stills).unwrap();
        assert_eq!(sheet.dimensions(), (4 * 384 + 3 * 8, 2 * 192 + 8));
        assert_eq!(sheet.get_pixel(10, 250).0, [200, 0, 0]);
        assert_eq!(sheet.get_pixel(900, 250).0, [0, 0, 0]);
    }
}
