//! What ACD-CLIP adds to CLIP: adapters between groups of blocks, the gateway between text and vision, and the whole.

pub mod acdclip;
pub mod adapter;
pub mod gateway;
pub mod head;
pub mod text;

mod packed;

pub use acdclip::{AcdClip, Answer, Tokens};
pub use text::TextEncoder;
