//! Attention in 32-bit floats where the machine has AVX-512: how [`super::heads`] lays it out and multiplies.
//!
//! [`super::attention`] is what other machines do.

use std::cell::Cell;

use super::{
    LANES,
    exp::exp_fused,
    floats::FloatsRows,
    heads::{self, Arithmetic, Head, Kept, Scores, Weights},
    larger, reduce,
    unsafe_floats::{Left, Unit, multiply},
    unsafe_tiles::{Out, SIDE},
    widest,
};

thread_local! {
    static HEAD: Cell<Head<f32>> = Cell::default();
    static SCORES: Cell<Scores<f32>> = Cell::default();
}

/// What attention works with, kept from block to block.
pub(crate) type Mixing = heads::Mixing<FloatsRows, f32>;

/// Of a unit's products.
pub(crate) struct Singles(pub(super) Unit);

impl Arithmetic for Singles {
    type Number = f32;
    type Rows = FloatsRows;
    type Session = Unit;

    const DEPTH: usize = 1;

    fn session(&self) -> Unit {
        self.0
    }

    fn kept() -> &'static Kept<f32> {
        &Kept {
            head: &HEAD,
            scores: &SCORES,
        }
    }

    fn part(rows: &FloatsRows, i: usize, column: usize, width: usize) -> &[f32] {
        &rows.from(i, column, 1).values[..width]
    }

    /// Each of a key's numbers to its place in its panel, [head, 32].
    fn pack_keys<'a>(panels: &mut [f32], width: usize, keys: impl Iterator<Item = &'a [f32]>) {
        for (token, key) in keys.enumerate() {
            let panel = &mut panels[token / SIDE * SIDE * width..];
            for (line, x) in panel.chunks_exact_mut(SIDE).zip(key) {
                line[token % SIDE] = *x;
            }
        }
    }

    /// The values of each token into their panels, [len, 32].
    fn pack_values<'a>(panels: &mut [f32], len: usize, value: impl Fn(usize) -> &'a [f32]) {
        for (number, panel) in panels.chunks_exact_mut(len * SIDE).enumerate() {
            for (token, line) in panel.chunks_exact_mut(SIDE).enumerate() {
                for (to, x) in line.iter_mut().zip(&value(token)[number * SIDE..]) {
                    *to = *x;
                }
            }
        }
    }

    fn score(
        unit: &Unit,
        rows: &FloatsRows,
        (row, column, count): (usize, usize, usize),
        panel: &[f32],
        out: Out<'_>,
    ) {
        multiply(
            *unit,
            rows.from(row, column, count),
            panel,
            &[0.0; SIDE],
            out,
        );
    }

    fn weigh(_: &Unit, weights: &mut Weights<f32>, rows: usize, len: usize) {
        let stride = weights.stride();
        widest(
            #[inline(always)]
            || {
                let scores = weights.scores.chunks_exact_mut(stride);
                for (scores, sum) in scores.zip(&mut weights.sums).take(rows) {
                    *sum = exponentials(&mut scores[..len]);
                }
            },
        );
    }

    fn mix(
        unit: &Unit,
        weights: &Weights<f32>,
        (row, rows): (usize, usize),
        panel: &[f32],
        out: Out<'_>,
    ) {
        let stride = weights.stride();
        let weights = Left {
            values: &weights.scores[row * stride..],
            stride,
            rows,
        };
        multiply(*unit, weights, panel, &[0.0; SIDE], out);
    }

    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

/// `e^(x - the largest)` in place of each x; their sum.
#[inline(always)]
fn exponentials(row: &mut [f32]) -> f32 {
    let largest = reduce(row, f32::NEG_INFINITY, |x| x, larger);
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp_fused(*x - largest);
            *sum += *x;
        }
    }
    let mut sum = sums.iter().sum();
    for x in rest {
        *x = exp_fused(*x - largest);
        sum += *x;
    }
    sum
}
