//! A CUDA device with a stream of its own. The only reason to change is what makes one stream enough.
#![allow(unsafe_code)]

use candle_core::{Device, Result};

/// The CUDA device `ordinal`, of which whatever any thread asks for is queued on one stream and done in that order.
///
/// By itself candle takes each calling thread's own stream: what one thread has loaded, another might compute with before it is there.
pub(crate) fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    #[cfg(feature = "cuda")]
    {
        let cuda = device.as_cuda_device()?;
        // SAFETY: the events that are switched off keep several streams apart: that nothing is used on one before it is made, or freed before
        // it is used, on another. The context object that they are switched off in has been made for this device, whose stream is the only
        // one that candle queues on, be it kernels, copies, allocation or freeing; and nobody takes a tensor of it to another device, which
        // candle refuses. They would cost a launch several calls of the driver.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}
