//! The detector as its callers use it, on the compact model.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use acdclip_model::{
    Detector, DeviceSpec, Error, Frame, Settings, config::Domain, detector::Detection,
    record::Record,
};

const CLASS: &str = "object";

fn bytes() -> Vec<u8> {
    std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/weights/compact.safetensors"
    ))
    .unwrap()
}

fn detector() -> Detector {
    Detector::from_bytes(bytes(), DeviceSpec::Cpu).unwrap()
}

/// A grey picture with a bright square in it.
fn picture(width: usize, height: usize) -> Vec<u8> {
    (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            let inside = x > width / 2 && x < width * 3 / 4 && y > height / 4 && y < height / 2;
            [if inside { 250 } else { 90 + (i % 7) as u8 }; 3]
        })
        .collect()
}

fn same(a: &Detection, b: &Detection) -> bool {
    let gaps = a
        .map
        .values()
        .iter()
        .zip(b.map.values())
        .map(|(a, b)| (a - b).abs());
    (a.score - b.score).abs() < 1e-4 && gaps.fold(0.0, f32::max) < 1e-2
}

#[test]
fn a_detector_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let detector = detector();
    shared(&detector);
    let picture = picture(64, 48);
    let scores = std::thread::scope(|scope| {
        let score = || {
            let frame = Frame::rgb(&picture, 64 * 3, 64, 48).unwrap();
            detector.score(&frame, CLASS).unwrap().score
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(score)).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(
        scores.windows(2).all(|pair| pair[0] == pair[1]),
        "{scores:?}"
    );
}

#[test]
fn frames_of_any_sizes_score_in_a_batch_as_they_do_alone() {
    let detector = detector();
    let sizes = [(1, 1), (333, 77), (252, 252)];
    let pictures = sizes.map(|(w, h)| picture(w, h));
    let frames: Vec<_> = sizes
        .iter()
        .zip(&pictures)
        .map(|((w, h), data)| Frame::rgb(data, w * 3, *w, *h).unwrap())
        .collect();
    let settings = Settings::default();
    let batch = detector.score_batch(&frames, CLASS, &settings).unwrap();
    assert_eq!(batch.len(), frames.len());
    for (frame, together) in frames.iter().zip(&batch) {
        let alone = detector.score(frame, CLASS).unwrap();
        assert!(
            same(&alone, together),
            "{}x{}",
            frame.width(),
            frame.height()
        );
        assert!(together.regions.iter().all(|r| {
            (r.x + r.w) as usize <= frame.width() && (r.y + r.h) as usize <= frame.height()
        }));
    }
    assert!(
        detector
            .score_batch(&[], CLASS, &settings)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_score_is_the_domains_mixture() {
    let detector = detector();
    let data = picture(100, 80);
    let frame = Frame::rgb(&data, 300, 100, 80).unwrap();
    for domain in [None, Some(Domain::Industrial), Some(Domain::Medical)] {
        let settings = Settings {
            domain,
            ..Settings::default()
        };
        let found = detector.score_with(&frame, CLASS, &settings).unwrap();
        let weights = domain.map_or(detector.config().image_score, Domain::image_score);
        let top = found.map.top_mean(weights.top_share);
        let expected = weights.cls * found.class_score
            + weights.map_max * found.map_max
            + weights.map_top * top;
        assert!((found.score - expected).abs() < 1e-6, "{domain:?}");
    }
}

#[test]
fn a_class_that_the_bank_lacks_is_told_with_those_it_has() {
    let error = detector().check_class("rail").unwrap_err();
    assert!(
        matches!(&error, Error::UnknownClass { known, .. } if known == &[CLASS]),
        "{error}"
    );
    assert!(error.to_string().contains(CLASS), "{error}");
}

#[test]
fn damaged_weights_are_an_error_and_not_a_normal_frame() {
    let mut bytes = bytes();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let bias = &header["image_adapter.seg_proj.0.fc.0.bias"];
    assert_eq!(bias["dtype"], "F32");
    let at = 8 + size + bias["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let detector = Detector::from_bytes(bytes, DeviceSpec::Cpu).unwrap();
    let data = picture(32, 32);
    let error = detector
        .score(&Frame::rgb(&data, 96, 32, 32).unwrap(), CLASS)
        .unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}

#[test]
fn a_record_has_the_fields_of_its_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../schema/record-1.schema.json")).unwrap();
    let record = serde_json::to_value(Record {
        event_id: Some(1),
        quality: Some("good".into()),
        ..Record::default()
    })
    .unwrap();
    let fields: Vec<_> = record.as_object().unwrap().keys().collect();
    let described: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(fields, described);
    for required in schema["required"].as_array().unwrap() {
        assert!(fields.iter().any(|field| *field == required), "{required}");
    }
}
