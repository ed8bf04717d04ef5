//! Logic over time and space of a stream. Pure: no threads and no clocks of its own, so that it can be tested with numbers.

pub mod events;
