//! CVC-ColonDB (Bernal et al., Pattern Recognition 2012), as it is handed around: all pictures show a polyp.

use std::path::Path;

use crate::{
    dataset::tree::{Found, Pairs},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let pairs = Pairs {
        class_name: "Colon_colonDB",
        within: &[""],
        images: &["images"],
        masks: &["masks"],
        wanted: "CVC-ColonDB's folders, {images, masks}",
    };
    pairs.find(root)
}
