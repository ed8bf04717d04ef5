//! A class as the command line names it, and what prompts call it.

/// A class and what prompts call it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Class {
    /// By which it is asked for.
    pub(crate) name: String,
    /// What prompts say instead of its name.
    pub(crate) prompt: Option<String>,
}

impl Class {
    /// What prompts call it.
    pub(crate) fn says(&self) -> &str {
        self.prompt.as_ref().unwrap_or(&self.name)
    }
}

/// Reads `NAME` or `NAME=PROMPT`.
pub(crate) fn parse(text: &str) -> Result<Class, String> {
    let (name, prompt) = match text.split_once('=') {
        Some((name, prompt)) => (name.trim(), Some(prompt.trim())),
        None => (text.trim(), None),
    };
    if name.is_empty() || prompt.is_some_and(str::is_empty) {
        return Err("wanted NAME or NAME=PROMPT, neither of them empty".into());
    }
    Ok(Class {
        name: name.into(),
        prompt: prompt.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_class_may_bring_what_prompts_call_it() {
        let class = |name: &str, prompt: Option<&str>| Class {
            name: name.into(),
            prompt: prompt.map(str::to_owned),
        };
        assert_eq!(parse("rail").unwrap(), class("rail", None));
        assert_eq!(
            parse("rail = rail surface").unwrap(),
            class("rail", Some("rail surface"))
        );
        assert_eq!(parse("a=b=c").unwrap(), class("a", Some("b=c")));
        for wrong in ["", "=x", "x=", " = "] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
