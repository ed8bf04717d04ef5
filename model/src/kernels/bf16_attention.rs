//! Multi-head attention in bf16, summed up in f32: 32 queries of a head at a time against all its keys, whose scores stay in a core's cache.

use half::bf16;
use rayon::prelude::*;

use super::{
    aligned::Aligned,
    attention::Shape,
    bf16::{Bf16Rows, round},
    exp::exp_near,
    reduce,
    unsafe_tiles::{DEPTH, Left, Out, SIDE, Session, Unit, multiply, round_all},
    widest,
};

/// What attention works with, kept from block to block.
#[derive(Default)]
pub(crate) struct Mixing {
    /// Queries (already divided by the root of the head's width), keys and values, [batch * len, 3 * heads * head].
    pub(super) qkv: Bf16Rows,
    /// [batch, heads, len, head]
    mixed: Vec<bf16>,
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

/// What a thread works with for 32 queries.
#[derive(Default)]
struct Scores {
    /// [32, len], the latter rounded up to a multiple of 32
    scores: Aligned<f32>,
    /// Their exponentials.
    weights: Aligned<bf16>,
    /// Of each query's exponentials.
    sums: [f32; SIDE],
}

/// Mixes the values of `mixing.qkv` into rows for the output layer, [batch * len, heads * head].
pub(super) fn mix(unit: Unit, shape: Shape, mixing: &mut Mixing, next: &mut Bf16Rows) {
    let Shape {
        batch,
        len,
        heads,
        head,
    } = shape;
    let Mixing { qkv, mixed } = mixing;
    mixed.resize(batch * heads * len * head, bf16::ZERO);
    let (padded, blocks) = (len.next_multiple_of(SIDE), len.div_ceil(SIDE));
    mixed
        .par_chunks_mut(len * head)
        .enumerate()
        .for_each_init(Head::default, |kept, (i, out)| {
            let one = One {
                qkv,
                first: i / heads * len,
                column: i % heads * head,
                shape,
            };
            one.pack(kept);
            out.par_chunks_mut(SIDE * head)
                .enumerate()
                .with_min_len(blocks.div_ceil(4))
                .for_each_init(
                    || Scores::new(padded),
                    |scores, (block, out)| one.block(unit, kept, block * SIDE, scores, out),
                );
        });
    next.gather(batch * len, heads * head, |i, row| {
        let (sequence, token) = (i / len, i % len);
        for (number, part) in row.chunks_exact_mut(head).enumerate() {
            let at = ((sequence * heads + number) * len + token) * head;
            part.copy_from_slice(&mixed[at..at + head]);
        }
    });
}

impl Scores {
    fn new(padded: usize) -> Self {
        Self {
            scores: Aligned::zeros(SIDE * padded),
            weights: Aligned::zeros(SIDE * padded),
            sums: [0.0; SIDE],
        }
    }
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

    /// The mixed values of the queries from `query` on, as many as `out`, [n, head], takes.
    fn block(&self, unit: Unit, head: &Head, query: usize, scores: &mut Scores, out: &mut [bf16]) {
        let (len, width) = (self.shape.len, self.shape.head);
        let padded = len.next_multiple_of(SIDE);
        let count = out.len() / width;
        let session = Session::new(unit);
        let queries = self.qkv.from(self.first + query, self.column, count);
        let depth = width.next_multiple_of(DEPTH);
        for (panel, at) in head
            .keys
            .chunks_exact(depth * SIDE)
            .zip((0..).step_by(SIDE))
        {
            let out = Out {
                values: &mut scores.scores[at..],
                stride: padded,
            };
            multiply(&session, queries, panel, out);
        }
        widest(
            #[inline(always)]
            || scores.softmax(&session, count, len),
        );
        let mut mixed = Aligned::zeros(SIDE * SIDE);
        for (number, panel) in head.values.chunks_exact(padded * SIDE).enumerate() {
            let weights = Left {
                values: &scores.weights,
                stride: padded,
                rows: count,
            };
            let whole = Out {
                values: &mut mixed,
                stride: SIDE,
            };
            multiply(&session, weights, panel, whole);
            widest(
                #[inline(always)]
                || {
                    let rows = out.chunks_exact_mut(width).zip(mixed.chunks_exact(SIDE));
                    for ((out, mixed), sum) in rows.zip(&scores.sums) {
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

impl Scores {
    /// Exponentials and their sums of the first rows, `len` numbers each: a softmax but for the division. What is beyond has weight zero.
    #[inline(always)]
    fn softmax(&mut self, session: &Session, count: usize, len: usize) {
        let padded = self.scores.len() / SIDE;
        let rows = self.scores.chunks_exact_mut(padded);
        let rows = rows.zip(self.weights.chunks_exact_mut(padded));
        for ((scores, weights), sum) in rows.zip(&mut self.sums).take(count) {
            scores[len..].fill(f32::NEG_INFINITY);
            let largest = reduce(scores, f32::NEG_INFINITY, |x| x, f32::max);
            for score in scores.iter_mut() {
                *score = exp_near(*score - largest);
            }
            scores[len..].fill(0.0);
            *sum = reduce(scores, 0.0, |x| x, |a, b| a + b);
            round_all(session, scores, weights);
        }
    }
}
