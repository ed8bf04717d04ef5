//! A layer's product shared out among threads in blocks of rows and panels of 32 outputs, whatever multiplies. What comes after a product
//! (activation, rounding, residual) is done while its 32 x 256 results are in the nearest cache.

use std::cell::Cell;

use super::{
    aligned::Aligned,
    unsafe_blocks::{self as blocks, Block},
    unsafe_tiles::{Out, SIDE},
    widest,
};

/// Most rows of a task: as many as stay in a core's second cache beside its panels.
const ROWS: usize = 256;

/// Most panels of a task, and their columns: enough for what comes after the product to fill its vectors.
const PANELS: usize = 8;
const COLUMNS: usize = PANELS * SIDE;

/// Bytes of panels that stay in a core's second cache beside rows.
const KEPT: usize = 512 << 10;

/// Tasks that there should be for each thread, so that the last one to end is not long alone.
const TASKS: usize = 8;

thread_local! {
    // Each thread's, from frame to frame.
    static SUMS: Cell<Aligned<f32>> = Cell::default();
}

/// A layer whose weights lie in panels of 32 outputs.
pub(super) trait Panels: Sync {
    /// What it multiplies.
    type Rows: Sync;

    /// A thread's readiness to multiply.
    type Session;

    fn session(&self) -> Self::Session;

    /// Outputs, of which the last panel may have fewer than 32.
    fn outputs(&self) -> usize;

    /// Bytes of a panel.
    fn bytes(&self) -> usize;

    /// The layer of a part of the rows (the first one, and how many, 32 at most), biases included, for panel `number`. Of the last panel only
    /// the columns that are outputs mean something.
    fn multiply(
        &self,
        session: &Self::Session,
        rows: &Self::Rows,
        part: (usize, usize),
        number: usize,
        out: Out<'_>,
    );
}

/// Where a product goes: rows of `width` items, each for `outputs` outputs of the layer; rows may have more items than the layer fills.
pub(super) struct Target<'a, T> {
    pub(super) items: &'a mut [T],
    pub(super) width: usize,
    pub(super) outputs: usize,
}

impl<'a, T> Target<'a, T> {
    /// Rows of `width` numbers.
    pub(super) fn numbers(items: &'a mut [T], width: usize) -> Self {
        Self {
            items,
            width,
            outputs: 1,
        }
    }
}

/// The layer of `count` rows, [count, outputs], in place of what was in `out`.
pub(super) fn forward<P: Panels>(layer: &P, rows: &P::Rows, count: usize, out: &mut Vec<f32>) {
    out.resize(count * layer.outputs(), 0.0);
    product(
        layer,
        rows,
        Target::numbers(out, layer.outputs()),
        #[inline(always)]
        |_, sums, out| out.copy_from_slice(sums),
    );
}

/// Adds the layer of `rows` to `out`, [count, outputs].
pub(super) fn add<P: Panels>(layer: &P, rows: &P::Rows, out: &mut [f32]) {
    product(
        layer,
        rows,
        Target::numbers(out, layer.outputs()),
        #[inline(always)]
        |_, sums, out| {
            for (out, x) in out.iter_mut().zip(sums) {
                *out += *x;
            }
        },
    );
}

/// Gives `f` the sums of the layer of `rows`, some columns of a row at a time, and the items that they are to go to. Where rows have more items
/// than the layer fills, what is beyond stays.
pub(super) fn product<P: Panels, T: Send>(
    layer: &P,
    rows: &P::Rows,
    to: Target<'_, T>,
    f: impl Fn(&P::Session, &mut [f32], &mut [T]) + Sync,
) {
    let count = to.items.len() / to.width;
    let (down, columns) = task(layer, count);
    let across = columns.div_ceil(to.outputs);
    blocks::for_each(to.items, to.width, (down, across), |mut block| {
        let mut sums = SUMS.take();
        if sums.is_empty() {
            sums.reset(SIDE * COLUMNS);
        }
        one_block(layer, rows, &mut sums, (&mut block, to.outputs), &f);
        SUMS.set(sums);
    });
}

/// Rows and columns of a task where there are `count` rows.
fn task(layer: &impl Panels, count: usize) -> (usize, usize) {
    let (panels, parts) = (layer.outputs().div_ceil(SIDE), count.div_ceil(SIDE));
    let across = panels
        .div_ceil((KEPT / layer.bytes().max(1)).clamp(1, PANELS))
        .max(1);
    let wanted = TASKS * rayon::current_num_threads();
    let down = wanted.div_ceil(across).max(count.div_ceil(ROWS)).max(1);
    let (rows, columns) = (parts.div_ceil(down), panels.div_ceil(across));
    (rows.max(1) * SIDE, columns.max(1) * SIDE)
}

/// A block: for 32 rows at a time the product, and what comes after it.
fn one_block<P: Panels, T: Send>(
    layer: &P,
    rows: &P::Rows,
    sums: &mut [f32],
    (block, outputs): (&mut Block<'_, T>, usize),
    f: &(impl Fn(&P::Session, &mut [f32], &mut [T]) + Sync),
) {
    let session = layer.session();
    let first = block.column * outputs;
    // Beyond the layer's outputs there are only zeros that stay.
    let Some(columns) = layer.outputs().checked_sub(first) else {
        return;
    };
    let columns = columns.min(block.columns * outputs);
    for row in (0..block.rows).step_by(SIDE) {
        let count = SIDE.min(block.rows - row);
        for number in 0..columns.div_ceil(SIDE) {
            let whole = Out {
                values: &mut sums[number * SIDE..],
                stride: COLUMNS,
            };
            let part = (block.row + row, count);
            layer.multiply(&session, rows, part, first / SIDE + number, whole);
        }
        widest(
            #[inline(always)]
            || {
                for (i, sums) in sums.chunks_exact_mut(COLUMNS).take(count).enumerate() {
                    let items = columns.div_ceil(outputs);
                    f(
                        &session,
                        &mut sums[..columns],
                        &mut block.line(row + i)[..items],
                    );
                }
            },
        );
    }
}
