//! The ways in which the far side makes processes.

use core::arch::asm;

use super::abi::call::{CLONE, CLONE3, GET_ROBUST_LIST, RSEQ, SET_ROBUST_LIST};
use super::abi::{self, CLONE_INTO_CGROUP, SIGCHLD};
use super::syscall::{Answer, call, prctl, raw};

/// The arguments of clone3 (see its manual page), as far as the version that knows cgroups.
#[allow(missing_docs, reason = "named as the kernel names them")]
#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

impl CloneArgs {
    fn new(flags: u64, cgroup: Option<i32>) -> Self {
        let mut args = Self { flags, exit_signal: u64::from(SIGCHLD), ..Self::default() };
        if let Some(fd) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = fd as u64;
        }
        args
    }
}

/// A fork whose child has this id in the pid namespace, which takes a capability there (kernel 5.5): 0 in the child.
pub fn fork_as(pid: i32) -> Answer {
    let args = CloneArgs { set_tid: &raw const pid as u64, set_tid_size: 1, ..CloneArgs::new(0, None) };
    call!(CLONE3, &raw const args, size_of_val(&args))
}

/// A fork into new namespaces and, with a descriptor of one, into another cgroup: 0 in the child.
pub fn fork_into(flags: u64, cgroup: Option<i32>) -> Answer {
    let args = CloneArgs::new(flags, cgroup);
    call!(CLONE3, &raw const args, size_of_val(&args))
}

/// A fork where the filter is in force, which lets nobody use clone3: its arguments are in memory, where no filter sees them.
pub fn fork_filtered() -> Answer {
    call!(CLONE, SIGCHLD, 0, 0, 0, 0)
}

/// What a C library has told the kernel about a thread, and what a fork by system call alone makes it forget.
pub struct Thread {
    tid: usize,
    rseq: [usize; 3],
    robust: usize,
    robust_len: usize,
}

impl Thread {
    /// This thread. `rseq_offset` is where, from the thread pointer, the C library keeps its area for restartable
    /// sequences (glibc 2.35: `__rseq_offset`); 0 if it has none.
    pub fn current(rseq_offset: isize) -> Self {
        const RSEQ_LEN: usize = 32;
        let area = if rseq_offset == 0 { 0 } else { thread_pointer().wrapping_add_signed(rseq_offset) };
        Self::with_rseq([area, RSEQ_LEN, abi::library::RSEQ_SIG])
    }

    /// This thread, whose area for restartable sequences, its length and its signature are known.
    pub fn with_rseq(rseq: [usize; 3]) -> Self {
        let mut thread = Self { tid: 0, rseq, robust: 0, robust_len: 0 };
        // Kernels without checkpointing do not tell: then the C library's copy of the thread id is the zygote's.
        let _ = prctl(abi::PR_GET_TID_ADDRESS, &raw mut thread.tid as u64, 0, 0, 0);
        let _ = call!(GET_ROBUST_LIST, 0, &raw mut thread.robust, &raw mut thread.robust_len);
        thread
    }

    /// Has the kernel write nothing into this memory (its begin and its length), whatever it was told before.
    pub fn keep_out_of(&mut self, [begin, len]: [usize; 2]) {
        if touches(self.tid, size_of::<i32>(), begin, len) {
            self.tid = 0;
        }
    }

    /// A fork of this very thread into `cgroup`: 0 in the child, in which the kernel and the C library agree again.
    pub fn fork(&self, cgroup: Option<i32>) -> Answer {
        let mut args = CloneArgs::new(0, cgroup);
        if self.tid != 0 {
            args.flags |= abi::CLONE_CHILD_SETTID;
            args.child_tid = self.tid as u64;
        }
        let pid = call!(CLONE3, &raw const args, size_of_val(&args))?;
        if pid == 0 {
            let [area, len, signature] = self.rseq;
            if area != 0 {
                // Lost where the parent shares its memory with somebody (see `share`).
                let _ = call!(RSEQ, area, len, 0, signature);
            }
            if self.robust != 0 {
                let _ = call!(SET_ROBUST_LIST, self.robust, self.robust_len);
            }
        }
        Ok(pid)
    }
}

/// Whether two ranges of memory have something in common.
pub fn touches(one: usize, one_len: usize, other: usize, other_len: usize) -> bool {
    one < other.saturating_add(other_len) && other < one.saturating_add(one_len)
}

/// What `share` runs. It may return only in a process that it has forked, never in the one that it was called in.
pub type Shared<T> = extern "C" fn(&mut T);

/// Runs `work(job)` in a child that shares this process's memory and even its stack; this one waits until that has
/// ended (vfork(2)). No page table is copied, so it costs little. Returns the child's id, or 0 in a process that `work`
/// forked and returned in: that has a copy of this stack, and goes on from here.
///
/// `pid`: the id that the child is to have in its pid namespace, which takes a capability there (kernel 5.5); 0: any.
#[inline(never)]
pub fn share<T>(work: Shared<T>, job: &mut T, pid: i32) -> Answer {
    let mut args = CloneArgs::new(abi::CLONE_VM | abi::CLONE_VFORK, None);
    if pid != 0 {
        args.set_tid = &raw const pid as u64;
        args.set_tid_size = 1;
    }
    // SAFETY: the child runs `work` below this frame, on stack that its suspended parent does not use, and ends there; it
    // changes nothing of the parent's but `job`, which is borrowed mutably. A process forked in `work` returns through
    // frames of its own copy, with the callee-saved registers as the C convention has them. The block may push (no
    // `nostack`), so nothing is kept in a red zone, and it clobbers memory.
    let ret = unsafe { clone_and_call(&args, work as *const () as usize, &raw mut *job as usize) };
    if ret < 0 { Err(-ret as i32) } else { Ok(ret as usize) }
}

/// clone3 whose child calls `work(job)` on the same stack: the child's id; 0 where `work` returned.
///
/// # Safety
/// `work` must be a function of the C convention that takes `job`; see `share` for what it may do.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_and_call(args: &CloneArgs, work: usize, job: usize) -> isize {
    let ret: isize;
    // SAFETY: the caller vouches for `work`; the arguments live until the child has ended.
    unsafe {
        asm!(
            "syscall", "test rax, rax", "jnz 2f", "mov rdi, r13", "call r12", "xor eax, eax", "2:",
            inlateout("rax") CLONE3 as isize => ret,
            inlateout("rdi") &raw const *args => _, inlateout("rsi") size_of::<CloneArgs>() => _,
            in("r12") work, in("r13") job, clobber_abi("C"),
        );
    }
    ret
}

/// clone3 whose child calls `work(job)` on the same stack: the child's id; 0 where `work` returned.
///
/// # Safety
/// `work` must be a function of the C convention that takes `job`; see `share` for what it may do.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_and_call(args: &CloneArgs, work: usize, job: usize) -> isize {
    let ret: isize;
    // SAFETY: the caller vouches for `work`; the arguments live until the child has ended.
    unsafe {
        asm!(
            "svc 0", "cbnz x0, 2f", "mov x0, x21", "blr x20", "mov x0, #0", "2:",
            inlateout("x0") &raw const *args => ret, inlateout("x1") size_of::<CloneArgs>() => _,
            inlateout("x8") CLONE3 => _, in("x20") work, in("x21") job, clobber_abi("C"),
        );
    }
    ret
}

/// Where the C library keeps what belongs to this thread.
fn thread_pointer() -> usize {
    let pointer: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: both architectures' conventions keep the thread pointer there; on x86-64 its own address is its first word.
    unsafe {
        asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register.
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}
