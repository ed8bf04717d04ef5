//! Linear layers in bf16, summed up in f32, where the machine multiplies bf16 (AMX, AVX512-BF16).
//!
//! Weights lie in panels of 32 outputs, inner numbers in pairs, which both kinds of instructions read.

use candle_core::Result;
use half::bf16;
use rayon::prelude::*;

use super::{
    TASK,
    aligned::Aligned,
    attention::Shape,
    bf16_attention::{Mixing, Pairs},
    dense::Dense,
    gelu::gelu_near,
    heads,
    product::{self, Panels, Target, product},
    unsafe_tiles::{DEPTH, Left, Out, SIDE, Session, Unit, multiply, round_all},
    widest,
};

/// In bf16.
pub(crate) struct Bf16 {
    unit: Unit,
    /// [outputs / 32, inputs / 2, 32, 2], both sizes rounded up, zeros where nothing is.
    panels: Aligned<bf16>,
    /// Rounded up to [`DEPTH`].
    depth: usize,
    outputs: usize,
    /// Zeros up to a multiple of 32 at its end.
    bias: Vec<f32>,
}

/// Rows of bf16, with zeros up to a multiple of [`DEPTH`] at the end of each, and enough rows after the last for a tile to begin at any.
#[derive(Default)]
pub(crate) struct Bf16Rows {
    values: Aligned<bf16>,
    count: usize,
    width: usize,
}

impl Bf16Rows {
    /// Makes room for `count` rows of `width` numbers. Those that are there are anything, but for the zeros at the end of each.
    fn resize(&mut self, count: usize, width: usize) {
        let stride = width.next_multiple_of(DEPTH);
        if (self.count, self.width) != (count, width) {
            self.values.reset((count + SIDE) * stride);
            (self.count, self.width) = (count, width);
        }
    }

    /// From one row to the next.
    fn stride(&self) -> usize {
        self.width.next_multiple_of(DEPTH)
    }

    /// Rows and columns from (`row`, `column`) on, as many rows as `rows`.
    pub(super) fn from(&self, row: usize, column: usize, rows: usize) -> Left<'_> {
        Left {
            values: &self.values[row * self.stride() + column..],
            stride: self.stride(),
            rows,
        }
    }

    /// The numbers of `width` of row `i` from `column` on.
    pub(super) fn part(&self, i: usize, column: usize, width: usize) -> &[bf16] {
        &self.values[i * self.stride() + column..][..width]
    }

    /// Makes `count` rows of `width` numbers: `f` writes the row whose number it gets.
    fn gather(&mut self, count: usize, width: usize, f: impl Fn(usize, &mut [bf16]) + Sync) {
        self.resize(count, width);
        let (task, stride) = (TASK.div_ceil(width), self.stride());
        let parts = self.all().par_chunks_mut(task * stride).enumerate();
        parts.for_each(|(part, values)| {
            for (i, values) in values.chunks_exact_mut(stride).enumerate() {
                f(part * task + i, &mut values[..width]);
            }
        });
    }

    /// Room for `count` rows of `width` numbers that a product makes.
    pub(super) fn target(&mut self, count: usize, width: usize) -> Target<'_, bf16> {
        self.resize(count, width);
        let width = self.stride();
        Target::numbers(self.all(), width)
    }

    /// All rows, zeros at their ends included.
    fn all(&mut self) -> &mut [bf16] {
        let len = self.count * self.stride();
        &mut self.values[..len]
    }
}

/// The nearest bf16, halves to even; not a number stays that.
#[inline(always)]
pub(super) fn round(x: f32) -> bf16 {
    const QUIET: u32 = 0x40_0000;
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let rounded = if x.is_nan() { bits | QUIET } else { nearest };
    bf16::from_bits((rounded >> 16) as u16)
}

/// Weights [outputs, inputs], rounded, as panels: [outputs / 32, inputs / 2, 32, 2], zeros where nothing is.
fn pack(weight: &[f32], inputs: usize, outputs: usize) -> Aligned<bf16> {
    let depth = inputs.next_multiple_of(DEPTH);
    let mut panels = Aligned::default();
    panels.reset(outputs.next_multiple_of(SIDE) * depth);
    for (output, row) in weight.chunks_exact(inputs).enumerate() {
        let panel = &mut panels[output / SIDE * SIDE * depth..][..SIDE * depth];
        let at = 2 * (output % SIDE);
        for (line, pair) in panel.chunks_exact_mut(2 * SIDE).zip(row.chunks(2)) {
            for (to, from) in line[at..].iter_mut().zip(pair) {
                *to = round(*from);
            }
        }
    }
    panels
}

impl Bf16 {
    /// The same on a unit of one's choice.
    fn on(unit: Unit, weight: &[f32], mut bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        bias.resize(outputs.next_multiple_of(SIDE), 0.0);
        let inputs = weight.len() / outputs.max(1);
        Self {
            unit,
            panels: pack(weight, inputs, outputs),
            depth: inputs.next_multiple_of(DEPTH),
            outputs,
            bias,
        }
    }
}

impl Panels for Bf16 {
    type Rows = Bf16Rows;
    type Session = Session;

    fn session(&self) -> Session {
        Session::new(self.unit)
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn bytes(&self) -> usize {
        size_of::<bf16>() * SIDE * self.depth
    }

    fn multiply(
        &self,
        session: &Session,
        rows: &Bf16Rows,
        (row, count): (usize, usize),
        number: usize,
        out: Out<'_>,
    ) {
        let size = self.depth * SIDE;
        let panel = &self.panels[number * size..][..size];
        let (bias, _) = self.bias[number * SIDE..].as_chunks::<SIDE>();
        multiply(session, rows.from(row, 0, count), panel, bias.first(), out);
    }
}

impl Dense for Bf16 {
    type Rows = Bf16Rows;
    type Mixing = Mixing;

    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self> {
        match Unit::best() {
            Some(unit) => Ok(Self::on(unit, weight, bias)),
            None => candle_core::bail!("this machine has no instructions for bf16"),
        }
    }

    fn fill(rows: &mut Bf16Rows, count: usize, width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        rows.resize(count, width);
        let (task, stride) = (TASK.div_ceil(width), rows.stride());
        let parts = rows.all().par_chunks_mut(task * stride).enumerate();
        parts.for_each_init(
            || vec![0.0; width],
            |row, (part, values)| {
                widest(
                    #[inline(always)]
                    || {
                        for (i, values) in values.chunks_exact_mut(stride).enumerate() {
                            f(part * task + i, row);
                            for (value, x) in values.iter_mut().zip(row.iter()) {
                                *value = round(*x);
                            }
                        }
                    },
                );
            },
        );
    }

    fn forward(&self, rows: &mut Bf16Rows, out: &mut Vec<f32>) -> Result<()> {
        product::forward(self, rows, rows.count, out);
        Ok(())
    }

    fn add(&self, rows: &mut Bf16Rows, out: &mut [f32]) -> Result<()> {
        product::add(self, rows, out);
        Ok(())
    }

    fn activate(
        &self,
        rows: &mut Bf16Rows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut Bf16Rows,
    ) -> Result<()> {
        product(
            self,
            rows,
            next.target(rows.count, self.outputs),
            #[inline(always)]
            |session, sums, out| {
                for x in sums.iter_mut() {
                    *x = f(*x);
                }
                round_all(session, sums, out);
            },
        );
        Ok(())
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        gelu_near(x)
    }

    fn attend(&self, rows: &mut Bf16Rows, shape: Shape, mixing: &mut Mixing) -> Result<()> {
        product(
            self,
            rows,
            mixing.qkv.target(rows.count, self.outputs),
            #[inline(always)]
            |session, sums, out| round_all(session, sums, out),
        );
        let mixed = heads::mix(&Pairs(self.unit), shape, mixing);
        rows.gather(shape.batch * shape.len, shape.width(), |i, row| {
            shape.join(mixed, i, row);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::drawn;

    /// Numbers between -1 and 1 that `seed` stands for, each a bf16 already.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count).map(|i| round(drawn(i, seed)).to_f32()).collect()
    }

    fn rows_of(values: &[f32], width: usize) -> Bf16Rows {
        let mut rows = Bf16Rows::default();
        Bf16::fill(&mut rows, values.len() / width, width, |i, row| {
            row.copy_from_slice(&values[i * width..(i + 1) * width]);
        });
        rows
    }

    /// `x W + b` of [outputs, inputs], number by number.
    fn plain(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let inputs = weight.len() / bias.len();
        let dot =
            |row: &[f32], weight: &[f32]| row.iter().zip(weight).map(|(a, b)| a * b).sum::<f32>();
        x.chunks_exact(inputs)
            .flat_map(|row| {
                let outputs = weight.chunks_exact(inputs).zip(bias);
                outputs
                    .map(|(weight, bias)| dot(row, weight) + bias)
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn near(found: &[f32], wanted: &[f32], within: f32) -> bool {
        found.len() == wanted.len()
            && found
                .iter()
                .zip(wanted)
                .all(|(a, b)| (a - b).abs() <= within)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_layer_is_its_product_whatever_its_size(
            count in 1usize..70, inputs in 1usize..100, outputs in 1usize..300, seed: u32,
        ) {
            let x = numbers(count * inputs, seed);
            let weight = numbers(inputs * outputs, seed ^ 1);
            let bias = numbers(outputs, seed ^ 2);
            let wanted = plain(&x, &weight, &bias);
            for unit in Unit::all().chain([Unit::Plain]) {
                let layer = Bf16::on(unit, &weight, bias.clone());
                let mut rows = rows_of(&x, inputs);
                let mut out = Vec::new();
                layer.forward(&mut rows, &mut out).unwrap();
                prop_assert!(near(&out, &wanted, 1e-4), "{unit:?}");
                let mut sum = wanted.clone();
                layer.add(&mut rows, &mut sum).unwrap();
                let twice: Vec<_> = wanted.iter().map(|x| 2.0 * x).collect();
                prop_assert!(near(&sum, &twice, 1e-4), "{unit:?} adds");
                let mut next = Bf16Rows::default();
                layer.activate(&mut rows, |x| x.max(0.0), &mut next).unwrap();
                for (i, wanted) in wanted.chunks_exact(outputs).enumerate() {
                    let found: Vec<_> = next.part(i, 0, outputs).iter().map(|x| x.to_f32()).collect();
                    let wanted: Vec<_> = wanted.iter().map(|x| x.max(0.0)).collect();
                    prop_assert!(near(&found, &wanted, 0.1), "{unit:?} activates");
                    let end = &next.values[i * next.stride() + outputs..(i + 1) * next.stride()];
                    prop_assert!(end.iter().all(|x| *x == bf16::ZERO));
                }
            }
        }
    }

    #[test]
    fn rounds_as_half_does() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let x = f32::from_bits(bits);
            let (found, wanted) = (round(x), bf16::from_f32(x));
            assert!(
                found == wanted || found.is_nan() && wanted.is_nan(),
                "{x}: {found} for {wanted}"
            );
        }
        assert!(round(f32::from_bits(0x7fff_ffff)).is_nan());
    }
}
