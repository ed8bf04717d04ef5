//! Attention in bf16, summed up in f32: how [`super::heads`] lays it out and multiplies.

use std::cell::Cell;

use half::bf16;

use super::{
    bf16::{Bf16Rows, round},
    heads::{self, Arithmetic, Head, Kept, Scores, Weights},
    larger, reduce,
    unsafe_tiles::{DEPTH, Left, Out, SIDE, Session, Unit, multiply},
    unsafe_weights, widest,
};

thread_local! {
    static HEAD: Cell<Head<bf16>> = Cell::default();
    static SCORES: Cell<Scores<bf16>> = Cell::default();
}

/// What attention works with, kept from block to block.
pub(crate) type Mixing = heads::Mixing<Bf16Rows, bf16>;

/// Of a unit's products.
pub(crate) struct Pairs(pub(super) Unit);

impl Arithmetic for Pairs {
    type Number = bf16;
    type Rows = Bf16Rows;
    type Session = Session;

    const DEPTH: usize = DEPTH;

    fn session(&self) -> Session {
        Session::new(self.0)
    }

    fn kept() -> &'static Kept<bf16> {
        &Kept {
            head: &HEAD,
            scores: &SCORES,
        }
    }

    fn part(rows: &Bf16Rows, i: usize, column: usize, width: usize) -> &[bf16] {
        rows.part(i, column, width)
    }

    /// Each pair of a key's numbers to its place in its panel, [head / 2, 32, 2].
    fn pack_keys<'a>(panels: &mut [bf16], width: usize, keys: impl Iterator<Item = &'a [bf16]>) {
        let depth = width.next_multiple_of(DEPTH);
        for (token, key) in keys.enumerate() {
            let panel = &mut panels[token / SIDE * SIDE * depth..][..SIDE * depth];
            let lines = panel.chunks_exact_mut(2 * SIDE);
            let (pairs, rest) = key.as_chunks::<2>();
            let at = 2 * (token % SIDE);
            for (line, pair) in lines.zip(pairs) {
                line[at..at + 2].copy_from_slice(pair);
            }
            if let [last] = rest {
                panel[pairs.len() * 2 * SIDE + at] = *last;
            }
        }
    }

    /// The values of each two tokens number by number, into their panels, [len / 2, 32, 2].
    fn pack_values<'a>(panels: &mut [bf16], len: usize, value: impl Fn(usize) -> &'a [bf16]) {
        let depth = len.next_multiple_of(DEPTH);
        let width = value(0).len();
        let none = vec![bf16::ZERO; width];
        for (number, panel) in panels.chunks_exact_mut(depth * SIDE).enumerate() {
            let columns = number * SIDE..width.min((number + 1) * SIDE);
            for (line, token) in panel.chunks_exact_mut(2 * SIDE).zip((0..len).step_by(2)) {
                let first = &value(token)[columns.clone()];
                let second = if token + 1 < len {
                    value(token + 1)
                } else {
                    &none
                };
                let (pairs, _) = line.as_chunks_mut::<2>();
                let numbers = first.iter().zip(&second[columns.clone()]);
                for (pair, (first, second)) in pairs.iter_mut().zip(numbers) {
                    *pair = [*first, *second];
                }
            }
        }
    }

    fn score(
        session: &Session,
        rows: &Bf16Rows,
        (row, column, count): (usize, usize, usize),
        panel: &[bf16],
        out: Out<'_>,
    ) {
        multiply(session, rows.from(row, column, count), panel, None, out);
    }

    fn weigh(session: &Session, weights: &mut Weights<bf16>, rows: usize, len: usize) {
        let (all, stride) = (weights.scores.len(), weights.stride());
        if weights.rounded.len() != all {
            weights.rounded.reset(all);
        }
        widest(
            #[inline(always)]
            || {
                let scores = weights.scores.chunks_exact_mut(stride);
                let rounded = weights.rounded.chunks_exact_mut(stride);
                let of_rows = scores.zip(rounded).zip(&mut weights.sums);
                for ((scores, rounded), sum) in of_rows.take(rows) {
                    scores[len..].fill(f32::NEG_INFINITY);
                    let largest = reduce(scores, f32::NEG_INFINITY, |x| x, larger);
                    *sum = unsafe_weights::weights(session, scores, largest, rounded);
                }
            },
        );
    }

    fn mix(
        session: &Session,
        weights: &Weights<bf16>,
        (row, rows): (usize, usize),
        panel: &[bf16],
        out: Out<'_>,
    ) {
        let stride = weights.stride();
        let weights = Left {
            values: &weights.rounded[row * stride..],
            stride,
            rows,
        };
        multiply(session, weights, panel, None, out);
    }

    #[inline(always)]
    fn round(x: f32) -> bf16 {
        round(x)
    }
}
