//! The memory that the running program's own file takes.

/// Gives the memory of what was read and run of the program's file back to the kernel, for a server to do now and then: what started it, the
/// compiler of components and most of the embedded ones aren't needed again soon, and make half of what an idle server has
/// resident. What is needed comes back by itself, from the page cache or the file: a fraction of a millisecond's work for what calls run.
pub fn let_go() {
    #[cfg(target_os = "linux")]
    {
        // Whole pages of the largest kind that Linux has on any processor that Brokle is built for.
        const PAGE: usize = 64 * 1024;
        #[expect(unsafe_code, reason = "the linker and the kernel are told of addresses")]
        // SAFETY: every linker for Linux defines both names, whose addresses alone are used. What lies between them is the image's
        // constants and code: a private mapping of the program's file that nobody ever writes to (relocated constants come after
        // it), so what is read after this is what was read before it.
        unsafe {
            unsafe extern "C" {
                static __executable_start: u8;
                static etext: u8;
            }
            let begin = &raw const __executable_start;
            let (first, end) = (begin.addr().next_multiple_of(PAGE), (&raw const etext).addr() / PAGE * PAGE);
            if first < end {
                let length = end - first;
                libc::madvise(begin.with_addr(first).cast_mut().cast(), length, libc::MADV_DONTNEED);
            }
        }
    }
}
