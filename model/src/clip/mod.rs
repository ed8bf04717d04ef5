//! CLIP: the two towers, the block they are made of, and the tokenizer.

pub mod attention;
mod clean;
pub(crate) mod packed;
pub mod text;
pub mod tokenizer;
pub mod vision;
