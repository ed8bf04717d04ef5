//! The weights that `acdclip fetch` knows by name: where they lie, and which bytes they are.

/// Weights that somebody has published on the Hugging Face hub.
#[derive(Debug)]
pub(crate) struct Weights {
    /// What they are called here: the preset that describes the model.
    pub(super) name: &'static str,
    /// Repository on the hub.
    pub(super) repository: &'static str,
    /// File in it.
    pub(super) file: &'static str,
    /// The commit that is fetched where nobody asks for another.
    pub(super) revision: &'static str,
    /// SHA-256 of the file in that commit, hexadecimal.
    pub(super) sha256: &'static str,
}

/// OpenAI's CLIP as its authors have put it on the hub. The main branches hold these weights as torch archives only, which are read here
/// without running what is in them. Commits and hashes are those on which public records of these files agree; what the hub itself says is
/// held against them at every download.
const KNOWN: [Weights; 3] = [
    Weights {
        name: "clip-vit-l-14-336",
        repository: "openai/clip-vit-large-patch14-336",
        file: "pytorch_model.bin",
        revision: "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        sha256: "c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
    },
    Weights {
        name: "clip-vit-b-16",
        repository: "openai/clip-vit-base-patch16",
        file: "pytorch_model.bin",
        revision: "57c216476eefef5ab752ec549e440a49ae4ae5f3",
        sha256: "ec89c7b09c749a60aae3c9cd910516f24b58214a7df060b48962d14c469cfbf0",
    },
    Weights {
        name: "clip-vit-b-32",
        repository: "openai/clip-vit-base-patch32",
        file: "pytorch_model.bin",
        revision: "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        sha256: "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
    },
];

/// Finds weights by their name; an error lists those there are.
pub(super) fn find(name: &str) -> Result<&'static Weights, String> {
    let known = KNOWN.iter().find(|weights| weights.name == name);
    known.ok_or_else(|| {
        let names = KNOWN.each_ref().map(|weights| weights.name);
        format!("wanted one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use acdclip_model::{Config, config::Form};

    #[test]
    fn every_name_is_a_preset_and_every_pin_is_whole() {
        for weights in &KNOWN {
            assert!(
                Config::preset(weights.name, Form::Official).is_some(),
                "{weights:?}"
            );
            for (digits, wanted) in [(weights.revision, 40), (weights.sha256, 64)] {
                assert_eq!(digits.len(), wanted, "{weights:?}");
                assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{weights:?}");
            }
        }
    }
}
