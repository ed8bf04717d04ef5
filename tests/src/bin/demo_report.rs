//! What `make demo` tells at its end: a summary of the records, and one picture of the stills.
//!
//!     demo-report DIR MILLISECONDS
//!
//! DIR holds `frames.jsonl` and `stills/*.png`; `contact_sheet.png` is written beside them. MILLISECONDS is how long the pipeline ran.

use std::{
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

/// A run of anomalous frames.
#[derive(Debug, PartialEq)]
struct Event {
    first: u64,
    last: u64,
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
        let at = |frame: u64| records[frame as usize].pts.unwrap_or(0) as f64 / 1e9;
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

/// Maximal runs of anomalous records, by index.
fn events(records: &[Record]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for (i, record) in (0..).zip(records).filter(|(_, record)| record.anomalous) {
        match events.last_mut() {
            Some(event) if event.last + 1 == i => {
                event.last = i;
                event.peak = event.peak.max(record.score);
            }
            _ => events.push(Event {
                first: i,
                last: i,
                peak: record.score,
            }),
        }
    }
    events
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
    use super::*;

    fn records(scores: &[f32]) -> Vec<Record> {
        let record = |(frame, score): (u64, &f32)| Record {
            pts: Some(frame * 40_000_000),
            frame,
            score: *score,
            threshold: 0.5,
            anomalous: *score >= 0.5,
            latency_us: 2000,
            ..Record::default()
        };
        (0..).zip(scores).map(record).collect()
    }

    #[test]
    fn an_event_is_a_run_of_anomalous_frames() {
        let found = events(&records(&[0.5, 0.1, 0.6, 0.9, 0.7]));
        let wanted =
            [(0, 0, 0.5), (2, 4, 0.9)].map(|(first, last, peak)| Event { first, last, peak });
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_summary_counts_frames_and_names_every_file() {
        let summary = summary(&records(&[0.1, 0.7]), 0.5, Path::new("out"));
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
