//! `acdclip calibrate` and what `acdclip score` makes of it, on the built-in model.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Ran, run};
use serde_json::Value;

const PICTURES: usize = 12;

/// A folder with a folder `good` of pictures in it, no two alike.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.0.path().join("good")).unwrap();
        for i in 0..PICTURES as u32 {
            let pixel = |x: u32, y: u32| {
                let texture = (x * (3 + i) + y * 5) % 40;
                let spot = if (x / 6, y / 6) == (i % 6, 3) {
                    i * 8
                } else {
                    0
                };
                image::Rgb([(90 + texture + spot) as u8; 3])
            };
            let path = place.0.path().join(format!("good/{i:02}.png"));
            image::RgbImage::from_fn(40, 40, pixel).save(path).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn pictures(&self) -> Vec<String> {
        (0..PICTURES)
            .map(|i| self.path(&format!("good/{i:02}.png")))
            .collect()
    }

    /// A line for each picture.
    fn scores(&self, more: &[&str]) -> Vec<Value> {
        let pictures = self.pictures();
        let mut arguments = vec!["score", "--json"];
        arguments.extend(more);
        arguments.extend(pictures.iter().map(String::as_str));
        let ran = run(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()
    }
}

fn number(value: &Value, key: &str) -> f64 {
    value[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

fn done(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json().remove(0)
}

#[test]
fn pictures_calibrated_on_are_normal_on_the_calibrated_scale() {
    let place = Place::new();
    let output = place.path("c.toml");
    let calibrated = done(&run([
        "calibrate",
        "--normal",
        &place.path("good"),
        "--quantile",
        "0.9",
        "-o",
        &output,
        "--json",
    ]));
    let rows = calibrated["calibration"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let raw = place.scores(&[]);
    let scores = place.scores(&["--calibration", &output]);
    let (mut alarms, mut reaching) = (0, 0);
    for (raw, score) in raw.iter().zip(&scores) {
        assert_eq!(
            (&raw["calibrated"], &score["calibrated"]),
            (&Value::Bool(false), &Value::Bool(true))
        );
        for key in ["raw_score", "class_score", "map_max"] {
            assert_eq!(raw[key], score[key], "{key}");
        }
        assert_eq!(raw["score"], raw["raw_score"]);
        let alarm = number(score, "raw_score") >= number(&rows[0], "threshold");
        assert_eq!(score["anomalous"], alarm);
        alarms += usize::from(alarm);
        reaching += usize::from(number(score, "score") > 0.1 - 1e-6);
        let marked = number(score, "map_max") >= number(&rows[1], "threshold");
        assert_eq!(!score["regions"].as_array().unwrap().is_empty(), marked);
    }
    // A tenth of twelve is one.
    assert_eq!(alarms, 1);
    assert_eq!(number(&rows[0], "events_calibrated"), 1.0);
    assert_eq!(reaching, PICTURES / 2);
    let counted = |key: &str| raw.iter().filter(|line| number(line, key) >= 0.5).count() as f64;
    assert_eq!(
        number(&rows[0], "events_uncalibrated"),
        counted("raw_score")
    );
    assert_eq!(number(&rows[1], "events_uncalibrated"), counted("map_max"));
}

#[test]
fn too_few_pictures_are_said_and_stay_quiet() {
    let place = Place::new();
    let output = place.path("c.toml");
    let ran = run(["calibrate", "--normal", &place.path("good"), "-o", &output]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let warning = ran.err.strip_suffix('\n').unwrap();
    assert!(
        warning.starts_with("acdclip: warning: 12 normal frames") && warning.contains("100"),
        "{warning}"
    );
    assert!(ran.out.contains(&output), "{ran:?}");
    assert!(
        fs::read_to_string(&output)
            .unwrap()
            .contains("extrapolated = true")
    );
    let scores = place.scores(&["--calibration", &output]);
    assert!(scores.iter().all(|score| score["anomalous"] == false));
}

#[test]
fn a_bundle_takes_its_calibration_along_and_stays_the_same_model() {
    let place = Place::new();
    let bundle = place.path("calibrated.safetensors");
    let good = place.path("good");
    let classes = ["--class", "object", "--class", "object"];
    let calibrate = |more: &[&str]| {
        let arguments = ["calibrate", "--normal", &good, "--write-bundle", &bundle];
        let ran = run(arguments.iter().chain(&classes).chain(more));
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    calibrate(&[]);
    let info = |model: &[&str]| done(&run(["info", "--json", "--verify"].iter().chain(model)));
    let (own, before) = (info(&[&bundle]), info(&[]));
    assert_eq!(own["hash"], before["hash"]);
    assert!(before["calibration"].is_null());
    assert_eq!(own["calibration"]["model"], own["hash"]);
    let model = ["--model", bundle.as_str()];
    assert!(
        place
            .scores(&model)
            .iter()
            .all(|score| score["calibrated"] == true)
    );
    // Into the file that it is read from, with another outcome.
    calibrate(&[&model[..], &["--quantile", "0.5"]].concat());
    let after = info(&[&bundle]);
    assert_eq!(after["hash"], own["hash"]);
    assert_ne!(after["calibration"], own["calibration"]);
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 2);
}

#[test]
fn a_calibration_of_another_model_is_refused() {
    let place = Place::new();
    let output = place.path("c.toml");
    done(&run([
        "calibrate",
        "--normal",
        &place.path("good"),
        "-o",
        &output,
        "--json",
    ]));
    let text = fs::read_to_string(&output).unwrap();
    let own = text.lines().find(|line| line.starts_with("model")).unwrap();
    let other = "ab".repeat(32);
    fs::write(&output, text.replace(own, &format!("model = \"{other}\""))).unwrap();
    let ran = run([
        "score",
        &place.path("good/00.png"),
        "--calibration",
        &output,
    ]);
    let complaint = ran.complaint();
    let own = own.split('"').nth(1).unwrap();
    for named in [output.as_str(), &other, own] {
        assert!(complaint.contains(named), "{complaint}");
    }
}

#[test]
fn wrong_usage_is_2() {
    for usage in [
        &["calibrate", "-o", "c.toml"][..],
        &["calibrate", "--normal", "a.png"],
        &[
            "calibrate",
            "--normal",
            "a.png",
            "-o",
            "c.toml",
            "--quantile",
            "1",
        ],
        &[
            "calibrate",
            "--normal",
            "a.png",
            "-o",
            "c.toml",
            "--quantile",
            "nan",
        ],
        &[
            "calibrate",
            "--normal",
            "a.mp4",
            "-o",
            "c.toml",
            "--false-alarms-per-hour",
            "0",
        ],
        &[
            "calibrate",
            "--normal",
            "a.mp4",
            "-o",
            "c.toml",
            "--false-alarms-per-hour",
            "inf",
        ],
        &[
            "calibrate",
            "--normal",
            "a.mp4",
            "-o",
            "c.toml",
            "--false-alarms-per-hour",
            "1",
            "--quantile",
            "0.9",
        ],
    ] {
        assert_eq!(run(usage).code, Some(2), "{usage:?}");
    }
}

#[test]
fn what_cannot_be_calibrated_on_is_named_and_nothing_is_written() {
    let place = Place::new();
    let text = place.path("notes.txt");
    fs::write(&text, "neither picture nor video\n").unwrap();
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let broken = place.path("broken.png");
    let bytes = fs::read(place.path("good/00.png")).unwrap();
    fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let picture = place.path("good/00.png");
    let output = place.path("c.toml");
    let cases: [(&[&str], &str); 6] = [
        (&["nowhere.mp4"], "nowhere.mp4"),
        (&[&text], "notes.txt"),
        (&[&empty], "empty"),
        (&[&picture, &broken], "broken.png"),
        (&[&picture, "--class", "teapot"], "teapot"),
        (&[&picture, "--false-alarms-per-hour", "1"], "--quantile"),
    ];
    for (arguments, named) in cases {
        let ran = run(["calibrate", "-o", &output, "--normal"]
            .iter()
            .chain(arguments));
        assert!(ran.complaint().contains(named), "{ran:?}");
        assert!(ran.out.is_empty() && !Path::new(&output).exists());
    }
}

/// A little video of a ball that moves before a still ground.
fn video(place: &Place, frames: usize) -> Option<PathBuf> {
    let path = PathBuf::from(place.path("ball.avi"));
    let line = format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,width=64,height=48,framerate=10/1 \
         ! jpegenc ! avimux ! filesink location={}",
        path.display()
    );
    let made = Command::new("gst-launch-1.0")
        .arg("-q")
        .args(line.split_whitespace())
        .status();
    if made.is_ok_and(|status| status.success()) {
        return Some(path);
    }
    println!("skipped: gst-launch-1.0 with jpegenc and avimux is not there to make a video");
    None
}

/// Calibrates on a video, with `more` arguments.
#[cfg(feature = "video")]
fn calibrate(place: &Place, video: &Path, more: &[&str]) -> Ran {
    let output = place.path("c.toml");
    let arguments = ["calibrate", "--json", "-o", &output, "--normal"];
    let video = [video.to_str().unwrap()];
    run(arguments.iter().chain(&video).chain(more))
}

#[cfg(feature = "video")]
#[test]
fn a_short_video_is_calibrated_beyond_what_it_shows() {
    let place = Place::new();
    let Some(video) = video(&place, 20) else {
        return;
    };
    let calibrate = |more: &[&str]| {
        let ran = calibrate(&place, &video, more);
        (
            done(&ran)["calibration"].as_array().unwrap().clone(),
            ran.err,
        )
    };
    let (rows, warning) = calibrate(&[]);
    assert!(
        warning.contains("2.0 s") && warning.contains("1.0 h"),
        "{warning}"
    );
    for row in &rows {
        assert_eq!(number(row, "frames"), 20.0);
        assert!((number(row, "hours") * 3600.0 - 2.0).abs() < 0.01, "{row}");
        assert_eq!(number(row, "events_calibrated"), 0.0);
        assert!(number(row, "threshold") > number(row, "normal"));
    }
    // The ball is abnormal to the built-in model from beginning to end: one event, not twenty.
    assert_eq!(number(&rows[1], "events_uncalibrated"), 1.0);
    let (tenth, warning) = calibrate(&["--quantile", "0.9", "--interval", "2"]);
    assert_eq!(warning, "");
    for (row, hourly) in tenth.iter().zip(&rows) {
        assert_eq!(number(row, "frames"), 10.0);
        assert!(number(row, "events_calibrated") <= 1.0, "{row}");
        let below = number(row, "threshold") < number(hourly, "threshold");
        assert!(below, "a tenth may alarm: {row} beside {hourly}");
    }
}

#[cfg(feature = "video")]
#[test]
fn a_video_is_calibrated_on_as_it_will_be_looked_at() {
    let place = Place::new();
    let Some(video) = video(&place, 10) else {
        return;
    };
    let calibrate = |more: &[&str]| {
        let more: Vec<_> = ["--quantile", "0.9"].iter().chain(more).copied().collect();
        calibrate(&place, &video, &more)
    };
    let highest = |more: &[&str]| {
        let rows = done(&calibrate(more))["calibration"].clone();
        number(&rows[1], "threshold")
    };
    // The ball keeps away from the corner.
    let corner = highest(&["--set", "roi=0,0,8,8", "--set", "smoothing=100"]);
    assert!(corner < highest(&[]), "{corner}");
    for (setting, wanted) in [
        ("interval=2", "calibrate sets this itself"),
        ("roy=0,0,8,8", "wanted a property of the element"),
        ("tile-size=many", "wanted a value of type"),
    ] {
        let ran = calibrate(&["--set", setting]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(wanted), "{}", ran.err);
    }
    let ran = calibrate(&["--threads", "100000"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("range"), "{}", ran.err);
    let picture = &place.pictures()[0];
    let ran = calibrate(&["--set", "roi=0,0,8,8", "--normal", picture]);
    assert!(ran.err.contains("found the picture"), "{}", ran.err);
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_scored() {
    let place = Place::new();
    // What is scored first would be complained about first.
    let picture = place.path("broken.png");
    fs::write(&picture, b"no picture").unwrap();
    let folder = place.path("good");
    for option in ["--output", "--write-bundle"] {
        for (path, wanted) in [
            (place.path("nowhere/x.toml"), "found no"),
            (folder.clone(), "found a directory"),
        ] {
            let ran = run(["calibrate", "--normal", &picture, option, &path]);
            assert!(ran.complaint().contains(wanted), "{ran:?}");
        }
    }
}

#[cfg(feature = "video")]
#[test]
fn normal_endoscopy_raises_no_alarm_once_it_is_calibrated_on() {
    let Some(clip) = common::shared("data/video/endoscopy_sinus_normal_35f.mp4") else {
        return;
    };
    let place = Place::new();
    let calibrated = done(&run([
        "calibrate",
        "--json",
        "--normal",
        clip.to_str().unwrap(),
        "-o",
        &place.path("c.toml"),
    ]));
    for row in calibrated["calibration"].as_array().unwrap() {
        println!("{row}");
        assert_eq!(number(row, "frames"), 35.0);
        assert_eq!(number(row, "events_calibrated"), 0.0);
    }
}

#[cfg(not(feature = "video"))]
#[test]
fn without_the_feature_video_a_video_is_refused_by_name() {
    let place = Place::new();
    let Some(video) = video(&place, 2) else {
        return;
    };
    let ran = run([
        "calibrate",
        "-o",
        &place.path("c.toml"),
        "--normal",
        video.to_str().unwrap(),
    ]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains("ball.avi") && complaint.contains("feature `video`"),
        "{complaint}"
    );
}
