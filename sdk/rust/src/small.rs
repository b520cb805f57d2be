//! What a component without `std` needs of its own: memory from the C library that the target brings (the one that `std`
//! would use), and an end for panics.

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;

/// `malloc` of the target's C library.
pub struct Allocator;

/// What `malloc` aligns to on this target, in bytes.
const MALLOC_ALIGN: usize = 16;

#[expect(unsafe_code, reason = "the C library's own interface")]
#[link(name = "c")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn free(block: *mut c_void);
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
}

#[expect(unsafe_code, reason = "an allocator is; each call passes on what its caller promised")]
// SAFETY: blocks come from `malloc` or `aligned_alloc` and go back to `free`; neither unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if layout.align() <= MALLOC_ALIGN {
            // SAFETY: any size is allowed.
            unsafe { malloc(layout.size()) }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { aligned_alloc(layout.align(), layout.pad_to_align().size()) }
        };
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller had it from `alloc`.
        unsafe { free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= MALLOC_ALIGN {
            // SAFETY: the caller had it from `alloc`, with this alignment.
            return unsafe { realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller promises a size that fits a layout.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: both are at least this long, and apart.
            unsafe { core::ptr::copy_nonoverlapping(block, grown, layout.size().min(size)) };
            // SAFETY: the caller had it from `alloc`.
            unsafe { free(block.cast()) };
        }
        grown
    }
}

/// The canonical ABI's `cabi_realloc`: where the host puts arguments.
///
/// # Safety
/// As of [`GlobalAlloc::realloc`]; `old_size` 0 means that there is no block yet.
#[expect(unsafe_code, reason = "called by the host alone, by the canonical ABI's rules")]
pub unsafe fn cabi_realloc(block: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    if size == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: the host passes a power of two, and sizes that fit its own limit.
    let moved = unsafe {
        if old_size == 0 {
            Allocator.alloc(Layout::from_size_align_unchecked(size, align))
        } else {
            Allocator.realloc(block, Layout::from_size_align_unchecked(old_size, align), size)
        }
    };
    if moved.is_null() {
        core::arch::wasm32::unreachable();
    }
    moved
}
