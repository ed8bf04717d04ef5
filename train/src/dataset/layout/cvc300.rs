//! CVC-300 (Vázquez et al., JHE 2017), as it is handed around: all pictures show a polyp.

use std::path::Path;

use crate::{
    dataset::tree::{Found, Pairs},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let pairs = Pairs {
        class_name: "CVC-300",
        within: &[""],
        images: &["images"],
        masks: &["masks"],
        wanted: "CVC-300's folders, {images, masks}",
    };
    pairs.find(root)
}
