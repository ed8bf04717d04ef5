//! `acdclip dataset`: each published layout, rebuilt in miniature, comes out as the index that the authors' code would read.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Ran, run};
use serde_json::Value;

/// A set's folder with small pictures at `paths`.
fn tree(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        picture(&root.path().join(path), 8, 8, 255);
    }
    root
}

/// A grey picture, which is as good a mask. No two of different paths have the same bytes unless they share `grey` and size.
fn picture(path: &Path, width: u32, height: u32, grey: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(width, height, image::Luma([grey]))
        .save(path)
        .unwrap();
}

fn index(kind: &str, root: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["dataset", "index", kind, root.to_str().unwrap()];
    arguments.extend(more);
    run(arguments)
}

/// The index written by default, a line as (picture, label, class, mask).
fn lines(root: &Path) -> Vec<(String, u64, String, String)> {
    let text = std::fs::read_to_string(root.join("meta.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (
                text("image_path"),
                line["label"].as_u64().unwrap(),
                text("class_name"),
                text("mask_path"),
            )
        })
        .collect()
}

/// Indexes `paths` as `kind` and expects these lines, in this order; and a root without them to be refused.
fn check(kind: &str, paths: &[&str], expected: &[(&str, u64, &str, &str)]) {
    let root = tree(paths);
    let ran = index(kind, root.path(), &[]);
    assert_eq!(ran.code, Some(0), "{kind}: {ran:?}");
    assert!(ran.err.is_empty(), "{kind}: {ran:?}");
    let found = lines(root.path());
    let found: Vec<_> = found
        .iter()
        .map(|(image, label, class, mask)| (&image[..], *label, &class[..], &mask[..]))
        .collect();
    assert_eq!(found, expected, "{kind}");

    let other = tree(&["something/else.png"]);
    let ran = index(kind, other.path(), &[]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains("wanted") && complaint.contains("found something"),
        "{kind}: {complaint}"
    );
    assert!(!other.path().join("meta.jsonl").exists());
}

#[test]
fn mvtec_and_mpdd() {
    for kind in ["mvtec", "mpdd"] {
        check(
            kind,
            &[
                "bottle/train/good/000.png",
                "bottle/test/good/000.png",
                "bottle/test/broken_large/000.png",
                "bottle/ground_truth/broken_large/000_mask.png",
                "screw/train/good/000.png",
                "screw/test/scratch_head/001.png",
                "screw/ground_truth/scratch_head/001_mask.png",
            ],
            &[
                (
                    "bottle/test/broken_large/000.png",
                    1,
                    "bottle",
                    "bottle/ground_truth/broken_large/000_mask.png",
                ),
                ("bottle/test/good/000.png", 0, "bottle", ""),
                (
                    "screw/test/scratch_head/001.png",
                    1,
                    "screw",
                    "screw/ground_truth/scratch_head/001_mask.png",
                ),
            ],
        );
    }
}

#[test]
fn btad() {
    check(
        "btad",
        &[
            "01/train/ok/0000.bmp",
            "01/test/ok/0001.bmp",
            "01/test/ko/0002.bmp",
            "01/ground_truth/ko/0002.png",
        ],
        &[
            (
                "01/test/ko/0002.bmp",
                1,
                "01",
                "01/ground_truth/ko/0002.png",
            ),
            ("01/test/ok/0001.bmp", 0, "01", ""),
        ],
    );
}

#[test]
fn visa_takes_its_split_from_its_table() {
    let paths = [
        "candle/Data/Images/Anomaly/000.JPG",
        "candle/Data/Images/Normal/0000.JPG",
        "candle/Data/Images/Normal/0001.JPG",
        "candle/Data/Masks/Anomaly/000.png",
    ];
    let anomaly = (
        "candle/Data/Images/Anomaly/000.JPG",
        1,
        "candle",
        "candle/Data/Masks/Anomaly/000.png",
    );
    let normal = |path| (path, 0, "candle", "");
    let [_, first, second, _] = paths;
    check("visa", &paths, &[anomaly, normal(first), normal(second)]);

    let root = tree(&paths);
    let table = root.path().join("split_csv/1cls.csv");
    std::fs::create_dir(table.parent().unwrap()).unwrap();
    let rows = format!(
        "object,split,label,image,mask\ncandle,train,normal,{first},\ncandle,test,normal,{second},\n"
    );
    std::fs::write(&table, rows).unwrap();
    assert_eq!(index("visa", root.path(), &[]).code, Some(0));
    assert_eq!(lines(root.path()).len(), 2);
    let train = index("visa", root.path(), &["--split", "train"]);
    assert_eq!(train.code, Some(0), "{train:?}");
    assert_eq!(lines(root.path())[0].0, first);
    assert_eq!(lines(root.path()).len(), 1);

    std::fs::write(&table, "object,part\ncandle,train\n").unwrap();
    let complaint = index("visa", root.path(), &[]);
    assert!(complaint.complaint().contains("wanted a column split"));
}

#[test]
fn rsdd() {
    check(
        "rsdd",
        &[
            "Type-I RSDDs dataset/Rail surface images/rail_1.jpg",
            "Type-I RSDDs dataset/GroundTruth/rail_1.jpg",
            "Type-II RSDDs dataset/Rail surface images/rail_1.jpg",
            "Type-II RSDDs dataset/GroundTruth/rail_1.jpg",
        ],
        &[
            (
                "Type-I RSDDs dataset/Rail surface images/rail_1.jpg",
                1,
                "Type-I",
                "Type-I RSDDs dataset/GroundTruth/rail_1.jpg",
            ),
            (
                "Type-II RSDDs dataset/Rail surface images/rail_1.jpg",
                1,
                "Type-II",
                "Type-II RSDDs dataset/GroundTruth/rail_1.jpg",
            ),
        ],
    );
}

#[test]
fn polyps() {
    for (kind, class) in [
        ("cvc-colondb", "Colon_colonDB"),
        ("kvasir", "Kvasir"),
        ("cvc-300", "CVC-300"),
    ] {
        check(
            kind,
            &["images/1.png", "masks/1.png"],
            &[("images/1.png", 1, class, "masks/1.png")],
        );
    }
    let class = "Colon_clinicDB";
    check(
        "cvc-clinicdb",
        &["Original/1.tif", "Ground Truth/1.tif"],
        &[("Original/1.tif", 1, class, "Ground Truth/1.tif")],
    );
    check(
        "cvc-clinicdb",
        &[
            "PNG/Original/1.png",
            "PNG/Ground Truth/1.png",
            "TIF/Original/1.tif",
        ],
        &[("PNG/Original/1.png", 1, class, "PNG/Ground Truth/1.png")],
    );
}

#[test]
fn bmad() {
    for (kind, class) in [
        ("bmad-brain", "Brain"),
        ("bmad-liver", "Liver"),
        ("bmad-retina", "Retina"),
    ] {
        check(
            kind,
            &[
                "train/good/0.png",
                "valid/good/img/1.png",
                "valid/Ungood/img/2.png",
                "valid/Ungood/label/2.png",
                "test/good/img/3.png",
                "test/good/label/3.png",
                "test/Ungood/img/4.png",
                "test/Ungood/label/4.png",
            ],
            &[
                ("test/good/img/3.png", 0, class, ""),
                ("test/Ungood/img/4.png", 1, class, "test/Ungood/label/4.png"),
            ],
        );
    }
    // As the archive of the retina set unpacks.
    check(
        "retina",
        &[
            "RESC/train/good/0.png",
            "RESC/val/ungood/img/1.png",
            "RESC/test/good/3.png",
            "RESC/test/ungood/img/4.png",
            "RESC/test/ungood/label/4.png",
        ],
        &[
            ("RESC/test/good/3.png", 0, "Retina", ""),
            (
                "RESC/test/ungood/img/4.png",
                1,
                "Retina",
                "RESC/test/ungood/label/4.png",
            ),
        ],
    );
}

#[test]
fn folders_of_ones_own() {
    let inner = ["good/a.png", "defect/b.png", "masks/b.png"].map(|path| format!("rail/{path}"));
    let paths = inner.each_ref().map(String::as_str);
    check(
        "folder",
        &paths,
        &[
            ("rail/good/a.png", 0, "rail", ""),
            ("rail/defect/b.png", 1, "rail", "rail/masks/b.png"),
        ],
    );
    let root = tree(&paths);
    let one = root.path().join("rail");
    assert_eq!(index("folder", &one, &[]).code, Some(0));
    assert_eq!(lines(&one)[0].2, "rail");
}

#[test]
fn an_index_elsewhere_has_absolute_paths_and_a_missing_mask_is_said() {
    let root = tree(&["s/good/a.png", "s/defect/b.png"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let output = elsewhere.path().join("meta.jsonl");
    let ran = index("folder", root.path(), &["-o", output.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("1 anomalous pictures have no mask"),
        "{ran:?}"
    );
    let found = lines(elsewhere.path());
    assert!(found.iter().all(|line| Path::new(&line.0).is_file()));
    assert_eq!(found[1].3, "");
}

#[test]
fn a_sound_set_is_called_sound() {
    let root = tempfile::tempdir().unwrap();
    picture(&root.path().join("s/good/a.png"), 8, 8, 10);
    picture(&root.path().join("s/defect/b.png"), 8, 8, 20);
    picture(&root.path().join("s/masks/b.png"), 8, 8, 255);
    assert_eq!(index("folder", root.path(), &[]).code, Some(0));
    let ran = run(["dataset", "check", root.path().to_str().unwrap()]);
    assert_eq!((ran.code, &ran.err[..]), (Some(0), ""), "{ran:?}");
    assert!(ran.out.contains("2 pictures, no problem"), "{ran:?}");
}

#[test]
fn everything_that_is_wrong_with_a_set_is_in_the_table() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for (name, width, grey) in [
        ("good.png", 8, 1),
        ("copy.png", 8, 1),
        ("a.png", 8, 2),
        ("b.png", 8, 3),
        ("c.png", 8, 4),
        ("d.png", 8, 5),
        ("full.png", 8, 255),
        ("black.png", 8, 0),
        ("wide.png", 9, 255),
    ] {
        picture(&path(name), width, 8, grey);
    }
    let whole = std::fs::read(path("a.png")).unwrap();
    std::fs::write(path("torn.png"), &whole[..whole.len() / 2]).unwrap();
    let lines = [
        ("good.png", 0, ""),
        ("copy.png", 0, ""),
        ("good.png", 0, ""),
        ("nowhere.png", 0, ""),
        ("torn.png", 0, ""),
        ("a.png", 1, "black.png"),
        ("b.png", 1, "wide.png"),
        ("c.png", 1, ""),
        ("d.png", 0, "full.png"),
    ];
    let text: String = lines
        .iter()
        .map(|(image, label, mask)| {
            format!("{{\"image_path\": {image:?}, \"label\": {label}, \"class_name\": \"x\", \"mask_path\": {mask:?}}}\n")
        })
        .collect();
    std::fs::write(path("meta.jsonl"), text).unwrap();
    let ran = run(["dataset", "check", path("meta.jsonl").to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("8 problems in 9 pictures"), "{ran:?}");
    for (problem, file) in [
        ("same bytes", "copy.png"),
        ("double", "good.png"),
        ("missing", "nowhere.png"),
        ("unreadable", "torn.png"),
        ("empty mask", "black.png"),
        ("wrong size", "wide.png"),
        ("no mask", "c.png"),
        ("normal, marked", "full.png"),
    ] {
        let rows: Vec<_> = ran.out.lines().filter(|l| l.starts_with(problem)).collect();
        assert_eq!(rows.len(), 1, "{problem}: {ran:?}");
        assert!(rows[0].ends_with(file), "{rows:?}");
    }
}

#[test]
fn an_unknown_kind_is_wrong_usage() {
    assert_eq!(index("imagenet", Path::new("."), &[]).code, Some(2));
}
