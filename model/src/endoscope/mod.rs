//! What a picture from an endoscope needs before and after the network: where in the frame the picture is, whether anything can be seen in
//! it, what of it shines or is burnt in, and how far it has moved.
//!
//! Plain, documented measures, each by itself and without a network. They look at a [`sketch::Sketch`], a small picture of the frame, so that
//! the cost does not grow much with the frame. Times are nanoseconds of the stream; there are no clocks and threads here.

mod cells;
mod edge;
pub mod field;
pub mod graphics;
pub mod highlights;
pub mod motion;
pub mod outline;
pub mod quality;
#[cfg(test)]
pub(crate) mod scene;
pub mod sketch;
