//! Properties and profiles: what a wrong one leads to, and which one wins.

use acdclip_model::precision::Packing;

use super::*;

/// What the element complains of when it is started.
pub(crate) fn complaint(properties: &[(&str, &str)]) -> (gst::glib::Error, String) {
    let element = element(properties);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(
        element.set_state(gst::State::Paused).is_err(),
        "{properties:?} was accepted"
    );
    let message = bus
        .pop_filtered(&[gst::MessageType::Error])
        .expect("no error message");
    element.set_state(gst::State::Null).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    (error.error(), error.error().to_string())
}

#[test]
fn a_missing_model_is_named_with_what_to_do() {
    let (error, text) = complaint(&[("model", "/nonexistent/model.safetensors")]);
    assert!(error.matches(gst::ResourceError::NotFound));
    assert!(
        text.contains("/nonexistent/model.safetensors") && text.contains("acdclip import"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"certainly not weights").unwrap();
    let path = file.path().to_str().unwrap();
    let (_, text) = complaint(&[("model", path)]);
    assert!(text.contains(path), "{text}");
}

#[test]
fn a_device_that_does_not_exist_lists_those_that_do() {
    let (error, text) = complaint(&[("device", "nonsense")]);
    assert!(error.matches(gst::LibraryError::Settings));
    assert!(
        text.contains("nonsense") && text.contains("auto, cpu, cuda"),
        "{text}"
    );
    assert!(!text.contains("acdclip import"), "{text}");
}

#[test]
fn an_arithmetic_that_does_not_exist_lists_those_that_do() {
    let (error, text) = complaint(&[("precision", "int4")]);
    assert!(error.matches(gst::LibraryError::Settings));
    assert!(text.contains("auto, f32, bf16 or int8"), "{text}");
}

/// The score of a picture in an arithmetic, and what the statistics call that.
fn scored_in(precision: &str) -> (f64, String) {
    let caps = caps("GRAY8", 64, 64);
    let mut bench = Bench::new(&[("precision", precision), ("device", "cpu")], &caps);
    let score = score(&bench.pass(picture("ball", &caps, 0)));
    let stats: gst::Structure = bench.element.property("stats");
    (score, stats.get("precision").unwrap())
}

#[test]
fn the_threads_that_are_asked_for_are_those_that_the_network_has() {
    let caps = caps("GRAY8", 64, 64);
    let mut bench = Bench::new(&[("threads", "3"), ("device", "cpu")], &caps);
    let scored = score(&bench.pass(picture("ball", &caps, 0)));
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = threads.filter_map(|task| name(task.unwrap()));
    let of_net = names.filter(|name| name.starts_with("acdclip:net"));
    assert_eq!(of_net.count(), 3);
    assert_eq!(scored, scored_in("auto").0);
}

#[test]
fn rounded_arithmetic_is_said_and_scores_nearly_the_same() {
    let ((float, named), (rounded, int8)) = (scored_in("auto"), scored_in("int8"));
    assert_eq!((named.as_str(), int8.as_str()), ("f32", "int8"));
    assert!(
        float != rounded && (float - rounded).abs() < 0.05,
        "{float} {rounded}"
    );
}

#[test]
fn bf16_is_for_a_cpu_that_multiplies_it() {
    if !Packing::Bf16.is_available() {
        let (error, text) = complaint(&[("precision", "bf16"), ("device", "cpu")]);
        assert!(error.matches(gst::LibraryError::Settings));
        assert!(text.contains("does not multiply bf16"), "{text}");
        return;
    }
    let ((float, _), (rounded, named)) = (scored_in("f32"), scored_in("bf16"));
    assert_eq!(named, "bf16");
    assert!(
        float != rounded && (float - rounded).abs() < 0.01,
        "{float} {rounded}"
    );
}

#[test]
fn an_unknown_class_lists_the_known_ones() {
    let (error, text) = complaint(&[("class-name", "teapot of doom")]);
    assert!(error.matches(gst::LibraryError::Settings));
    assert!(
        text.contains("teapot of doom") && text.contains("it has: "),
        "{text}"
    );
    assert!(!text.contains("acdclip import"), "{text}");
}

#[test]
fn a_class_that_cannot_be_had_while_playing_leaves_the_old_one() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[], &caps);
    let before = score(&bench.pass(picture("ball", &caps, 0)));
    bench.element.set_property("class-name", "teapot of doom");
    let after = bench.pass(picture("ball", &caps, 1));
    let warning = bench
        .bus
        .pop_filtered(&[gst::MessageType::Warning])
        .expect("no warning");
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    assert!(warning.error().to_string().contains("teapot of doom"));
    assert_eq!(bench.element.property::<String>("class-name"), "");
    assert_eq!(score(&after), before);
    bench.pass(picture("ball", &caps, 2));
    assert!(
        bench
            .bus
            .pop_filtered(&[gst::MessageType::Warning])
            .is_none(),
        "warned twice"
    );
}

#[test]
fn lines_that_cannot_be_written_are_an_error_at_start() {
    let (error, text) = complaint(&[("jsonl-location", "/nonexistent/frames.jsonl")]);
    assert!(error.matches(gst::ResourceError::OpenWrite));
    assert!(text.contains("/nonexistent/frames.jsonl"), "{text}");
}

#[test]
fn a_full_disk_is_complained_of_once_and_the_video_goes_on() {
    let full = std::path::Path::new("/dev/full");
    if !full.exists() {
        println!("skipped: this system has no /dev/full");
        return;
    }
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(
        &[("jsonl-location", "/dev/full"), ("interval", "100")],
        &caps,
    );
    for n in 0..3 {
        bench.pass(picture("black", &caps, n));
    }
    bench.harness.push_event(gst::event::Eos::new());
    let kinds = [gst::MessageType::Error, gst::MessageType::Warning];
    let complaints: Vec<_> = std::iter::from_fn(|| bench.bus.pop_filtered(&kinds)).collect();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    let gst::MessageView::Warning(warning) = complaints[0].view() else {
        panic!("{complaints:?}")
    };
    assert!(warning.error().matches(gst::ResourceError::Write));
    assert!(warning.error().to_string().contains("/dev/full"));
}

#[test]
fn frames_between_carry_the_last_result_with_its_age() {
    let caps = caps("GRAY8", 64, 48);
    let mut bench = Bench::new(&[("interval", "3")], &caps);
    let mut ages = Vec::new();
    let mut scores = Vec::new();
    for n in 0..5 {
        let pattern = if n < 3 { "ball" } else { "black" };
        let output = bench.pass(picture(pattern, &caps, n));
        ages.push(record(&output).get::<u64>("age").unwrap() / 1_000_000);
        scores.push(score(&output));
    }
    assert_eq!(ages, [0, 40, 80, 0, 40]);
    assert!(scores[..3].iter().all(|s| *s == scores[0]));
    assert!(scores[3] < scores[0] && scores[4] == scores[3]);
    let stats: gst::Structure = bench.element.property("stats");
    assert_eq!(stats.get::<u64>("scored").unwrap(), 2);
    assert_eq!(stats.get::<u64>("frames").unwrap(), 5);
}

#[test]
fn without_times_age_counts_durations() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[("interval", "3")], &caps);
    let ages = [0, 1, 2].map(|n| {
        let mut buffer = picture("black", &caps, n);
        buffer.make_mut().set_pts(gst::ClockTime::NONE);
        record(&bench.pass(buffer)).get::<u64>("age").unwrap() / 1_000_000
    });
    assert_eq!(ages, [0, 40, 80]);
}

#[test]
fn a_property_beats_the_profile_and_the_profile_the_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let profile =
        "[acdclip]\nthreshold = 0.9\nmap-threshold = 0.25\noverlay = \"\"\nmin-area = 7\n";
    std::fs::write(file.path(), profile).unwrap();
    let caps = caps("GRAY8", 32, 32);
    let config = file.path().to_str().unwrap();
    let mut bench = Bench::new(&[("config", config), ("threshold", "0.125")], &caps);
    let output = bench.pass(picture("black", &caps, 0));
    assert_eq!(record(&output).get::<f64>("threshold").unwrap(), 0.125);
    assert_eq!(bench.element.property::<f64>("map-threshold"), 0.25);
    assert_eq!(bench.element.property::<u64>("min-area"), 7);
    assert_eq!(bench.element.property::<u32>("interval"), 1);
    let overlay = bench.element.property_value("overlay");
    assert_eq!(overlay.serialize().unwrap(), "0");
}

#[test]
fn a_wrong_profile_says_where() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[acdclip]\ntreshold = 0.9\n").unwrap();
    let path = file.path().to_str().unwrap();
    let (error, text) = complaint(&[("config", path)]);
    assert!(error.matches(gst::ResourceError::Settings));
    assert!(
        text.contains(path) && text.contains("treshold") && text.contains("map-threshold"),
        "{text}"
    );
}

#[test]
fn a_profile_that_is_not_there_or_has_no_table_is_said_in_one_line() {
    let (error, text) = complaint(&[("config", "/nonexistent/line-1.toml")]);
    assert!(error.matches(gst::ResourceError::NotFound));
    assert!(
        text.contains("/nonexistent/line-1.toml") && text.contains("[acdclip]"),
        "{text}"
    );
    let empty = tempfile::NamedTempFile::new().unwrap();
    let (error, text) = complaint(&[("config", empty.path().to_str().unwrap())]);
    assert!(error.matches(gst::ResourceError::Settings));
    assert!(text.contains("found no table [acdclip]"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn thresholds_can_be_changed_while_playing() {
    let caps = caps("GRAY8", 64, 48);
    let mut bench = Bench::new(
        &[
            ("interval", "100"),
            ("threshold", "1"),
            ("map-threshold", "0.5"),
        ],
        &caps,
    );
    let at = |buffer: &gst::Buffer| {
        let record = record(buffer);
        let regions = record.get::<gst::Array>("regions").unwrap().len();
        (record.get::<bool>("anomalous").unwrap(), regions)
    };
    let first = bench.pass(picture("ball", &caps, 0));
    assert!(!at(&first).0 && at(&first).1 > 0);
    bench.element.set_property("threshold", 0.1);
    bench.element.set_property("map-threshold", 1.0);
    bench.element.set_property("map-release-threshold", 1.0);
    let second = bench.pass(picture("ball", &caps, 1));
    assert_eq!(at(&second), (true, 0));
    assert_eq!(bench.told_types(), ["event-begin"]);
}
