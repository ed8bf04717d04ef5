//! BTAD (Mishra et al., ISIE 2021), as published: products 01, 02 and 03, masks called as the picture.

use std::path::Path;

use crate::{
    dataset::tree::{ClassTree, Found},
    outcome::Outcome,
};

pub(super) fn find(root: &Path) -> Outcome<Vec<Found>> {
    let tree = ClassTree {
        good: "ok",
        wanted: "BTAD's folders, {01, 02, 03}/{train/ok, test/{ok, ko}, ground_truth/ko/<stem>.*}",
    };
    tree.find(root)
}
