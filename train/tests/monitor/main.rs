//! `acdclip monitor` as whoever opens its page meets it: over HTTP, and in a browser.
#![allow(clippy::unwrap_used)]
#![cfg(all(feature = "builtin-model", feature = "monitor"))]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod record;
mod running;
mod server;
#[path = "../../src/monitor/webrtc/unsafe_description.rs"]
mod unsafe_description;
mod webdriver;
mod webrtc;
