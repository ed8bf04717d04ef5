//! Buffers, events and queries on their way through.

use super::*;

#[test]
fn the_end_of_the_stream_ends_the_open_event_first() {
    let caps = caps("GRAY8", 64, 48);
    let mut bench = Bench::new(&[], &caps);
    bench.pass(picture("ball", &caps, 0));
    assert_eq!(bench.told_types(), ["event-begin"]);
    assert!(bench.harness.push_event(gst::event::Eos::new()));
    let told = bench.told();
    let types: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["event-peak", "event-end"]);
    for (_, structure) in told {
        assert_eq!(structure.get::<u64>("event-id").unwrap(), 1);
        assert_eq!(structure.get::<u64>("pts").unwrap(), 0);
    }
}

#[test]
fn a_flush_ends_the_open_event_and_forgets_the_last_result() {
    let caps = caps("GRAY8", 64, 48);
    let mut bench = Bench::new(&[("interval", "100")], &caps);
    bench.pass(picture("ball", &caps, 0));
    assert_eq!(bench.told_types(), ["event-begin"]);
    assert!(bench.harness.push_event(gst::event::FlushStart::new()));
    assert!(bench.harness.push_event(gst::event::FlushStop::new(true)));
    assert_eq!(bench.told_types(), ["event-peak", "event-end"]);
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(bench.harness.push_event(gst::event::Segment::new(&segment)));
    let after = bench.pass(picture("black", &caps, 0));
    assert!(score(&after) < 0.5, "the black frame was not scored");
    assert!(
        bench.told().is_empty(),
        "an event from before the flush was heard of after it"
    );
}

#[test]
fn what_comes_before_the_moment_that_was_gone_to_is_not_judged() {
    let caps = caps("GRAY8", 64, 48);
    for mode in ["sync", "latest"] {
        let mut bench = Bench::new(&[("mode", mode), ("interval", "100")], &caps);
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_mseconds(80));
        segment.set_stop(gst::ClockTime::from_mseconds(160));
        assert!(bench.harness.push_event(gst::event::Segment::new(&segment)));
        let passed = [0, 1, 2, 3, 4, 5].map(|n| bench.pass(picture("ball", &caps, n)));
        let before = picture("ball", &caps, 1);
        assert_eq!(bytes(&passed[1]), bytes(&before), "{mode}");
        for n in [0, 1, 4, 5] {
            let told = gst::meta::CustomMeta::from_buffer(&passed[n], "AcdClipMeta");
            assert!(told.is_err(), "frame {n} is not shown");
        }
        assert_eq!(bench.stat("skipped-outside"), 4, "{mode}");
        assert!(bench.harness.push_event(gst::event::Eos::new()));
        let begins = bench
            .told()
            .into_iter()
            .find(|(kind, _)| kind == "event-begin");
        let (_, begin) = begins.expect("the ball is abnormal");
        assert_eq!(begin.get::<u64>("pts").unwrap(), 80_000_000, "{mode}");
    }
}

#[test]
fn late_buffers_are_not_dropped_and_upstream_hears_of_them() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[("qos", "true"), ("interval", "100")], &caps);
    let late = gst::event::Qos::builder(gst::QOSType::Underflow, 0.1, 10_000_000_000)
        .timestamp(gst::ClockTime::from_seconds(5))
        .build();
    assert!(bench.harness.push_upstream_event(late));
    let upstream = std::iter::from_fn(|| bench.harness.try_pull_upstream_event());
    assert!(
        upstream
            .into_iter()
            .any(|event| event.type_() == gst::EventType::Qos)
    );
    for n in 0..4 {
        bench.harness.push(picture("black", &caps, n)).unwrap();
    }
    assert_eq!(bench.harness.buffers_received(), 4);
}

#[test]
fn times_order_and_count_stay() {
    let caps = caps("NV12", 48, 32);
    let mut bench = Bench::new(&[("interval", "4")], &caps);
    for n in 0..6 {
        let mut input = picture("ball", &caps, n);
        let header = input.make_mut();
        header.set_offset(100 + n);
        if n == 3 {
            header.set_pts(gst::ClockTime::NONE);
            header.set_duration(gst::ClockTime::NONE);
        }
        let wanted = (input.pts(), input.dts(), input.duration(), input.offset());
        let output = bench.pass(input);
        assert_eq!(
            (
                output.pts(),
                output.dts(),
                output.duration(),
                output.offset()
            ),
            wanted
        );
    }
    assert_eq!(bench.harness.buffers_in_queue(), 0);
}

#[test]
fn memory_stays_shared_with_other_branches() {
    let caps = caps("RGB", 64, 48);
    let mut bench = Bench::new(&[("overlay", "heatmap+contour+box")], &caps);
    // As after a tee: somebody else holds the same buffer.
    let normal = picture("black", &caps, 0);
    let branch = normal.clone();
    let output = bench.pass(normal);
    assert_eq!(address(&output), address(&branch));
    assert!(
        gst::meta::CustomMeta::from_buffer(&branch, "AcdClipMeta").is_err(),
        "the other branch was written on"
    );

    let abnormal = picture("ball", &caps, 1);
    let branch = abnormal.clone();
    let before = bytes(&branch);
    let output = bench.pass(abnormal);
    assert_eq!(bytes(&branch), before, "the other branch was drawn on");
    assert_ne!(bytes(&output), before);
}

#[test]
fn a_normal_frame_keeps_its_pixels_under_the_overlay() {
    let caps = caps("I420", 64, 48);
    let mut bench = Bench::new(&[("overlay", "heatmap+contour+box")], &caps);
    let input = picture("black", &caps, 0);
    let before = bytes(&input);
    assert_eq!(bytes(&bench.pass(input)), before);
}

#[test]
fn latency_is_upstreams_and_what_scoring_costs() {
    let caps = caps("GRAY8", 32, 32);
    let mut bench = Bench::new(&[], &caps);
    let upstream = gst::ClockTime::from_mseconds(70);
    bench.harness.set_upstream_latency(upstream);
    bench.pass(picture("black", &caps, 0));
    let told = bench.harness.query_latency().unwrap();
    assert!(told > upstream, "{told}");
}

#[test]
fn it_can_be_stopped_and_started_again_and_again() {
    init();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=1 ! video/x-raw,width=32,height=32 ! acdclip name=scorer ! fakesink",
    )
    .unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    for round in 0..4 {
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus
            .timed_pop_filtered(gst::ClockTime::from_seconds(120), &end)
            .unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "round {round}");
        let stats: gst::Structure = pipeline.by_name("scorer").unwrap().property("stats");
        assert_eq!(stats.get::<u64>("frames").unwrap(), 1, "round {round}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
