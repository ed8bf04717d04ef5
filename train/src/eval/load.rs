//! Pictures and their truth, decoded on worker threads ahead of the network that wants them.

use std::{sync::mpsc::sync_channel, thread};

use rayon::prelude::*;

use crate::{
    dataset::{Sample, mask::Mask},
    metrics::regions::Regions,
    outcome::Outcome,
    picture::Picture,
};

/// A sample, ready to be scored and compared.
pub(super) struct Loaded {
    pub(super) picture: Picture,
    /// The anomalous regions at the network's input size; none for an anomalous picture without a mask.
    pub(super) truth: Option<Regions>,
}

/// Calls `each` with the samples in order, `batch_size` at a time, truth at `side` x `side` pixels.
///
/// While one batch is being worked on, the next one waits and the one after that is being decoded; never more.
pub(super) fn for_each_batch(
    samples: &[Sample],
    batch_size: usize,
    side: usize,
    mut each: impl FnMut(&[Sample], Vec<Loaded>) -> Outcome,
) -> Outcome {
    thread::scope(|scope| {
        let (send, receive) = sync_channel(1);
        scope.spawn(move || {
            for batch in samples.chunks(batch_size) {
                let loaded: Outcome<Vec<Loaded>> =
                    batch.par_iter().map(|sample| load(sample, side)).collect();
                let failed = loaded.is_err();
                if send.send((batch, loaded)).is_err() || failed {
                    return;
                }
            }
        });
        for (batch, loaded) in receive {
            each(batch, loaded?)?;
        }
        Ok(())
    })
}

fn load(sample: &Sample, side: usize) -> Outcome<Loaded> {
    let truth = match (sample.anomalous, &sample.mask) {
        (false, _) => Some(Regions::none(side * side)),
        (true, None) => None,
        (true, Some(path)) => {
            let mask = Mask::open(path)?.resized(side, side);
            Some(Regions::find(&mask, side))
        }
    };
    Ok(Loaded {
        picture: Picture::open(&sample.image)?,
        truth,
    })
}
