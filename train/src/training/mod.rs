//! Fine-tuning: the authors' training, each part of it a setting.
//!
//! Data flow one way. [`recipe`] says what is wanted, with what the command line [`setting`]s say instead; [`samples`] finds the pictures and draws an epoch's; [`loader`] reads them and
//! [`augment`] changes them on threads of their own; [`network`] holds frozen towers and [`parameters`], and gives the [`loss`] of a
//! batch; [`optimizer`] makes a step of its gradients, at the rate of [`schedule`], and [`average`] follows; [`trainer`] does so until the end, writing
//! [`checkpoint`]s, tables ([`log`]), [`tensorboard`] events and [`progress`]. All chance comes from [`random`], by seed, epoch and place:
//! a run on the CPU can be repeated, stopped and gone on with bit for bit.

mod augment;
mod average;
mod checkpoint;
pub(crate) mod command;
mod light;
mod loader;
mod log;
mod loss;
mod loss_scale;
mod lump;
mod network;
mod optimizer;
mod parameters;
mod progress;
mod random;
mod recipe;
mod samples;
mod schedule;
mod setting;
mod tensorboard;
mod trainer;

#[cfg(test)]
mod golden;
