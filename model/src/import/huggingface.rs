//! Hugging Face's names for CLIP (`transformers`, `CLIPModel`), which are also this crate's own.

use crate::tensors::SourceName;

/// Names by which the two towers are recognised.
pub(super) const VISION: &str = "vision_model.embeddings.class_embedding";
pub(super) const TEXT: &str = "text_model.embeddings.token_embedding.weight";

/// Where the file keeps the model's tensor `name`.
pub(super) fn source(name: &str) -> SourceName {
    SourceName::whole(name)
}
