//! Values of a recipe that the command line gives instead: `--set augment.light.probability=0.5`.

use toml::{Table, Value};

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// As it was given.
    pub(super) text: String,
    /// The tables that the key names, with the value in the innermost.
    values: Table,
}

impl Setting {
    /// Reads `KEY=VALUE`, a line of TOML; a value that is none stands for itself as text, so that words need no quotes.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("wanted KEY=VALUE")?;
        if text.contains('\n') {
            return Err("wanted one line".into());
        }
        let as_text = || format!("{key} = {}", Value::from(value));
        let values = toml::from_str(text)
            .or_else(|_| toml::from_str(&as_text()))
            .map_err(|_| {
                format!("wanted a key of the recipe, as schedule.epochs, found {key:?}")
            })?;
        let text = text.into();
        Ok(Self { text, values })
    }

    /// Puts it into a recipe.
    pub(super) fn put(&self, recipe: &mut Table) {
        put(recipe, self.values.clone());
    }
}

/// Puts `values` into `table`. Tables are merged, all else is replaced.
fn put(table: &mut Table, values: Table) {
    for (key, value) in values {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(own)), Value::Table(new)) => put(own, new),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_toml_and_words_are_text() {
        for (text, wanted) in [
            ("seed=7", "seed = 7"),
            ("output.dtype=q8", "[output]\ndtype = 'q8'"),
            ("output.dtype=\"q8\"", "[output]\ndtype = 'q8'"),
            (
                "augment.light.probability = 0.5",
                "[augment.light]\nprobability = 0.5",
            ),
            (
                "augment.crop.scale=[0.3, 1.0]",
                "[augment.crop]\nscale = [0.3, 1.0]",
            ),
            (
                "output.licence=a = b, \"c\"",
                "[output]\nlicence = 'a = b, \"c\"'",
            ),
        ] {
            let wanted: Table = toml::from_str(wanted).unwrap();
            assert_eq!(Setting::read(text).unwrap().values, wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "seed", "=1", "a..b=1", "a b=1", "[a]\nb=1", "a=1\nb=2"] {
            let error = Setting::read(text).unwrap_err();
            assert!(error.starts_with("wanted"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut table: Table =
            toml::from_str("seed = 1\n[augment]\nnoise = { probability = 0.3, strength = 1.0 }")
                .unwrap();
        for text in ["seed=2", "augment.noise.probability=0.0", "model.groups=3"] {
            Setting::read(text).unwrap().put(&mut table);
        }
        let wanted: Table = toml::from_str(
            "seed = 2\naugment.noise = { probability = 0.0, strength = 1.0 }\nmodel.groups = 3",
        )
        .unwrap();
        assert_eq!(table, wanted);
    }
}
