//! Live sources and rough treatment, for minutes, and what they cost in memory.
//!
//! `make test-all` runs it; `cargo test` alone names it as ignored.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../gst-acdclip/tests/element/tiny.rs"]
mod tiny;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{init, live, rounds, sample};
use gst::prelude::*;
use tiny::Tiny;

const MEGABYTE: u64 = 1 << 20;

/// They measure the process that they share, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps every processor busy while `f` runs.
fn busy<T>(f: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = f();
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn tell(name: &str, live: &live::Live) {
    let ms = |durations: &[Duration], share| live::quantile(durations, share).as_secs_f64() * 1e3;
    println!(
        "{name}: {} frames, {} dropped by the sink, passage p50 {:.2} ms, p99 {:.2} ms, longest {:.1} ms; \
         age p50 {:.0} ms, oldest {:.0} ms; {} without a result; memory {} -> {} MB",
        live.left,
        live.dropped,
        ms(&live.passages, 0.5),
        ms(&live.passages, 0.99),
        ms(&live.passages, 1.0),
        ms(&live.ages, 0.5),
        ms(&live.ages, 1.0),
        live.bare,
        live.memory[0] / MEGABYTE,
        live.memory[1] / MEGABYTE,
    );
}

#[test]
#[ignore = "takes minutes; make test-all runs it"]
fn live_sources_on_busy_processors_lose_nothing_for_minutes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    init();
    let clip = format!(
        "filesrc location={:?} ! decodebin ! videoconvert ! identity sync=true",
        sample().display().to_string()
    );
    let minute = Duration::from_secs(60);
    let hd = "format=NV12,width=1280,height=720";
    for (name, source, properties, time) in [
        ("30 fps", live::camera(30, hd), "max-age=10000", 2 * minute),
        ("60 fps", live::camera(60, hd), "max-age=10000", 2 * minute),
        // A file is no live source: that it keeps the clock is known to the user alone.
        ("file", clip, "max-age=10000 mode=latest", minute / 5),
    ] {
        let live = busy(|| live::run(&source, properties, time));
        tell(name, &live);
        assert_eq!(live.came, live.left, "{name}");
        assert!(live.in_order, "{name}");
        assert!(!live.ages.is_empty(), "{name}: no frame carried a result");
        let oldest = live.ages.iter().max().unwrap();
        assert!(*oldest <= Duration::from_secs(10), "{name}: {oldest:?}");
        let grown = live.memory[1].saturating_sub(live.memory[0]);
        assert!(grown < 16 * MEGABYTE, "{name}: {grown} bytes more");
    }
}

#[test]
#[ignore = "takes minutes; make test-all runs it"]
fn eight_streams_have_one_copy_of_the_weights() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    init();
    let source = live::camera(10, "format=I420,width=320,height=240");
    let streams = |n: usize| {
        let branch = format!("{source} ! acdclip overlay=0 ! fakesink sync=true");
        let pipeline = gst::parse::launch(&vec![branch; n].join("  ")).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let elements: Vec<_> = pipeline
            .iterate_elements()
            .into_iter()
            .flatten()
            .filter(|element| element.factory().is_some_and(|f| f.name() == "acdclip"))
            .collect();
        let scored = |element: &gst::Element| {
            let stats: gst::Structure = element.property("stats");
            stats.get::<u64>("scored").unwrap()
        };
        let start = std::time::Instant::now();
        while elements.iter().any(|element| scored(element) < 3) {
            assert!(
                start.elapsed() < Duration::from_secs(300),
                "not all are served"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let memory = live::resident();
        let served: Vec<_> = elements.iter().map(scored).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        (memory, served)
    };
    let (one, _) = streams(1);
    let (eight, served) = streams(8);
    let left = live::resident();
    println!(
        "1 stream {} MB, 8 streams {} MB, none {} MB; frames scored {served:?}",
        one / MEGABYTE,
        eight / MEGABYTE,
        left / MEGABYTE
    );
    // The compact model's 22 million numbers take 88 MB.
    assert!(eight.saturating_sub(one) < 88 * MEGABYTE);
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(*most <= 2 * *least, "{served:?}");
}

#[test]
#[ignore = "takes minutes; make test-all runs it"]
fn five_hundred_rounds_of_rough_treatment_leave_no_memory_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    init();
    rounds::fatal_criticals();
    let tiny = Tiny::new();
    for mode in ["sync", "latest"] {
        for (name, [early, late]) in [
            ("starts", rounds::starts_and_stops(500, &tiny.path(), mode)),
            ("seeks", rounds::flushing_seeks(500, &tiny.path(), mode)),
            ("caps", rounds::caps_changes(500, &tiny.path(), mode)),
        ] {
            println!(
                "{mode}, 500 {name}: {} KB -> {} KB",
                early >> 10,
                late >> 10
            );
            let grown = late.saturating_sub(early);
            assert!(grown < 8 * MEGABYTE, "{mode}, {name}: {grown} bytes more");
        }
    }
}
