//! The property `calibration`: what it does to scores and maps, and what is made of one that does not fit.

use std::path::{Path, PathBuf};

use acdclip_model::{
    BUILTIN_MODEL, Bundle, Calibration,
    calibration::{ANY_CLASS, Anchors, ClassCalibration},
    preprocess::Resize,
};

use super::{settings::complaint, *};

/// A scale's two raw values.
type Pair = (f64, f64);

fn builtin() -> Bundle {
    Bundle::from_static(BUILTIN_MODEL).unwrap()
}

fn calibration(class: &str, score: Pair, map: Pair) -> Calibration {
    let anchors = |(normal, threshold)| Anchors {
        normal,
        threshold,
        ..Anchors::default()
    };
    let entry = ClassCalibration {
        score: anchors(score),
        map: anchors(map),
    };
    let mut calibration = Calibration::new(builtin().hash(), Resize::Squash, None);
    calibration.classes.insert(class.into(), entry);
    calibration
}

/// The document of a calibration of every class of the model of that hash.
pub(crate) fn of_model(hash: &str) -> String {
    let own = calibration(ANY_CLASS, (0.2, 0.8), (0.2, 0.8));
    let mut calibration = Calibration::new(hash, Resize::Squash, None);
    calibration.classes = own.classes;
    calibration.to_toml().unwrap()
}

/// A folder for calibrations.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, calibration: &Calibration) -> String {
        let path = self.path(name);
        std::fs::write(&path, calibration.to_toml().unwrap()).unwrap();
        text(&path)
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn number(record: &gst::Structure, field: &str) -> f64 {
    record.get(field).unwrap()
}

fn region_scores(record: &gst::Structure) -> Vec<f64> {
    let regions = record.get::<gst::Array>("regions").unwrap();
    let regions = regions.iter().map(|r| r.get::<gst::Structure>().unwrap());
    regions.map(|region| number(&region, "score")).collect()
}

/// What the ball is given without a calibration.
fn raw(caps: &str) -> gst::Structure {
    let raw = record(&Bench::new(&[], caps).pass(picture("ball", caps, 0)));
    assert!(!raw.get::<bool>("calibrated").unwrap());
    assert!(!region_scores(&raw).is_empty());
    raw
}

#[test]
fn score_and_map_are_calibrated_and_raw_values_kept() {
    let caps = caps("RGB", 64, 48);
    let raw = raw(&caps);
    let place = Place::new();
    let (score, map) = (number(&raw, "score"), number(&raw, "map-max"));
    let (below, above) = (|raw: f64| raw * 0.95, |raw: f64| (raw + 1.0) / 2.0);
    // The score's threshold lies above what the ball is given, the map's below it; then the other way round.
    let bounds = [(above(score), below(map)), (below(score), above(map))];
    for ((of_score, of_map), alarm) in bounds.into_iter().zip([false, true]) {
        let bound = calibration(ANY_CLASS, (score * 0.5, of_score), (map * 0.5, of_map));
        let file = place.write("c.toml", &bound);
        let mut bench = Bench::new(&[("calibration", &file)], &caps);
        let found = record(&bench.pass(picture("ball", &caps, 0)));
        assert!(found.get::<bool>("calibrated").unwrap());
        for field in ["raw-score", "class-score", "map-max"] {
            assert_eq!(number(&found, field), number(&raw, field), "{field}");
        }
        assert_eq!(number(&found, "threshold"), 0.5);
        assert_eq!(number(&found, "score") >= 0.5, alarm);
        assert_eq!(found.get::<bool>("anomalous").unwrap(), alarm);
        let regions = region_scores(&found);
        assert_eq!(regions.is_empty(), alarm, "{regions:?}");
        assert!(regions.iter().all(|score| *score >= 0.5));
    }
}

#[test]
fn what_normal_frames_show_is_not_drawn() {
    let caps = caps("RGB", 64, 48);
    let raw = raw(&caps);
    let (score, map) = (number(&raw, "score"), number(&raw, "map-max"));
    let place = Place::new();
    let normal = calibration(ANY_CLASS, (score, 0.99), (map, 0.5 + map / 2.0));
    let file = place.write("c.toml", &normal);
    let input = picture("ball", &caps, 0);
    let drawn = |properties: &[(&str, &str)]| {
        bytes(&Bench::new(properties, &caps).pass(input.copy())) != bytes(&input)
    };
    assert!(drawn(&[("overlay", "heatmap+contour")]));
    assert!(!drawn(&[
        ("overlay", "heatmap+contour"),
        ("calibration", &file)
    ]));
}

#[test]
fn a_calibration_of_another_model_is_refused_by_both_names() {
    let place = Place::new();
    let mut other = calibration(ANY_CLASS, (0.3, 0.6), (0.3, 0.6));
    other.model = "ab".repeat(32);
    let file = place.write("other.toml", &other);
    let (error, said) = complaint(&[("calibration", &file)]);
    assert!(error.matches(gst::LibraryError::Settings));
    for named in [&file, &builtin().hash(), &other.model] {
        assert!(said.contains(named.as_str()), "{said}");
    }
}

#[test]
fn a_calibration_that_is_none_or_is_not_there_is_named() {
    let place = Place::new();
    let file = place.path("broken.toml");
    std::fs::write(&file, "version = 1\nmodel = 3\nclasses = {}\n").unwrap();
    let (error, said) = complaint(&[("calibration", &text(&file))]);
    assert!(error.matches(gst::LibraryError::Settings));
    assert!(
        said.contains("broken.toml") && said.contains("model: "),
        "{said}"
    );
    let (error, said) = complaint(&[("calibration", "/nonexistent/c.toml")]);
    assert!(error.matches(gst::ResourceError::NotFound));
    assert!(
        said.contains("/nonexistent/c.toml") && said.contains("acdclip calibrate"),
        "{said}"
    );
}

#[test]
fn thresholds_are_on_the_calibrated_scale_and_a_property_wins() {
    let place = Place::new();
    let caps = caps("GRAY8", 32, 32);
    place.write("c.toml", &calibration(ANY_CLASS, (0.3, 0.6), (0.3, 0.6)));
    let profile = place.path("profile.toml");
    std::fs::write(
        &profile,
        "[acdclip]\ncalibration = \"c.toml\"\nthreshold = 0.8\n",
    )
    .unwrap();
    let profile = text(&profile);
    let threshold = |properties: &[(&str, &str)]| {
        let mut properties = properties.to_vec();
        properties.push(("config", &profile));
        let found = record(&Bench::new(&properties, &caps).pass(picture("ball", &caps, 0)));
        assert!(found.get::<bool>("calibrated").unwrap());
        number(&found, "threshold")
    };
    assert_eq!(threshold(&[]) as f32, 0.8);
    assert_eq!(threshold(&[("threshold", "0.25")]), 0.25);
    assert_eq!(threshold(&[("threshold", "-1")]), 0.5);
}

#[test]
fn a_bundles_own_calibration_is_used_and_a_named_one_wins() {
    let place = Place::new();
    let caps = caps("GRAY8", 32, 32);
    let model = place.path("model.safetensors");
    let own = calibration(ANY_CLASS, (0.01, 0.02), (0.3, 0.6));
    builtin().write_calibrated(&model, &own).unwrap();
    let model = text(&model);
    let named = place.write("c.toml", &calibration(ANY_CLASS, (0.98, 0.99), (0.3, 0.6)));
    let calibrated = |properties: &[(&str, &str)]| {
        score(&Bench::new(properties, &caps).pass(picture("ball", &caps, 0)))
    };
    assert!(calibrated(&[("model", &model)]) > 0.9);
    assert!(calibrated(&[("model", &model), ("calibration", &named)]) < 0.1);
}

#[test]
fn a_calibration_can_be_changed_while_playing_and_a_bad_one_is_not_taken() {
    let place = Place::new();
    let caps = caps("GRAY8", 32, 32);
    let file = place.write("c.toml", &calibration(ANY_CLASS, (0.01, 0.02), (0.3, 0.6)));
    let mut bench = Bench::new(&[("interval", "100")], &caps);
    let found = |bench: &mut Bench, n| record(&bench.pass(picture("ball", &caps, n)));
    let before = found(&mut bench, 0);
    bench.element.set_property("calibration", &file);
    let after = found(&mut bench, 1);
    assert!(after.get::<bool>("calibrated").unwrap());
    assert!(number(&after, "score") > number(&before, "score"));
    assert_eq!(number(&after, "raw-score"), number(&before, "raw-score"));
    bench
        .element
        .set_property("calibration", "/nonexistent/c.toml");
    let kept = found(&mut bench, 2);
    assert_eq!(number(&kept, "score"), number(&after, "score"));
    assert_eq!(bench.element.property::<String>("calibration"), file);
    assert!(warning(&bench).contains("/nonexistent/c.toml"));
    bench.element.set_property("calibration", "");
    let raw = found(&mut bench, 3);
    assert_eq!(number(&raw, "score"), number(&before, "score"));
}

fn warning(bench: &Bench) -> String {
    let warning = bench.bus.pop_filtered(&[gst::MessageType::Warning]);
    let warning = warning.expect("no warning");
    let gst::MessageView::Warning(warning) = warning.view() else {
        unreachable!()
    };
    warning.error().to_string()
}

#[test]
fn what_speaks_against_a_calibration_is_said() {
    let place = Place::new();
    let caps = caps("GRAY8", 32, 32);
    let only = calibration("teapot", (0.3, 0.6), (0.3, 0.6));
    let file = place.write("teapot.toml", &only);
    let mut bench = Bench::new(&[("calibration", &file)], &caps);
    assert!(warning(&bench).contains("teapot"));
    let found = record(&bench.pass(picture("ball", &caps, 0)));
    assert!(!found.get::<bool>("calibrated").unwrap());
    assert_eq!(number(&found, "score"), number(&found, "raw-score"));
    let any = calibration(ANY_CLASS, (0.3, 0.6), (0.3, 0.6));
    let file = place.write("any.toml", &any);
    let bench = Bench::new(&[("calibration", &file), ("resize", "fit")], &caps);
    let said = warning(&bench);
    assert!(said.contains("squash") && said.contains("fit"), "{said}");
}

#[test]
fn an_empty_file_is_called_one() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let (_, said) = complaint(&[("calibration", path)]);
    assert!(
        said.contains(path) && said.contains("an empty file"),
        "{said}"
    );
}
