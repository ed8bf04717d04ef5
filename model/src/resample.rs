//! Resizing and blurring on small grids, as matrices.
//!
//! Every linear filter along one axis is a matrix of `out` x `in`; along two axes it is one product from the left and one from the right.
//! That is differentiable, runs on any device, and is exact where a framework's own kernel has no backward pass.

use candle_core::{Device, Result, Tensor};

/// Bicubic kernel of Keys with a = -0.5, as Pillow and PyTorch's antialiased resize use it. Zero from 2 on.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Bicubic, antialiased resize of `from` samples to `to`: a matrix of `to` x `from`, row by row.
///
/// The same weights as `torch.nn.functional.interpolate(mode="bicubic", antialias=True, align_corners=False)`.
pub fn bicubic_antialiased(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let centre = scale * (i as f64 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end)
            .map(|j| cubic((j as f64 - centre + 0.5) / stretch))
            .collect();
        let total: f64 = weights.iter().sum();
        for (cell, weight) in row[first..end].iter_mut().zip(weights) {
            *cell = (weight / total) as f32;
        }
    }
    matrix
}

/// Bilinear resize of `from` samples to `to` with corners on corners (`align_corners=True`): a matrix of `to` x `from`, row by row.
pub fn bilinear_aligned(from: usize, to: usize) -> Vec<f32> {
    let step = if to > 1 {
        (from - 1) as f64 / (to - 1) as f64
    } else {
        0.0
    };
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = i as f64 * step;
        let low = (at as usize).min(from - 1);
        let weight = (at - low as f64) as f32;
        row[low] += 1.0 - weight;
        row[(low + 1).min(from - 1)] += weight;
    }
    matrix
}

/// Gaussian blur of `len` samples with reflected borders (the edge sample is not repeated): a matrix of `len` x `len`, row by row.
///
/// Where the kernel is too wide to be reflected in so few samples it is cut to the widest that can.
pub fn gaussian_blur(len: usize, kernel: usize, sigma: f64) -> Vec<f32> {
    let half = (kernel / 2).min(len - 1) as isize;
    let weights: Vec<f64> = (-half..=half)
        .map(|d| (-(d * d) as f64 / (2.0 * sigma * sigma)).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let last = len as isize - 1;
    let mut matrix = vec![0.0; len * len];
    for (i, row) in matrix.chunks_exact_mut(len).enumerate() {
        for (d, weight) in (-half..=half).zip(&weights) {
            let at = (i as isize + d).abs();
            let reflected = if at > last { 2 * last - at } else { at };
            row[reflected as usize] += (weight / total) as f32;
        }
    }
    matrix
}

/// A filter along both axes of a grid.
#[derive(Debug, Clone)]
pub struct Separable {
    /// [out rows, in rows]
    rows: Tensor,
    /// [in columns, out columns]
    columns: Tensor,
}

impl Separable {
    /// The filter that `rows` (out x in) and `columns` (out x in) describe, for grids of `from` (rows, columns) to grids of `to`.
    pub fn new(
        rows: Vec<f32>,
        columns: Vec<f32>,
        from: (usize, usize),
        to: (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        Ok(Self {
            rows: Tensor::from_vec(rows, (to.0, from.0), device)?,
            columns: Tensor::from_vec(columns, (to.1, from.1), device)?
                .t()?
                .contiguous()?,
        })
    }

    /// Bilinear resize with corners on corners, (rows, columns) to (rows, columns).
    pub fn bilinear(from: (usize, usize), to: (usize, usize), device: &Device) -> Result<Self> {
        let rows = bilinear_aligned(from.0, to.0);
        Self::new(rows, bilinear_aligned(from.1, to.1), from, to, device)
    }

    /// Bicubic, antialiased resize, (rows, columns) to (rows, columns).
    pub fn bicubic(from: (usize, usize), to: (usize, usize), device: &Device) -> Result<Self> {
        let rows = bicubic_antialiased(from.0, to.0);
        Self::new(rows, bicubic_antialiased(from.1, to.1), from, to, device)
    }

    /// Gaussian blur of a grid of (rows, columns).
    pub fn blur(grid: (usize, usize), kernel: usize, sigma: f64, device: &Device) -> Result<Self> {
        let rows = gaussian_blur(grid.0, kernel, sigma);
        let columns = gaussian_blur(grid.1, kernel, sigma);
        Self::new(rows, columns, grid, grid, device)
    }

    /// Filters the last two dimensions: [..., in rows, in columns] -> [..., out rows, out columns]
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let dims = x.dims();
        let (lead, grid) = dims.split_at(dims.len() - 2);
        let planes = x.reshape((lead.iter().product::<usize>(), grid[0], grid[1]))?;
        let out = self
            .rows
            .broadcast_matmul(&planes.broadcast_matmul(&self.columns)?)?;
        let (_, height, width) = out.dims3()?;
        out.reshape([lead, &[height, width]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_keeps_a_constant() {
        let filters = [
            (bicubic_antialiased(24, 37), 24),
            (bicubic_antialiased(37, 5), 37),
            (bicubic_antialiased(1, 7), 1),
            (bilinear_aligned(5, 70), 5),
            (bilinear_aligned(1, 3), 1),
            (bilinear_aligned(4, 1), 4),
            (gaussian_blur(5, 9, 1.5), 5),
            (gaussian_blur(2, 9, 1.5), 2),
            (gaussian_blur(1, 7, 1.0), 1),
        ];
        for (matrix, from) in filters {
            for row in matrix.chunks_exact(from) {
                let total: f32 = row.iter().sum();
                assert!((total - 1.0).abs() < 1e-6, "{from}: {total}");
            }
        }
    }

    #[test]
    fn a_blur_reflects_without_repeating_the_edge() {
        // Three samples, kernel 3: the first output sees sample 1 on both sides.
        let matrix = gaussian_blur(3, 3, 1.0);
        assert!((matrix[1] - 2.0 * matrix[3]).abs() < 1e-6);
    }
}
