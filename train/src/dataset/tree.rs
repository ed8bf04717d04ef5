//! What the published layouts have in common: walking folders, matching pictures with masks, saying what does not look right.

use std::path::{Path, PathBuf};

use crate::outcome::{Failure, Outcome};

/// How a picture's file name may end, in lower case.
const PICTURES: [&str; 10] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "pnm",
];

/// Which part of a set a picture belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Split {
    /// Normal pictures that methods with training may see.
    Train,
    /// What thresholds are chosen on.
    Valid,
    /// What is reported.
    Test,
}

/// A picture in a published layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) image: PathBuf,
    pub(super) class_name: String,
    pub(super) split: Split,
    pub(super) kind: Kind,
}

/// What the layout says about a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// With its mask, where there is one.
    Anomalous(Option<PathBuf>),
}

/// Entries of `directory`, sorted by name, without hidden ones.
fn entries(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    let mut paths = read().map_err(Failure::io(directory))?;
    paths.retain(|path| !name(path).starts_with('.') && name(path) != "__MACOSX");
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Folders in `directory`, sorted.
pub(super) fn folders(directory: &Path) -> Outcome<Vec<PathBuf>> {
    let mut paths = entries(directory)?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// The folder in `directory` that has one of `names`, whatever its case.
pub(super) fn folder(directory: &Path, names: &[&str]) -> Outcome<Option<PathBuf>> {
    let known = |path: &PathBuf| names.iter().any(|n| name(path).eq_ignore_ascii_case(n));
    Ok(folders(directory)?.into_iter().find(known))
}

/// Pictures in `directory`, sorted; none where there is no such folder.
pub(crate) fn pictures(directory: &Path) -> Outcome<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = entries(directory)?;
    paths.retain(|path| {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        path.is_file() && PICTURES.contains(&extension.to_lowercase().as_str())
    });
    Ok(paths)
}

/// Masks of one folder, to be asked for by the name of the picture that they belong to.
pub(super) struct Masks {
    paths: Vec<(String, PathBuf)>,
}

impl Masks {
    /// The masks in `directory`; none where there is no such folder.
    pub(super) fn of(directory: &Path) -> Outcome<Self> {
        let mut paths: Vec<_> = pictures(directory)?
            .into_iter()
            .map(|path| (stem(&path), path))
            .collect();
        paths.sort();
        Ok(Self { paths })
    }

    /// The mask called as `picture` is, with `_mask` behind it or without.
    pub(super) fn get(&self, picture: &Path) -> Option<PathBuf> {
        let stem = stem(picture);
        self.find(&format!("{stem}_mask"))
            .or_else(|| self.find(&stem))
    }

    fn find(&self, stem: &str) -> Option<PathBuf> {
        let at = self
            .paths
            .binary_search_by(|(name, _)| name.as_str().cmp(stem));
        at.ok().map(|i| self.paths[i].1.clone())
    }
}

/// An error: `root` is not the layout that was asked for. Says what is in it instead.
pub(super) fn not_the_layout(root: &Path, wanted: &str) -> Failure {
    const SHOWN: usize = 8;
    let names = match entries(root) {
        Err(failure) => return failure,
        Ok(paths) => paths.iter().map(|path| name(path)).collect::<Vec<_>>(),
    };
    let found = match names.len() {
        0 => "nothing".to_owned(),
        n if n > SHOWN => format!("{}, and {} more", names[..SHOWN].join(", "), n - SHOWN),
        _ => names.join(", "),
    };
    Failure::Arguments(format!(
        "{}: wanted {wanted}; found {found}",
        root.display()
    ))
}

/// A tree in MVTec-AD's manner: `<class>/train/<good>`, `<class>/test/<good or defect>`, `<class>/ground_truth/<defect>`.
pub(super) struct ClassTree {
    /// The folder of normal pictures.
    pub(super) good: &'static str,
    /// What the tree looks like, for people.
    pub(super) wanted: &'static str,
}

impl ClassTree {
    /// Every picture under `root`, which holds the classes or is one.
    pub(super) fn find(&self, root: &Path) -> Outcome<Vec<Found>> {
        let classes: Vec<_> = match self.is_class(root) {
            true => vec![root.into()],
            false => folders(root)?
                .into_iter()
                .filter(|path| self.is_class(path))
                .collect(),
        };
        let mut found = Vec::new();
        for class in &classes {
            self.class(class, &mut found)?;
        }
        if found.is_empty() {
            return Err(not_the_layout(root, self.wanted));
        }
        Ok(found)
    }

    fn is_class(&self, path: &Path) -> bool {
        path.join("test").is_dir() && path.join("train").join(self.good).is_dir()
    }

    fn class(&self, class: &Path, found: &mut Vec<Found>) -> Outcome {
        let mut add = |image, split, kind| {
            found.push(Found {
                image,
                class_name: name(class),
                split,
                kind,
            });
        };
        for image in pictures(&class.join("train").join(self.good))? {
            add(image, Split::Train, Kind::Normal);
        }
        for folder in folders(&class.join("test"))? {
            let masks = Masks::of(&class.join("ground_truth").join(name(&folder)))?;
            for image in pictures(&folder)? {
                let kind = match name(&folder) == self.good {
                    true => Kind::Normal,
                    false => Kind::Anomalous(masks.get(&image)),
                };
                add(image, Split::Test, kind);
            }
        }
        Ok(())
    }
}

/// A set of anomalous pictures in one folder and their masks, called the same, in another.
pub(super) struct Pairs {
    /// The class of all of them.
    pub(super) class_name: &'static str,
    /// Folders that hold the two, seen from the root: the root itself is `""`.
    pub(super) within: &'static [&'static str],
    /// What the folder of pictures may be called, in any case.
    pub(super) images: &'static [&'static str],
    /// What the folder of masks may be called, in any case.
    pub(super) masks: &'static [&'static str],
    /// What the tree looks like, for people.
    pub(super) wanted: &'static str,
}

impl Pairs {
    /// Every picture under `root`.
    pub(super) fn find(&self, root: &Path) -> Outcome<Vec<Found>> {
        for within in self.within {
            let directory = root.join(within);
            if !directory.is_dir() {
                continue;
            }
            let images = folder(&directory, self.images)?;
            let masks = folder(&directory, self.masks)?;
            if let (Some(images), Some(masks)) = (images, masks) {
                return self.pairs(root, &images, &masks);
            }
        }
        Err(not_the_layout(root, self.wanted))
    }

    fn pairs(&self, root: &Path, images: &Path, masks: &Path) -> Outcome<Vec<Found>> {
        let masks = Masks::of(masks)?;
        let found: Vec<_> = pictures(images)?
            .into_iter()
            .map(|image| Found {
                kind: Kind::Anomalous(masks.get(&image)),
                image,
                class_name: self.class_name.into(),
                split: Split::Test,
            })
            .collect();
        match found.is_empty() {
            true => Err(not_the_layout(root, self.wanted)),
            false => Ok(found),
        }
    }
}
