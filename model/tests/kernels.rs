//! CPU kernels against their plain twins, candle's own operations.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use acdclip_model::{config::Activation, ops};
use candle_core::{D, Device, Module, Tensor, Var};
use candle_nn::Linear;
use proptest::prelude::*;

fn random(shape: &[usize], scale: f32) -> Tensor {
    Tensor::randn(0f32, scale, shape, &Device::Cpu).unwrap()
}

fn largest_gap(a: &Tensor, b: &Tensor) -> f32 {
    let gap = (a - b).unwrap().abs().unwrap();
    gap.max_all().unwrap().to_scalar().unwrap()
}

/// What `f` makes of `x` as a variable, and the gradient of a weighted sum of it.
fn seen(x: &Tensor, f: &dyn Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let x = Var::from_tensor(x).unwrap();
    let y = f(&x);
    let count = y.elem_count();
    let weights = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap();
    let weights = weights.sin().unwrap().reshape(y.shape()).unwrap();
    let loss = (&y * weights).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    (y.detach(), gradients.get(&x).unwrap().clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn softmax_is_candles(heads in 1usize..4, rows in 1usize..70, width in 1usize..400, scale in 0.01f32..30.0) {
        let x = random(&[heads, rows, width], scale);
        let plain = candle_nn::ops::softmax(&x, D::Minus1).unwrap();
        let quick = ops::softmax(x).unwrap();
        prop_assert!(largest_gap(&plain, &quick) < 1e-6);
    }

    #[test]
    fn gradients_are_candles(rows in 1usize..40, from in 8usize..70, to in 1usize..70, scale in 0.01f32..3.0) {
        let x = random(&[2, rows, from], scale);
        let linear = Linear::new(random(&[to, from], 1.0), Some(random(&[to], 1.0)));
        let (weight, bias) = (random(&[from], 1.0), random(&[from], 1.0));
        let same = |quick: &dyn Fn(&Tensor) -> Tensor, plain: &dyn Fn(&Tensor) -> Tensor| {
            let ((quick, quick_gradient), (plain, plain_gradient)) = (seen(&x, quick), seen(&x, plain));
            let size = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            largest_gap(&quick, &plain) <= 2e-6 * size(&plain).max(1.0)
                && largest_gap(&quick_gradient, &plain_gradient) <= 1e-5 * size(&plain_gradient).max(1.0)
        };
        prop_assert!(same(
            &|x| ops::softmax(x.clone()).unwrap(),
            &|x| candle_nn::ops::softmax(x, D::Minus1).unwrap(),
        ));
        prop_assert!(same(&|x| ops::linear(x, &linear).unwrap(), &|x| linear.forward(x).unwrap()));
        prop_assert!(same(
            &|x| ops::layer_norm(x, &weight, &bias, 1e-2).unwrap(),
            &|x| ops::layer_norm_plain(x, &weight, &bias, 1e-2).unwrap(),
        ));
        for activation in [Activation::Gelu, Activation::QuickGelu] {
            prop_assert!(same(
                &|x| ops::linear_activation(x, &linear, activation).unwrap(),
                &|x| ops::linear_activation_plain(x, &linear, activation).unwrap(),
            ));
        }
    }

    #[test]
    fn activations_are_candles(rows in 1usize..70, from in 1usize..40, to in 1usize..300, scale in 0.01f32..4.0) {
        let linear = Linear::new(random(&[to, from], scale), Some(random(&[to], scale)));
        let x = random(&[2, rows, from], 1.0);
        for activation in [Activation::Gelu, Activation::QuickGelu] {
            let plain = ops::linear_activation_plain(&x, &linear, activation).unwrap();
            let quick = ops::linear_activation(&x, &linear, activation).unwrap();
            let size: f32 = plain.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
            prop_assert!(largest_gap(&plain, &quick) <= 1e-6 * size.max(1.0), "{activation:?}");
        }
    }
}

#[test]
fn masked_scores_get_no_weight() {
    let x = Tensor::new(
        &[
            [1.0f32, f32::NEG_INFINITY, 2.0],
            [f32::NEG_INFINITY, -100.0, f32::NEG_INFINITY],
        ],
        &Device::Cpu,
    )
    .unwrap();
    let rows = ops::softmax(x).unwrap().to_vec2::<f32>().unwrap();
    assert!(rows[0][1] < 1e-30 && (rows[0][0] + rows[0][2] - 1.0).abs() < 1e-6);
    assert!(rows[1][0] < 1e-30 && (rows[1][1] - 1.0).abs() < 1e-6);
}
