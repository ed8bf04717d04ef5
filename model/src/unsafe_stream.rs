//! A CUDA device with a stream of its own. The only reason to change is what makes one stream enough.
#![allow(unsafe_code)]

use std::collections::BTreeMap;

use candle_core::{Device, Result};
use parking_lot::Mutex;

/// Those that are open, by ordinal: each has one stream in this process, and stays.
static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());

/// The CUDA device `ordinal`, the same whoever asks, of which whatever any thread asks for is queued on one stream and done in that order.
///
/// By itself candle takes each calling thread's own stream: what one thread has loaded, another might compute with before it is there.
pub(crate) fn open(ordinal: usize) -> Result<Device> {
    let mut open = OPEN.lock();
    if let Some(device) = open.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new_cuda_with_stream(ordinal)?;
    #[cfg(feature = "cuda")]
    {
        let cuda = device.as_cuda_device()?;
        // SAFETY: the events that are switched off keep several streams apart: that nothing is used on one before it is made, or freed before
        // it is used, on another. The context object that they are switched off in has been made for this device, whose stream is the only
        // one that candle queues on, be it kernels, copies, allocation or freeing; there is one such device an ordinal, and no tensor of it
        // is taken straight to another GPU, which `DeviceSpec::open` tells others not to do either. They would cost a launch several calls of
        // the driver.
        unsafe { cuda.disable_event_tracking() };
    }
    open.insert(ordinal, device.clone());
    Ok(device)
}
