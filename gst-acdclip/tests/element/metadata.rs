//! What was found, as it reaches others: JSON lines, metas, messages.

use acdclip_model::record::Record;

use super::*;

#[test]
fn json_lines_are_records_and_agree_with_the_meta() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames.jsonl");
    std::fs::write(&path, "left over from before\n").unwrap();
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[("jsonl-location", path.to_str().unwrap())], &caps);
    let metas = [("black", 0), ("ball", 1), ("ball", 2)].map(|(pattern, n)| {
        let output = bench.pass(picture(pattern, &caps, n));
        record(&output)
    });
    assert!(bench.harness.push_event(gst::event::Eos::new()));
    let text = std::fs::read_to_string(&path).unwrap();
    let records: Vec<Record> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records.len(), metas.len());
    for (n, (record, meta)) in records.iter().zip(&metas).enumerate() {
        assert_eq!(record.frame, n as u64);
        assert_eq!(record.pts, Some(40_000_000 * n as u64));
        assert_eq!((record.width, record.height), (64, 48));
        assert_eq!(f64::from(record.score), meta.get::<f64>("score").unwrap());
        assert_eq!(
            record.regions.len(),
            meta.get::<gst::Array>("regions").unwrap().len()
        );
        assert_eq!(record.event_id, meta.get::<u64>("event-id").ok());
        assert_eq!(record.event_id, (n > 0).then_some(1));
        assert_eq!(record.model, meta.get::<String>("model").unwrap());
        assert!(record.latency_us > 0 && !record.model.is_empty());
    }
}

#[test]
fn each_json_line_is_whole_in_the_file_before_its_frame_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames.jsonl");
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[("jsonl-location", path.to_str().unwrap())], &caps);
    for n in 0..3 {
        bench.pass(picture("black", &caps, n));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        assert_eq!(text.lines().count() as u64, n + 1);
    }
}

/// Every key that `schema` requires is in `found`, and none that it does not know.
fn check_keys(found: &serde_json::Value, schema: &serde_json::Value) {
    let found = found.as_object().unwrap();
    for key in schema["required"].as_array().unwrap() {
        let key = key.as_str().unwrap();
        assert!(found.contains_key(key), "{key} is missing in {found:?}");
    }
    for key in found.keys() {
        let known = schema["properties"].get(key).is_some();
        assert!(known, "the schema does not know {key}");
    }
}

#[test]
fn json_lines_have_the_keys_of_the_published_schema() {
    let schema = include_str!("../../../model/schema/record-1.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames.jsonl");
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[("jsonl-location", path.to_str().unwrap())], &caps);
    for (n, pattern) in [(0, "black"), (1, "ball")] {
        bench.pass(picture(pattern, &caps, n));
    }
    let mut regions = 0;
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let record = serde_json::from_str(line).unwrap();
        check_keys(&record, &schema);
        for region in record["regions"].as_array().unwrap() {
            check_keys(region, &schema["$defs"]["region"]);
            regions += 1;
        }
    }
    assert!(regions > 0, "no region was checked");
}

#[test]
fn metas_survive_conversion_and_scaling_and_regions_scale() {
    init();
    let mut bench = Bench::new(&[], &caps("RGB", 64, 48));
    let output = bench.pass(picture("ball", &caps("RGB", 64, 48), 0));
    let rois = |buffer: &gst::Buffer| -> Vec<(u32, u32, u32, u32)> {
        buffer
            .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
            .filter(|roi| roi.roi_type() == "anomaly")
            .map(|roi| roi.rect())
            .collect()
    };
    let before = rois(&output);
    assert!(!before.is_empty());
    assert_eq!(
        before.len(),
        record(&output).get::<gst::Array>("regions").unwrap().len()
    );

    let mut chain = Harness::new_parse(
        "videoconvert ! capsfilter caps=video/x-raw,format=I420 ! videoscale ! capsfilter caps=video/x-raw,width=128,height=96",
    );
    chain.set_src_caps(caps("RGB", 64, 48).parse().unwrap());
    chain.play();
    let scaled = chain.push_and_pull(output.clone()).unwrap();
    assert_eq!(
        record(&scaled).get::<u32>("width").unwrap(),
        64,
        "the record speaks of the frame that was measured"
    );
    assert_eq!(score(&scaled), score(&output));
    let doubled: Vec<_> = before
        .iter()
        .map(|(x, y, w, h)| (2 * x, 2 * y, 2 * w, 2 * h))
        .collect();
    assert_eq!(rois(&scaled), doubled);
}

#[test]
fn a_region_says_its_score_and_area() {
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[], &caps);
    let output = bench.pass(picture("ball", &caps, 0));
    let roi = output
        .meta::<gst_video::VideoRegionOfInterestMeta>()
        .unwrap();
    let parameters = roi.param("acdclip").unwrap();
    let (x, y, w, h) = roi.rect();
    assert!(x + w <= 64 && y + h <= 48);
    let area = parameters.get::<u64>("area").unwrap();
    assert!(area > 0 && area <= u64::from(w * h));
    assert!((0.5..=1.0).contains(&parameters.get::<f64>("score").unwrap()));
    let centre = parameters.get::<f64>("centroid-x").unwrap();
    assert!((f64::from(x)..=f64::from(x + w)).contains(&centre));
}

#[test]
fn messages_are_as_many_as_asked_for() {
    let caps = caps("GRAY8", 64, 48);
    for (messages, wanted) in [
        ("none", vec![]),
        ("events", vec!["event-begin", "event-peak", "event-end"]),
        (
            "all",
            vec!["event-begin", "frame", "event-peak", "event-end", "frame"],
        ),
    ] {
        let mut bench = Bench::new(&[("messages", messages)], &caps);
        bench.pass(picture("ball", &caps, 0));
        bench.pass(picture("black", &caps, 1));
        assert_eq!(bench.told_types(), wanted, "messages={messages}");
    }
}

#[test]
fn an_events_begin_says_all_of_its_frame() {
    let caps = caps("GRAY8", 64, 48);
    let mut bench = Bench::new(&[], &caps);
    let output = bench.pass(picture("ball", &caps, 0));
    let (_, begin) = bench.told().remove(0);
    for (name, value) in record(&output).iter() {
        // Arrays cannot be compared in this version of GStreamer's structures, the map is on the buffer alone; the rest must be the same.
        if name != "regions" && name != "map" {
            assert_eq!(
                format!("{:?}", begin.value(name).unwrap()),
                format!("{value:?}"),
                "{name}"
            );
        }
    }
    assert!(begin.has_field("regions") && !begin.has_field("map"));
}

#[test]
fn statistics_name_the_model_and_the_device() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[("device", "cpu")], &caps);
    let output = bench.pass(picture("ball", &caps, 0));
    let stats: gst::Structure = bench.element.property("stats");
    assert_eq!(stats.get::<String>("device").unwrap(), "cpu");
    #[cfg(target_os = "linux")]
    {
        let memory = |name| stats.get::<u64>(name).unwrap();
        // The model alone, as floats.
        assert!(memory("device-memory-used") > 40 << 20);
        assert!(memory("device-memory-total") > memory("device-memory-used"));
    }
    assert_eq!(
        stats.get::<String>("model").unwrap(),
        record(&output).get::<String>("model").unwrap()
    );
    assert_eq!(stats.get::<u64>("scored").unwrap(), 1);
    assert_eq!(
        stats.get::<u64>("last-latency-us").unwrap(),
        record(&output).get::<u64>("latency-us").unwrap()
    );
}
