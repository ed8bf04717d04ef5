//! A result that was computed without a graph, put into the graph with a backward pass of its own.
//!
//! candle differentiates operation by operation: it keeps every intermediate result, and computes gradients of frozen weights that nobody
//! asks for. Where the backward pass of several operations together is known, this does neither.

use std::sync::Mutex;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
};

/// `y`, which was computed from `x` outside of the graph, as a node of the graph.
///
/// `backward` gets `x`, `y` and the gradient of `y`, all without a graph, and returns the gradient of `x`.
pub(crate) fn graft(
    x: &Tensor,
    y: Tensor,
    backward: impl Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    x.apply_op1(Graft {
        result: Mutex::new(Some(y.detach())),
        backward,
    })
}

struct Graft<F> {
    /// Until the node has it.
    result: Mutex<Option<Tensor>>,
    backward: F,
}

impl<F> Graft<F> {
    /// A copy of the result's numbers made by `copy`, and its shape.
    fn hand_over<S>(&self, copy: impl Fn(&Storage, &Layout) -> Result<S>) -> Result<(S, Shape)> {
        let taken = self.result.lock().ok().and_then(|mut result| result.take());
        let Some(result) = taken else {
            candle_core::bail!("a grafted result was asked for twice");
        };
        let result = match result.is_contiguous() && result.layout().start_offset() == 0 {
            true => result,
            false => result.force_contiguous()?,
        };
        let (storage, layout) = result.storage_and_layout();
        Ok((copy(&storage, layout)?, layout.shape().clone()))
    }
}

fn elsewhere<S>() -> Result<S> {
    candle_core::bail!("a result wants to be on the device of what it was computed from")
}

impl<F> CustomOp1 for Graft<F>
where
    F: Fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
{
    fn name(&self) -> &'static str {
        "graft"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.hand_over(|storage, layout| match storage {
            Storage::Cpu(storage) => storage.try_clone(layout),
            _ => elsewhere(),
        })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.hand_over(|storage, layout| match storage {
            Storage::Cuda(storage) => storage.try_clone(layout),
            _ => elsewhere(),
        })
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.hand_over(|storage, layout| match storage {
            Storage::Metal(storage) => storage.try_clone(layout),
            _ => elsewhere(),
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(&x.detach(), &y.detach(), &gradient.detach()).map(Some)
    }
}
