//! The sentences that stand for normal and abnormal: states and templates with the class's text put in.

use crate::config::Prompts;

impl Prompts {
    /// The sentences of a class, normal ones first: every template around every state, the templates of one state next to each other.
    ///
    /// Every `{}` of a state takes `class_text`, every `{}` of a template takes the state. A state or template without `{}` is a
    /// sentence that is the same for each class, which is allowed; other braces are text. (The official code's `str.format` fails on them.)
    pub fn sentences(&self, class_text: &str) -> [Vec<String>; 2] {
        [&self.normal, &self.abnormal].map(|states| {
            let states = states.iter().map(|state| state.replace("{}", class_text));
            states
                .flat_map(|state| {
                    self.templates
                        .iter()
                        .map(move |template| template.replace("{}", &state))
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_go_around_states_and_states_around_the_class() {
        let [normal, abnormal] = Prompts::default().sentences("rail surface");
        assert_eq!(
            normal,
            [
                "rail surface.",
                "a photo of rail surface.",
                "a rail surface.",
                "a photo of a rail surface.",
                "the rail surface.",
                "a photo of the rail surface."
            ]
        );
        assert_eq!(abnormal.len(), 10);
        assert_eq!(abnormal[5], "a photo of a rail surface with flaw.");
    }

    #[test]
    fn braces_in_a_class_and_states_without_them_are_plain_text() {
        let prompts = Prompts {
            normal: vec!["clean metal".into()],
            abnormal: vec!["{} or {}, {x}".into()],
            templates: vec!["<{}>".into()],
        };
        assert_eq!(
            prompts.sentences("a {} b"),
            [
                vec!["<clean metal>".to_owned()],
                vec!["<a {} b or a {} b, {x}>".to_owned()]
            ]
        );
    }
}
