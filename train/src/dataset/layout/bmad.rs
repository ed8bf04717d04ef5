//! BMAD's sets with masks (Bao et al., 2023): BrainMRI, Liver CT and Retina OCT, as published.
//!
//! `train/good/*`, `{valid, test}/good/img/*`, `{valid, test}/Ungood/{img, label}/*`. The three differ in case (`Ungood`, `ungood`), in
//! the name of the second split (`valid`, `val`), and in how deep the normal pictures lie; all of it is accepted for each. The archives
//! unpack to a folder in a folder, of which either may be given. Masks of normal pictures, which are black, are left out.

use std::path::{Path, PathBuf};

use crate::{
    dataset::tree::{Found, Kind, Masks, Split, folder, folders, not_the_layout, pictures},
    outcome::Outcome,
};

const WANTED: &str = "BMAD's folders, {train/good, valid, test/{good/img, Ungood/{img, label}}}";

pub(super) fn find(root: &Path, class_name: &str) -> Outcome<Vec<Found>> {
    let set = unpacked(root)?;
    let mut found = Vec::new();
    for (split, names) in [
        (Split::Train, &["train"][..]),
        (Split::Valid, &["valid", "val"]),
        (Split::Test, &["test"]),
    ] {
        let Some(part) = folder(&set, names)? else {
            continue;
        };
        let mut add = |image, kind| {
            found.push(Found {
                image,
                class_name: class_name.into(),
                split,
                kind,
            });
        };
        for image in inner(&part, "good")? {
            add(image, Kind::Normal);
        }
        let masks = masks(&part)?;
        for image in inner(&part, "Ungood")? {
            let mask = masks.get(&image);
            add(image, Kind::Anomalous(mask));
        }
    }
    let anomalous = |found: &Found| found.kind != Kind::Normal;
    match found.iter().any(anomalous) {
        true => Ok(found),
        false => Err(not_the_layout(root, WANTED)),
    }
}

/// The folder that has the splits: `root`, or the one in it.
fn unpacked(root: &Path) -> Outcome<PathBuf> {
    if folder(root, &["test"])?.is_some() {
        return Ok(root.into());
    }
    for inner in folders(root)? {
        if folder(&inner, &["test"])?.is_some() {
            return Ok(inner);
        }
    }
    Err(not_the_layout(root, WANTED))
}

/// Pictures of `part/kind/img`, or of `part/kind` where there is no such folder.
fn inner(part: &Path, kind: &str) -> Outcome<Vec<PathBuf>> {
    let Some(kind) = folder(part, &[kind])? else {
        return Ok(Vec::new());
    };
    let img = folder(&kind, &["img"])?;
    pictures(&img.unwrap_or(kind))
}

fn masks(part: &Path) -> Outcome<Masks> {
    let label = match folder(part, &["Ungood"])? {
        Some(ungood) => folder(&ungood, &["label", "anomaly_mask"])?,
        None => None,
    };
    // A folder that does not exist has no masks.
    Masks::of(&label.unwrap_or_else(|| part.join("label")))
}
