//! Multi-head attention in bf16, summed up in f32: 64 queries of a head at a time against all its keys, whose scores stay in a core's cache.

use std::cell::Cell;

use half::bf16;
use rayon::prelude::*;

use super::{
    aligned::Aligned,
    attention::Shape,
    bf16::{Bf16Rows, round},
    larger, reduce,
    unsafe_tiles::{DEPTH, Left, Out, SIDE, Session, Unit, multiply},
    unsafe_weights, widest,
};

/// Queries that each panel of keys and values is used for while it is in the nearest cache.
const BLOCK: usize = 2 * SIDE;

/// Queries of a task.
const QUERIES: usize = 4 * BLOCK;

/// What attention works with, kept from block to block.
#[derive(Default)]
pub(crate) struct Mixing {
    /// Queries (already divided by the root of the head's width), keys and values, [batch * len, 3 * heads * head].
    pub(super) qkv: Bf16Rows,
    /// [batch, heads, len, head]
    mixed: Vec<bf16>,
}

thread_local! {
    // Each thread's, from frame to frame: memory that is new every time costs a page fault every few thousand numbers.
    static HEAD: Cell<Head> = Cell::default();
    static SCORES: Cell<Scores> = Cell::default();
}

/// What a thread works with: one head's keys and values as panels.
#[derive(Default)]
struct Head {
    /// [len / 32, head / 2, 32, 2]
    keys: Aligned<bf16>,
    /// [head / 32, len / 2, 32, 2]
    values: Aligned<bf16>,
}

impl Head {
    /// Each pair of a key's numbers to its place in its panel.
    fn pack_keys<'a>(&mut self, (width, len): (usize, usize), key: impl Fn(usize) -> &'a [bf16]) {
        let depth = width.next_multiple_of(DEPTH);
        self.keys.reset(len.next_multiple_of(SIDE) * depth);
        for token in 0..len {
            let panel = &mut self.keys[token / SIDE * SIDE * depth..][..SIDE * depth];
            let lines = panel.chunks_exact_mut(2 * SIDE);
            let (pairs, rest) = key(token).as_chunks::<2>();
            let at = 2 * (token % SIDE);
            for (line, pair) in lines.zip(pairs) {
                line[at..at + 2].copy_from_slice(pair);
            }
            if let [last] = rest {
                panel[pairs.len() * 2 * SIDE + at] = *last;
            }
        }
    }

    /// The values of each two tokens number by number, into their panels.
    fn pack_values<'a>(
        &mut self,
        (width, len): (usize, usize),
        value: impl Fn(usize) -> &'a [bf16],
    ) {
        let depth = len.next_multiple_of(DEPTH);
        self.values.reset(width.next_multiple_of(SIDE) * depth);
        let none = vec![bf16::ZERO; width];
        for (number, panel) in self.values.chunks_exact_mut(depth * SIDE).enumerate() {
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
}

/// What a thread works with for a block of queries.
struct Scores {
    /// [64, len], the latter rounded up to a multiple of 32
    scores: Aligned<f32>,
    /// Their exponentials.
    weights: Aligned<bf16>,
    /// Of each query's exponentials.
    sums: [f32; BLOCK],
    /// [32, 32], what the weights make of the values.
    mixed: Aligned<f32>,
}

impl Default for Scores {
    fn default() -> Self {
        Self {
            scores: Aligned::default(),
            weights: Aligned::default(),
            sums: [0.0; BLOCK],
            mixed: Aligned::default(),
        }
    }
}

/// Mixes the values of `mixing.qkv`: [batch, heads, len, head].
pub(super) fn mix(unit: Unit, shape: Shape, mixing: &mut Mixing) -> &[bf16] {
    let Shape {
        batch,
        len,
        heads,
        head,
    } = shape;
    let Mixing { qkv, mixed } = mixing;
    mixed.resize(batch * heads * len * head, bf16::ZERO);
    let padded = len.next_multiple_of(SIDE);
    let of_a_head = mixed.par_chunks_mut(len * head).enumerate();
    of_a_head.for_each(|(i, out)| {
        let one = One {
            qkv,
            first: i / heads * len,
            column: i % heads * head,
            shape,
        };
        let mut packed = HEAD.take();
        one.pack(&mut packed);
        let of_a_task = out.par_chunks_mut(QUERIES * head).enumerate();
        of_a_task.for_each(|(task, out)| {
            let mut scores = SCORES.take();
            scores.resize(padded);
            let mixed = Mixed {
                first: task * QUERIES,
                out,
            };
            one.mix(unit, &packed, &mut scores, mixed);
            SCORES.set(scores);
        });
        HEAD.set(packed);
    });
    mixed
}

impl Scores {
    /// For so many keys, a multiple of 32. What is in it is anything.
    fn resize(&mut self, keys: usize) {
        if self.scores.len() != BLOCK * keys {
            self.scores.reset(BLOCK * keys);
            self.weights.reset(BLOCK * keys);
            self.mixed.reset(SIDE * SIDE);
        }
    }
}

/// Where the mixed values of some queries of a head go.
struct Mixed<'a> {
    /// The first query.
    first: usize,
    /// [queries, head]
    out: &'a mut [bf16],
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct One<'a> {
    qkv: &'a Bf16Rows,
    /// The row of its first token.
    first: usize,
    /// The column of its queries.
    column: usize,
    shape: Shape,
}

impl One<'_> {
    /// Lays out keys and values.
    fn pack(&self, to: &mut Head) {
        let Shape { len, head, .. } = self.shape;
        let width = self.shape.width();
        let part = |token: usize, kind: usize| {
            let column = kind * width + self.column;
            self.qkv.part(self.first + token, column, head)
        };
        to.pack_keys((head, len), |token| part(token, 1));
        to.pack_values((head, len), |token| part(token, 2));
    }

    /// The mixed values of some queries, a block at a time.
    fn mix(&self, unit: Unit, head: &Head, scores: &mut Scores, to: Mixed<'_>) {
        let session = Session::new(unit);
        let blocks = to.out.chunks_mut(BLOCK * self.shape.head);
        for (number, out) in blocks.enumerate() {
            self.block(&session, head, to.first + number * BLOCK, scores, out);
        }
    }

    /// Those of the queries from `query` on, as many as `out`, [n, head], takes.
    fn block(
        &self,
        session: &Session,
        head: &Head,
        query: usize,
        scores: &mut Scores,
        out: &mut [bf16],
    ) {
        let (len, width) = (self.shape.len, self.shape.head);
        let padded = len.next_multiple_of(SIDE);
        let count = out.len() / width;
        let parts = || {
            (0..count)
                .step_by(SIDE)
                .map(|row| (row, SIDE.min(count - row)))
        };
        let depth = width.next_multiple_of(DEPTH);
        for (number, panel) in head.keys.chunks_exact(depth * SIDE).enumerate() {
            for (row, rows) in parts() {
                let queries = self.qkv.from(self.first + query + row, self.column, rows);
                let out = Out {
                    values: &mut scores.scores[row * padded + number * SIDE..],
                    stride: padded,
                };
                multiply(session, queries, panel, None, out);
            }
        }
        widest(
            #[inline(always)]
            || scores.softmax(session, count, len),
        );
        for (number, panel) in head.values.chunks_exact(padded * SIDE).enumerate() {
            for (row, rows) in parts() {
                let weights = Left {
                    values: &scores.weights[row * padded..],
                    stride: padded,
                    rows,
                };
                let whole = Out {
                    values: &mut scores.mixed,
                    stride: SIDE,
                };
                multiply(session, weights, panel, None, whole);
                widest(
                    #[inline(always)]
                    || {
                        let out = out[row * width..].chunks_exact_mut(width);
                        let sums = &scores.sums[row..row + rows];
                        for ((out, mixed), sum) in
                            out.zip(scores.mixed.chunks_exact(SIDE)).zip(sums)
                        {
                            let factor = 1.0 / sum;
                            for (out, x) in out[number * SIDE..].iter_mut().zip(mixed) {
                                *out = round(x * factor);
                            }
                        }
                    },
                );
            }
        }
    }
}

impl Scores {
    /// Exponentials and their sums of the first rows, `len` numbers each: a softmax but for the division. What is beyond has weight zero.
    #[inline(always)]
    fn softmax(&mut self, session: &Session, count: usize, len: usize) {
        let padded = self.scores.len() / BLOCK;
        let rows = self.scores.chunks_exact_mut(padded);
        let rows = rows.zip(self.weights.chunks_exact_mut(padded));
        for ((scores, weights), sum) in rows.zip(&mut self.sums).take(count) {
            scores[len..].fill(f32::NEG_INFINITY);
            let largest = reduce(scores, f32::NEG_INFINITY, |x| x, larger);
            *sum = unsafe_weights::weights(session, scores, largest, weights);
        }
    }
}
