//! Keeps the memory of large tensors in the process between steps.
//!
//! glibc gives every freed block above its threshold back to the kernel, which has to clear the same pages again at the next step: a third of
//! a training step's time on the CPU.
#![allow(unsafe_code)]

/// Tells the C library's allocator to keep freed memory for the next allocation. Does nothing where that library is not glibc.
///
/// The process then holds what its largest step needed until it ends.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Freed blocks stay on the heap: none is a mapping of its own, and the heap's end is not given back.
        // SAFETY: `mallopt` takes two integers and may be called at any time; settings that it does not know it refuses.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

/// Bytes by which the heap grows at least.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP_PAD: libc::c_int = 64 << 20;
