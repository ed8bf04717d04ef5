//! What a live stream pays for being watched: latency that is added to its frames, processors kept busy, and how old results are, by frame
//! rate. `make bench-live` runs it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{init, live};

/// How long each line is measured.
const TIME: Duration = Duration::from_secs(20);

fn main() {
    init();
    println!(
        "1280x720 NV12, mode=latest, {} s a line, {} processors. added: from a frame's coming to its leaving; age: of the results that frames carry.",
        TIME.as_secs(),
        std::thread::available_parallelism().unwrap()
    );
    println!(
        "{:>4}  {:<10}  {:>6}  {:>4}  {:>9}  {:>9}  {:>8}  {:>8}  {:>9}  {:>5}",
        "fps",
        "overlay",
        "frames",
        "lost",
        "added p50",
        "added p99",
        "age p50",
        "age p99",
        "scored/s",
        "CPUs"
    );
    for fps in [5, 15, 30, 60] {
        for overlay in ["0", "heatmap+contour+score"] {
            line(fps, overlay);
        }
    }
}

fn line(fps: u32, overlay: &str) {
    let source = live::camera(fps, "format=NV12,width=1280,height=720");
    let live = live::run(&source, &format!("mode=latest overlay={overlay}"), TIME);
    let ms = |durations: &[Duration], share| live::quantile(durations, share).as_secs_f64() * 1e3;
    let scored = live.stats.get::<u64>("scored").unwrap() as f64 / TIME.as_secs_f64();
    println!(
        "{fps:>4}  {:<10}  {:>6}  {:>4}  {:>6.2} ms  {:>6.2} ms  {:>5.0} ms  {:>5.0} ms  {scored:>9.1}  {:>5.2}",
        if overlay == "0" { "nothing" } else { "default" },
        live.left,
        live.came - live.left,
        ms(&live.passages, 0.5),
        ms(&live.passages, 0.99),
        ms(&live.ages, 0.5),
        ms(&live.ages, 0.99),
        live.cpus,
    );
}
