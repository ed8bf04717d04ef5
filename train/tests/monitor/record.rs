//! What is recorded: clips that play, as they came where they came encoded; nothing without `--record`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use gst::prelude::*;
use serde_json::{Value, json};

use crate::{
    common::acdclip,
    running::{LONG, Monitor, agent},
    server,
};

const CAPS: &str = "video/x-raw,width=160,height=120,framerate=10/1";

/// A profile with which everything is abnormal.
pub(crate) fn alarm(folder: &Path) -> PathBuf {
    profile(folder, "0.0")
}

/// A profile with that threshold of the score.
fn profile(folder: &Path, threshold: &str) -> PathBuf {
    let path = folder.join("profile.toml");
    // What is raised is over at the first score below the threshold of then.
    let text = format!(
        "[acdclip]\nthreshold = {threshold}\nrelease-threshold = 1.0\nmap-threshold = 1.0\nmax-age = 60000\n"
    );
    fs::write(&path, text).unwrap();
    path
}

/// Whether no event goes on.
fn are_over(state: &Value) -> bool {
    let events = state["events"].as_array().unwrap();
    events.iter().all(|event| !event["end"].is_null())
}

/// The journal's lines.
fn journal(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The clips of a folder.
fn clips(folder: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut clips: Vec<_> = names
        .filter(|path| path.extension().is_some_and(|kind| kind == "mkv"))
        .collect();
    clips.sort();
    clips
}

/// The kind of video in a clip, and how many frames of it can be decoded.
fn play(clip: &Path) -> (String, u64) {
    gst::init().unwrap();
    let text = "filesrc name=source ! matroskademux ! tee name=encoded ! decodebin ! fakesink name=sink sync=false";
    let pipeline = gst::parse::launch(text)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    pipeline
        .by_name("source")
        .unwrap()
        .set_property("location", clip);
    let sink = pipeline.by_name("sink").unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let wait = gst::ClockTime::from_seconds(LONG.as_secs());
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(wait, &kinds)
        .unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    let caps = pipeline
        .by_name("encoded")
        .unwrap()
        .static_pad("sink")
        .unwrap()
        .current_caps()
        .unwrap();
    let frames = sink
        .property::<gst::Structure>("stats")
        .get::<u64>("rendered")
        .unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    (caps.structure(0).unwrap().name().to_string(), frames)
}

/// Records a source to its end; the clips, and the journal's lines.
fn record(source: &str, folder: &Path) -> (Vec<PathBuf>, Vec<Value>) {
    let profile = alarm(folder);
    let clips_folder = folder.join("clips");
    let options = [
        "--profile",
        profile.to_str().unwrap(),
        "--record",
        clips_folder.to_str().unwrap(),
    ];
    let (status, complaints) = Monitor::start(&options, source).wait();
    assert!(status.success(), "{complaints}");
    (clips(&clips_folder), journal(&clips_folder))
}

#[test]
fn what_comes_encoded_is_recorded_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "videotestsrc is-live=true num-buffers=30 ! {CAPS} ! x264enc tune=zerolatency key-int-max=5 ! h264parse"
    );
    let (clips, lines) = record(&source, folder.path());
    let [clip] = &clips[..] else {
        panic!("{clips:?}")
    };
    assert_eq!(play(clip), ("video/x-h264".into(), 30));
    assert_eq!(fs::metadata(clip).unwrap().permissions().mode() & 0o077, 0);
    let [event] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(
        event["clips"],
        json!([clip.file_name().unwrap().to_str().unwrap()])
    );
    assert!(
        event["end_pts"].as_u64() > event["begin_pts"].as_u64(),
        "{event}"
    );
    let left = fs::read_dir(folder.path().join("clips")).unwrap().count();
    assert_eq!(left, 2, "nothing half-written");

    let jpeg = tempfile::tempdir().unwrap();
    let source = format!("videotestsrc is-live=true num-buffers=20 ! {CAPS} ! jpegenc");
    let (clips, _) = record(&source, jpeg.path());
    assert_eq!(play(&clips[0]), ("image/jpeg".into(), 20));
}

#[test]
fn what_comes_raw_is_encoded_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("videotestsrc is-live=true num-buffers=20 ! {CAPS}");
    let (clips, lines) = record(&source, folder.path());
    let (kind, frames) = play(&clips[0]);
    assert_eq!(kind, "video/x-h264");
    assert!((15..=20).contains(&frames), "{frames}");
    assert_eq!(lines.len(), 1);
}

#[test]
fn what_is_seen_again_is_not_recorded_again() {
    let folder = tempfile::tempdir().unwrap();
    let profile = alarm(folder.path());
    let film = server::film(folder.path());
    let clips_folder = folder.path().join("clips");
    let options = [
        "--stay",
        "--profile",
        profile.to_str().unwrap(),
        "--record",
        clips_folder.to_str().unwrap(),
    ];
    let monitor = Monitor::start(&options, film.to_str().unwrap());
    // At its end the clip is whole, though the monitor goes on.
    let is_over = |state: &Value| state["status"]["phase"] == "ended";
    monitor.wait_for("end of the film", is_over);
    monitor.wait_for("clip", |state| !state["events"][0]["clip"].is_null());
    let [clip] = &clips(&clips_folder)[..] else {
        panic!("one clip")
    };
    assert_eq!(play(clip), ("image/jpeg".into(), 60));

    jump(&monitor, &json!(1));
    monitor.wait_for("film again", |state| !is_over(state));
    monitor.wait_for("end of the film", is_over);
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success(), "{complaints}");
    assert_eq!(clips(&clips_folder).len(), 1);
    let [event] = &journal(&clips_folder)[..] else {
        panic!("one event")
    };
    assert!(
        event["end_pts"].as_u64() > event["begin_pts"].as_u64(),
        "{event}"
    );
}

/// Has the stream go on from before an event.
fn jump(monitor: &Monitor, id: &Value) {
    let jumped = agent().post(format!("{}/api/events/{id}/jump", monitor.url));
    assert_eq!(jumped.send_empty().unwrap().status(), 204);
}

#[test]
fn a_clip_of_raw_video_is_right_after_a_jump() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile(folder.path(), "1.0");
    let film = server::film_of(folder.path(), 60, "");
    let clips_folder = folder.path().join("clips");
    let options = [
        "--profile",
        profile.to_str().unwrap(),
        "--record",
        clips_folder.to_str().unwrap(),
    ];
    let monitor = Monitor::start(&options, film.to_str().unwrap());
    monitor.wait_for("four seconds of it", |state| {
        let points = state["points"].as_array().unwrap();
        let at = |point: Option<&Value>| point.and_then(|point| point["at"].as_u64());
        at(points.last()) > at(points.first()).map(|first| first + 4000)
    });
    monitor.set(&json!({"threshold": 0.0}));
    let state = monitor.wait_for("event", |state| {
        state["status"]["seekable"] == true && !state["events"][0].is_null()
    });
    let event = &state["events"][0];
    jump(&monitor, &event["id"]);
    monitor.wait_for("event after the jump", |after| {
        let mut events = after["events"].as_array().unwrap().iter();
        events.any(|open| open["end"].is_null() && open["begin"] != event["begin"])
    });
    monitor.set(&json!({"threshold": 1.0}));
    monitor.wait_for("end of the events", are_over);
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success(), "{complaints}");

    // It begins with the event or a little before, but not before what the jump went to.
    let lines = journal(&clips_folder);
    let after = lines.last().unwrap();
    let begin = after["begin_pts"].as_f64().unwrap() / 1e9;
    let first = begin - after["offset"].as_f64().unwrap();
    let target = event["stream_seconds"].as_f64().unwrap() - 2.0;
    assert!(
        target - 0.1 < first && first <= begin,
        "{first} s, after a jump to {target} s: {lines:?}"
    );
}

#[test]
fn what_a_jump_cuts_short_is_recorded_when_it_is_seen_again() {
    let folder = tempfile::tempdir().unwrap();
    let profile = alarm(folder.path());
    let film = server::film_of(folder.path(), 60, "! jpegenc");
    let clips_folder = folder.path().join("clips");
    let options = [
        "--profile",
        profile.to_str().unwrap(),
        "--record",
        clips_folder.to_str().unwrap(),
    ];
    let monitor = Monitor::start(&options, film.to_str().unwrap());
    let state = monitor.wait_for("event in a file", |state| {
        state["status"]["seekable"] == true && !state["events"][0].is_null()
    });
    let cut = &state["events"][0];
    jump(&monitor, &cut["id"]);
    let state = monitor.wait_for("event again", |state| {
        let event = &state["events"][0];
        event["end"].is_null() && event["begin"] != cut["begin"]
    });
    assert_eq!(state["events"].as_array().unwrap().len(), 1, "{state}");
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(status.success(), "{complaints}");

    let lines = journal(&clips_folder);
    let [first, second] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        second["begin_pts"].as_u64() < first["end_pts"].as_u64(),
        "{lines:?}"
    );
    for clip in &clips(&clips_folder) {
        assert_eq!(play(clip).0, "image/jpeg");
    }
}

#[test]
fn a_full_disk_is_told_and_the_picture_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let profile = alarm(folder.path());
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // A disk of its own, which nobody else sees and which is gone with the command.
    let mount = "mount -t tmpfs -o size=256k none \"$0\" && exec \"$@\"";
    let unshare = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]);
        command.arg(&disk).args(words);
        command
    };
    let can = unshare(&["true".as_ref()]).output();
    if !can.is_ok_and(|ran| ran.status.success()) {
        println!(
            "skipped: this system lets nobody mount a small disk for a test (unshare --user --mount)"
        );
        return;
    }
    let command = unshare(&[acdclip().get_program()]);
    let options = [
        "--picture",
        "mjpeg",
        "--profile",
        profile.to_str().unwrap(),
        "--record",
        disk.to_str().unwrap(),
    ];
    let source = "videotestsrc is-live=true pattern=snow num-buffers=3000 ! video/x-raw,width=320,height=240,framerate=10/1 ! jpegenc";
    let monitor = Monitor::start_by(command, &options, source);
    let state = monitor.wait_for("warning", |state| !state["status"]["warning"].is_null());
    let warning = state["status"]["warning"].as_str().unwrap().to_owned();
    assert!(
        warning.starts_with("--record") && warning.contains("space"),
        "{warning}"
    );
    let frames = state["stats"]["frames"].as_u64();
    monitor.wait_for("further frames", |state| {
        state["status"]["phase"] == "live"
            && state["stats"]["frames"].as_u64() > frames.map(|n| n + 10)
    });
    monitor.interrupt();
    let (status, complaints) = monitor.wait();
    assert!(
        status.success() && complaints.contains(&warning),
        "{complaints}"
    );
}

#[test]
fn without_it_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let profile = alarm(folder.path());
    let written = folder.path().join("frames.jsonl");
    let text = fs::read_to_string(&profile).unwrap() + &format!("jsonl-location = {written:?}\n");
    fs::write(&profile, text).unwrap();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    let source = format!("videotestsrc is-live=true num-buffers=300 ! {CAPS} ! jpegenc");
    let monitor = Monitor::start_in(&work, &["--profile", profile.to_str().unwrap()], &source);
    monitor.wait_for("event with a picture", |state| {
        state["events"][0]["picture"].as_u64() > Some(0)
    });
    monitor.interrupt();
    assert!(monitor.wait().0.success());
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    assert!(!written.exists());
}
