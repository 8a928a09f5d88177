//! What a base runs when it has been taken over: it serves forks, as a zygote does, and its own code never runs again.
//!
//! A *base* is the initialised process of a function, and has run user code. The tracer (`super::trace`) has stopped it, has put
//! this program into memory of its own in it, and has it run that instead. The memory is private, the base has one thread and
//! nobody shares its memory: what is here is what was written. Signals are blocked, and the tracer sees them first; restartable
//! sequences, the other way by which the kernel would run code that the process chose, are off. Each child locks itself down,
//! and then traps: the tracer takes this program away, puts the registers of the base back, and lets go.

use core::arch::asm;

use super::fork::Thread;
use super::serve::{ENVIRONMENT_CONTROL, assign, serve_as};
use super::syscall as sys;

/// The program `graft`, in a base. `rseq`: the area for restartable sequences that children are to have, its length and its
/// signature; zeros if none. `own`: where this program's memory begins, and how long it is.
pub fn main(rseq: [usize; 3], own: [usize; 2]) -> ! {
    let mut thread = Thread::with_rseq(rseq);
    // The kernel writes there in each child, before that has locked itself down.
    thread.keep_out_of(own);
    let parked = serve_as(ENVIRONMENT_CONTROL, &thread);
    if parked < 0 {
        sys::exit(0);
    }
    assign(parked != 0);
    trap()
}

/// Hands this process to the tracer, for which a system call instruction follows.
fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is touched; the tracer never lets this go on.
    unsafe {
        asm!("int3", "syscall", "ud2", options(noreturn));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: nothing is touched; the tracer never lets this go on.
    unsafe {
        asm!("brk #0", "svc #0", "brk #1", options(noreturn));
    }
}
