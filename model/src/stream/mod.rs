//! Logic over time and space of a stream. Pure: no threads and no clocks of its own, so that it can be tested with numbers.
//!
//! A frame's score and map are smoothed; the smoothed score raises or clears an alarm; the map's regions are followed from frame to frame;
//! alarm and tracks together make events. All times are nanoseconds of the stream.

pub mod alarm;
mod assign;
mod clock;
pub mod events;
mod matching;
mod rect;
mod run;
pub mod smooth;
pub mod track;
