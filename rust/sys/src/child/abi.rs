//! The numbers of the kernel's interface that the far side of a fork works with, for both architectures side by side.
//!
//! Whatever folder-mates pass to the kernel has its name here, so that tests can compare all of it with the kernel's
//! headers. Where one value is given, every architecture has it.
#![allow(missing_docs, reason = "named as the kernel's headers name them, which document them")]

/// Defines each name by its value on x86-64 and, where that is another, on aarch64.
macro_rules! numbers {
    ($table:ident: $($(#[$doc:meta])* $name:ident: $type:ty = $x86_64:literal $(, $aarch64:literal)?;)*) => {
        $($(#[$doc])* pub const $name: $type = numbers!(@here $x86_64 $(, $aarch64)?);)*
        /// All of them: the name, the value on x86-64 and the value on aarch64.
        #[cfg(test)]
        pub const $table: &[(&str, u64, u64)] =
            &[$((stringify!($name), $x86_64 as $type as u64, numbers!(@last $x86_64 $(, $aarch64)?) as $type as u64)),*];
    };
    (@here $both:literal) => { $both };
    (@here $x86_64:literal, $aarch64:literal) => { if cfg!(target_arch = "x86_64") { $x86_64 } else { $aarch64 } };
    (@last $both:literal) => { $both };
    (@last $x86_64:literal, $aarch64:literal) => { $aarch64 };
}

/// System calls.
pub mod call {
    numbers! { CALLS:
        READ: usize = 0, 63;
        WRITE: usize = 1, 64;
        CLOSE: usize = 3, 57;
        MMAP: usize = 9, 222;
        MUNMAP: usize = 11, 215;
        RT_SIGACTION: usize = 13, 134;
        RT_SIGPROCMASK: usize = 14, 135;
        IOCTL: usize = 16, 29;
        PREAD64: usize = 17, 67;
        PWRITE64: usize = 18, 68;
        SCHED_YIELD: usize = 24, 124;
        SOCKET: usize = 41, 198;
        CONNECT: usize = 42, 203;
        SENDTO: usize = 44, 206;
        SENDMSG: usize = 46, 211;
        RECVMSG: usize = 47, 212;
        BIND: usize = 49, 200;
        LISTEN: usize = 50, 201;
        CLONE: usize = 56, 220;
        EXECVE: usize = 59, 221;
        WAIT4: usize = 61, 260;
        KILL: usize = 62, 129;
        FCNTL: usize = 72, 25;
        CHDIR: usize = 80, 49;
        UMASK: usize = 95, 166;
        GETPPID: usize = 110, 173;
        PTRACE: usize = 101, 117;
        SETSID: usize = 112, 157;
        SETGROUPS: usize = 116, 159;
        SETRESUID: usize = 117, 147;
        SETRESGID: usize = 119, 149;
        CAPGET: usize = 125, 90;
        CAPSET: usize = 126, 91;
        PIVOT_ROOT: usize = 155, 41;
        PRCTL: usize = 157, 167;
        MOUNT: usize = 165, 40;
        UMOUNT2: usize = 166, 39;
        SETHOSTNAME: usize = 170, 161;
        SETDOMAINNAME: usize = 171, 162;
        EXIT_GROUP: usize = 231, 94;
        KEYCTL: usize = 250, 219;
        OPENAT: usize = 257, 56;
        MKDIRAT: usize = 258, 34;
        SYMLINKAT: usize = 266, 36;
        PPOLL: usize = 271, 73;
        UNSHARE: usize = 272, 97;
        SET_ROBUST_LIST: usize = 273, 99;
        GET_ROBUST_LIST: usize = 274, 100;
        SIGNALFD4: usize = 289, 74;
        DUP3: usize = 292, 24;
        PRLIMIT64: usize = 302, 261;
        SETNS: usize = 308, 268;
        SECCOMP: usize = 317, 277;
        EXECVEAT: usize = 322, 281;
        RSEQ: usize = 334, 293;
        // From number 424 on there is one list for every architecture.
        OPEN_TREE: usize = 428;
        MOVE_MOUNT: usize = 429;
        CLONE3: usize = 435;
        CLOSE_RANGE: usize = 436;
        OPENAT2: usize = 437;
        MOUNT_SETATTR: usize = 442;
        LANDLOCK_CREATE_RULESET: usize = 444;
        LANDLOCK_ADD_RULE: usize = 445;
        LANDLOCK_RESTRICT_SELF: usize = 446;
    }
}

numbers! { NUMBERS:
    ESRCH: i32 = 3;
    EINTR: i32 = 4;
    EIO: i32 = 5;
    ECHILD: i32 = 10;
    EAGAIN: i32 = 11;
    EBUSY: i32 = 16;
    EINVAL: i32 = 22;
    EPIPE: i32 = 32;
    ENOSYS: i32 = 38;
    EMSGSIZE: i32 = 90;
    EINPROGRESS: i32 = 115;

    O_WRONLY: u32 = 0o1;
    O_RDWR: u32 = 0o2;
    O_CREAT: u32 = 0o100;
    O_EXCL: u32 = 0o200;
    /// aarch64 has swapped four flags about; x86's value would be `O_LARGEFILE` there.
    O_NOFOLLOW: u32 = 0o400_000, 0o100_000;
    O_CLOEXEC: u32 = 0o2_000_000;
    O_PATH: u32 = 0o10_000_000;
    RESOLVE_NO_SYMLINKS: u64 = 4;
    AT_FDCWD: i32 = -100;
    AT_EMPTY_PATH: usize = 0x1000;
    AT_RECURSIVE: usize = 0x8000;
    OPEN_TREE_CLONE: usize = 1;
    MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
    F_DUPFD: usize = 0;
    F_SETFD: usize = 2;
    FD_CLOEXEC: usize = 1;

    CLONE_VM: u64 = 0x100;
    CLONE_SIGHAND: u64 = 0x800;
    CLONE_PIDFD: u64 = 0x1000;
    CLONE_VFORK: u64 = 0x4000;
    CLONE_THREAD: u64 = 0x1_0000;
    CLONE_NEWNS: u64 = 0x0002_0000;
    CLONE_CHILD_SETTID: u64 = 0x0100_0000;
    CLONE_NEWCGROUP: u64 = 0x0200_0000;
    CLONE_NEWUTS: u64 = 0x0400_0000;
    CLONE_NEWIPC: u64 = 0x0800_0000;
    CLONE_NEWUSER: u64 = 0x1000_0000;
    CLONE_NEWPID: u64 = 0x2000_0000;
    CLONE_NEWNET: u64 = 0x4000_0000;
    /// The child is born in the cgroup that the arguments name (kernel 5.7).
    CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

    MS_BIND: u64 = 4096;
    MS_REC: u64 = 16_384;
    PR_SET_PDEATHSIG: u64 = 1;
    MS_PRIVATE: u64 = 0x4_0000;
    MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    PR_SET_DUMPABLE: u64 = 4;
    PR_CAPBSET_DROP: u64 = 24;
    PR_SET_SECUREBITS: u64 = 28;
    PR_SET_NO_NEW_PRIVS: u64 = 38;
    PR_GET_TID_ADDRESS: u64 = 40;
    PR_CAP_AMBIENT: u64 = 47;
    PR_CAP_AMBIENT_RAISE: u64 = 2;
    PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
    _LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    SECCOMP_SET_MODE_FILTER: usize = 1;
    SECCOMP_GET_ACTION_AVAIL: usize = 2;
    LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
    LANDLOCK_RULE_PATH_BENEATH: usize = 1;
    KEYCTL_JOIN_SESSION_KEYRING: usize = 1;

    SIGTRAP: i32 = 5;
    SIGKILL: u64 = 9;
    SIGCHLD: u32 = 17;
    SA_NOCLDWAIT: usize = 2;
    SIG_SETMASK: usize = 2;
    SFD_NONBLOCK: usize = 0o4_000;
    SFD_CLOEXEC: usize = 0o2_000_000;
    WNOHANG: usize = 1;
    __WALL: usize = 0x4000_0000;
    POLLIN: i16 = 1;
    SIOCSIFFLAGS: usize = 0x8914;

    PROT_READ: usize = 1;
    PROT_WRITE: usize = 2;
    PROT_EXEC: usize = 4;
    MAP_PRIVATE: usize = 2;
    MAP_ANONYMOUS: usize = 0x20;
    MAP_FIXED_NOREPLACE: usize = 0x10_0000;

    PTRACE_CONT: usize = 7;
    PTRACE_DETACH: usize = 17;
    PTRACE_SYSCALL: usize = 24;
    PTRACE_SETOPTIONS: usize = 0x4200;
    PTRACE_GETREGSET: usize = 0x4204;
    PTRACE_SETREGSET: usize = 0x4205;
    PTRACE_SEIZE: usize = 0x4206;
    PTRACE_INTERRUPT: usize = 0x4207;
    PTRACE_GETSIGMASK: usize = 0x420a;
    PTRACE_SETSIGMASK: usize = 0x420b;
    /// Kernel 5.13.
    PTRACE_GET_RSEQ_CONFIGURATION: usize = 0x420f;
    PTRACE_EVENT_FORK: i32 = 1;
    PTRACE_EVENT_VFORK: i32 = 2;
    PTRACE_EVENT_CLONE: i32 = 3;
    PTRACE_EVENT_STOP: i32 = 128;
    PTRACE_O_TRACESYSGOOD: usize = 1;
    PTRACE_O_TRACEFORK: usize = 2;
    PTRACE_O_TRACEVFORK: usize = 4;
    PTRACE_O_TRACECLONE: usize = 8;
    PTRACE_O_EXITKILL: usize = 0x10_0000;
    /// Kernel 4.3; takes `CAP_SYS_ADMIN` in the first user namespace.
    PTRACE_O_SUSPEND_SECCOMP: usize = 0x20_0000;
    NT_PRSTATUS: usize = 1;
    NT_PRFPREG: usize = 2;
    NT_X86_XSTATE: usize = 0x202;
}

/// Numbers that C libraries define beside the kernel's headers.
pub mod library {
    numbers! { LIBRARY:
        AF_INET: usize = 2;
        SOCK_STREAM: usize = 1;
        SOCK_DGRAM: usize = 2;
        SOCK_NONBLOCK: usize = 0o4_000;
        SOCK_CLOEXEC: usize = 0o2_000_000;
        SOL_SOCKET: i32 = 1;
        SCM_RIGHTS: i32 = 1;
        IFF_UP: u16 = 1;
        MSG_CTRUNC: i32 = 0x8;
        MSG_TRUNC: i32 = 0x20;
        MSG_NOSIGNAL: usize = 0x4000;
        MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
        /// What stands in front of the code that a restartable sequence jumps to when it is interrupted.
        RSEQ_SIG: usize = 0x5305_3053, 0xd428_bc00;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::headers::{Fact, assert_facts, fact_on_each};

    const KERNEL: &str = "linux/fcntl.h linux/openat2.h linux/sched.h linux/mount.h linux/prctl.h linux/capability.h linux/seccomp.h \
        linux/landlock.h linux/keyctl.h linux/signalfd.h linux/wait.h linux/sockios.h linux/mman.h linux/ptrace.h linux/elf.h asm/errno.h asm/poll.h \
        asm/signal.h asm/unistd.h";

    fn facts(table: &[(&str, u64, u64)], prefix: &str) -> Vec<Fact> {
        let fact = |&(name, x86_64, aarch64): &(&str, u64, u64)| {
            let name = if prefix.is_empty() { name.to_owned() } else { prefix.to_owned() + &name.to_ascii_lowercase() };
            fact_on_each(name, [x86_64, aarch64])
        };
        table.iter().map(fact).collect()
    }

    #[test]
    fn numbers_are_those_of_the_kernels_headers() {
        assert_facts(KERNEL, &facts(call::CALLS, "__NR_"));
        assert_facts(KERNEL, &facts(NUMBERS, ""));
        assert_facts("sys/socket.h net/if.h sys/rseq.h", &facts(library::LIBRARY, ""));
    }
}
