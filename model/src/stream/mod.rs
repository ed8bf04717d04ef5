//! Logic over time and space of a stream. Pure: no threads and no clocks of its own, so that it can be tested with numbers.
//!
//! A frame's score and map are smoothed; the smoothed score raises or clears an alarm; the map's regions are followed from frame to frame;
//! alarm and tracks together make events. All times are nanoseconds of the stream.
//!
//! Frames of a line-scan camera are pieces of a strip: [`scan`] has the network look at it in tiles, each line once, and finds its flaws in
//! the strip's own coordinates.

pub mod alarm;
mod assign;
mod clock;
pub mod edges;
pub mod events;
pub mod flaws;
mod matching;
pub mod mosaic;
pub mod place;
mod rect;
mod run;
pub mod scan;
pub mod smooth;
pub mod strip;
pub mod tiling;
pub mod track;
