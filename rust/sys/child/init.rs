//! The static init: pid 1 of every environment and of every zygote; by the name `zygote`, a zygote without an interpreter.
//!
//! Descriptors it is started with: 3 the channel to the supervisor, 4 its program (a sealed memfd), 5 a pidfd of the
//! supervisor. It runs the program's first part, starts the second part (if there is one) as pid 2, and then watches.
#![no_std]
#![no_main]

#[path = "../src/child/mod.rs"]
mod child;
#[path = "freestanding.rs"]
mod freestanding;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {start}", "brk #0", start = sym start);

extern "C" fn start(stack: *const *const u8) -> ! {
    // SAFETY: a program finds the number of its arguments where its stack begins, then pointers to them: the kernel gives
    // every program one at least (5.18), and whoever starts this one gives it a name, which has a first byte.
    let initial = unsafe { **stack.add(1) };
    if initial == b'z' { child::launch::zygote() } else { child::init::main() }
}
