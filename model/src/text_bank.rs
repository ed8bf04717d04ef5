//! Text features computed once per class and kept: all that a model needs of its text tower once its classes are known.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Text features by class, in the order in which the classes were named.
#[derive(Debug, Clone, Default)]
pub struct TextBank {
    /// Class and its features [N, W, 2], f32 on the CPU: one W-vector a text level for normal (0) and abnormal (1).
    pub classes: Vec<(String, Tensor)>,
}

impl TextBank {
    /// Features [N, W, 2] of `class`. An unknown class is an error that lists those there are.
    pub fn get(&self, class: &str) -> Result<&Tensor> {
        self.classes
            .iter()
            .find(|(name, _)| name == class)
            .map(|(_, features)| features)
            .ok_or_else(|| Error::UnknownClass {
                class: class.to_owned(),
                known: self.names().map(str::to_owned).collect(),
            })
    }

    /// Its classes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|(name, _)| name.as_str())
    }

    /// Sets the features of `class`, in place where it is known, else at the end.
    pub fn insert(&mut self, class: &str, features: Tensor) {
        match self.classes.iter_mut().find(|(name, _)| name == class) {
            Some((_, old)) => *old = features,
            None => self.classes.push((class.to_owned(), features)),
        }
    }
}
