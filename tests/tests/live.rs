//! Live sources and rough treatment, for seconds; `slow.rs` does the same for minutes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "../../gst-acdclip/tests/element/tiny.rs"]
mod tiny;

use std::time::Duration;

use common::{init, live, rounds};
use tiny::Tiny;

#[test]
fn a_live_source_loses_no_frame_and_its_results_are_not_old() {
    init();
    let source = live::camera(30, "format=NV12,width=320,height=240");
    let live = live::run(&source, "max-age=10000", Duration::from_secs(6));
    assert!(live.came > 60, "{} frames came", live.came);
    assert_eq!(live.came, live.left);
    assert!(live.in_order);
    assert_eq!(live.stats.get::<String>("mode").unwrap(), "latest");
    assert!(!live.ages.is_empty(), "no frame carried a result");
    assert!(live.ages.iter().all(|age| *age <= Duration::from_secs(10)));
}

#[test]
fn it_bears_starts_stops_seeks_and_caps_changes() {
    init();
    rounds::fatal_criticals();
    let tiny = Tiny::new();
    for mode in ["sync", "latest", "auto"] {
        rounds::starts_and_stops(20, &tiny.path(), mode);
        rounds::flushing_seeks(20, &tiny.path(), mode);
        rounds::caps_changes(20, &tiny.path(), mode);
    }
}
