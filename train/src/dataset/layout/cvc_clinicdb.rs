//! CVC-ClinicDB (Bernal et al., CMIG 2015), as published: all pictures show a polyp. A later edition has both as PNG and TIF.

use std::path::Path;

use crate::{
    dataset::tree::{Found, Pairs},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let pairs = Pairs {
        class_name: "Colon_clinicDB",
        within: &["", "PNG", "TIF"],
        images: &["Original"],
        masks: &["Ground Truth", "GroundTruth"],
        wanted: "CVC-ClinicDB's folders, {Original, Ground Truth}, or the same in PNG or TIF",
    };
    pairs.find(root)
}
