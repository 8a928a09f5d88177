//! What the tracer puts into a base: see `child::graft`.
#![no_std]
#![no_main]

#[path = "../src/child/mod.rs"]
mod child;
#[path = "freestanding.rs"]
mod freestanding;

// The tracer has set the stack pointer, and the registers of the arguments.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "bl {start}", "brk #0", start = sym start);

extern "C" fn start(area: usize, len: usize, signature: usize, own: usize, own_len: usize) -> ! {
    child::graft::main([area, len, signature], [own, own_len])
}
