//! RSDDs, rail surface defects (Gan et al., IEEE TIM 2017), as published: two types of rail, all pictures defective.
//!
//! `Type-I RSDDs dataset/{Rail surface images, GroundTruth}` and the same for `Type-II`. The classes are `Type-I` and `Type-II`.

use std::path::{Path, PathBuf};

use crate::{
    dataset::tree::{Found, Kind, Masks, Split, folder, folders, name, not_the_layout, pictures},
    outcome::Outcome,
};

const WANTED: &str =
    "RSDDs' folders, {Type-I, Type-II} RSDDs dataset/{Rail surface images, GroundTruth}";

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let mut found = Vec::new();
    for (directory, class_name) in types(root)? {
        let images = folder(&directory, &["Rail surface images"])?;
        let truth = folder(&directory, &["GroundTruth", "Ground Truth"])?;
        let (Some(images), Some(truth)) = (images, truth) else {
            return Err(not_the_layout(&directory, WANTED));
        };
        let masks = Masks::of(&truth)?;
        found.extend(pictures(&images)?.into_iter().map(|image| Found {
            kind: Kind::Anomalous(masks.get(&image)),
            image,
            class_name: class_name.into(),
            split: Split::Test,
        }));
    }
    match found.is_empty() {
        true => Err(not_the_layout(root, WANTED)),
        false => Ok(found),
    }
}

/// The folders of the two types: in `root`, or `root` itself.
fn types(root: &Path) -> Outcome<Vec<(PathBuf, &'static str)>> {
    let class = |path: &Path| match name(path) {
        name if name.starts_with("Type-II") => Some("Type-II"),
        name if name.starts_with("Type-I") => Some("Type-I"),
        _ => None,
    };
    if let Some(class) = class(root) {
        return Ok(vec![(root.into(), class)]);
    }
    let folders = folders(root)?.into_iter();
    Ok(folders
        .filter_map(|path| class(&path).map(|class| (path, class)))
        .collect())
}
