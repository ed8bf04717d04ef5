//! Adam as PyTorch computes it, and gradient clipping.
//!
//! candle's AdamW keeps its moments to itself, so that a run could not be continued, and adds epsilon elsewhere.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var, backprop::GradStore};

use super::recipe::OptimizerPart;

/// Gradients by parameter.
pub(crate) type Gradients = BTreeMap<String, Tensor>;

/// The parameters' gradients in `store`, as numbers alone.
///
/// What candle gives are results of operations on the forward pass's tensors, and hold on to them: moments made of those would keep every
/// step's graph for good.
pub(crate) fn gradients(store: &GradStore, parameters: &BTreeMap<String, Var>) -> Gradients {
    parameters
        .iter()
        .filter_map(|(name, var)| Some((name.clone(), store.get(var)?.detach())))
        .collect()
}

/// Each times `factor`.
pub(crate) fn scaled(gradients: Gradients, factor: f64) -> Result<Gradients> {
    if factor == 1.0 {
        return Ok(gradients);
    }
    let scaled = gradients.into_iter();
    scaled
        .map(|(name, gradient)| Ok((name, (gradient * factor)?)))
        .collect()
}

/// Adds `more` times `weight` to `sum`.
pub(crate) fn accumulate(sum: &mut Gradients, more: Gradients, weight: f64) -> Result<()> {
    for (name, gradient) in scaled(more, weight)? {
        let gradient = match sum.remove(&name) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        sum.insert(name, gradient);
    }
    Ok(())
}

/// Euclidean norm of all gradients together.
pub(crate) fn norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    Ok(sum.sqrt())
}

/// What a gradient of that norm is multiplied by, as PyTorch's `clip_grad_norm_` does.
fn clip_factor(norm: f64, limit: f64) -> f64 {
    (limit / (norm + 1e-6)).min(1.0)
}

fn is_blend(name: &str) -> bool {
    name.ends_with(".i_w")
}

/// Shortens each blend vector's gradient to `limit`; 0 for none.
pub(crate) fn clip_blend(gradients: &mut Gradients, limit: f64) -> Result<()> {
    if limit <= 0.0 {
        return Ok(());
    }
    for (_, gradient) in gradients.iter_mut().filter(|(name, _)| is_blend(name)) {
        let factor = clip_factor(norm([&*gradient])?, limit);
        if factor < 1.0 {
            *gradient = (&*gradient * factor)?;
        }
    }
    Ok(())
}

/// Shortens all gradients together, whose norm is `norm`, to `limit`; 0 for none.
pub(crate) fn clip_all(gradients: &mut Gradients, norm: f64, limit: f64) -> Result<()> {
    let factor = clip_factor(norm, limit);
    if limit <= 0.0 || factor >= 1.0 {
        return Ok(());
    }
    for gradient in gradients.values_mut() {
        *gradient = (&*gradient * factor)?;
    }
    Ok(())
}

/// First and second moment of a parameter's gradient.
#[derive(Debug, Clone)]
struct Moments {
    first: Tensor,
    second: Tensor,
}

/// Adam's state: moments by parameter, and the number of steps taken.
#[derive(Debug, Default)]
pub(crate) struct Adam {
    moments: BTreeMap<String, Moments>,
    steps: u64,
}

/// What of a parameter's name says which learning rate it has.
fn rate(recipe: &OptimizerPart, name: &str) -> f64 {
    if name.starts_with("text_adapter.") {
        recipe.text_rate
    } else if name.starts_with("text_model.") {
        recipe.text_tower_rate
    } else {
        recipe.image_rate
    }
}

impl Adam {
    /// Moves every parameter that has a gradient, at the recipe's rates times `factor`.
    ///
    /// A parameter takes part in every step or in none, so that one count of steps serves all.
    pub(crate) fn step(
        &mut self,
        recipe: &OptimizerPart,
        factor: f64,
        parameters: &BTreeMap<String, Var>,
        gradients: &Gradients,
    ) -> Result<()> {
        self.steps += 1;
        let (beta1, beta2) = (recipe.beta1, recipe.beta2);
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let correction1 = 1.0 - beta1.powi(t);
        let correction2 = (1.0 - beta2.powi(t)).sqrt();
        for (name, gradient) in gradients {
            let Some(var) = parameters.get(name) else {
                continue;
            };
            let before = match self.moments.remove(name) {
                Some(moments) => moments,
                None => Moments {
                    first: gradient.zeros_like()?,
                    second: gradient.zeros_like()?,
                },
            };
            let first = ((before.first * beta1)? + (gradient * (1.0 - beta1))?)?;
            let second = ((before.second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let rate = rate(recipe, name) * factor;
            let denominator = ((second.sqrt()? / correction2)? + recipe.eps)?;
            let change = ((&first / denominator)? * (rate / correction1))?;
            let value = var.as_detached_tensor();
            let kept = match recipe.weight_decay {
                0.0 => value,
                decay => (value * (1.0 - rate * decay))?,
            };
            var.set(&(kept - change)?)?;
            self.moments.insert(name.clone(), Moments { first, second });
        }
        Ok(())
    }

    /// Steps taken.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments under `adam.first.*` and `adam.second.*`.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.moments.iter().flat_map(|(name, moments)| {
            [
                (format!("{FIRST}{name}"), &moments.first),
                (format!("{SECOND}{name}"), &moments.second),
            ]
        })
    }

    /// The state that [`Adam::tensors`] and [`Adam::steps`] gave.
    pub(crate) fn restore(mut tensors: BTreeMap<String, Tensor>, steps: u64) -> Self {
        let names: Vec<_> = tensors
            .keys()
            .filter_map(|name| name.strip_prefix(FIRST))
            .map(str::to_owned)
            .collect();
        let moments = names.into_iter().filter_map(|name| {
            let first = tensors.remove(&format!("{FIRST}{name}"))?;
            let second = tensors.remove(&format!("{SECOND}{name}"))?;
            Some((name, Moments { first, second }))
        });
        Self {
            moments: moments.collect(),
            steps,
        }
    }
}

const FIRST: &str = "adam.first.";
const SECOND: &str = "adam.second.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn vector(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn each_blend_vector_is_clipped_by_itself_and_nothing_else_is() {
        let long = "image_adapter.m_i_w.0.i_w";
        let short = "text_adapter.m_t_w.0.i_w";
        let other = "image_adapter.lora_adapters.0.lora_A";
        let mut gradients: Gradients = [
            (long.to_owned(), vector(&[30.0, 40.0])),
            (short.to_owned(), vector(&[0.3, 0.4])),
            (other.to_owned(), vector(&[30.0, 40.0])),
        ]
        .into();
        clip_blend(&mut gradients, 1.0).unwrap();
        let found = |name: &str| gradients[name].to_vec1::<f32>().unwrap();
        // torch.nn.utils.clip_grad_norm_ of [30, 40] to 1: times 1 / (50 + 1e-6).
        let factor = (1.0 / (50.0 + 1e-6)) as f32;
        assert_eq!(found(long), [30.0 * factor, 40.0 * factor]);
        assert_eq!(found(short), [0.3, 0.4]);
        assert_eq!(found(other), [30.0, 40.0]);
        clip_blend(&mut gradients, 0.0).unwrap();
        assert_eq!(gradients[other].to_vec1::<f32>().unwrap(), [30.0, 40.0]);
    }

    #[test]
    fn all_gradients_are_clipped_together() {
        let mut gradients: Gradients = [
            ("a".to_owned(), vector(&[3.0])),
            ("b".to_owned(), vector(&[4.0])),
        ]
        .into();
        let before = norm(gradients.values()).unwrap();
        assert_eq!(before, 5.0);
        clip_all(&mut gradients, before, 10.0).unwrap();
        assert_eq!(norm(gradients.values()).unwrap(), 5.0);
        clip_all(&mut gradients, before, 1.0).unwrap();
        assert!((norm(gradients.values()).unwrap() - 1.0).abs() < 1e-5);
    }

    /// What torch.optim.Adam with lr 0.1 makes of [1, -2, 3] in three steps with the gradients below.
    const PYTORCH: [f32; 3] = [0.834_822_65, -2.075_311_7, 2.855_439];

    #[test]
    fn three_steps_are_pytorchs() {
        let recipe = OptimizerPart {
            image_rate: 0.1,
            ..OptimizerPart::default()
        };
        let var = Var::from_tensor(&vector(&[1.0, -2.0, 3.0])).unwrap();
        let parameters = [("x".to_owned(), var.clone())].into();
        let mut adam = Adam::default();
        for gradient in [[0.5, -1e-9, 2.0], [0.1, 3e-8, -2.0], [-0.7, 0.0, 4.0]] {
            let gradients = [("x".to_owned(), vector(&gradient))].into();
            adam.step(&recipe, 1.0, &parameters, &gradients).unwrap();
        }
        for (ours, theirs) in var.to_vec1::<f32>().unwrap().iter().zip(PYTORCH) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }
}
