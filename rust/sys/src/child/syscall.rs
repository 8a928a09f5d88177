//! System calls by number: the little that the far side of a fork needs.
#![allow(missing_docs, reason = "most functions are the kernel call of the same name; its manual page documents it")]

use core::arch::asm;

#[allow(clippy::wildcard_imports, reason = "a table of one name a line")]
use super::abi::call::*;
use super::abi::{self, AT_FDCWD};

/// A kernel call's answer: a value, or an errno.
pub type Answer = Result<usize, i32>;

/// One system call.
///
/// # Safety
/// The arguments must be what the kernel expects for `nr`: every pointer among them valid for the whole call.
#[cfg(target_arch = "x86_64")]
pub unsafe fn raw(nr: usize, a: [usize; 6]) -> Answer {
    let ret: isize;
    // SAFETY: the x86-64 system call convention; rcx and r11 are the kernel's to change, and the caller vouches for
    // what the arguments point at.
    unsafe {
        asm!("syscall", inlateout("rax") nr as isize => ret, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if ret < 0 { Err(-ret as i32) } else { Ok(ret as usize) }
}

/// One system call.
///
/// # Safety
/// The arguments must be what the kernel expects for `nr`: every pointer among them valid for the whole call.
#[cfg(target_arch = "aarch64")]
pub unsafe fn raw(nr: usize, a: [usize; 6]) -> Answer {
    let ret: isize;
    // SAFETY: the aarch64 system call convention; the caller vouches for what the arguments point at.
    unsafe {
        asm!("svc 0", in("x8") nr, inlateout("x0") a[0] as isize => ret, in("x1") a[1], in("x2") a[2], in("x3") a[3],
             in("x4") a[4], in("x5") a[5], options(nostack));
    }
    if ret < 0 { Err(-ret as i32) } else { Ok(ret as usize) }
}

macro_rules! call {
    ($nr:expr $(, $arg:expr)*) => {{
        let given = [$( $arg as usize ),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: every caller below passes integers, or pointers into slices and structures that it borrows for the
        // length of the call, with the lengths that belong to them.
        unsafe { raw($nr, args) }
    }};
}

pub(super) use call;

/// A string of the C world: bytes that end in NUL. Only [`CStr::new`] makes one.
#[derive(Clone, Copy)]
pub struct CStr<'a>(&'a [u8]);

impl<'a> CStr<'a> {
    /// `bytes` without its end, which has to be a NUL: `None` otherwise.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.last() == Some(&0) { Some(Self(bytes)) } else { None }
    }
    /// Where it begins.
    pub fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }
    fn len(self) -> usize {
        self.0.len() - 1
    }
}

/// Ends the process, with no finalisers.
pub fn exit(code: i32) -> ! {
    loop {
        let _ = call!(EXIT_GROUP, code);
    }
}

pub fn read(fd: i32, to: &mut [u8]) -> Answer {
    call!(READ, fd, to.as_mut_ptr(), to.len())
}

/// Reads from a place in the file, whatever the descriptor's own: others may have read through copies of it.
pub fn read_at(fd: i32, to: &mut [u8], place: usize) -> Answer {
    call!(PREAD64, fd, to.as_mut_ptr(), to.len(), place)
}

/// Writes to a place in the file.
pub fn write_at(fd: i32, bytes: &[u8], place: usize) -> Answer {
    call!(PWRITE64, fd, bytes.as_ptr(), bytes.len(), place)
}

pub fn write(fd: i32, bytes: &[u8]) -> Answer {
    call!(WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// Sends one packet; a peer that is gone is an error, never a signal.
pub fn send(fd: i32, bytes: &[u8]) -> Answer {
    call!(SENDTO, fd, bytes.as_ptr(), bytes.len(), abi::library::MSG_NOSIGNAL, 0, 0)
}

pub fn close(fd: i32) -> Answer {
    call!(CLOSE, fd)
}

/// Closes every descriptor from `first` on (kernel 5.9).
pub fn close_from(first: u32) -> Answer {
    call!(CLOSE_RANGE, first, u32::MAX, 0)
}

pub fn dup3(from: i32, to: i32, flags: u32) -> Answer {
    call!(DUP3, from, to, flags)
}

/// Duplicates `fd` to a number of at least `floor`.
pub fn dup_above(fd: i32, floor: i32) -> Answer {
    call!(FCNTL, fd, abi::F_DUPFD, floor)
}

pub fn close_on_exec(fd: i32) -> Answer {
    call!(FCNTL, fd, abi::F_SETFD, abi::FD_CLOEXEC)
}

pub fn open(path: CStr<'_>, flags: u32, mode: u32) -> Answer {
    call!(OPENAT, AT_FDCWD, path.as_ptr(), flags, mode)
}

/// Opens a path to be named later by its descriptor; with a symbolic link anywhere in it that is an error (kernel 5.6).
pub fn open_resolved(path: CStr<'_>) -> Answer {
    // `struct open_how`: flags, mode, how to resolve.
    let how: [u64; 3] = [(abi::O_PATH | abi::O_CLOEXEC).into(), 0, abi::RESOLVE_NO_SYMLINKS];
    call!(OPENAT2, AT_FDCWD, path.as_ptr(), how.as_ptr(), size_of_val(&how))
}

pub fn mkdir(path: CStr<'_>, mode: u32) -> Answer {
    call!(MKDIRAT, AT_FDCWD, path.as_ptr(), mode)
}

pub fn symlink(target: CStr<'_>, path: CStr<'_>) -> Answer {
    call!(SYMLINKAT, target.as_ptr(), AT_FDCWD, path.as_ptr())
}

pub fn chdir(path: CStr<'_>) -> Answer {
    call!(CHDIR, path.as_ptr())
}

pub fn umask(mask: u32) -> Answer {
    call!(UMASK, mask)
}

pub fn setsid() -> Answer {
    call!(SETSID, 0)
}

pub fn unshare(flags: u64) -> Answer {
    call!(UNSHARE, flags)
}

/// Joins the namespaces of `flags` that the process behind a pidfd is in (kernel 5.8), or one that was opened itself.
pub fn setns(fd: i32, flags: u64) -> Answer {
    call!(SETNS, fd, flags)
}

pub fn mount(source: CStr<'_>, target: CStr<'_>, kind: CStr<'_>, flags: u64, data: CStr<'_>) -> Answer {
    call!(MOUNT, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr())
}

/// Takes the topmost mount at `path` away.
pub fn unmount(path: CStr<'_>) -> Answer {
    call!(UMOUNT2, path.as_ptr(), 0)
}

/// Sets mount attributes on the whole tree at `path` (kernel 5.12).
pub fn mount_setattr(path: CStr<'_>, set: u64) -> Answer {
    let attr: [u64; 4] = [set, 0, 0, 0];
    call!(MOUNT_SETATTR, AT_FDCWD, path.as_ptr(), abi::AT_RECURSIVE, attr.as_ptr(), size_of_val(&attr))
}

/// A copy of the mount tree at a path that is open, attached to nothing (kernel 5.2).
pub fn copy_tree(fd: i32) -> Answer {
    let flags = abi::OPEN_TREE_CLONE | abi::O_CLOEXEC as usize | abi::AT_EMPTY_PATH | abi::AT_RECURSIVE;
    call!(OPEN_TREE, fd, c"".as_ptr(), flags)
}

/// Attaches such a copy to `path`.
pub fn attach_tree(tree: i32, path: CStr<'_>) -> Answer {
    call!(MOVE_MOUNT, tree, c"".as_ptr(), AT_FDCWD, path.as_ptr(), abi::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes `.` the root and lets go of the old one.
pub fn pivot_here() -> Answer {
    const MNT_DETACH: usize = 2;
    call!(PIVOT_ROOT, c".".as_ptr(), c".".as_ptr())?;
    call!(UMOUNT2, c".".as_ptr(), MNT_DETACH)?;
    call!(CHDIR, c"/".as_ptr())
}

pub fn sethostname(name: CStr<'_>) -> Answer {
    call!(SETHOSTNAME, name.as_ptr(), name.len())
}

pub fn setdomainname(name: CStr<'_>) -> Answer {
    call!(SETDOMAINNAME, name.as_ptr(), name.len())
}

pub fn setgroups_none() -> Answer {
    call!(SETGROUPS, 0, 0)
}

pub fn setresgid(id: u32) -> Answer {
    call!(SETRESGID, id, id, id)
}

pub fn setresuid(id: u32) -> Answer {
    call!(SETRESUID, id, id, id)
}

pub fn prctl(option: u64, a: u64, b: u64, c: u64, d: u64) -> Answer {
    call!(PRCTL, option, a, b, c, d)
}

/// Makes every permitted capability one that exec does not take away from a user other than root.
pub fn keep_capabilities() -> Answer {
    let header = CAPABILITY_HEADER;
    // Effective, permitted, inheritable of the lower 32, then of the upper.
    let mut sets: [u32; 6] = [0; 6];
    call!(CAPGET, header.as_ptr(), sets.as_mut_ptr())?;
    (sets[2], sets[5]) = (sets[1], sets[4]);
    call!(CAPSET, header.as_ptr(), sets.as_ptr())?;
    let mut capability = 0;
    while capability < 64 {
        // The kernel refuses numbers that it does not know.
        let _ = prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_RAISE, capability, 0, 0);
        capability += 1;
    }
    Ok(0)
}

/// Version 3 of the interface, of this process.
const CAPABILITY_HEADER: [u32; 2] = [abi::_LINUX_CAPABILITY_VERSION_3, 0];

/// Empties the effective, permitted and inheritable capabilities.
pub fn drop_capabilities() -> Answer {
    let header = CAPABILITY_HEADER;
    let none: [u32; 6] = [0; 6];
    call!(CAPSET, header.as_ptr(), none.as_ptr())
}

pub fn setrlimit(resource: u64, soft: u64, hard: u64) -> Answer {
    let limits = [soft, hard];
    call!(PRLIMIT64, 0, resource, limits.as_ptr(), 0)
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const u8,
}

/// Installs a system call filter: `filter` holds whole `sock_filter` records of eight bytes.
pub fn seccomp(filter: &[u8]) -> Answer {
    let program = Program { len: (filter.len() / 8) as u16, filter: filter.as_ptr() };
    call!(SECCOMP, abi::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
}

pub fn landlock_create(handled_fs: u64, handled_net: u64, scoped: u64, size: u64) -> Answer {
    let attr = [handled_fs, handled_net, scoped];
    call!(LANDLOCK_CREATE_RULESET, attr.as_ptr(), size, 0)
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    access: u64,
    fd: i32,
}

pub fn landlock_add_path(ruleset: i32, access: u64, directory: i32) -> Answer {
    let rule = PathBeneath { access, fd: directory };
    call!(LANDLOCK_ADD_RULE, ruleset, abi::LANDLOCK_RULE_PATH_BENEATH, &raw const rule, 0)
}

pub fn landlock_restrict(ruleset: i32) -> Answer {
    call!(LANDLOCK_RESTRICT_SELF, ruleset, 0)
}

/// Joins a new, anonymous session keyring, so that the caller's keys are not in reach.
pub fn new_session_keyring() -> Answer {
    call!(KEYCTL, abi::KEYCTL_JOIN_SESSION_KEYRING, 0)
}

/// `struct ifreq`, as far as flags go.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> Answer {
    use abi::library::{AF_INET, IFF_UP, SOCK_CLOEXEC, SOCK_DGRAM};
    let fd = call!(SOCKET, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)? as i32;
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[0] = b'l';
    request.name[1] = b'o';
    let answer = call!(IOCTL, fd, abi::SIOCSIFFLAGS, &raw mut request);
    let _ = close(fd);
    answer
}

/// `struct sockaddr_in`.
#[repr(C)]
struct InternetAddress {
    family: u16,
    port: u16,
    address: u32,
    zero: [u8; 8],
}

impl InternetAddress {
    fn loopback(port: u16) -> Self {
        let address = u32::from_ne_bytes([127, 0, 0, 1]);
        Self { family: abi::library::AF_INET as u16, port: port.to_be(), address, zero: [0; 8] }
    }
}

/// A socket that listens on this port of the loopback interface.
pub fn listen_on_loopback(port: u16) -> Answer {
    use abi::library::{AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM};
    const BACKLOG: usize = 64;
    let fd = call!(SOCKET, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)?;
    let address = InternetAddress::loopback(port);
    call!(BIND, fd, &raw const address, size_of_val(&address))?;
    call!(LISTEN, fd, BACKLOG)?;
    Ok(fd)
}

/// A socket that is connected to this port of the loopback interface, or on its way there.
pub fn connect_to_loopback(port: u16) -> Answer {
    use abi::library::{AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM};
    let fd = call!(SOCKET, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)?;
    let address = InternetAddress::loopback(port);
    match call!(CONNECT, fd, &raw const address, size_of_val(&address)) {
        Ok(_) | Err(abi::EINPROGRESS) => Ok(fd),
        Err(errno) => {
            let _ = close(fd as i32);
            Err(errno)
        }
    }
}

/// Sends a signal.
pub fn kill(pid: i32, signal: u32) -> Answer {
    call!(KILL, pid, signal)
}

pub const SIG_DFL: usize = 0;
pub const SIG_IGN: usize = 1;

/// `struct sigaction` as the kernel has it: both architectures know a restorer, which handlers alone need.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// Sets the disposition of a signal to the default or to being ignored.
pub fn signal(number: u32, disposition: usize) -> Answer {
    let action = Action { handler: disposition, flags: 0, restorer: 0, mask: 0 };
    call!(RT_SIGACTION, number, &raw const action, 0, size_of_val(&action.mask))
}

/// Has the kernel reap the children that end, of which it still tells by `SIGCHLD`.
pub fn reap_by_kernel() -> Answer {
    let action = Action { handler: SIG_DFL, flags: abi::SA_NOCLDWAIT, restorer: 0, mask: 0 };
    call!(RT_SIGACTION, abi::SIGCHLD, &raw const action, 0, size_of_val(&action.mask))
}

/// Replaces the set of blocked signals.
pub fn sigmask(blocked: u64) -> Answer {
    call!(RT_SIGPROCMASK, abi::SIG_SETMASK, &raw const blocked, 0, 8)
}

/// A descriptor from which the signals of `set` can be read.
pub fn signalfd(set: u64) -> Answer {
    call!(SIGNALFD4, -1isize, &raw const set, 8, abi::SFD_CLOEXEC | abi::SFD_NONBLOCK)
}

#[repr(C)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

pub fn poll(fds: &mut [PollFd]) -> Answer {
    call!(PPOLL, fds.as_mut_ptr(), fds.len(), 0, 0, 8)
}

/// The parent's process id in this pid namespace; 0 if it is in none of ours.
pub fn parent() -> usize {
    call!(GETPPID).unwrap_or(0)
}

/// Lets others run.
pub fn give_way() {
    let _ = call!(SCHED_YIELD);
}

/// Fails unless this is the only thread, and nobody else shares its memory (the kernel changes nothing then).
pub fn alone() -> Answer {
    unshare(abi::CLONE_VM | abi::CLONE_SIGHAND | abi::CLONE_THREAD)?;
    match reap() {
        Err(abi::ECHILD) => Ok(0),
        Err(errno) => Err(errno),
        Ok(_) => Err(abi::EBUSY),
    }
}

/// Reaps one child that has ended, if there is one: its id and wait status.
pub fn reap() -> Result<Option<(i32, i32)>, i32> {
    let mut status: i32 = 0;
    let pid = call!(WAIT4, -1isize, &raw mut status, abi::WNOHANG | abi::__WALL, 0)?;
    Ok(if pid == 0 { None } else { Some((pid as i32, status)) })
}

/// Waits for the next change of this child, or of whom this process traces: its wait status.
pub fn wait_for(pid: i32) -> Result<i32, i32> {
    let mut status: i32 = 0;
    loop {
        match call!(WAIT4, pid, &raw mut status, abi::__WALL, 0) {
            Ok(_) => return Ok(status),
            Err(abi::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a child lives; it is reaped if it does not. Unlike `reap`, this looks at no other child.
pub fn lives(pid: i32) -> bool {
    call!(WAIT4, pid, 0, abi::WNOHANG, 0) == Ok(0)
}

/// Replaces this process by the program behind `fd`, with no arguments but a name and no environment.
pub fn exec_fd(fd: i32, name: CStr<'_>) -> Answer {
    let argv = [name.as_ptr(), core::ptr::null()];
    let envp = [core::ptr::null::<u8>()];
    call!(EXECVEAT, fd, c"".as_ptr(), argv.as_ptr(), envp.as_ptr(), abi::AT_EMPTY_PATH)
}

/// Replaces this process by `path`; both lists end in a null pointer and hold pointers to strings that end in NUL.
pub fn exec(path: CStr<'_>, argv: &[*const u8], envp: &[*const u8]) -> Answer {
    if argv.last().is_none_or(|last| !last.is_null()) || envp.last().is_none_or(|last| !last.is_null()) {
        return Err(abi::EINVAL);
    }
    call!(EXECVE, path.as_ptr(), argv.as_ptr(), envp.as_ptr())
}

/// `struct iovec`.
#[repr(C)]
struct Vector {
    base: *mut u8,
    len: usize,
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: usize,
    name_len: u32,
    vectors: *mut Vector,
    vectors_len: usize,
    control: *mut u8,
    control_len: usize,
    flags: i32,
}

/// `struct cmsghdr`, which the descriptors follow.
#[repr(C)]
struct ControlHeader {
    len: usize,
    level: i32,
    kind: i32,
}

/// Sends one packet with a descriptor.
pub fn send_with(fd: i32, bytes: &[u8], descriptor: i32) -> Answer {
    use abi::library::{MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET};
    #[repr(C)]
    struct Control {
        header: ControlHeader,
        descriptor: i32,
        padding: i32,
    }
    // The padding is no part of the length: it would be taken for a second descriptor.
    let len = size_of::<ControlHeader>() + size_of::<i32>();
    let header = ControlHeader { len, level: SOL_SOCKET, kind: SCM_RIGHTS };
    let mut control = Control { header, descriptor, padding: 0 };
    let mut vector = Vector { base: bytes.as_ptr().cast_mut(), len: bytes.len() };
    let message = Message {
        name: 0,
        name_len: 0,
        vectors: &raw mut vector,
        vectors_len: 1,
        control: (&raw mut control).cast(),
        control_len: size_of_val(&control),
        flags: 0,
    };
    call!(SENDMSG, fd, &raw const message, MSG_NOSIGNAL)
}

/// Receives one packet and the descriptors that came with it: the packet's length and how many descriptors there were.
pub fn receive(fd: i32, to: &mut [u8], fds: &mut [i32; 16]) -> Result<(usize, usize), i32> {
    use abi::library::{MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_TRUNC};
    const HEADER: usize = size_of::<ControlHeader>();
    #[repr(C, align(8))]
    struct Control([u8; HEADER + 64]);
    let mut control = Control([0; HEADER + 64]);
    let mut vector = Vector { base: to.as_mut_ptr(), len: to.len() };
    let mut message = Message {
        name: 0,
        name_len: 0,
        vectors: &raw mut vector,
        vectors_len: 1,
        control: control.0.as_mut_ptr(),
        control_len: control.0.len(),
        flags: 0,
    };
    let len = call!(RECVMSG, fd, &raw mut message, MSG_CMSG_CLOEXEC)?;
    // What was cut off is missing from whatever is made of the rest.
    if message.flags & (MSG_TRUNC | MSG_CTRUNC) != 0 {
        return Err(abi::EMSGSIZE);
    }
    let mut count = 0;
    if message.control_len > HEADER {
        let mut word = [0; 8];
        word.copy_from_slice(&control.0[..8]);
        let bytes = (usize::from_le_bytes(word)).min(control.0.len()).saturating_sub(HEADER);
        for (slot, raw) in fds.iter_mut().zip(control.0[HEADER..HEADER + bytes].chunks_exact(4)) {
            *slot = i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            count += 1;
        }
    }
    Ok((len, count))
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::child::fork::CloneArgs;
    use crate::testing::headers::{assert_facts, fact};

    /// Facts about a structure: its size, and where fields are in it.
    macro_rules! structure {
        ($ours:ty, $name:literal, $($field:ident $theirs:literal),*) => {
            vec![
                fact(concat!("sizeof(struct ", $name, ")"), size_of::<$ours>() as u64),
                $(fact(concat!("__builtin_offsetof(struct ", $name, ", ", $theirs, ")"), offset_of!($ours, $field) as u64)),*
            ]
        };
    }

    #[test]
    fn structures_are_those_of_the_kernels_headers() {
        let mut facts = structure!(Action, "sigaction", handler "sa_handler", flags "sa_flags", restorer "sa_restorer",
            mask "sa_mask");
        facts.extend(structure!(Program, "sock_fprog", len "len", filter "filter"));
        facts.extend(structure!(PathBeneath, "landlock_path_beneath_attr", access "allowed_access", fd "parent_fd"));
        facts.extend(structure!(PollFd, "pollfd", fd "fd", events "events", revents "revents"));
        // The kernel's has grown; ours ends where the version that knows cgroups does.
        let mut clone = structure!(CloneArgs, "clone_args", flags "flags", pidfd "pidfd", child_tid "child_tid",
            parent_tid "parent_tid", exit_signal "exit_signal", stack "stack", stack_size "stack_size", tls "tls",
            set_tid "set_tid", set_tid_size "set_tid_size", cgroup "cgroup");
        clone[0] = fact("CLONE_ARGS_SIZE_VER2", size_of::<CloneArgs>() as u64);
        facts.extend(clone);
        // Those that are arrays of numbers here.
        facts.extend([
            fact("sizeof(struct open_how)", 3 * size_of::<u64>() as u64),
            fact("__builtin_offsetof(struct open_how, resolve)", 2 * size_of::<u64>() as u64),
            fact("sizeof(struct mount_attr)", 4 * size_of::<u64>() as u64),
            fact("__builtin_offsetof(struct mount_attr, attr_set)", 0),
            fact("sizeof(struct __user_cap_header_struct)", size_of_val(&CAPABILITY_HEADER) as u64),
            fact("sizeof(struct __user_cap_data_struct[2])", 6 * size_of::<u32>() as u64),
            fact("__builtin_offsetof(struct __user_cap_data_struct, permitted)", 4),
            fact("__builtin_offsetof(struct __user_cap_data_struct, inheritable)", 8),
            fact("sizeof(struct rlimit64)", 2 * size_of::<u64>() as u64),
            fact("__builtin_offsetof(struct rlimit64, rlim_max)", size_of::<u64>() as u64),
            fact("sizeof(struct signalfd_siginfo)", 128),
            fact("sizeof(sigset_t)", size_of::<u64>() as u64),
            fact("__builtin_offsetof(struct landlock_ruleset_attr, handled_access_fs)", 0),
            fact("__builtin_offsetof(struct landlock_ruleset_attr, handled_access_net)", 8).since(6, 7),
            fact("__builtin_offsetof(struct landlock_ruleset_attr, scoped)", 16).since(6, 12),
        ]);
        let headers = "linux/sched.h linux/mount.h linux/openat2.h linux/landlock.h linux/filter.h linux/capability.h linux/resource.h \
            linux/signalfd.h asm/poll.h asm/signal.h";
        assert_facts(headers, &facts);

        let mut library = structure!(Vector, "iovec", base "iov_base", len "iov_len");
        library.extend(structure!(Message, "msghdr", name "msg_name", name_len "msg_namelen", vectors "msg_iov",
            vectors_len "msg_iovlen", control "msg_control", control_len "msg_controllen", flags "msg_flags"));
        library.extend(structure!(ControlHeader, "cmsghdr", len "cmsg_len", level "cmsg_level", kind "cmsg_type"));
        library.extend(
            structure!(InternetAddress, "sockaddr_in", family "sin_family", port "sin_port", address "sin_addr"),
        );
        library.extend(structure!(InterfaceRequest, "ifreq", flags "ifr_flags"));
        assert_facts("sys/socket.h net/if.h netinet/in.h", &library);
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error_and_not_a_shorter_one() {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        for (sent, received) in [(8, Ok((8, 0))), (9, Err(abi::EMSGSIZE))] {
            theirs.send(&vec![1; sent]).expect("it is sent");
            assert_eq!(receive(ours.as_raw_fd(), &mut [0; 8], &mut [-1; 16]), received);
        }
    }
}
