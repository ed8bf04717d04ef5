//! What prompts call a class: a built-in table, which a TOML file of the user's extends and overrides.
//!
//! The file has `class = "what it is called"`, on its own or in tables whose names mean nothing.

use std::{collections::HashMap, path::Path};

use toml::{Table, Value};

use crate::outcome::{Failure, Outcome};

const BUILT_IN: &str = include_str!("../../assets/class_names.toml");

/// Names by class.
#[derive(Debug, Default)]
pub(crate) struct ClassNames {
    names: HashMap<String, String>,
}

impl ClassNames {
    /// The built-in table, and what the file at `path` adds to it.
    pub(crate) fn load(path: Option<&Path>) -> Outcome<Self> {
        let mut names = Self::default();
        names.add(BUILT_IN).map_err(Failure::Arguments)?;
        if let Some(path) = path {
            let text = std::fs::read_to_string(path).map_err(Failure::io(path))?;
            names.add(&text).map_err(|reason| Failure::Picture {
                path: path.into(),
                reason,
            })?;
        }
        Ok(names)
    }

    /// What prompts call `class`: its name with spaces for underscores where no table has it.
    pub(crate) fn describe(&self, class: &str) -> String {
        let name = self.names.get(class).cloned();
        name.unwrap_or_else(|| class.replace('_', " "))
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let table: Table = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut own = HashMap::new();
        flatten(table, &mut own)?;
        self.names.extend(own);
        Ok(())
    }
}

/// Every `class = "text"` of a table and its tables. A class that is given two meanings is an error.
fn flatten(table: Table, names: &mut HashMap<String, String>) -> Result<(), String> {
    for (key, value) in table {
        match value {
            Value::Table(table) => flatten(table, names)?,
            Value::String(text) if !text.trim().is_empty() => {
                if let Some(other) = names.get(&key).filter(|other| **other != text) {
                    return Err(format!("class {key} is both {other:?} and {text:?}"));
                }
                names.insert(key, text);
            }
            other => {
                return Err(format!(
                    "class {key}: wanted a text that is not empty, found {other}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_users_file_adds_and_overrides() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names.toml");
        std::fs::write(&path, "screw = \"wood screw\"\n[mine]\nx1 = \"thing\"\n").unwrap();
        let names = ClassNames::load(Some(&path)).unwrap();
        assert_eq!(names.describe("screw"), "wood screw");
        assert_eq!(names.describe("x1"), "thing");
        assert_eq!(names.describe("bottle"), "dark bottle");
        assert_eq!(names.describe("rail_surface"), "rail surface");
    }

    #[test]
    fn two_meanings_and_no_meaning_are_errors() {
        let mut names = ClassNames::default();
        let error = names.add("[a]\nx = \"p\"\n[b]\nx = \"q\"").unwrap_err();
        assert!(error.contains("\"p\"") && error.contains("\"q\""));
        assert!(names.add("x = 3").is_err());
        assert!(names.add("x = \" \"").is_err());
    }
}
