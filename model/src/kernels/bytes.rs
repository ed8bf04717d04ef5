//! Linear layers in 8-bit integers where the machine has dot products of bytes and of bf16 (AVX512-VNNI, AVX512-BF16): weights with a scale an
//! output, inputs with a step every 128 numbers of a row, that are found as they come. Attention is in bf16.
//!
//! [`super::int8`] has what other machines multiply in 8 bits.

use std::sync::LazyLock;

use candle_core::Result;
use rayon::prelude::*;

use super::{
    TASK,
    aligned::Aligned,
    attention::Shape,
    bf16::round,
    bf16_attention::{Mixing, Pairs},
    dense::Dense,
    gelu::gelu_near,
    heads, larger,
    product::{self, Panels, Target, product},
    reduce, smaller,
    unsafe_bytes::{GROUP, Group, Left, Panel, Unit, multiply},
    unsafe_tiles::{self as tiles, Out, SIDE},
    widest,
};

/// Largest weight.
const WEIGHT_LIMIT: f32 = 127.0;

/// Steps between the least and the largest input of a group, zero among them: one less than there are, for zero is a code of its own.
const STEPS: f32 = 254.0;

/// Numbers of a smaller range are zeros: steps to them would be infinitely many.
const FLAT: f32 = 1e-30;

/// Adding this leaves the nearest integer in the low bits of the mantissa.
const NEAREST: f32 = 12_582_912.0;

/// In 8-bit integers.
pub(crate) struct Bytes {
    unit: Unit,
    /// [outputs / 32, groups, GROUP / 4, 32, 4], sizes rounded up, zeros where nothing is.
    panels: Aligned<i8>,
    /// Of the panels' codes, [outputs / 32, groups, 32].
    sums: Vec<f32>,
    /// What a weight of 1 stands for, an output each, and zeros up to a multiple of 32.
    scales: Vec<f32>,
    /// The same of biases.
    bias: Vec<f32>,
    groups: usize,
    outputs: usize,
}

/// Rows of codes, and enough of them after the last for a product to begin at any.
#[derive(Default)]
pub(crate) struct BytesRows {
    /// [count + 32, groups]
    values: Vec<Group>,
    count: usize,
    groups: usize,
}

/// Whether this machine has what [`Bytes`] is made for.
pub(crate) fn is_available() -> bool {
    static IS: LazyLock<bool> =
        LazyLock::new(|| Unit::best() != Unit::Plain && tiles::Unit::best().is_some());
    *IS
}

/// Numbers become codes of up to [`GROUP`]. Step and offset are no numbers where one of the group's is not finite.
#[inline(always)]
fn encode(numbers: &[f32], group: &mut Group) {
    let least = reduce(numbers, 0.0, |x| x, smaller);
    let largest = reduce(numbers, 0.0, |x| x, larger);
    let poison = reduce(numbers, 0.0, |x| x * 0.0, |a, b| a + b);
    let range = largest - least;
    let steps = if range > FLAT { STEPS / range } else { 0.0 };
    let zero = (-least * steps + NEAREST) - NEAREST;
    group.step = range / STEPS + poison;
    group.offset = group.step * zero;
    for (code, x) in group.codes.iter_mut().zip(numbers) {
        *code = (x * steps + zero + NEAREST).to_bits() as u8;
    }
}

impl BytesRows {
    /// Makes room for `count` rows of `width` numbers. Those that are there are anything.
    fn resize(&mut self, count: usize, width: usize) {
        self.groups = width.div_ceil(GROUP);
        self.values
            .resize((count + SIDE) * self.groups, Group::default());
        self.count = count;
    }

    /// All rows.
    fn all(&mut self) -> &mut [Group] {
        let len = self.count * self.groups;
        &mut self.values[..len]
    }
}

impl Bytes {
    /// The same on a unit of one's choice.
    fn on(unit: Unit, weight: &[f32], mut bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let groups = inputs.div_ceil(GROUP);
        let padded = outputs.next_multiple_of(SIDE);
        bias.resize(padded, 0.0);
        let (mut scales, mut sums) = (vec![0.0; padded], vec![0.0; padded * groups]);
        let mut panels = Aligned::default();
        panels.reset(padded * groups * GROUP);
        for (output, row) in weight.chunks_exact(inputs).enumerate() {
            let (number, column) = (output / SIDE, output % SIDE);
            // As in a row of tokens, a damaged number must not be rounded away.
            let poison = reduce(row, 0.0, |x| x * 0.0, |a, b| a + b);
            let scale = reduce(row, 0.0, f32::abs, larger) / WEIGHT_LIMIT + poison;
            scales[output] = scale;
            let panel = &mut panels[number * groups * GROUP * SIDE..];
            let sums = &mut sums[number * groups * SIDE..];
            for (i, x) in row.iter().enumerate() {
                let code = (x / scale).round() as i8;
                panel[(i / 4 * SIDE + column) * 4 + i % 4] = code;
                sums[i / GROUP * SIDE + column] += f32::from(code);
            }
        }
        Self {
            unit,
            panels,
            sums,
            scales,
            bias,
            groups,
            outputs,
        }
    }
}

impl Panels for Bytes {
    type Rows = BytesRows;
    type Session = ();

    fn session(&self) {}

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn bytes(&self) -> usize {
        self.groups * GROUP * SIDE
    }

    fn multiply(
        &self,
        (): &(),
        rows: &BytesRows,
        (row, count): (usize, usize),
        number: usize,
        out: Out<'_>,
    ) {
        let left = Left {
            groups: &rows.values[row * rows.groups..],
            stride: rows.groups,
            rows: count,
        };
        let (size, sums) = (self.bytes(), self.groups * SIDE);
        let panel = Panel {
            codes: &self.panels[number * size..][..size],
            sums: &self.sums[number * sums..][..sums],
            scales: &self.scales.as_chunks().0[number],
            bias: &self.bias.as_chunks().0[number],
        };
        multiply(self.unit, left, panel, out);
    }
}

impl Dense for Bytes {
    type Rows = BytesRows;
    type Mixing = Mixing;

    fn new(weight: &[f32], bias: Vec<f32>) -> Result<Self> {
        Ok(Self::on(Unit::best(), weight, bias))
    }

    fn fill(
        rows: &mut BytesRows,
        count: usize,
        width: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        rows.resize(count, width);
        let (task, groups) = (TASK.div_ceil(width), rows.groups);
        let parts = rows.all().par_chunks_mut(task * groups).enumerate();
        parts.for_each_init(
            || vec![0.0; width],
            |row, (part, values)| {
                widest(
                    #[inline(always)]
                    || {
                        for (i, values) in values.chunks_exact_mut(groups).enumerate() {
                            f(part * task + i, row);
                            for (group, numbers) in values.iter_mut().zip(row.chunks(GROUP)) {
                                encode(numbers, group);
                            }
                        }
                    },
                );
            },
        );
    }

    fn forward(&self, rows: &mut BytesRows, out: &mut Vec<f32>) -> Result<()> {
        product::forward(self, rows, rows.count, out);
        Ok(())
    }

    fn add(&self, rows: &mut BytesRows, out: &mut [f32]) -> Result<()> {
        product::add(self, rows, out);
        Ok(())
    }

    fn activate(
        &self,
        rows: &mut BytesRows,
        f: impl Fn(f32) -> f32 + Sync,
        next: &mut BytesRows,
    ) -> Result<()> {
        next.resize(rows.count, self.outputs);
        let width = next.groups;
        let to = Target {
            items: next.all(),
            width,
            outputs: GROUP,
        };
        product(
            self,
            rows,
            to,
            #[inline(always)]
            |(), sums, out| {
                for x in sums.iter_mut() {
                    *x = f(*x);
                }
                for (group, numbers) in out.iter_mut().zip(sums.chunks(GROUP)) {
                    encode(numbers, group);
                }
            },
        );
        Ok(())
    }

    #[inline(always)]
    fn gelu(x: f32) -> f32 {
        gelu_near(x)
    }

    fn attend(&self, rows: &mut BytesRows, shape: Shape, mixing: &mut Mixing) -> Result<()> {
        let Some(unit) = tiles::Unit::best() else {
            candle_core::bail!("this machine has no instructions for bf16");
        };
        product(
            self,
            rows,
            mixing.qkv.target(rows.count, self.outputs),
            #[inline(always)]
            |(), sums, out| {
                for (out, x) in out.iter_mut().zip(sums) {
                    *out = round(*x);
                }
            },
        );
        let mixed = heads::mix(&Pairs(unit), shape, mixing);
        Self::fill(
            rows,
            shape.batch * shape.len,
            shape.width(),
            #[inline(always)]
            |i, row| {
                for (head, part) in row.chunks_exact_mut(shape.head).enumerate() {
                    let mixed = shape.part(mixed, i, head);
                    for (x, mixed) in part.iter_mut().zip(mixed) {
                        *x = mixed.to_f32();
                    }
                }
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::drawn;

    /// Numbers between -1 and 1 that `seed` stands for.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count).map(|i| drawn(i, seed)).collect()
    }

    fn rows_of(values: &[f32], width: usize) -> BytesRows {
        let mut rows = BytesRows::default();
        Bytes::fill(&mut rows, values.len() / width, width, |i, row| {
            row.copy_from_slice(&values[i * width..(i + 1) * width]);
        });
        rows
    }

    /// `x W + b` of [outputs, inputs], number by number, and how far off rounding may put each: half a step of every input and of every weight.
    fn plain(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<(f32, f32)> {
        let inputs = weight.len() / bias.len();
        let span = |numbers: &[f32]| {
            let least = numbers.iter().copied().fold(0.0, f32::min);
            numbers.iter().copied().fold(0.0, f32::max) - least
        };
        let number = |row: &[f32], weight: &[f32]| {
            let largest = weight.iter().map(|w| w.abs()).fold(0.0, f32::max);
            let groups = row.chunks(GROUP).zip(weight.chunks(GROUP));
            groups.fold((0.0, 1e-5), |(sum, within), (row, weight)| {
                let step = span(row) / STEPS;
                let pairs = row.iter().zip(weight);
                let sum = sum + pairs.clone().map(|(x, w)| x * w).sum::<f32>();
                let off = |(x, w): (&f32, &f32)| {
                    0.51 * (step * w.abs() + (x.abs() + step) * largest / WEIGHT_LIMIT)
                };
                (sum, within + pairs.map(off).sum::<f32>())
            })
        };
        let of_a_row = |row| {
            let outputs = weight.chunks_exact(inputs).zip(bias);
            outputs.map(move |(weight, bias)| {
                let (sum, within) = number(row, weight);
                (sum + bias, within)
            })
        };
        x.chunks_exact(inputs).flat_map(of_a_row).collect()
    }

    fn values(rows: &BytesRows, row: usize, width: usize) -> Vec<(f32, f32)> {
        let groups = &rows.values[row * rows.groups..][..rows.groups];
        let codes = groups.iter().flat_map(|group| {
            let value = |code: &u8| (group.step * f32::from(*code) - group.offset, group.step);
            group.codes.iter().map(value)
        });
        codes.take(width).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_layer_is_its_product_whatever_its_size(
            count in 1usize..70, inputs in 1usize..300, outputs in 1usize..400, size in 1e-3f32..1e3, seed: u32,
        ) {
            let x: Vec<_> = numbers(count * inputs, seed).iter().map(|x| x * size).collect();
            let weight = numbers(inputs * outputs, seed ^ 1);
            let bias = numbers(outputs, seed ^ 2);
            let wanted = plain(&x, &weight, &bias);
            for unit in [Unit::best(), Unit::Plain] {
                let layer = Bytes::on(unit, &weight, bias.clone());
                let mut rows = rows_of(&x, inputs);
                let mut out = Vec::new();
                layer.forward(&mut rows, &mut out).unwrap();
                prop_assert_eq!(out.len(), wanted.len());
                let mut sum = vec![1.0; out.len()];
                layer.add(&mut rows, &mut sum).unwrap();
                for ((found, sum), (wanted, within)) in out.iter().zip(&sum).zip(&wanted) {
                    let within = within + 1e-5 * wanted.abs();
                    prop_assert!((found - wanted).abs() <= within, "{unit:?}: {found} for {wanted}, within {within}");
                    prop_assert!((sum - 1.0 - found).abs() <= within, "{unit:?} adds {found}: {sum}");
                }
                let mut next = BytesRows::default();
                layer.activate(&mut rows, |x| x.max(0.0), &mut next).unwrap();
                for (row, out) in out.chunks_exact(outputs).enumerate() {
                    for (x, (found, step)) in out.iter().zip(values(&next, row, outputs)) {
                        prop_assert!((found - x.max(0.0)).abs() <= 0.51 * step, "{unit:?} activates {x}: {found}, step {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn codes_keep_zero_and_reach_both_ends() {
        let ends = [
            (-1.0, 1.0),
            (-0.17, 6.0),
            (-3.0, -1.0),
            (2.0, 5.0),
            (0.0, 0.0),
            (0.0, 1e-38),
            (-1e-38, 1e-38),
            (-1e-31, 1e-37),
        ];
        for (least, largest) in ends {
            let numbers = [least, 0.0, (least + largest) / 3.0, largest];
            let mut group = Group::default();
            encode(&numbers, &mut group);
            for (x, code) in numbers.into_iter().zip(group.codes) {
                let found = group.step * f32::from(code) - group.offset;
                assert!(
                    (found - x).abs() <= (0.51 * group.step).max(FLAT),
                    "{x}: {found}"
                );
                assert!(
                    x != 0.0 || found == 0.0,
                    "zero of {least} to {largest}: {found}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_number_is_not_rounded_away() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weight = vec![0.5; 8 * 8];
            weight[13] = bad;
            let layer = Bytes::on(Unit::best(), &weight, vec![0.0; 8]);
            let mut out = Vec::new();
            layer.forward(&mut rows_of(&[1.0; 8], 8), &mut out).unwrap();
            assert!(!out[1].is_finite() && out[0].is_finite(), "{bad}: {out:?}");
            let layer = Bytes::on(Unit::best(), &[0.5; 8 * 8], vec![0.0; 8]);
            let mut row = [1.0; 8];
            row[3] = bad;
            layer.forward(&mut rows_of(&row, 8), &mut out).unwrap();
            assert!(out.iter().all(|x| !x.is_finite()), "{bad}: {out:?}");
        }
    }
}
