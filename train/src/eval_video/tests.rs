//! The command on clips through the real element: a clip whose truth is known by how it is made, and one of a colon where that is at hand.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clap::Parser;
use gst::prelude::*;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(data: &Path, more: &[&str]) -> Args {
    let own = ["eval-video", "--data", data.to_str().unwrap()];
    Cli::parse_from(own.iter().chain(more)).args
}

fn evaluated(args: &Args) -> (Results, Vec<Watched>) {
    let clips = clips::read_all(&args.data).unwrap();
    evaluate(args, clips, |_| Ok(())).unwrap()
}

/// A clip of a bright ball on black, which the built-in model takes for something that is not normal.
fn ball(path: &Path, frames: u32) {
    video::init().unwrap();
    let line = format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,width=64,height=48,framerate=25/1 ! jpegenc ! matroskamux ! filesink location={:?}",
        path.display().to_string()
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    video::run(&pipeline).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
}

fn index(folder: &Path, lines: &[&str]) -> PathBuf {
    let path = folder.join("clips.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// The score of each frame of the first clip.
fn scores(watched: &[Watched]) -> Vec<f32> {
    let frames = watched[0].frames.iter();
    frames
        .map(|frame| frame.record.as_ref().unwrap().score)
        .collect()
}

#[test]
fn a_clip_is_measured_in_its_part_and_at_its_times() {
    let folder = tempfile::tempdir().unwrap();
    ball(&folder.path().join("ball.mkv"), 9);
    let data = index(
        folder.path(),
        &[
            "{\"video\": \"ball.mkv\", \"fps\": 10, \"first_frame\": 2, \"last_frame\": 7, \
             \"lesions\": [{\"id\": \"all\", \"first_frame\": 4, \"last_frame\": 7, \"boxes\": [{\"frame\": 4, \"x\": 0, \"y\": 0, \"w\": 64, \"h\": 48}]}]}",
            "{\"video\": \"ball.mkv\", \"last_frame\": 1, \"normal\": true, \"synthetic\": true}",
        ],
    );
    let (results, watched) = evaluated(&args(
        &data,
        &["--set", "threshold=0", "--set", "map-threshold=0.01"],
    ));
    // Every frame is in alarm, from before the lesion comes: it is found by nothing that began in its time.
    let [first, second] = &results.clips[..] else {
        panic!("{} clips", results.clips.len())
    };
    let numbers: Vec<_> = watched[0].frames.iter().map(|frame| frame.number).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6, 7]);
    assert_eq!(watched[0].frames[1].time, 300_000_000);
    assert!(
        (first.minutes - 0.6 / 60.0).abs() < 1e-9,
        "{}",
        first.minutes
    );
    assert!(!first.lesions[0].found);
    assert_eq!(first.alerts[0].first_frame, 2);
    assert_eq!(first.alerts[0].lesions, ["all"]);
    let under = first.under_alert;
    assert_eq!((under.in_view, under.out_of_view), (Some(1.0), Some(1.0)));
    assert!(second.synthetic && second.alerts[0].lesions.is_empty());
    let totals = &results.totals;
    let real = totals.real.as_ref().unwrap();
    assert_eq!(
        (real.clips, real.lesions, real.found, real.false_alerts),
        (1, 1, 0, 0)
    );
    assert!(totals.synthetic.as_ref().unwrap().false_alerts >= 1);
    // With a threshold that is first reached in the lesion's time it is found when it is.
    let scores = scores(&watched);
    let [early, late] =
        [&scores[..2], &scores[2..]].map(|part| part.iter().copied().fold(0.0, f32::max));
    if late > early {
        let threshold = format!("threshold={}", (early + late) / 2.0);
        let (again, frames) = evaluated(&args(
            &data,
            &["--set", &threshold, "--set", "map-threshold=0.01"],
        ));
        let found = &again.clips[0].lesions[0];
        let at = frames[0]
            .frames
            .iter()
            .position(|frame| frame.record.as_ref().is_some_and(|record| record.anomalous));
        assert_eq!(
            found.time_to_first_alert_ms,
            Some((at.unwrap() as f64 - 2.0) * 100.0)
        );
    }
}

#[test]
fn a_curve_says_what_the_element_does_at_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    ball(&folder.path().join("ball.mkv"), 8);
    let data = index(
        folder.path(),
        &[
            "{\"video\": \"ball.mkv\", \"lesions\": [{\"id\": \"late\", \"first_frame\": 3, \"last_frame\": 7}]}",
        ],
    );
    let common = [
        "--set",
        "smoothing=60",
        "--set",
        "min-duration=40",
        "--set",
        "interval=2",
        "--set",
        "release-threshold=1",
    ];
    let (first, watched) = evaluated(&args(&data, &common));
    // Between the lowest and the highest score, where something changes.
    let mut sorted = scores(&watched);
    sorted.sort_by(f32::total_cmp);
    let thresholds = [[1, 2], [5, 6]].map(|[a, b]| ((sorted[a] + sorted[b]) / 2.0).to_string());
    assert_eq!(first.curves[0].points.len(), 19);
    let sweep = format!("threshold={}", thresholds.join(","));
    let with_sweep: Vec<_> = common.into_iter().chain(["--sweep", &sweep]).collect();
    let (swept, _) = evaluated(&args(&data, &with_sweep));
    for (value, point) in thresholds.iter().zip(&swept.curves[0].points) {
        let setting = format!("threshold={value}");
        let played: Vec<_> = common.into_iter().chain(["--set", &setting]).collect();
        let (played, _) = evaluated(&args(&data, &played));
        assert_eq!(&point.value, value);
        assert_eq!(point.totals, played.totals, "{setting}");
    }
    let shares: Vec<_> = swept.curves[0]
        .points
        .iter()
        .map(|point| point.totals.real.as_ref().unwrap().under_alert)
        .collect();
    assert_ne!(shares[0], shares[1], "the two settings do the same");
}

#[test]
fn settings_that_cannot_be_are_refused_before_anything_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let data = index(
        folder.path(),
        &["{\"video\": \"nowhere.mkv\", \"normal\": true}"],
    );
    let refused = |more: &[&str]| {
        let args = args(&data, more);
        let clips = clips::read_all(&args.data).unwrap();
        evaluate(&args, clips, |_| Ok(()))
            .err()
            .unwrap()
            .to_string()
    };
    for (more, part) in [
        (["--set", "treshold=0.5"], "treshold"),
        (["--set", "threshold=1.5"], "range"),
        (["--set", "threshold=high"], "gdouble"),
        (["--set", "stats=1"], "stats"),
        (["--set", "mode=latest"], "--live"),
        (["--sweep", "threshold=0.5,2"], "range"),
        (["--set", "threshold=0.5"], "nowhere.mkv"),
    ] {
        let error = refused(&more);
        assert!(
            error.contains(part),
            "{more:?}: {error:?} does not say {part:?}"
        );
    }
    assert!(
        "interval=1,2".parse::<Sweep>().is_err(),
        "the network has to see what that changes"
    );
}

#[test]
fn played_live_frames_do_not_wait_and_every_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    ball(&folder.path().join("ball.mkv"), 8);
    let data = index(
        folder.path(),
        &["{\"video\": \"ball.mkv\", \"normal\": true}"],
    );
    let (results, watched) = evaluated(&args(&data, &["--live"]));
    assert!(results.live && results.curves.is_empty());
    assert_eq!(watched[0].frames.len(), 8);
}

#[test]
fn a_page_shows_what_was_missed_and_what_was_falsely_told_and_asks_for_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    ball(&folder.path().join("ball.mkv"), 6);
    let data = index(
        folder.path(),
        &[
            "{\"video\": \"ball.mkv\", \"lesions\": [{\"id\": \"<late>\", \"first_frame\": 4, \"last_frame\": 5}]}",
            "{\"video\": \"ball.mkv\", \"synthetic\": true, \"normal\": true}",
        ],
    );
    let report = folder.path().join("report");
    let json = folder.path().join("numbers.json");
    let args = args(
        &data,
        &[
            "--set",
            "threshold=0",
            "--report",
            report.to_str().unwrap(),
            "--json",
            json.to_str().unwrap(),
        ],
    );
    run(&args).unwrap();
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("&lt;late&gt; missed") && page.contains("(synthetic)"));
    assert!(page.contains("Missed lesions") && page.matches("data:image/jpeg").count() >= 2);
    assert_eq!(page.matches("class=\"timeline\"").count(), 2);
    assert!(!page.contains("http") && !page.contains("<script"));
    let numbers: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(numbers["clips"][0]["lesions"][0]["found"], false);
    assert_eq!(numbers["real"]["sensitivity"], 0.0);
    assert!(
        numbers["synthetic"]["false_alerts_per_minute"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(numbers["curves"][0]["points"].as_array().unwrap().len(), 19);
    assert!(numbers["frame"]["auroc"].is_number() && numbers["pixel"]["auroc"].is_null());
}

/// What lies in the folder of test data, if that is there.
fn shared(path: &str) -> Option<PathBuf> {
    let base = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = base.join(path);
    if !path.exists() {
        println!(
            "skipped: {} is not there (set ACDCLIP_SHARED)",
            path.display()
        );
        return None;
    }
    Some(path)
}

#[test]
fn a_polyp_of_a_real_clip_is_found_where_its_mask_is() {
    let Some(clip) = shared("data/video/colonoscopy_cvc_clinicdb_seq02_05_07_13.mp4") else {
        return;
    };
    let Some(mask) = shared("data/cvc_clinicdb/colon/ground_truth/polyp/265_mask.png") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // Frame 87 is the set's frame 265.
    let line = format!(
        "{{\"video\": {:?}, \"first_frame\": 86, \"last_frame\": 88, \"lesions\": [{{\"id\": \"13\", \"first_frame\": 86, \"last_frame\": 88}}], \
         \"masks\": [{{\"frame\": 87, \"path\": {:?}}}]}}",
        clip.display().to_string(),
        mask.display().to_string()
    );
    let data = index(folder.path(), &[&line]);
    let (results, _) = evaluated(&args(&data, &["--set", "threshold=0.5"]));
    let lesion = &results.clips[0].lesions[0];
    assert!(
        lesion.found && lesion.time_to_first_alert_ms == Some(0.0),
        "{lesion:?}"
    );
    assert!(
        results.clips[0]
            .alerts
            .iter()
            .any(|alert| alert.lesions == ["13"])
    );
    let pixel = results.ranked.pixel;
    assert!(pixel.auroc.unwrap() > 0.9, "{pixel:?}");
    assert_eq!(results.ranked.frame.auroc, None, "nothing is normal");
}
