//! Starts the static init in new namespaces, from a process that may have any number of threads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::child::abi::{CLONE_INTO_CGROUP, CLONE_PIDFD, CLONE_VFORK, CLONE_VM, O_CLOEXEC, O_RDWR, O_WRONLY};
use crate::child::fork::CloneArgs;
use crate::child::syscall as sys;

/// How the init program is to be started.
pub struct Spawn<'a> {
    /// `CLONE_NEW…` flags.
    pub namespaces: u64,
    /// The version 2 cgroup in which it is to be born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The init program.
    pub executable: BorrowedFd<'a>,
    /// Descriptors that it gets from number 3 on.
    pub fds: &'a [BorrowedFd<'a>],
    /// The lines for `uid_map` and `gid_map` of a new user namespace, to be written by the new process itself.
    pub map: Option<(&'a str, &'a str)>,
}

/// The descriptors above which sources are parked while they are put in their places.
const HIGH: i32 = 32;
const STACK: usize = 64 * 1024;

/// Descriptors that the far side may have at least, where the hard limit allows it: it needs numbers of its own, however few
/// the embedding program has left itself.
const LEAST: u64 = 1024;

struct Job<'a> {
    spawn: &'a Spawn<'a>,
    descriptors: (u64, u64),
    parked: [i32; 16],
    errno: i32,
}

/// Starts it: a pidfd of the new process.
///
/// The child shares this process's memory until it has replaced itself (`CLONE_VM | CLONE_VFORK`), so that no page table
/// is copied; it runs on a stack of its own and calls nothing but the kernel.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<OwnedFd> {
    assert!(spawn.fds.len() <= 15, "init is given at most fifteen descriptors");
    // Of a type as aligned as a stack has to be: aarch64 faults where the stack pointer is not a multiple of 16.
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let mut descriptors = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills a local.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut descriptors) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptors = (descriptors.rlim_cur.max(LEAST.min(descriptors.rlim_max)), descriptors.rlim_max);
    let mut job = Job { spawn, descriptors, parked: [-1; 16], errno: 0 };
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: CLONE_VM | CLONE_VFORK | CLONE_PIDFD | spawn.namespaces,
        pidfd: &raw mut pidfd as u64,
        exit_signal: 0,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = spawn.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // Signal handlers of the embedding program must not run in the child, which shares its memory.
    // SAFETY: both sets are locals.
    let mut before = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: sigfillset initialises the set that is then read; `before` receives the old one.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: `args` and what it points to live until this thread goes on, which CLONE_VFORK puts off until the child has
    // exec'ed or ended; the child runs `enter` on `stack`, touches `job` only, and never returns.
    let pid = unsafe { clone3(&raw const args as usize, size_of::<CloneArgs>(), enter, &raw mut job as usize) };
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(-pid as i32));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop(stack);
    if job.errno != 0 {
        // SAFETY: all zeros are a siginfo; the call fills a local. The child has ended, and nobody else can reap it.
        unsafe {
            let mut end = std::mem::zeroed::<libc::siginfo_t>();
            let options = libc::WEXITED | libc::__WALL;
            libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &raw mut end, options);
        }
        return Err(io::Error::from_raw_os_error(job.errno));
    }
    Ok(pidfd)
}

/// clone3 whose child calls `entry(argument)` on the stack given in the arguments.
///
/// # Safety
/// `args` is the address of valid clone arguments of `size` bytes with a stack; `entry` must not return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: usize, size: usize, entry: extern "C" fn(usize) -> !, argument: usize) -> isize {
    let ret: isize;
    // SAFETY: the parent's registers are as the convention says; the child never leaves this block but by the call.
    unsafe {
        std::arch::asm!(
            "syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r13", "and rsp, -16", "call r12", "ud2", "2:",
            inlateout("rax") libc::SYS_clone3 as isize => ret, in("rdi") args, in("rsi") size,
            in("r12") entry as *const () as usize, in("r13") argument, lateout("rcx") _, lateout("r11") _,
        );
    }
    ret
}

/// clone3 whose child calls `entry(argument)` on the stack given in the arguments.
///
/// # Safety
/// `args` is the address of valid clone arguments of `size` bytes with a stack; `entry` must not return.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: usize, size: usize, entry: extern "C" fn(usize) -> !, argument: usize) -> isize {
    let ret: isize;
    // SAFETY: the parent's registers are as the convention says; the child never leaves this block but by the call.
    unsafe {
        std::arch::asm!(
            "svc 0", "cbnz x0, 2f", "mov x29, #0", "mov x0, {argument}", "blr {entry}", "brk #0", "2:",
            in("x8") libc::SYS_clone3, inlateout("x0") args as isize => ret, in("x1") size,
            entry = in(reg) entry as *const () as usize, argument = in(reg) argument,
        );
    }
    ret
}

extern "C" fn enter(job: usize) -> ! {
    // SAFETY: `spawn` passes the address of its Job, which outlives this process's use of it (see there), and does not
    // look at it meanwhile.
    let job = unsafe { &mut *(job as *mut Job<'_>) };
    job.errno = become_init(job).err().unwrap_or(libc::EINVAL);
    sys::exit(126)
}

fn become_init(job: &mut Job<'_>) -> Result<(), i32> {
    if let Some((uid, gid)) = job.spawn.map {
        write_proc(b"/proc/self/setgroups\0", b"deny")?;
        write_proc(b"/proc/self/uid_map\0", uid.as_bytes())?;
        write_proc(b"/proc/self/gid_map\0", gid.as_bytes())?;
        // The user is not root inside either: the kernel (5.12) lets nobody without CAP_SETFCAP map a parent's root, and
        // the environments of a zygote map its user.
        sys::keep_capabilities()?;
    }
    let (soft, hard) = job.descriptors;
    sys::setrlimit(u64::from(libc::RLIMIT_NOFILE), soft, hard)?;
    let count = job.spawn.fds.len();
    for (parked, fd) in job.parked.iter_mut().zip(job.spawn.fds) {
        *parked = sys::dup_above(fd.as_raw_fd(), HIGH)? as i32;
    }
    let executable = sys::dup_above(job.spawn.executable.as_raw_fd(), HIGH)? as i32;
    // Nothing of what the embedding program reads and prints.
    let null = sys::open(sys::CStr::new(b"/dev/null\0").ok_or(libc::EINVAL)?, O_RDWR, 0)? as i32;
    let null = sys::dup_above(null, HIGH)? as i32;
    for number in 0..3 {
        sys::dup3(null, number, 0)?;
    }
    for (number, &parked) in (3..).zip(&job.parked[..count]) {
        sys::dup3(parked, number, 0)?;
    }
    let own = 3 + count as i32;
    sys::dup3(executable, own, O_CLOEXEC)?;
    sys::close_from(own as u32 + 1)?;
    for signal in 1..=64 {
        let _ = sys::signal(signal, sys::SIG_DFL);
    }
    sys::exec_fd(own, sys::CStr::new(b"init\0").ok_or(libc::EINVAL)?).map(|_| ())
}

fn write_proc(path: &'static [u8], content: &[u8]) -> Result<(), i32> {
    let fd = sys::open(sys::CStr::new(path).ok_or(libc::EINVAL)?, O_WRONLY | O_CLOEXEC, 0)? as i32;
    let answer = sys::write(fd, content);
    let _ = sys::close(fd);
    answer.map(|_| ())
}
