//! What there is to train on: the lines of the sets, which of them are taken, and which are drawn for an epoch in which order.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rand::{Rng, seq::SliceRandom};
use serde_json::{Map, Value};

use super::{
    random,
    recipe::{DataPart, OnBadImage, Recipe},
};
use crate::{
    dataset,
    outcome::{Failure, Outcome},
};

/// A picture of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The picture's file.
    pub(crate) image: PathBuf,
    /// The mask's file, for an abnormal picture.
    pub(crate) mask: Option<PathBuf>,
    /// What is shown.
    pub(crate) class: String,
    /// Number of the set in the recipe.
    pub(crate) set: usize,
}

impl Sample {
    /// Whether something is wrong in it.
    pub(crate) fn is_abnormal(&self) -> bool {
        self.mask.is_some()
    }
}

/// Samples that are trained on and samples kept apart.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Trained on.
    pub(crate) training: Vec<Sample>,
    /// Measured on.
    pub(crate) validation: Vec<Sample>,
    /// What was left out, and why.
    pub(crate) warnings: Vec<String>,
}

impl Samples {
    /// Reads the recipe's sets. An error if nothing is left to train on, or a file is not there and that is not to be skipped.
    pub(crate) fn read(recipe: &Recipe) -> Outcome<Self> {
        let mut all = Self::default();
        for (set, part) in recipe.data.iter().enumerate() {
            for sample in read_set(part, set)? {
                if !is_there(&sample, recipe, &mut all.warnings)? {
                    continue;
                }
                if kept_apart(&sample, &part.path, recipe.validation.fraction) {
                    all.validation.push(sample);
                } else if part.weight > 0.0 {
                    all.training.push(sample);
                }
            }
        }
        for part in &recipe.validation.data {
            for sample in read_set(part, 0)? {
                if is_there(&sample, recipe, &mut all.warnings)? {
                    all.validation.push(sample);
                }
            }
        }
        match (all.training.is_empty(), all.validation.is_empty()) {
            (true, _) => Err(Failure::Training(
                "the data sets have no picture to train on".into(),
            )),
            (_, true) if recipe.validation.is_wanted() => Err(Failure::Training(
                "no picture is left to validate on; raise validation.fraction, or name validation.data".into(),
            )),
            _ => Ok(all),
        }
    }
}

/// Whether the sample is kept apart: by a number between 0 and 1 that its path within the set makes.
fn kept_apart(sample: &Sample, set: &Path, fraction: f64) -> bool {
    let folder = folder_of(set);
    let name = sample.image.strip_prefix(folder).unwrap_or(&sample.image);
    let hash = random::hash(name.to_string_lossy().as_bytes());
    // FNV's low bits are its best mixed ones.
    (hash & 0xffff_ffff) as f64 / (u32::MAX as f64) < fraction
}

/// Whether its files are there; else an error or a warning, as the recipe says.
fn is_there(sample: &Sample, recipe: &Recipe, warnings: &mut Vec<String>) -> Outcome<bool> {
    let mask = sample.mask.as_ref();
    let empty = mask.is_some_and(|mask| mask.as_os_str().is_empty());
    let problem = if !sample.image.is_file() {
        format!("{}: no such picture", sample.image.display())
    } else if empty {
        format!(
            "{}: labelled abnormal, but its line names no mask",
            sample.image.display()
        )
    } else if let Some(mask) = mask.filter(|mask| !mask.is_file()) {
        format!("{}: no such mask", mask.display())
    } else {
        return Ok(true);
    };
    match recipe.loader.on_bad_image {
        OnBadImage::Error => Err(Failure::Training(format!(
            "{problem}; mend the set, or skip such pictures with loader.on_bad_image = \"skip\""
        ))),
        OnBadImage::Skip => {
            warnings.push(format!("{problem}; left out"));
            Ok(false)
        }
    }
}

fn folder_of(set: &Path) -> &Path {
    match set.is_dir() {
        true => set,
        false => set.parent().unwrap_or(Path::new(".")),
    }
}

fn read_set(part: &DataPart, set: usize) -> Outcome<Vec<Sample>> {
    let found = dataset::read_some(&part.path, |line| is_taken(line, part))?;
    let sample = |found: dataset::Sample| Sample {
        image: found.image,
        mask: found.anomalous.then(|| found.mask.unwrap_or_default()),
        class: found.class_name,
        set,
    };
    Ok(found.into_iter().map(sample).collect())
}

/// Whether the recipe wants that line of the set.
fn is_taken(line: &Map<String, Value>, part: &DataPart) -> bool {
    let matches = |(key, values): (&String, &Vec<Value>)| {
        line.get(key)
            .is_some_and(|found| values.iter().any(|wanted| is_like(found, wanted)))
    };
    part.only.iter().all(matches) && !part.without.iter().any(matches)
}

/// Whether a line's value is the wanted one, be it written 1, 1.0 or true; for texts, whether it contains it.
fn is_like(found: &Value, wanted: &Value) -> bool {
    if let (Value::String(found), Value::String(wanted)) = (found, wanted) {
        return found.contains(wanted.as_str());
    }
    match (number(found), number(wanted)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(u8::from(*truth).into()),
        other => other.as_f64(),
    }
}

/// Draws the pictures of an epoch: numbers of `samples`, in order.
///
/// Each set gives its share by weight; within a set no picture comes a second time before every one has come. With equal weights, no
/// balancing and no number given, that is every picture once.
pub(crate) fn draw(samples: &[Sample], recipe: &Recipe, epoch: usize) -> Vec<usize> {
    let schedule = &recipe.schedule;
    let mut random = random::stream(recipe.seed, "order", [epoch as u64, 0]);
    let pools = pools(samples, recipe);
    let wanted = match schedule.images_per_epoch {
        0 => samples.len(),
        count => count,
    };
    let is_plain = schedule.images_per_epoch == 0
        && !schedule.balance_labels
        && recipe
            .data
            .iter()
            .all(|part| part.weight == recipe.data[0].weight);
    let mut order = Vec::with_capacity(wanted);
    if is_plain {
        order.extend(0..samples.len());
    } else {
        let counts = shares(&pools, wanted);
        for ((_, members), count) in pools.iter().zip(counts) {
            take(members, count, &mut random, &mut order);
        }
    }
    order.shuffle(&mut random);
    order
}

/// Samples that are drawn from together, and the weight of each such pool.
fn pools(samples: &[Sample], recipe: &Recipe) -> Vec<(f64, Vec<usize>)> {
    let mut pools = BTreeMap::<(usize, bool), Vec<usize>>::new();
    for (i, sample) in samples.iter().enumerate() {
        let label = recipe.schedule.balance_labels && sample.is_abnormal();
        pools.entry((sample.set, label)).or_default().push(i);
    }
    let both = |set| pools.contains_key(&(set, false)) && pools.contains_key(&(set, true));
    pools
        .iter()
        .map(|((set, _), members)| {
            let weight = recipe.data.get(*set).map_or(1.0, |part| part.weight);
            let share = if both(*set) { 0.5 } else { 1.0 };
            (weight * share, members.clone())
        })
        .collect()
}

/// `wanted` cut into whole numbers in proportion to the pools' weights, the largest remainders rounded up.
fn shares(pools: &[(f64, Vec<usize>)], wanted: usize) -> Vec<usize> {
    let total: f64 = pools.iter().map(|(weight, _)| weight).sum();
    let exact: Vec<f64> = pools
        .iter()
        .map(|(weight, _)| wanted as f64 * weight / total)
        .collect();
    let mut counts: Vec<usize> = exact.iter().map(|share| share.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..exact.len()).collect();
    by_remainder.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let missing = wanted.saturating_sub(counts.iter().sum());
    for i in by_remainder.into_iter().cycle().take(missing) {
        counts[i] += 1;
    }
    counts
}

fn take(members: &[usize], count: usize, random: &mut impl Rng, order: &mut Vec<usize>) {
    let mut left = count;
    while left > 0 {
        let mut round = members.to_vec();
        round.shuffle(random);
        round.truncate(left);
        left -= round.len();
        order.append(&mut round);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(name: &str, set: usize, abnormal: bool) -> Sample {
        Sample {
            image: name.into(),
            mask: abnormal.then(|| "mask.png".into()),
            class: "rail".into(),
            set,
        }
    }

    fn recipe(weights: &[f64]) -> Recipe {
        let part = |weight: &f64| DataPart {
            weight: *weight,
            ..DataPart::of("set".into())
        };
        Recipe {
            data: weights.iter().map(part).collect(),
            ..Recipe::default()
        }
    }

    #[test]
    fn a_number_is_the_same_however_a_line_writes_it() {
        let part = |only: &str| -> DataPart {
            toml::from_str(&format!("path = \"set\"\n{only}")).unwrap()
        };
        let line = |json: &str| serde_json::from_str::<Map<String, Value>>(json).unwrap();
        for label in ["1", "1.0", "true"] {
            let line = line(&format!("{{\"label\": {label}, \"sequence\": 2.0}}"));
            assert!(is_taken(&line, &part("only = { label = [1] }")));
            assert!(!is_taken(&line, &part("only = { label = [0] }")));
            assert!(!is_taken(&line, &part("without = { sequence = [2, 3] }")));
            assert!(is_taken(
                &line,
                &part("without = { sequence = [3, \"2\"] }")
            ));
        }
    }

    #[test]
    fn by_default_every_picture_comes_once_in_another_order_each_epoch() {
        let samples: Vec<_> = (0..20)
            .map(|i| sample(&i.to_string(), i % 2, false))
            .collect();
        let recipe = recipe(&[1.0, 1.0]);
        let (first, second) = (draw(&samples, &recipe, 0), draw(&samples, &recipe, 1));
        assert_ne!(first, second);
        assert_eq!(first, draw(&samples, &recipe, 0));
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sets_share_an_epoch_by_weight_and_labels_by_halves() {
        let mut samples: Vec<_> = (0..3).map(|i| sample(&i.to_string(), 0, false)).collect();
        samples.push(sample("defect", 0, true));
        samples.extend((0..50).map(|i| sample(&format!("b{i}"), 1, true)));
        let mut recipe = recipe(&[3.0, 1.0]);
        recipe.schedule.images_per_epoch = 40;
        recipe.schedule.balance_labels = true;
        let order = draw(&samples, &recipe, 0);
        let count =
            |is: &dyn Fn(&Sample) -> bool| order.iter().filter(|i| is(&samples[**i])).count();
        assert_eq!(order.len(), 40);
        assert_eq!(count(&|s| s.set == 0), 30);
        assert_eq!(count(&|s| s.set == 0 && s.is_abnormal()), 15);
        // No picture of a pool a second time before all have come.
        for i in 0..3 {
            assert_eq!(order.iter().filter(|o| **o == i).count(), 5);
        }
    }

    #[test]
    fn lines_are_taken_and_left_out_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let lines = r#"{"image_path": "a_1.png", "label": 0, "class_name": "rail", "sequence": 1}
{"image_path": "a_2.png", "label": 1.0, "class_name": "rail", "mask_path": "m.png", "sequence": 2}

{"image_path": "b_3.png", "label": 0.0, "class_name": "rail", "mask_path": "", "sequence": 3}
"#;
        std::fs::write(folder.path().join("meta.jsonl"), lines).unwrap();
        let part: DataPart = toml::from_str(
            "path = \"x\"\nwithout = { sequence = [1, 7] }\nonly = { image_path = [\"a_\"] }",
        )
        .unwrap();
        let part = DataPart {
            path: folder.path().into(),
            ..part
        };
        let samples = read_set(&part, 4).unwrap();
        assert_eq!(
            samples,
            [Sample {
                image: folder.path().join("a_2.png"),
                mask: Some(folder.path().join("m.png")),
                class: "rail".into(),
                set: 4
            }]
        );
    }

    #[test]
    fn what_is_kept_apart_is_the_share_asked_for_and_always_the_same() {
        let apart = |fraction| {
            (0..2000)
                .map(|i| sample(&format!("/set/x/{i}.png"), 0, false))
                .filter(|s| kept_apart(s, Path::new("/set/meta.jsonl"), fraction))
                .count()
        };
        assert_eq!((apart(0.0), apart(1.0)), (0, 2000));
        assert!((150..250).contains(&apart(0.1)), "{}", apart(0.1));
    }
}
