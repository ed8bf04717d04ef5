//! What training makes small (equations 7 and 8): focal and Dice losses of the map, cross-entropy of the class.

use candle_core::{DType, Result, Tensor};

use super::recipe::LossPart;

/// How far the focal loss keeps one-hot targets from 0 and 1, and what it adds to probabilities.
const SMOOTH: f64 = 1e-5;

/// What the Dice loss adds to both sides of its fraction.
const DICE_SMOOTH: f64 = 1.0;

/// The loss of a batch and its parts, unweighted: scalars, in the graph.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    /// The weighted sum.
    pub(crate) total: Tensor,
    /// Focal loss of the map.
    pub(crate) focal: Tensor,
    /// Dice loss of the normal map.
    pub(crate) dice_normal: Tensor,
    /// Dice loss of the abnormal map.
    pub(crate) dice_abnormal: Tensor,
    /// Cross-entropy of the class logits.
    pub(crate) class: Tensor,
}

impl Loss {
    /// Of probabilities `map` [B, 2, H, W] against `mask` [B, H, W] of 0 and 1, and of `logits` [B, 2] against `labels` [B] (u32).
    pub(crate) fn of(
        weights: &LossPart,
        map: &Tensor,
        mask: &Tensor,
        logits: &Tensor,
        labels: &Tensor,
    ) -> Result<Self> {
        let normal = map.narrow(1, 0, 1)?.squeeze(1)?; // [B, H, W]
        let abnormal = map.narrow(1, 1, 1)?.squeeze(1)?;
        let clear = mask.affine(-1.0, 1.0)?;
        let focal = focal(&normal, &abnormal, mask)?;
        let dice_normal = dice(&normal, &clear)?;
        let dice_abnormal = dice(&abnormal, mask)?;
        let class = candle_nn::loss::cross_entropy(logits, labels)?;
        let parts = [
            (&class, weights.class),
            (&focal, weights.focal),
            (&dice_normal, weights.dice_normal),
            (&dice_abnormal, weights.dice_abnormal),
        ];
        let mut total = (parts[0].0 * parts[0].1)?;
        for (part, weight) in &parts[1..] {
            total = (total + (*part * *weight)?)?;
        }
        Ok(Self {
            total,
            focal,
            dice_normal,
            dice_abnormal,
            class,
        })
    }

    /// Its numbers, in the order of [`Parts::NAMES`].
    pub(crate) fn parts(&self) -> Result<Parts> {
        let number = |t: &Tensor| t.to_dtype(DType::F32)?.to_scalar::<f32>().map(f64::from);
        Ok(Parts([
            number(&self.total)?,
            number(&self.focal)?,
            number(&self.dice_normal)?,
            number(&self.dice_abnormal)?,
            number(&self.class)?,
        ]))
    }
}

/// A loss as numbers: total, focal, both Dice losses, class.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Parts(pub(crate) [f64; 5]);

impl Parts {
    /// What its numbers are called.
    pub(crate) const NAMES: [&'static str; 5] =
        ["loss", "focal", "dice_normal", "dice_abnormal", "class"];

    /// The weighted sum.
    pub(crate) fn total(&self) -> f64 {
        self.0[0]
    }

    /// Whether none of them is infinite or not a number.
    pub(crate) fn is_finite(&self) -> bool {
        self.0.iter().all(|part| part.is_finite())
    }

    /// Adds `weight` times `other`.
    pub(crate) fn add(&mut self, other: &Self, weight: f64) {
        for (sum, part) in self.0.iter_mut().zip(other.0) {
            *sum += part * weight;
        }
    }

    /// Each divided by `count`.
    pub(crate) fn over(&self, count: f64) -> Self {
        Self(self.0.map(|part| part / count))
    }
}

/// `-(1 - p)^2 log p`, mean over pixels, where p is the dot product of the softened one-hot target with the probabilities, plus 1e-5.
fn focal(normal: &Tensor, abnormal: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let slope = 1.0 - 2.0 * SMOOTH;
    let is_abnormal = mask.affine(slope, SMOOTH)?;
    let is_normal = mask.affine(-slope, 1.0 - SMOOTH)?;
    let p = (((normal * is_normal)? + (abnormal * is_abnormal)?)? + SMOOTH)?;
    (p.affine(-1.0, 1.0)?.sqr()? * p.log()?)?.mean_all()?.neg()
}

/// One minus twice the overlap over the sum, a picture at a time, then the mean: [B, H, W] twice -> scalar.
fn dice(map: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let sum = |t: &Tensor| t.flatten_from(1)?.sum(1);
    let overlap = sum(&(map * mask)?)?.affine(2.0, DICE_SMOOTH)?;
    let both = ((sum(map)? + sum(mask)?)? + DICE_SMOOTH)?;
    (overlap / both)?.mean_all()?.affine(-1.0, 1.0)
}
