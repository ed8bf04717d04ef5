//! `acdclip eval-strip` on the built-in model: what is found of what is annotated, against what `acdclip scan` reports of the same strip.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{Ran, acdclip};
use image::GrayImage;
use serde_json::{Value, json};

const WIDTH: u32 = 160;
const LINES: u32 = 1500;

/// Lines from one blot to the next, and of the first one's middle.
const EVERY: u32 = 250;
const FIRST: u32 = 120;

/// A worn surface with six blots.
fn strip() -> GrayImage {
    GrayImage::from_fn(WIDTH, LINES, |x, y| {
        let texture = (x * 7 + y * 3) % 11 + (x * y) % 5;
        let along = (y % EVERY) as f32 - FIRST as f32;
        let blot = ((x as f32 - 80.0) / 14.0).hypot(along / 9.0) < 1.0;
        let grey = if blot { 12 } else { 120 };
        image::Luma([(grey + texture) as u8])
    })
}

/// The box of blot `i`.
fn blot(i: u32) -> [u32; 4] {
    [66, i * EVERY + FIRST - 9, 28, 18]
}

/// A folder with a strip, its index and a folder for what is not kept in it.
struct Place(tempfile::TempDir);

impl Place {
    /// `boxes` are what is annotated.
    fn new(boxes: &[Value]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("tmp")).unwrap();
        strip().save(place.path("strip.png")).unwrap();
        let index = json!({ "strip": "strip.png", "boxes": boxes, "note": "of no matter" });
        fs::write(place.path("index.json"), index.to_string()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = acdclip();
        command
            .args(["eval-strip", "--data"])
            .arg(self.path("index.json"))
            .arg("--json")
            .arg(self.path("out.json"))
            .args(more)
            .env("TMPDIR", self.path("tmp"));
        command
    }

    fn measure(&self, more: &[&str]) -> Ran {
        let ran: Ran = self.command(more).output().unwrap().into();
        assert_eq!(files(&self.path("tmp")), [""; 0], "{ran:?}");
        ran
    }

    /// Of a measurement that went well.
    fn numbers(&self, more: &[&str]) -> (Ran, Vec<Value>) {
        let ran = self.measure(more);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let text = fs::read(self.path("out.json")).unwrap();
        (ran, serde_json::from_slice(&text).unwrap())
    }

    /// Boxes of the defects that `acdclip scan` reports of a strip.
    fn reported(&self, strip: &str, options: &[&str]) -> Vec<[u64; 4]> {
        let report = self.path("tmp").join("report");
        let mut command = acdclip();
        command
            .arg("scan")
            .arg(self.path(strip))
            .arg("-o")
            .arg(&report)
            .args(options);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let text = fs::read_to_string(report.join("defects.jsonl")).unwrap();
        fs::remove_dir_all(report).unwrap();
        let number = |defect: &Value, key: &str| defect[key].as_u64().unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|defect: Value| ["x", "line", "w", "h"].map(|key| number(&defect, key)))
            .collect()
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether a defect's box and another one have a pixel in common.
fn touches(defect: &[u64; 4], other: [u32; 4]) -> bool {
    let [x, y, w, h] = other.map(u64::from);
    defect[0] < x + w && x < defect[0] + defect[2] && defect[1] < y + h && y < defect[1] + defect[3]
}

#[test]
fn flaws_are_found_or_missed_and_the_rest_is_false_or_known() {
    let spall = |i| json!({ "bbox": blot(i), "category": "spall" });
    let clean = [10, 225, 20, 15];
    let crack = json!({ "bbox": clean, "category": "crack" });
    let joint = json!({ "bbox": blot(3), "category": "joint", "defect": false });
    let place = Place::new(&[spall(0), spall(1), spall(2), crack, joint]);
    let options = ["--map-threshold", "0.4"];
    let reported = place.reported("strip.png", &options);
    let (ran, trials) = place.numbers(&options);
    let all = &trials[0]["all"];
    assert_eq!(trials.len(), 1);
    assert_eq!(trials[0]["setting"], Value::Null);
    assert_eq!(all["lines"], LINES);
    assert_eq!(all["defects"], reported.len());
    // Blots are as dark as nothing else on the strip: each is found, and those that nobody has annotated are false.
    assert_eq!((&all["flaws"], &all["found"]), (&json!(4), &json!(3)));
    let flaws = [blot(0), blot(1), blot(2), clean];
    let beside = reported
        .iter()
        .filter(|defect| !flaws.iter().any(|flaw| touches(defect, *flaw)));
    let (at_joint, wrong): (Vec<&[u64; 4]>, Vec<&[u64; 4]>) =
        beside.partition(|defect| touches(defect, blot(3)));
    assert_eq!(all["at_no_flaw"], at_joint.len());
    assert_eq!(all["false"], wrong.len());
    assert!(!at_joint.is_empty() && wrong.len() >= 2, "{reported:?}");
    let rate = all["false_per_1000_lines"].as_f64().unwrap();
    assert!((rate - wrong.len() as f64 / 1.5).abs() < 1e-3, "{rate}");
    assert_eq!(
        all["categories"],
        json!({ "crack": { "flaws": 1, "found": 0 }, "spall": { "flaws": 3, "found": 3 } })
    );
    let missed = trials[0]["strips"][0]["missed"].as_array().unwrap();
    let missed: Vec<_> = missed.iter().map(|mark| &mark["category"]).collect();
    assert_eq!(missed, ["crack"]);
    for line in ["crack: 0 of 1 found", "spall: 3 of 3 found"] {
        assert!(ran.out.lines().any(|found| found == line), "{}", ran.out);
    }
    assert_eq!(
        files(place.0.path()),
        ["index.json", "out.json", "strip.png", "tmp"]
    );
}

#[test]
fn each_strip_has_its_own_defects() {
    let place = Place::new(&[]);
    let start = image::imageops::crop_imm(&strip(), 0, 0, WIDTH, 600).to_image();
    start.save(place.path("start.png")).unwrap();
    let of = |strip: &str, i| json!({ "strip": strip, "boxes": [{ "bbox": blot(i) }] });
    let index = format!("{}\n{}\n", of("start.png", 0), of("strip.png", 5));
    fs::write(place.path("index.json"), index).unwrap();
    let options = ["--map-threshold", "0.4"];
    let reported = ["start.png", "strip.png"].map(|name| place.reported(name, &options).len());
    let (ran, trials) = place.numbers(&options);
    let counts =
        |tally: &Value| ["lines", "defects", "flaws", "found"].map(|key| tally[key].clone());
    let [first, second] = reported;
    assert!(first < second, "{reported:?}");
    let wanted = |lines: u32, defects: usize, flaws: u32| {
        [json!(lines), json!(defects), json!(flaws), json!(flaws)]
    };
    assert_eq!(counts(&trials[0]["strips"][0]), wanted(600, first, 1));
    assert_eq!(counts(&trials[0]["strips"][1]), wanted(LINES, second, 1));
    assert_eq!(
        counts(&trials[0]["all"]),
        wanted(600 + LINES, first + second, 2)
    );
    let names = ["start.png", "strip.png", "all"];
    let rows = ran.out.lines().skip(1).zip(names);
    assert!(
        rows.clone().count() == 3 && rows.clone().all(|(row, name)| row.ends_with(name)),
        "{}",
        ran.out
    );
}

#[test]
fn each_value_of_a_sweep_is_what_a_scan_with_it_finds() {
    let place = Place::new(&[json!({ "bbox": blot(0) })]);
    let (ran, trials) = place.numbers(&["--sweep", "map-threshold=0.4, 0.999"]);
    let settings: Vec<_> = trials.iter().map(|trial| &trial["setting"]).collect();
    assert_eq!(settings, ["map-threshold=0.4", "map-threshold=0.999"]);
    let of = |trial: usize, key: &str| trials[trial]["all"][key].as_u64();
    let reported = place.reported("strip.png", &["--map-threshold", "0.4"]);
    assert_eq!(of(0, "defects"), Some(reported.len() as u64));
    assert_eq!((of(0, "found"), of(1, "found")), (Some(1), Some(0)));
    assert_eq!((of(1, "defects"), of(1, "false")), (Some(0), Some(0)));
    assert_eq!(ran.out.lines().count(), 3, "{}", ran.out);
    // Columns in which there is no blot.
    let (_, trials) = place.numbers(&[
        "--map-threshold",
        "0.4",
        "--sweep",
        "roi=0,0,160,1;0,0,30,1",
    ]);
    let found = [0, 1].map(|trial: usize| trials[trial]["all"]["found"].clone());
    assert_eq!(found, [json!(1), json!(0)]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    use std::io::{BufRead, BufReader};

    let place = Place::new(&[]);
    let values: Vec<_> = (0..200).map(|i| format!("0.{}", 400 + i)).collect();
    let sweep = format!("map-threshold={}", values.join(","));
    let mut command = place.command(&["--sweep", &sweep]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..2 {
        out.read_line(&mut line).unwrap();
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let ran = child.wait_with_output().unwrap();
    reader.join().unwrap().unwrap();
    let error = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(130), "{error}");
    assert!(error.contains("nothing was written"), "{error}");
    assert_eq!(files(&place.path("tmp")), [""; 0]);
    assert!(!place.path("out.json").exists());
}

#[test]
fn what_cannot_be_measured_says_why_and_writes_nothing() {
    let place = Place::new(&[]);
    let twice = r#"{"strip": "strip.png", "boxes": []} {"strip": "strip.png", "boxes": []}"#;
    let wrong_indexes = [
        (r#"{"strip": "gone.png", "boxes": []}"#, "gone.png"),
        (r#"{"strip": "strip.png"}"#, "missing field `boxes`"),
        (
            r#"{"strip": "strip.png", "boxes": [{"bbox": [1, 2, 0, 4]}]}"#,
            "columns and lines",
        ),
        (
            r#"{"strip": "strip.png", "boxes": [{"bbox": [1, 2]}]}"#,
            "invalid length 2",
        ),
        ("not JSON", "expected"),
        ("", "found none"),
        (twice, "strip.png twice"),
    ];
    for (index, named) in wrong_indexes {
        fs::write(place.path("index.json"), index).unwrap();
        let ran = place.measure(&[]);
        assert_eq!(ran.code, Some(1), "{index}: {ran:?}");
        assert!(ran.complaint().contains(named), "{index}: {}", ran.err);
    }
    for (sweep, named) in [
        ("map-treshold=0.5", "map-threshold"),
        ("threshold=0.5", "map-threshold"),
        ("map-threshold=", "found none"),
        ("map-threshold", "NAME=VALUE"),
        ("map-threshold=high", "high"),
        ("domain=medicl", "`medical`"),
        ("precision=bf16", "one model"),
    ] {
        let ran = place.measure(&["--sweep", sweep]);
        assert_eq!(ran.code, Some(2), "{sweep}: {ran:?}");
        assert!(ran.err.contains(named), "{sweep}: {}", ran.err);
    }
    fs::write(
        place.path("index.json"),
        r#"{"strip": "strip.png", "boxes": []}"#,
    )
    .unwrap();
    let ran = place.measure(&["--sweep", "map-threshold=0.5,7"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.complaint().contains("found 7"), "{}", ran.err);
    assert_eq!(files(place.0.path()), ["index.json", "strip.png", "tmp"]);
}
