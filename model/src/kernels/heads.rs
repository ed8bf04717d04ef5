//! Multi-head attention whose products are of panels, whatever multiplies: 64 queries of a head at a time against all its keys, whose scores
//! stay in a core's cache.

use std::{cell::Cell, thread::LocalKey};

use rayon::prelude::*;

use super::{
    aligned::Aligned,
    attention::Shape,
    unsafe_tiles::{Out, SIDE},
    widest,
};

/// Queries that each panel of keys and values is used for while it is in the nearest cache.
const BLOCK: usize = 2 * SIDE;

/// Most queries of a task.
const QUERIES: usize = 4 * BLOCK;

/// Tasks that there should be for each thread, so that the last one to end is not long alone.
const TASKS: usize = 2;

/// The arithmetic that attention computes in. What is done for each number ([`Self::weigh`], [`Self::round`]) is to be inlined.
pub(super) trait Arithmetic: Sync {
    /// What queries, keys, values and what is mixed of them are.
    type Number: Copy + Default + Send + Sync + 'static;

    /// Rows of those.
    type Rows: Sync;

    /// A thread's readiness to multiply.
    type Session;

    /// Inner numbers of a panel are rounded up to a multiple of this.
    const DEPTH: usize;

    fn session(&self) -> Self::Session;

    /// What each thread keeps from frame to frame: memory that is new every time costs a page fault every few thousand numbers.
    fn kept() -> &'static Kept<Self::Number>;

    /// The numbers of `width` of row `i` from `column` on.
    fn part(rows: &Self::Rows, i: usize, column: usize, width: usize) -> &[Self::Number];

    /// Lays a head's keys, of `width` numbers each, out as panels of 32 keys. The panels are zeros before.
    fn pack_keys<'a>(
        panels: &mut [Self::Number],
        width: usize,
        keys: impl Iterator<Item = &'a [Self::Number]>,
    );

    /// Lays the values of `len` tokens out as panels of 32 of their numbers. The panels are zeros before.
    fn pack_values<'a>(
        panels: &mut [Self::Number],
        len: usize,
        value: impl Fn(usize) -> &'a [Self::Number],
    );

    /// Products of queries, (the first's row and column, and how many), and a panel of keys.
    fn score(
        session: &Self::Session,
        rows: &Self::Rows,
        queries: (usize, usize, usize),
        panel: &[Self::Number],
        out: Out<'_>,
    );

    /// Exponentials and their sums of the first rows of scores, `len` numbers each: a softmax but for the division. Numbers beyond `len` get
    /// weight zero, or are not read by [`Self::mix`].
    fn weigh(session: &Self::Session, weights: &mut Weights<Self::Number>, rows: usize, len: usize);

    /// Products of weights, (the first row, and how many), and a panel of values.
    fn mix(
        session: &Self::Session,
        weights: &Weights<Self::Number>,
        rows: (usize, usize),
        panel: &[Self::Number],
        out: Out<'_>,
    );

    /// What is mixed, as the next layer wants it.
    fn round(x: f32) -> Self::Number;
}

/// What a thread keeps.
pub(super) struct Kept<N: 'static> {
    pub(super) head: &'static LocalKey<Cell<Head<N>>>,
    pub(super) scores: &'static LocalKey<Cell<Scores<N>>>,
}

/// What attention works with, kept from block to block.
#[derive(Default)]
pub(crate) struct Mixing<R, N> {
    /// Queries (already divided by the root of the head's width), keys and values, [batch * len, 3 * heads * head].
    pub(super) qkv: R,
    /// [batch, heads, len, head]
    mixed: Vec<N>,
}

/// One head's keys and values as panels.
pub(super) struct Head<N> {
    /// [len / 32, head, 32], both sizes rounded up, inner numbers as the products want them.
    keys: Aligned<N>,
    /// [head / 32, len, 32], likewise.
    values: Aligned<N>,
}

impl<N> Default for Head<N> {
    fn default() -> Self {
        Self {
            keys: Aligned::default(),
            values: Aligned::default(),
        }
    }
}

/// What a thread works with for a block of queries.
pub(super) struct Scores<N> {
    weights: Weights<N>,
    /// [32, 32], what the weights make of the values.
    mixed: Aligned<f32>,
}

/// Of a block of queries.
pub(super) struct Weights<N> {
    /// [64, len], the latter rounded up to a multiple of 32
    pub(super) scores: Aligned<f32>,
    /// Their exponentials, where those are not put in the scores' place.
    pub(super) rounded: Aligned<N>,
    /// Of each query's exponentials.
    pub(super) sums: [f32; BLOCK],
}

impl<N> Default for Scores<N> {
    fn default() -> Self {
        Self {
            weights: Weights {
                scores: Aligned::default(),
                rounded: Aligned::default(),
                sums: [0.0; BLOCK],
            },
            mixed: Aligned::default(),
        }
    }
}

impl<N> Scores<N> {
    /// For so many keys, a multiple of 32. What is in it is anything.
    fn resize(&mut self, keys: usize) {
        if self.weights.scores.len() != BLOCK * keys {
            self.weights.scores.reset(BLOCK * keys);
            self.mixed.reset(SIDE * SIDE);
        }
    }
}

impl<N> Weights<N> {
    /// From one row of scores to the next.
    pub(super) fn stride(&self) -> usize {
        self.scores.len() / BLOCK
    }
}

/// Mixes the values of `mixing.qkv`: [batch, heads, len, head].
pub(super) fn mix<'a, A: Arithmetic>(
    arithmetic: &A,
    shape: Shape,
    mixing: &'a mut Mixing<A::Rows, A::Number>,
) -> &'a [A::Number] {
    let Shape {
        batch,
        len,
        heads,
        head,
    } = shape;
    let Mixing { qkv, mixed } = mixing;
    mixed.resize(batch * heads * len * head, A::Number::default());
    let queries = queries_of_a_task(shape);
    let Kept {
        head: heads_kept,
        scores: scores_kept,
    } = A::kept();
    let of_a_head = mixed.par_chunks_mut(len * head).enumerate();
    of_a_head.for_each(|(i, out)| {
        let one = One::<A> {
            qkv,
            first: i / heads * len,
            column: i % heads * head,
            shape,
        };
        let mut packed = heads_kept.take();
        one.pack(&mut packed);
        let of_a_task = out.par_chunks_mut(queries * head).enumerate();
        of_a_task.for_each(|(task, out)| {
            let mut scores = scores_kept.take();
            scores.resize(len.next_multiple_of(SIDE));
            let mixed = Mixed {
                first: task * queries,
                out,
            };
            one.mix(&arithmetic.session(), &packed, &mut scores, mixed);
            scores_kept.set(scores);
        });
        heads_kept.set(packed);
    });
    mixed
}

/// Queries of a task, as many for each of a head's but for the last.
fn queries_of_a_task(shape: Shape) -> usize {
    let wanted = TASKS * rayon::current_num_threads();
    let tasks = wanted.div_ceil(shape.batch * shape.heads);
    let tasks = tasks.max(shape.len.div_ceil(QUERIES));
    shape.len.div_ceil(tasks).next_multiple_of(SIDE)
}

/// Where the mixed values of some queries of a head go.
struct Mixed<'a, N> {
    /// The first query.
    first: usize,
    /// [queries, head]
    out: &'a mut [N],
}

/// One head of one sequence.
struct One<'a, A: Arithmetic> {
    qkv: &'a A::Rows,
    /// The row of its first token.
    first: usize,
    /// The column of its queries.
    column: usize,
    shape: Shape,
}

impl<A: Arithmetic> One<'_, A> {
    /// Lays out keys and values.
    fn pack(&self, to: &mut Head<A::Number>) {
        let Shape { len, head, .. } = self.shape;
        let width = self.shape.width();
        let part = |token: usize, kind: usize| {
            A::part(
                self.qkv,
                self.first + token,
                kind * width + self.column,
                head,
            )
        };
        to.keys
            .reset(len.next_multiple_of(SIDE) * head.next_multiple_of(A::DEPTH));
        A::pack_keys(&mut to.keys, head, (0..len).map(|token| part(token, 1)));
        to.values
            .reset(head.next_multiple_of(SIDE) * len.next_multiple_of(A::DEPTH));
        A::pack_values(&mut to.values, len, |token| part(token, 2));
    }

    /// The mixed values of some queries, a block at a time.
    fn mix(
        &self,
        session: &A::Session,
        head: &Head<A::Number>,
        scores: &mut Scores<A::Number>,
        to: Mixed<'_, A::Number>,
    ) {
        let blocks = to.out.chunks_mut(BLOCK * self.shape.head);
        for (number, out) in blocks.enumerate() {
            self.block(session, head, to.first + number * BLOCK, scores, out);
        }
    }

    /// Those of the queries from `query` on, as many as `out`, [n, head], takes.
    fn block(
        &self,
        session: &A::Session,
        head: &Head<A::Number>,
        query: usize,
        scores: &mut Scores<A::Number>,
        out: &mut [A::Number],
    ) {
        let (len, width) = (self.shape.len, self.shape.head);
        let Scores { weights, mixed } = scores;
        let stride = weights.stride();
        let count = out.len() / width;
        let parts = || {
            (0..count)
                .step_by(SIDE)
                .map(|row| (row, SIDE.min(count - row)))
        };
        let keys = head
            .keys
            .chunks_exact(width.next_multiple_of(A::DEPTH) * SIDE);
        for (number, panel) in keys.enumerate() {
            for (row, rows) in parts() {
                let queries = (self.first + query + row, self.column, rows);
                let out = Out {
                    values: &mut weights.scores[row * stride + number * SIDE..],
                    stride,
                };
                A::score(session, self.qkv, queries, panel, out);
            }
        }
        A::weigh(session, weights, count, len);
        let values = head
            .values
            .chunks_exact(len.next_multiple_of(A::DEPTH) * SIDE);
        for (number, panel) in values.enumerate() {
            for (row, rows) in parts() {
                let whole = Out {
                    values: mixed,
                    stride: SIDE,
                };
                A::mix(session, weights, (row, rows), panel, whole);
                widest(
                    #[inline(always)]
                    || {
                        let out = out[row * width..].chunks_exact_mut(width);
                        let sums = &weights.sums[row..row + rows];
                        for ((out, mixed), sum) in out.zip(mixed.chunks_exact(SIDE)).zip(sums) {
                            let factor = 1.0 / sum;
                            for (out, x) in out[number * SIDE..].iter_mut().zip(mixed) {
                                *out = A::round(x * factor);
                            }
                        }
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use half::bf16;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{
        bf16::Bf16, bf16_attention::Pairs, dense::Dense, drawn, floats::Floats,
        floats_attention::Singles, unsafe_floats, unsafe_tiles,
    };

    /// Queries, keys and values between -2 and 2 that `seed` stands for, each a bf16 already.
    fn drawn_rows(shape: Shape, seed: u32) -> Vec<f32> {
        let count = shape.batch * shape.len * 3 * shape.width();
        let number = |i| bf16::from_f32(2.0 * drawn(i, seed)).to_f32();
        (0..count).map(number).collect()
    }

    /// Attention number by number, [batch, heads, len, head].
    fn plain(qkv: &[f32], shape: Shape) -> Vec<f32> {
        let Shape {
            batch,
            len,
            heads,
            head,
        } = shape;
        let part = |sequence: usize, token: usize, kind: usize, number: usize| {
            let row = (sequence * len + token) * 3 * shape.width();
            &qkv[row + kind * shape.width() + number * head..][..head]
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut mixed = Vec::new();
        for (sequence, number) in (0..batch).flat_map(|i| (0..heads).map(move |j| (i, j))) {
            for query in 0..len {
                let query = part(sequence, query, 0, number);
                let scores = (0..len).map(|key| dot(query, part(sequence, key, 1, number)));
                let weights: Vec<_> = scores.map(|score| f64::from(score).exp()).collect();
                let sum: f64 = weights.iter().sum();
                mixed.extend((0..head).map(|column| {
                    let value = |token| f64::from(part(sequence, token, 2, number)[column]);
                    let terms = weights.iter().enumerate();
                    (terms.map(|(i, weight)| weight * value(i)).sum::<f64>() / sum) as f32
                }));
            }
        }
        mixed
    }

    fn mixed<L: Dense, A: Arithmetic<Rows = L::Rows>>(
        arithmetic: &A,
        shape: Shape,
        qkv: &[f32],
        mixing: &mut Mixing<A::Rows, A::Number>,
    ) -> Vec<A::Number> {
        let width = 3 * shape.width();
        L::fill(&mut mixing.qkv, qkv.len() / width, width, |i, row| {
            row.copy_from_slice(&qkv[i * width..(i + 1) * width]);
        });
        mix(arithmetic, shape, mixing).to_vec()
    }

    prop_compose! {
        fn shapes()(batch in 1usize..3, len in 1usize..400, heads in 1usize..3, head in 1usize..70) -> Shape {
            Shape { batch, len, heads, head }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_unit_mixes_as_one_does_number_by_number(shapes in prop::array::uniform2(shapes()), seed: u32) {
            let (mut floats, mut pairs) = (Mixing::default(), Mixing::default());
            for shape in shapes {
                let qkv = drawn_rows(shape, seed);
                let wanted = plain(&qkv, shape);
                for unit in [unsafe_floats::Unit::best(), unsafe_floats::Unit::Plain] {
                    let found = mixed::<Floats, _>(&Singles(unit), shape, &qkv, &mut floats);
                    prop_assert_eq!(found.len(), wanted.len());
                    for (found, wanted) in found.iter().zip(&wanted) {
                        prop_assert!((found - wanted).abs() < 1e-4, "{unit:?}: {found} for {wanted}");
                    }
                }
                for unit in unsafe_tiles::Unit::all().chain([unsafe_tiles::Unit::Plain]) {
                    let found = mixed::<Bf16, _>(&Pairs(unit), shape, &qkv, &mut pairs);
                    prop_assert_eq!(found.len(), wanted.len());
                    for (found, wanted) in found.iter().zip(&wanted) {
                        prop_assert!((found.to_f32() - wanted).abs() < 2e-2, "{unit:?}: {found} for {wanted}");
                    }
                }
            }
        }
    }

    /// Rows of a query that are no numbers throughout, of all.
    fn lost<N: Copy>(mixed: &[N], head: usize, is_none: impl Fn(N) -> bool) -> Vec<usize> {
        let rows = mixed.chunks_exact(head).enumerate();
        let lost = rows.filter(|(_, row)| row.iter().all(|x| is_none(*x)));
        lost.map(|(i, _)| i).collect()
    }

    #[test]
    fn a_number_that_is_none_does_not_pass_for_one() {
        let shape = Shape {
            batch: 1,
            len: 70,
            heads: 1,
            head: 40,
        };
        for bits in [0x7fc0_0000, 0x7fc0_0080, 0xffff_ffff] {
            for (token, kind, wanted) in [(66, 0, vec![66]), (66, 1, (0..70).collect())] {
                let mut qkv = drawn_rows(shape, 7);
                qkv[(token * 3 + kind) * shape.head] = f32::from_bits(bits);
                let says = format!("{bits:x} in {}", ["a query", "a key"][kind]);
                for unit in [unsafe_floats::Unit::best(), unsafe_floats::Unit::Plain] {
                    let mixing = &mut Mixing::default();
                    let found = mixed::<Floats, _>(&Singles(unit), shape, &qkv, mixing);
                    let found = lost(&found, shape.head, f32::is_nan);
                    assert_eq!(found, wanted, "{says}, {unit:?}");
                }
                for unit in unsafe_tiles::Unit::all().chain([unsafe_tiles::Unit::Plain]) {
                    let mixing = &mut Mixing::default();
                    let found = mixed::<Bf16, _>(&Pairs(unit), shape, &qkv, mixing);
                    let found = lost(&found, shape.head, bf16::is_nan);
                    assert_eq!(found, wanted, "{says}, {unit:?}");
                }
            }
        }
    }
}
