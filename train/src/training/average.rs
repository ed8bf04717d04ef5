//! A running average of the parameters over steps, which generalises better than the last step's values: what is measured and written
//! where the recipe asks for it (`optimizer.average`). Training itself goes on from the parameters as they are.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

/// Averages by parameter.
#[derive(Debug, Default)]
pub(crate) struct Average {
    decay: f64,
    values: BTreeMap<String, Tensor>,
}

impl Average {
    /// None yet, where each step keeps `decay` of the average; `None` for a decay of 0, which asks for no average.
    pub(crate) fn new(decay: f64) -> Option<Self> {
        (decay > 0.0).then(|| Self {
            decay,
            ..Self::default()
        })
    }

    /// Takes in the parameters after step number `step` (from 1). Early on less is kept, so that the first values are soon forgotten.
    pub(crate) fn update(&mut self, step: u64, parameters: &BTreeMap<String, Var>) -> Result<()> {
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        for (name, var) in parameters {
            let value = var.as_detached_tensor();
            let next = match self.values.get(name) {
                Some(before) => ((before * decay)? + (value * (1.0 - decay))?)?,
                None => value.copy()?,
            };
            self.values.insert(name.clone(), next);
        }
        Ok(())
    }

    /// Puts the averages into `parameters`, and returns what was there; nothing changes before the first step.
    pub(crate) fn exchange(
        &self,
        parameters: &BTreeMap<String, Var>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut before = BTreeMap::new();
        for (name, average) in &self.values {
            if let Some(var) = parameters.get(name) {
                before.insert(name.clone(), var.as_detached_tensor().copy()?);
                var.set(average)?;
            }
        }
        Ok(before)
    }

    /// The averages under `average.*`.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.values
            .iter()
            .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor))
    }

    /// Takes back what [`Average::tensors`] gave.
    pub(crate) fn restore(&mut self, tensors: &BTreeMap<String, Tensor>) {
        let own = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(PREFIX)?, tensor)));
        self.values = own
            .map(|(name, tensor)| (name.to_owned(), tensor.clone()))
            .collect();
    }
}

/// Puts values that [`Average::exchange`] returned back into `parameters`.
pub(crate) fn put_back(
    parameters: &BTreeMap<String, Var>,
    before: &BTreeMap<String, Tensor>,
) -> Result<()> {
    for (name, value) in before {
        if let Some(var) = parameters.get(name) {
            var.set(value)?;
        }
    }
    Ok(())
}

const PREFIX: &str = "average.";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn parameters(value: f32) -> BTreeMap<String, Var> {
        let tensor = Tensor::new(&[value], &Device::Cpu).unwrap();
        [("a".to_owned(), Var::from_tensor(&tensor).unwrap())].into()
    }

    fn value(parameters: &BTreeMap<String, Var>) -> f32 {
        parameters["a"].to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn an_average_lags_behind_and_gives_way_again() {
        let parameters = parameters(0.0);
        let mut average = Average::new(0.9).unwrap();
        for (step, value) in (1u64..).zip([1.0f32, 3.0]) {
            let tensor = Tensor::new(&[value], &Device::Cpu).unwrap();
            parameters["a"].set(&tensor).unwrap();
            average.update(step, &parameters).unwrap();
        }
        let before = average.exchange(&parameters).unwrap();
        // 1 kept by (1 + 2) / (10 + 2), the rest from 3.
        assert!((value(&parameters) - 2.5).abs() < 1e-6);
        put_back(&parameters, &before).unwrap();
        assert_eq!(value(&parameters), 3.0);
    }

    #[test]
    fn it_survives_a_checkpoint_and_is_not_there_unless_asked_for() {
        assert!(Average::new(0.0).is_none());
        let mut average = Average::new(0.5).unwrap();
        average.update(1, &parameters(4.0)).unwrap();
        let kept = average.tensors().map(|(name, t)| (name, t.clone()));
        let mut restored = Average::new(0.5).unwrap();
        restored.restore(&kept.collect());
        let found = parameters(0.0);
        restored.exchange(&found).unwrap();
        assert_eq!(value(&found), 4.0);
    }
}
