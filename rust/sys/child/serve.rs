//! The library that a zygote loads: it serves the supervisor's requests to fork, and returns only in the children.
#![no_std]

#[path = "../src/child/mod.rs"]
mod child;
#[path = "freestanding.rs"]
mod freestanding;

/// Serves fork requests that arrive on `control`. Returns a negative number in the zygote when the supervisor has hung up;
/// in a child, which is in its seat, 1 if it is made ahead of need and 0 if not. `rseq_offset` is glibc's, or 0.
#[unsafe(no_mangle)]
pub extern "C" fn coldframe_serve(control: i32, rseq_offset: isize) -> i32 {
    child::serve::serve(control, rseq_offset)
}

/// In such a child: waits to be given a function, and locks the process down as its environment. `parked`: what
/// `coldframe_serve` returned.
#[unsafe(no_mangle)]
pub extern "C" fn coldframe_assign(parked: i32) {
    child::serve::assign(parked != 0);
}
