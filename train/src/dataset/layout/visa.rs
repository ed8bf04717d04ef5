//! VisA (Zou et al., ECCV 2022), as published: `<class>/Data/{Images/{Normal, Anomaly}, Masks/Anomaly}`.
//!
//! Which normal pictures are for training is in `split_csv/1cls.csv` (object, split, label, image, mask). Without that file all of them
//! count as test pictures.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    dataset::tree::{Found, Kind, Masks, Split, folders, name, not_the_layout, pictures},
    outcome::{Failure, Outcome},
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let splits = splits(root)?;
    let mut found = Vec::new();
    for class in folders(root)? {
        let data = class.join("Data");
        let images = data.join("Images");
        let masks = Masks::of(&data.join("Masks").join("Anomaly"))?;
        let mut add = |image: PathBuf, kind| {
            let split = splits.get(&image).copied().unwrap_or(Split::Test);
            found.push(Found {
                image,
                class_name: name(&class),
                split,
                kind,
            });
        };
        for image in pictures(&images.join("Anomaly"))? {
            let mask = masks.get(&image);
            add(image, Kind::Anomalous(mask));
        }
        for image in pictures(&images.join("Normal"))? {
            add(image, Kind::Normal);
        }
    }
    if found.is_empty() {
        return Err(not_the_layout(
            root,
            "VisA's folders, <class>/Data/{Images/{Normal, Anomaly}, Masks/Anomaly}",
        ));
    }
    Ok(found)
}

/// The split of each picture that the table names.
fn splits(root: &Path) -> Outcome<HashMap<PathBuf, Split>> {
    let path = root.join("split_csv").join("1cls.csv");
    let mut splits = HashMap::new();
    if !path.is_file() {
        return Ok(splits);
    }
    let wrong = |reason: String| Failure::Picture {
        path: path.clone(),
        reason,
    };
    let mut reader = csv::Reader::from_path(&path).map_err(|e| wrong(e.to_string()))?;
    let header = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h.trim() == name).ok_or_else(|| {
            let columns: Vec<_> = header.iter().collect();
            wrong(format!(
                "wanted a column {name}, found {}",
                columns.join(", ")
            ))
        })
    };
    let (split, image) = (column("split")?, column("image")?);
    for record in reader.records() {
        let record = record.map_err(|e| wrong(e.to_string()))?;
        let field = |i| record.get(i).unwrap_or_default().trim();
        let part = match field(split) {
            "train" => Split::Train,
            "test" => Split::Test,
            other => {
                return Err(wrong(format!(
                    "wanted split train or test, found {other:?}"
                )));
            }
        };
        splits.insert(root.join(field(image)), part);
    }
    Ok(splits)
}
