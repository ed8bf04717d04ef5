//! One's own pictures: `good`, `defect` and, where there are masks, `masks` (called as the picture, or `<stem>_mask`).
//!
//! The root is one class, called as the root is, or holds one folder a class.

use std::path::Path;

use crate::{
    dataset::tree::{Found, Kind, Masks, Split, folders, name, not_the_layout, pictures},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let mut found = class(root)?;
    if found.is_empty() {
        for folder in folders(root)? {
            found.extend(class(&folder)?);
        }
    }
    if found.is_empty() {
        return Err(not_the_layout(
            root,
            "folders good and defect with pictures (and masks), or one folder a class with these in it",
        ));
    }
    Ok(found)
}

fn class(directory: &Path) -> Outcome<Vec<Found>> {
    let class_name = name(directory);
    let masks = Masks::of(&directory.join("masks"))?;
    let found = |image, kind| Found {
        image,
        class_name: class_name.clone(),
        split: Split::Test,
        kind,
    };
    let good = pictures(&directory.join("good"))?.into_iter();
    let defect = pictures(&directory.join("defect"))?.into_iter();
    let good = good.map(|image| found(image, Kind::Normal));
    let defect = defect.map(|image| {
        let mask = masks.get(&image);
        found(image, Kind::Anomalous(mask))
    });
    Ok(good.chain(defect).collect())
}
