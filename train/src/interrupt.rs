//! Ctrl-C: the first one asks a command to stop where it can be gone on with, a second one ends the process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::outcome::{Failure, INTERRUPTED, Outcome};

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process there and then.
pub(crate) fn stop_on_interrupt() -> Outcome<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            // Files take their names only when they are whole, so that nothing half-written can be taken for one.
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|e| Failure::Arguments(format!("Ctrl-C cannot be listened to: {e}")))?;
    Ok(stop)
}
