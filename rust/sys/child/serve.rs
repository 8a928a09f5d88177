//! The library that a zygote loads: it serves the supervisor's requests to fork, and returns only in the children.
#![no_std]

#[path = "../src/child/mod.rs"]
mod child;
#[path = "freestanding.rs"]
mod freestanding;

/// Serves fork requests that arrive on `control`. Returns 0 in a child that has become an environment, and a negative
/// number in the zygote when the supervisor has hung up.
#[unsafe(no_mangle)]
pub extern "C" fn coldframe_serve(control: i32) -> i32 {
    child::serve::serve(control)
}
