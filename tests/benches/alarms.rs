//! What a person beside the screen would be told: events a minute on clips, calibrated on footage without findings. `make bench-alarms`
//! runs it.
//!
//! Of normal colon in motion there is none: slow pans over pictures of normal mucosa stand in for it, every line that rests on them says
//! synthetic, and the built-in model has seen such pictures in training. The clips of rail and colon it has not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use acdclip_model::record::Record;
use common::{init, pipeline, root, run_to_end, shared};
use gst::prelude::*;
use image::{DynamicImage, RgbImage, imageops};
use serde::Deserialize;

/// Of the rail clips, and of the windows that stand for one: rows, and rows from one frame to the next.
const WINDOW: u32 = 512;
const ADVANCE: u32 = 16;

/// Rows between two normal windows that a calibration rests on.
const APART: u32 = 64;

/// Of the pans: frames a second, as the colon clip has, frames a picture, and the side of a frame.
const PAN_FPS: i32 = 6;
const PAN_FRAMES: u32 = 12;
const PAN_SIDE: u32 = 288;

const RAIL: &str = "rail_linescan_145647010_0190-0199";
const OTHER_RAIL: &str = "rail_linescan_145648020_0152-0157";
const COLON: &str = "colonoscopy_cvc_clinicdb_seq02_05_07_13";
const SINUS: &str = "endoscopy_sinus_normal_35f.mp4";

/// What lies beside a clip.
#[derive(Deserialize)]
struct Facts {
    fps: f64,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    boxes: Vec<Marked>,
    #[serde(default)]
    frames: Vec<Shown>,
}

/// A flaw that somebody has marked, in the strip's pixels: x, y, width, height.
#[derive(Deserialize)]
struct Marked {
    bbox: [f64; 4],
}

/// What a frame shows.
#[derive(Deserialize)]
struct Shown {
    sequence: u32,
}

impl Marked {
    /// Whether it is in rows `from` to `to` of the strip.
    fn is_in(&self, from: f64, to: f64) -> bool {
        self.bbox[1] < to && self.bbox[1] + self.bbox[3] > from
    }
}

fn facts(clip: &str) -> Option<Facts> {
    let text = std::fs::read(shared(&format!("data/video/{clip}.json"))?).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

fn main() {
    init();
    if shared("data/video").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    println!(
        "{:<52}  {:>6}  {:>7}  {:>6}  {:>8}  found",
        "clip, settings", "frames", "minutes", "events", "a minute"
    );
    rail(folder.path());
    colon(folder.path());
}

/// On a strip of another run than the calibration's.
fn rail(folder: &Path) {
    let normal = folder.join("rail");
    let windows = normal_windows(&normal);
    let calibration = folder.join("rail.toml");
    calibrate(&normal, &calibration);
    let facts = facts(RAIL).unwrap();
    let clip = shared(&format!("data/video/{RAIL}.mp4")).unwrap();
    let own = format!(
        "calibration={} threshold=-1 map-threshold=-1",
        calibration.display()
    );
    let profile = format!("{} interval=3", profile("rail"));
    for (name, settings) in [
        ("rail, profile".to_owned(), profile.clone()),
        (
            format!("rail, profile, calibrated on {windows} windows"),
            format!("{profile} {own}"),
        ),
        (
            "rail, the same, smoothing 100, min 100, hold 300 ms".to_owned(),
            format!("{profile} {own} smoothing=100 min-duration=100 hold=300"),
        ),
    ] {
        let records = watch(&clip, &settings);
        line(&name, &records, facts.fps, &on_boxes(&records, &facts));
    }
}

/// On sequences that the model has not seen, and on what is normal.
fn colon(folder: &Path) {
    let pictures = normal_pictures();
    let (for_calibration, for_test): (Vec<_>, Vec<_>) =
        (0..).zip(&pictures).partition(|(n, _)| n % 2 == 0);
    let (pans, others) = (folder.join("pans.mkv"), folder.join("others.mkv"));
    for (part, path) in [(for_calibration, &pans), (for_test, &others)] {
        pan_over(
            &part
                .into_iter()
                .map(|(_, path)| path.as_path())
                .collect::<Vec<_>>(),
            path,
        );
    }
    let (by_sinus, by_pans) = (folder.join("sinus.toml"), folder.join("pans.toml"));
    let sinus = shared(&format!("data/video/{SINUS}")).unwrap();
    calibrate(&sinus, &by_sinus);
    calibrate(&pans, &by_pans);
    let facts = facts(COLON).unwrap();
    let clip = shared(&format!("data/video/{COLON}.mp4")).unwrap();
    let profile = format!("{} mode=sync", profile("colonoscopy"));
    let by = |path: &Path| {
        format!(
            "{profile} calibration={} threshold=-1 map-threshold=-1",
            path.display()
        )
    };
    for (name, settings) in [
        ("colon, profile", profile.clone()),
        (
            "colon, profile, calibrated on the sinus clip",
            by(&by_sinus),
        ),
        (
            "colon, profile, calibrated on pans (synthetic)",
            by(&by_pans),
        ),
    ] {
        let records = watch(&clip, &settings);
        line(name, &records, facts.fps, &in_sequences(&records, &facts));
    }
    let nothing = "nothing is there to be found";
    for (name, settings) in [
        ("other pans (synthetic), profile", profile.clone()),
        ("other pans (synthetic), calibrated on pans", by(&by_pans)),
    ] {
        line(
            name,
            &watch(&others, &settings),
            f64::from(PAN_FPS),
            nothing,
        );
    }
}

/// The property that names a profile of the project.
fn profile(name: &str) -> String {
    let path = root().join(format!("pipelines/{name}.toml"));
    format!("config={}", path.display())
}

/// Cuts the windows without a mark out of the other strip; their number.
fn normal_windows(folder: &Path) -> usize {
    std::fs::create_dir(folder).unwrap();
    let facts = facts(OTHER_RAIL).unwrap();
    let path = shared(&format!("data/video/{OTHER_RAIL}.jpg")).unwrap();
    let mut reader = image::ImageReader::open(path).unwrap();
    reader.no_limits();
    let strip = reader.decode().unwrap();
    let is_normal = |y: &u32| {
        let (from, to) = (f64::from(*y), f64::from(*y + WINDOW));
        !facts.boxes.iter().any(|marked| marked.is_in(from, to))
    };
    let last = facts.height.saturating_sub(WINDOW);
    let windows: Vec<_> = (0..=last)
        .step_by(APART as usize)
        .filter(is_normal)
        .collect();
    for y in &windows {
        let window = strip.crop_imm(0, *y, strip.width(), WINDOW);
        window.save(folder.join(format!("{y:06}.png"))).unwrap();
    }
    windows.len()
}

fn normal_pictures() -> Vec<PathBuf> {
    let folder = shared("data/colon_normal_patches/colon/test/good").unwrap();
    let mut pictures: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pictures.sort();
    pictures
}

/// Writes a clip without loss that moves slowly over one picture after the other.
fn pan_over(pictures: &[&Path], clip: &Path) {
    let line = format!(
        "appsrc name=source format=time caps=video/x-raw,format=RGB,width={PAN_SIDE},height={PAN_SIDE},framerate={PAN_FPS}/1 ! \
         videoconvert ! avenc_ffv1 ! matroskamux ! filesink location={:?}",
        clip.display().to_string()
    );
    let pipeline = pipeline(&line);
    let source = pipeline
        .by_name("source")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    let frame = gst::ClockTime::SECOND / PAN_FPS as u64;
    let pictures: Vec<_> = pictures
        .iter()
        .map(|path| image::open(path).unwrap())
        .collect();
    let pans = pictures
        .iter()
        .flat_map(|picture| (0..PAN_FRAMES).map(move |n| pan(picture, n)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (n, picture) in (0..).zip(pans) {
                let mut buffer = gst::Buffer::from_slice(picture.into_raw());
                let times = buffer.get_mut().unwrap();
                times.set_pts(frame * n);
                times.set_duration(frame);
                source.push_buffer(buffer).unwrap();
            }
            source.end_of_stream().unwrap();
        });
        run_to_end(&pipeline);
    });
}

/// The `n`th frame of a pan: from one corner towards the other, coming a little closer.
fn pan(picture: &DynamicImage, n: u32) -> RgbImage {
    let side = picture.width().min(picture.height());
    let seen = side * 3 / 4 - n * side / 128;
    let x = n * side / 64;
    let part = picture.crop_imm(x, x / 2, seen, seen).into_rgb8();
    imageops::resize(&part, PAN_SIDE, PAN_SIDE, imageops::FilterType::CatmullRom)
}

/// Runs `acdclip calibrate`.
fn calibrate(normal: &Path, output: &Path) {
    let tool =
        std::env::var_os("ACDCLIP").expect("ACDCLIP names the tool; make bench-alarms sets it");
    let status = Command::new(tool)
        .args(["calibrate", "--class", "object", "--normal"])
        .arg(normal)
        .arg("-o")
        .arg(output)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// What the element says of every frame of `clip`.
fn watch(clip: &Path, settings: &str) -> Vec<Record> {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("frames.jsonl");
    let line = format!(
        "filesrc location={:?} ! decodebin ! videoconvert ! acdclip overlay=0 jsonl-location={:?} {settings} ! fakesink",
        clip.display().to_string(),
        lines.display().to_string()
    );
    run_to_end(&pipeline(&line));
    let text = std::fs::read_to_string(lines).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The frames of each event.
fn events(records: &[Record]) -> BTreeMap<u64, Vec<&Record>> {
    let mut events = BTreeMap::<u64, Vec<&Record>>::new();
    for record in records {
        let regions = record.regions.iter().filter_map(|region| region.event_id);
        let ids: BTreeSet<u64> = regions.chain(record.event_id).collect();
        for id in ids {
            events.entry(id).or_default().push(record);
        }
    }
    events
}

fn line(name: &str, records: &[Record], fps: f64, found: &str) {
    let minutes = records.len() as f64 / fps / 60.0;
    let events = events(records).len();
    println!(
        "{name:<52}  {:>6}  {minutes:>7.2}  {events:>6}  {:>8.1}  {found}",
        records.len(),
        events as f64 / minutes
    );
}

/// How many events touch a mark, and how many marks an event touches.
fn on_boxes(records: &[Record], facts: &Facts) -> String {
    let events = events(records);
    let mut seen = BTreeSet::new();
    let mut on_a_box = 0;
    for (id, records) in &events {
        let touched: BTreeSet<_> = records
            .iter()
            .flat_map(|record| touched(*id, record, &facts.boxes))
            .collect();
        on_a_box += usize::from(!touched.is_empty());
        seen.extend(touched);
    }
    format!(
        "{on_a_box} of {} events on a box, {} of {} boxes",
        events.len(),
        seen.len(),
        facts.boxes.len()
    )
}

/// Numbers of the marks that the event's regions in one frame touch.
fn touched<'a>(
    id: u64,
    record: &'a Record,
    boxes: &'a [Marked],
) -> impl Iterator<Item = usize> + 'a {
    let top = (record.frame * u64::from(ADVANCE)) as f64;
    let regions = record
        .regions
        .iter()
        .filter(move |region| region.event_id == Some(id));
    regions.flat_map(move |region| {
        let rows = (
            top + f64::from(region.y),
            top + f64::from(region.y + region.h),
        );
        let columns = (f64::from(region.x), f64::from(region.x + region.w));
        let touches = move |marked: &Marked| {
            let [x, _, width, _] = marked.bbox;
            marked.is_in(rows.0, rows.1) && x < columns.1 && x + width > columns.0
        };
        (0..)
            .zip(boxes)
            .filter(move |(_, marked)| touches(marked))
            .map(|(n, _)| n)
    })
}

/// In how many of the sequences something was told of, and how often what is told changes from one frame to the next.
fn in_sequences(records: &[Record], facts: &Facts) -> String {
    let told = |record: &Record| record.anomalous || !record.regions.is_empty();
    let sequences = |all: bool| -> BTreeSet<u32> {
        let shown = records.iter().zip(&facts.frames);
        let shown = shown.filter(|(record, _)| all || told(record));
        shown.map(|(_, shown)| shown.sequence).collect()
    };
    let changes = records
        .windows(2)
        .filter(|two| told(&two[0]) != told(&two[1]));
    format!(
        "{} of {} sequences, {} of {} frames marked, on or off {} times",
        sequences(false).len(),
        sequences(true).len(),
        records.iter().filter(|record| told(record)).count(),
        records.len(),
        changes.count()
    )
}
