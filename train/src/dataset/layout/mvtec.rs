//! MVTec-AD (Bergmann et al., CVPR 2019), as published: 15 classes, masks called `<stem>_mask.png`.

use std::path::Path;

use crate::{
    dataset::tree::{ClassTree, Found},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let tree = ClassTree {
        good: "good",
        wanted: "MVTec-AD's folders, <class>/{train/good, test/{good, <defect>}, ground_truth/<defect>/<stem>_mask.png}",
    };
    tree.find(root)
}
