//! MPDD, metal parts (Jezek et al., ICUMT 2021), as published: six classes in MVTec-AD's manner.

use std::path::Path;

use crate::{
    dataset::tree::{ClassTree, Found},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let tree = ClassTree {
        good: "good",
        wanted: "MPDD's folders, <class>/{train/good, test/{good, <defect>}, ground_truth/<defect>/<stem>_mask.png}",
    };
    tree.find(root)
}
