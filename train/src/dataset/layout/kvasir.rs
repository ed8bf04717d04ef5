//! Kvasir-SEG (Jha et al., MMM 2020), as published: all pictures show a polyp; the masks are JPEG.

use std::path::Path;

use crate::{
    dataset::tree::{Found, Pairs},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let pairs = Pairs {
        class_name: "Kvasir",
        within: &["", "Kvasir-SEG"],
        images: &["images"],
        masks: &["masks"],
        wanted: "Kvasir-SEG's folders, {images, masks}",
    };
    pairs.find(root)
}
