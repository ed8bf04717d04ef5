//! The detector on a CUDA GPU beside the same on the CPU. Without a GPU, or the feature `cuda`, each says so and looks at nothing.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use acdclip_model::{Detection, Detector, DeviceSpec, Error, Frame, Precision, Runtime, Settings};

/// Frames in one pass, of which no two are alike.
const FRAMES: usize = 8;

/// The compact model's bundle, also for a test that was built elsewhere and is run from the project's root.
fn bundle() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| "model".into(), PathBuf::from);
    root.join("weights/compact.safetensors")
}

/// None, and a line that says why, where there is no GPU, or none for that precision.
fn on_gpu(precision: Precision) -> Option<Detector> {
    match open(DeviceSpec::Cuda(0), precision) {
        Err(reason @ (Error::Device { .. } | Error::Precision(_))) => {
            println!("skipped: {reason}");
            None
        }
        detector => Some(detector.unwrap()),
    }
}

fn open(device: DeviceSpec, precision: Precision) -> Result<Detector, Error> {
    let runtime = Runtime {
        device,
        precision,
        ..Runtime::default()
    };
    Detector::open(&bundle(), runtime)
}

/// A grained grey sheet of 320 x 240 pixels with a bright spot that grows with `n`; none in the first.
fn sheet(n: usize) -> Vec<u8> {
    let pixel = |(x, y): (usize, usize)| {
        let spot = x.abs_diff(200).pow(2) + y.abs_diff(90).pow(2) < 90 * n;
        let grain = (x * 31 + y * 17 + x * y * 7 + n) % 23;
        [if spot { 240 } else { 110 + grain as u8 }; 3]
    };
    let rows = (0..240).flat_map(|y| (0..320).map(move |x| (x, y)));
    rows.flat_map(pixel).collect()
}

fn detections(detector: &Detector) -> Vec<Detection> {
    let sheets: Vec<_> = (0..FRAMES).map(sheet).collect();
    let frames: Vec<_> = sheets
        .iter()
        .map(|sheet| Frame::rgb(sheet, 3 * 320, 320, 240).unwrap())
        .collect();
    let settings = Settings::default();
    detector.score_batch(&frames, "object", &settings).unwrap()
}

/// Largest differences of map (probabilities) and score.
fn gaps(a: &[Detection], b: &[Detection]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let score = a.iter().zip(b).map(|(a, b)| (a.score - b.score).abs());
    let map = a.iter().zip(b).flat_map(|(a, b)| {
        let values = a.map.values().iter().zip(b.map.values());
        values.map(|(x, y)| (a.map.probability(*x) - b.map.probability(*y)).abs())
    });
    (map.fold(0.0, f32::max), score.fold(0.0, f32::max))
}

fn assert_near(what: &str, a: &[Detection], b: &[Detection], allowed: f32) {
    let (map, score) = gaps(a, b);
    println!("{what}: map differs by {map:.1e}, score by {score:.1e}, allowed {allowed:.0e}");
    assert!(map < allowed && score < allowed, "{what}: {map} {score}");
}

#[test]
fn f32_on_a_gpu_is_f32_on_the_cpu() {
    let Some(gpu) = on_gpu(Precision::Auto) else {
        return;
    };
    assert_eq!(gpu.precision(), Precision::F32);
    let cpu = open(DeviceSpec::Cpu, Precision::F32).unwrap();
    assert_near(
        "f32, GPU and CPU",
        &detections(&gpu),
        &detections(&cpu),
        1e-3,
    );
}

#[test]
fn bf16_on_a_gpu_is_within_a_hundredth_of_f32() {
    let Some(bf16) = on_gpu(Precision::Bf16) else {
        return;
    };
    assert_eq!(bf16.precision(), Precision::Bf16);
    let f32 = open(DeviceSpec::Cuda(0), Precision::F32).unwrap();
    assert_near(
        "bf16 and f32, GPU",
        &detections(&bf16),
        &detections(&f32),
        1e-2,
    );
}

#[test]
fn threads_that_share_a_gpu_find_what_one_finds() {
    let Some(gpu) = on_gpu(Precision::Bf16) else {
        return;
    };
    let alone = detections(&gpu);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..10).map(|_| detections(&gpu)).collect::<Vec<_>>()))
            .collect();
        for found in threads.into_iter().flat_map(|t| t.join().unwrap()) {
            assert_near("one thread and another", &found, &alone, 1e-3);
        }
    });
}
