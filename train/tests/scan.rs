//! `acdclip scan` on the built-in model: the same defects however a strip comes, and however often the scan was stopped.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{Ran, acdclip, run};
use image::GrayImage;
use serde_json::Value;

const WIDTH: u32 = 160;
const LINES: u32 = 1500;

/// Rows of a frame, and those of them that the frame before does not have.
const FRAME: u32 = 300;
const ADVANCE: u32 = 200;

/// Of a row of tiles that is looked at as in [`OPTIONS`], its answers are kept in some more than a KiB.
const A_ROW: u64 = 1000;

const OPTIONS: [&str; 6] = [
    "--map-threshold",
    "0.4",
    "--line-pitch-mm",
    "0.5",
    "--auto-mask",
    "none",
];

/// A worn surface with a blot every few hundred lines.
fn strip() -> GrayImage {
    GrayImage::from_fn(WIDTH, LINES, |x, y| {
        let texture = (x * 7 + y * 3) % 11 + (x * y) % 5;
        let (across, along) = (
            x as f32 - 60.0 - (y / 250 * 10) as f32,
            (y % 250) as f32 - 120.0,
        );
        let blot = (across / 14.0).hypot(along / 9.0) < 1.0;
        let grey = if blot { 12 } else { 120 };
        image::Luma([(grey + texture) as u8])
    })
}

/// A folder with `strip.pgm` in it, and reports.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        strip().save(place.path("strip.pgm")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, strip: &str, report: &str, more: &[&str]) -> Command {
        let mut command = acdclip();
        command
            .arg("scan")
            .arg(self.path(strip))
            .arg("-o")
            .arg(self.path(report))
            .args(OPTIONS)
            .args(more);
        command
    }

    fn scan(&self, strip: &str, report: &str, more: &[&str]) -> Ran {
        self.command(strip, report, more).output().unwrap().into()
    }

    /// The defects of a report, without what is of the strip's file.
    fn defects(&self, report: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(report).join("defects.jsonl")).unwrap();
        let lines = text.lines().map(|line| {
            let mut defect: Value = serde_json::from_str(line).unwrap();
            defect.as_object_mut().unwrap().remove("source");
            defect
        });
        lines.collect()
    }
}

/// Every file of a report but those that say how far it is.
fn files(report: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [report.to_owned(), report.join("crops")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(report).unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn assert_same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in a {
        assert!(*bytes == b[name], "{}", name.display());
    }
}

/// Runs until the answers of so many more rows of tiles are kept, or to its end; says whether it is still at work.
fn wait_for_rows(child: &mut Child, report: &Path, rows: u64) -> bool {
    let answers = report.join("state/answers");
    let len = || fs::metadata(&answers).map_or(0, |metadata| metadata.len());
    let (before, start) = (len(), Instant::now());
    while len() < before + rows * A_ROW {
        assert!(start.elapsed() < Duration::from_secs(120));
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn a_scan_that_was_killed_again_and_again_ends_as_one_that_was_not() {
    let place = Place::new();
    let ran = place.scan("strip.pgm", "whole", &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(place.defects("whole").len() >= 4, "{ran:?}");
    let mut kills = 0;
    loop {
        let mut child = place
            .command("strip.pgm", "killed", &[])
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if !wait_for_rows(&mut child, &place.path("killed"), 1) {
            assert!(child.wait().unwrap().success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 3, "{kills}");
    assert_same(&files(&place.path("killed")), &files(&place.path("whole")));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_scan_that_the_same_command_goes_on_with() {
    let place = Place::new();
    let mut child = place
        .command("strip.pgm", "report", &[])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_for_rows(&mut child, &place.path("report"), 2));
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.err.contains("go on with the same command"), "{ran:?}");
    assert!(!place.path("report/index.html").exists());
    let other = place.scan("strip.pgm", "report", &["--min-area", "7"]);
    let complaint = other.complaint();
    assert!(complaint.contains("min-area was 0, now it is 7") && complaint.contains("--fresh"));
    assert_eq!(place.scan("strip.pgm", "report", &[]).code, Some(0));
    assert!(place.path("report/index.html").exists());
    // Once more it has nothing to look at, and says the same.
    let before = files(&place.path("report"));
    assert_eq!(place.scan("strip.pgm", "report", &[]).code, Some(0));
    assert_same(&files(&place.path("report")), &before);
    strip().save(place.path("strip.pgm")).unwrap();
    let changed = place.scan("strip.pgm", "report", &[]);
    assert!(changed.complaint().contains("strip.pgm has changed since"));
}

/// Cuts the strip into frames that overlap, in a folder.
fn cut(place: &Place) {
    fs::create_dir(place.path("frames")).unwrap();
    for (number, top) in (0..=LINES - FRAME).step_by(ADVANCE as usize).enumerate() {
        let frame = image::imageops::crop_imm(&strip(), 0, top, WIDTH, FRAME).to_image();
        let name = format!("frames/{number:03}.png");
        frame.save(place.path(&name)).unwrap();
    }
}

/// Fails the test if `strip` has other defects than `strip.pgm`.
fn assert_same_defects(place: &Place, strip: &str) {
    let advance = ADVANCE.to_string();
    for (strip, report, more) in [
        ("strip.pgm", "one", &[][..]),
        (strip, "cut", &["--line-advance", &advance]),
    ] {
        let ran = place.scan(strip, report, more);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert!(!place.defects("one").is_empty());
    assert_eq!(place.defects("one"), place.defects("cut"));
}

#[test]
fn a_strip_has_the_same_defects_in_frames_that_overlap() {
    let place = Place::new();
    cut(&place);
    assert_same_defects(&place, "frames");
}

#[cfg(feature = "video")]
#[test]
fn a_strip_has_the_same_defects_in_a_video() {
    use gst::prelude::*;
    gst::init().unwrap();
    let place = Place::new();
    cut(&place);
    let line = format!(
        "multifilesrc location={}/%03d.png caps=image/png,framerate=10/1 ! pngdec ! videoconvert \
         ! video/x-raw,format=GRAY8 ! matroskamux ! filesink location={}",
        place.path("frames").display(),
        place.path("strip.mkv").display()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(None, &kinds);
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_same_defects(&place, "strip.mkv");
}

#[test]
fn several_strips_have_one_report_and_their_own_lines() {
    let place = Place::new();
    let short = image::imageops::crop_imm(&strip(), 0, 0, WIDTH, 500).to_image();
    for name in ["a.png", "b.png"] {
        short.save(place.path(name)).unwrap();
    }
    let ran = place.scan("a.png", "report", &[place.path("b.png").to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut defects = place.defects("report");
    let second = defects.split_off(defects.len() / 2);
    assert!(!defects.is_empty());
    for (a, b) in defects.iter().zip(&second) {
        assert_eq!(a["line"], b["line"]);
        assert_ne!(a["id"], b["id"]);
    }
}

#[test]
fn a_profile_says_how_and_the_command_line_wins() {
    let place = Place::new();
    let profile = place.path("line.toml");
    let text = "[acdclip]\nmap-threshold = 0.99\nroi = \"20,0,120,1\"\noverlay = \"box\"\nmin-area = 1000000";
    fs::write(&profile, text).unwrap();
    let profile = profile.to_str().unwrap();
    let ran = place.scan("strip.pgm", "none", &["--profile", profile]);
    assert!(ran.out.starts_with("0 defects in 1500 lines"), "{ran:?}");
    let more = ["--profile", profile, "--min-area", "0"];
    let ran = place.scan("strip.pgm", "some", &more);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let defects = place.defects("some");
    let inside = |defect: &Value| defect["x"].as_u64() >= Some(20);
    assert!(
        !defects.is_empty() && defects.iter().all(inside),
        "{defects:?}"
    );
}

#[test]
fn what_is_no_strip_is_an_error_that_names_it() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("cut.pgm"), "P5 160 1500 255\n").unwrap();
    for (strip, wanted) in [
        ("empty", "a folder of pictures"),
        ("nowhere.png", "nowhere.png"),
    ] {
        let ran = run(["scan", place.path(strip).to_str().unwrap(), "-o"]
            .into_iter()
            .map(str::to_owned)
            .chain([place.path("report").display().to_string()]));
        assert!(ran.complaint().contains(wanted), "{ran:?}");
    }
    let ran = place.scan("cut.pgm", "report", &[]);
    assert!(ran.err.contains("cannot read those from 0 on"), "{ran:?}");
    let ran = place.scan(
        "strip.pgm",
        "tiles",
        &["--tile-size", "9", "--tile-overlap", "8"],
    );
    assert!(ran.err.contains("set a smaller tile-overlap"), "{ran:?}");
}
