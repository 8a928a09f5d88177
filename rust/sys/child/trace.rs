//! The tracer of a base: see `child::trace`.
//!
//! Descriptors it is started with: 3 the channel to the supervisor, 4 a pidfd of the supervisor, 5 where id maps are asked for,
//! 6 a pidfd of the base's init.
#![no_std]
#![no_main]

#[path = "../src/child/mod.rs"]
mod child;
#[path = "freestanding.rs"]
mod freestanding;

/// What goes into a base.
static GRAFT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/graft"));

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "bl {start}", "brk #0", start = sym start);

extern "C" fn start() -> ! {
    child::trace::main(GRAFT)
}
