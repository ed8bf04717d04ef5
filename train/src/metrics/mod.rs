//! Exact ranking metrics: AUROC, average precision, best F1 and AUPRO, in one descending pass over all scores.
//!
//! Nothing is binned. Scores are `f32`, as the network gives them; each becomes a 32-bit key that sorts as the score does, and the keys
//! are sorted outside memory where they are many (see [`sorted`]). Walking them from the highest down, every distinct score is a
//! threshold: all pixels of equal score cross it together. That one walk gives
//!
//! - AUROC: the area under (FPR, TPR) by trapezoids, which counts a tie as half; in integers, so exact;
//! - AP: the sum of precision times the gain in recall, as scikit-learn's `average_precision_score`;
//! - F1-max: the largest F1 over all thresholds;
//! - AUPRO: the area under (FPR, PRO) up to an FPR of 0.3, divided by 0.3. PRO is the mean over all anomalous regions of the part of
//!   each that is found, a region being 8-connected, and FPR counts the normal pixels of all pictures: as in the evaluation code that
//!   MVTec publishes with its sets. Each anomalous pixel adds 1 / (its region's pixels * the number of regions).
//!
//! Where all pictures or pixels have one label there is no ranking, and every metric is `None`.

use std::io;

use sorted::{Descending, Runs};

pub(crate) mod regions;
mod sorted;
#[cfg(test)]
mod tests;

/// The false positive rate up to which AUPRO is taken.
const PRO_LIMIT: f64 = 0.3;

/// Between two points of a [`Curves`] curve lies at least this much of one axis.
const CURVE_STEP: f64 = 1.0 / 400.0;

/// Why scores could not be ranked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A score that is above, below and equal to nothing.
    #[error("wanted a number for a score, found NaN")]
    NotANumber,
    /// The temporary files in which scores are sorted.
    #[error("a temporary file for sorting scores: {0}")]
    Io(#[from] io::Error),
}

/// What a ranking is worth. All `None` where there is one label only.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Summary {
    /// Area under the ROC curve.
    pub(crate) auroc: Option<f64>,
    /// Average precision.
    pub(crate) ap: Option<f64>,
    /// Area under the PRO curve up to an FPR of 0.3, as a part of 0.3. Means something for pixels only.
    pub(crate) aupro: Option<f64>,
    /// Largest F1 over all thresholds.
    pub(crate) f1_max: Option<f64>,
    /// For drawing.
    pub(crate) curves: Curves,
}

/// Points of the curves behind the areas, thinned out for drawing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Curves {
    /// False positive rate, true positive rate.
    pub(crate) roc: Vec<(f64, f64)>,
    /// Recall, precision.
    pub(crate) pr: Vec<(f64, f64)>,
}

/// Scores with labels, to be ranked.
#[derive(Debug)]
pub(crate) struct Scores {
    /// Keys of normal ones.
    normal: Runs<u32>,
    /// Keys of anomalous ones in the high half, the size of the pixel's region in the low one.
    anomalous: Runs<u64>,
}

impl Default for Scores {
    fn default() -> Self {
        Self::with_run_length(sorted::RUN_LENGTH)
    }
}

impl Scores {
    /// Scores of which `length` of each label are held in memory before they go to a temporary file.
    pub(crate) fn with_run_length(length: usize) -> Self {
        Self {
            normal: Runs::new(length),
            anomalous: Runs::new(length),
        }
    }

    /// Adds the score of something normal.
    pub(crate) fn add_normal(&mut self, score: f32) -> Result<(), Error> {
        Ok(self.normal.push(key(score)?)?)
    }

    /// Adds the score of something anomalous: a pixel of a region of `region` pixels, or a picture, whose region is itself.
    pub(crate) fn add_anomalous(&mut self, score: f32, region: u32) -> Result<(), Error> {
        let record = u64::from(key(score)?) << 32 | u64::from(region);
        Ok(self.anomalous.push(record)?)
    }

    /// Ranks them all. `regions` is the number of anomalous regions.
    pub(crate) fn summary(self, regions: u64) -> Result<Summary, Error> {
        let totals = Totals {
            normal: self.normal.len(),
            anomalous: self.anomalous.len(),
            regions: regions as f64,
        };
        if totals.normal == 0 || totals.anomalous == 0 {
            return Ok(Summary::default());
        }
        let mut groups = Groups::new(self.normal.descending()?, self.anomalous.descending()?)?;
        let mut walk = Walk::new(totals);
        while let Some(group) = groups.next()? {
            walk.step(&group);
        }
        Ok(walk.summary())
    }
}

/// A key that sorts as `score` does. Zero has one key, whatever its sign.
fn key(score: f32) -> Result<u32, Error> {
    if score.is_nan() {
        return Err(Error::NotANumber);
    }
    const SIGN: u32 = 1 << 31;
    let bits = (score + 0.0).to_bits();
    Ok(match bits & SIGN {
        0 => bits | SIGN,
        _ => !bits,
    })
}

/// Everything that has one score.
#[derive(Debug, Default)]
struct Group {
    normal: u64,
    anomalous: u64,
    /// Sum over the anomalous pixels of 1 / (size of its region).
    overlap: f64,
}

/// Groups of equal scores, the highest first.
struct Groups {
    normal: Descending<u32>,
    anomalous: Descending<u64>,
    next_normal: Option<u32>,
    next_anomalous: Option<u64>,
}

impl Groups {
    fn new(mut normal: Descending<u32>, mut anomalous: Descending<u64>) -> io::Result<Self> {
        Ok(Self {
            next_normal: normal.next()?,
            next_anomalous: anomalous.next()?,
            normal,
            anomalous,
        })
    }

    fn next(&mut self) -> io::Result<Option<Group>> {
        let score = |record: u64| (record >> 32) as u32;
        let Some(top) = self.next_normal.max(self.next_anomalous.map(score)) else {
            return Ok(None);
        };
        let mut group = Group::default();
        while self.next_normal == Some(top) {
            group.normal += 1;
            self.next_normal = self.normal.next()?;
        }
        while let Some(record) = self.next_anomalous.filter(|record| score(*record) == top) {
            group.anomalous += 1;
            group.overlap += 1.0 / f64::from(record as u32);
            self.next_anomalous = self.anomalous.next()?;
        }
        Ok(Some(group))
    }
}

/// How many there are of each label, and of regions.
#[derive(Debug, Clone, Copy)]
struct Totals {
    normal: u64,
    anomalous: u64,
    regions: f64,
}

/// The state of the pass: everything at or above the present threshold.
#[derive(Debug)]
struct Walk {
    totals: Totals,
    false_positives: u64,
    true_positives: u64,
    overlap: f64,
    /// Twice the area under the ROC curve, in pairs.
    twice_area: u128,
    ap: f64,
    f1_max: f64,
    pro_area: f64,
    curves: Curves,
}

impl Walk {
    fn new(totals: Totals) -> Self {
        Self {
            totals,
            false_positives: 0,
            true_positives: 0,
            overlap: 0.0,
            twice_area: 0,
            ap: 0.0,
            f1_max: 0.0,
            pro_area: 0.0,
            curves: Curves {
                roc: vec![(0.0, 0.0)],
                pr: Vec::new(),
            },
        }
    }

    fn step(&mut self, group: &Group) {
        let before = (self.fpr(), self.pro());
        self.twice_area +=
            u128::from(group.normal) * u128::from(2 * self.true_positives + group.anomalous);
        self.false_positives += group.normal;
        self.true_positives += group.anomalous;
        self.overlap += group.overlap;
        self.pro_area += pro_strip(before, (self.fpr(), self.pro()));
        if group.anomalous > 0 {
            let all = self.totals.anomalous;
            self.ap += group.anomalous as f64 / all as f64 * self.precision();
            let flagged = self.true_positives + self.false_positives;
            let f1 = 2.0 * self.true_positives as f64 / (all + flagged) as f64;
            self.f1_max = self.f1_max.max(f1);
        }
        self.draw();
    }

    fn draw(&mut self) {
        let roc = (self.fpr(), self.recall());
        let pr = (self.recall(), self.precision());
        let is_last = roc == (1.0, 1.0);
        let far = |last: &(f64, f64), x: f64| (x - last.0).abs() >= CURVE_STEP;
        let up = |last: &(f64, f64), y: f64| (y - last.1).abs() >= CURVE_STEP;
        let curves = &mut self.curves;
        if is_last
            || curves
                .roc
                .last()
                .is_none_or(|last| far(last, roc.0) || up(last, roc.1))
        {
            curves.roc.push(roc);
        }
        // Precision may leap up and down without end where recall is small; only steps of recall are bounded in number.
        if is_last || curves.pr.last().is_none_or(|last| far(last, pr.0)) {
            curves.pr.push(pr);
        }
    }

    fn fpr(&self) -> f64 {
        self.false_positives as f64 / self.totals.normal as f64
    }

    fn recall(&self) -> f64 {
        self.true_positives as f64 / self.totals.anomalous as f64
    }

    fn precision(&self) -> f64 {
        self.true_positives as f64 / (self.true_positives + self.false_positives) as f64
    }

    fn pro(&self) -> f64 {
        self.overlap / self.totals.regions
    }

    fn summary(self) -> Summary {
        let pairs = self.totals.normal as f64 * self.totals.anomalous as f64;
        Summary {
            auroc: Some(self.twice_area as f64 / 2.0 / pairs),
            ap: Some(self.ap),
            aupro: Some(self.pro_area / PRO_LIMIT),
            f1_max: Some(self.f1_max),
            curves: self.curves,
        }
    }
}

/// Area under the PRO curve between two of its points (FPR, PRO), as far as it lies below the limit.
fn pro_strip((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> f64 {
    if x0 >= PRO_LIMIT || x1 <= x0 {
        return 0.0;
    }
    let x = x1.min(PRO_LIMIT);
    let y = y0 + (y1 - y0) * (x - x0) / (x1 - x0);
    (x - x0) * (y0 + y) / 2.0
}
