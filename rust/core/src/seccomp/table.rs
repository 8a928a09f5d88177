//! The numbers of Linux's system calls on x86-64 and aarch64, as data, complete through Linux 6.18.
//!
//! Both take new calls from one list since number 424. Before that aarch64 follows the kernel's generic list, which has
//! none of the old calls that a newer one (`openat` for `open`) replaces.

use crate::spec::Architecture;

/// A system call and its number on each architecture that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// The kernel's name of it.
    pub name: &'static str,
    /// Its number on x86-64.
    pub x86_64: Option<u32>,
    /// Its number on aarch64.
    pub aarch64: Option<u32>,
}

impl SystemCall {
    /// Its number on an architecture, or nothing where that does not have it.
    pub const fn number(&self, architecture: Architecture) -> Option<u32> {
        match architecture {
            Architecture::X86_64 => self.x86_64,
            Architecture::Arm64 => self.aarch64,
        }
    }
}

/// The call of a name, or nothing if Linux has no such call on either architecture.
pub fn find(name: &str) -> Option<&'static SystemCall> {
    TABLE.iter().find(|call| call.name == name)
}

const fn both(name: &'static str, x86_64: u32, aarch64: u32) -> SystemCall {
    SystemCall { name, x86_64: Some(x86_64), aarch64: Some(aarch64) }
}

const fn x86(name: &'static str, number: u32) -> SystemCall {
    SystemCall { name, x86_64: Some(number), aarch64: None }
}

const fn unified(name: &'static str, number: u32) -> SystemCall {
    both(name, number, number)
}

/// Every system call, in the order of x86-64's numbers.
pub static TABLE: &[SystemCall] = &[
    both("read", 0, 63),
    both("write", 1, 64),
    x86("open", 2),
    both("close", 3, 57),
    x86("stat", 4),
    both("fstat", 5, 80),
    x86("lstat", 6),
    x86("poll", 7),
    both("lseek", 8, 62),
    both("mmap", 9, 222),
    both("mprotect", 10, 226),
    both("munmap", 11, 215),
    both("brk", 12, 214),
    both("rt_sigaction", 13, 134),
    both("rt_sigprocmask", 14, 135),
    both("rt_sigreturn", 15, 139),
    both("ioctl", 16, 29),
    both("pread64", 17, 67),
    both("pwrite64", 18, 68),
    both("readv", 19, 65),
    both("writev", 20, 66),
    x86("access", 21),
    x86("pipe", 22),
    x86("select", 23),
    both("sched_yield", 24, 124),
    both("mremap", 25, 216),
    both("msync", 26, 227),
    both("mincore", 27, 232),
    both("madvise", 28, 233),
    both("shmget", 29, 194),
    both("shmat", 30, 196),
    both("shmctl", 31, 195),
    both("dup", 32, 23),
    x86("dup2", 33),
    x86("pause", 34),
    both("nanosleep", 35, 101),
    both("getitimer", 36, 102),
    x86("alarm", 37),
    both("setitimer", 38, 103),
    both("getpid", 39, 172),
    both("sendfile", 40, 71),
    both("socket", 41, 198),
    both("connect", 42, 203),
    both("accept", 43, 202),
    both("sendto", 44, 206),
    both("recvfrom", 45, 207),
    both("sendmsg", 46, 211),
    both("recvmsg", 47, 212),
    both("shutdown", 48, 210),
    both("bind", 49, 200),
    both("listen", 50, 201),
    both("getsockname", 51, 204),
    both("getpeername", 52, 205),
    both("socketpair", 53, 199),
    both("setsockopt", 54, 208),
    both("getsockopt", 55, 209),
    both("clone", 56, 220),
    x86("fork", 57),
    x86("vfork", 58),
    both("execve", 59, 221),
    both("exit", 60, 93),
    both("wait4", 61, 260),
    both("kill", 62, 129),
    both("uname", 63, 160),
    both("semget", 64, 190),
    both("semop", 65, 193),
    both("semctl", 66, 191),
    both("shmdt", 67, 197),
    both("msgget", 68, 186),
    both("msgsnd", 69, 189),
    both("msgrcv", 70, 188),
    both("msgctl", 71, 187),
    both("fcntl", 72, 25),
    both("flock", 73, 32),
    both("fsync", 74, 82),
    both("fdatasync", 75, 83),
    both("truncate", 76, 45),
    both("ftruncate", 77, 46),
    x86("getdents", 78),
    both("getcwd", 79, 17),
    both("chdir", 80, 49),
    both("fchdir", 81, 50),
    x86("rename", 82),
    x86("mkdir", 83),
    x86("rmdir", 84),
    x86("creat", 85),
    x86("link", 86),
    x86("unlink", 87),
    x86("symlink", 88),
    x86("readlink", 89),
    x86("chmod", 90),
    both("fchmod", 91, 52),
    x86("chown", 92),
    both("fchown", 93, 55),
    x86("lchown", 94),
    both("umask", 95, 166),
    both("gettimeofday", 96, 169),
    both("getrlimit", 97, 163),
    both("getrusage", 98, 165),
    both("sysinfo", 99, 179),
    both("times", 100, 153),
    both("ptrace", 101, 117),
    both("getuid", 102, 174),
    both("syslog", 103, 116),
    both("getgid", 104, 176),
    both("setuid", 105, 146),
    both("setgid", 106, 144),
    both("geteuid", 107, 175),
    both("getegid", 108, 177),
    both("setpgid", 109, 154),
    both("getppid", 110, 173),
    x86("getpgrp", 111),
    both("setsid", 112, 157),
    both("setreuid", 113, 145),
    both("setregid", 114, 143),
    both("getgroups", 115, 158),
    both("setgroups", 116, 159),
    both("setresuid", 117, 147),
    both("getresuid", 118, 148),
    both("setresgid", 119, 149),
    both("getresgid", 120, 150),
    both("getpgid", 121, 155),
    both("setfsuid", 122, 151),
    both("setfsgid", 123, 152),
    both("getsid", 124, 156),
    both("capget", 125, 90),
    both("capset", 126, 91),
    both("rt_sigpending", 127, 136),
    both("rt_sigtimedwait", 128, 137),
    both("rt_sigqueueinfo", 129, 138),
    both("rt_sigsuspend", 130, 133),
    both("sigaltstack", 131, 132),
    x86("utime", 132),
    x86("mknod", 133),
    x86("uselib", 134),
    both("personality", 135, 92),
    x86("ustat", 136),
    both("statfs", 137, 43),
    both("fstatfs", 138, 44),
    x86("sysfs", 139),
    both("getpriority", 140, 141),
    both("setpriority", 141, 140),
    both("sched_setparam", 142, 118),
    both("sched_getparam", 143, 121),
    both("sched_setscheduler", 144, 119),
    both("sched_getscheduler", 145, 120),
    both("sched_get_priority_max", 146, 125),
    both("sched_get_priority_min", 147, 126),
    both("sched_rr_get_interval", 148, 127),
    both("mlock", 149, 228),
    both("munlock", 150, 229),
    both("mlockall", 151, 230),
    both("munlockall", 152, 231),
    both("vhangup", 153, 58),
    x86("modify_ldt", 154),
    both("pivot_root", 155, 41),
    x86("_sysctl", 156),
    both("prctl", 157, 167),
    x86("arch_prctl", 158),
    both("adjtimex", 159, 171),
    both("setrlimit", 160, 164),
    both("chroot", 161, 51),
    both("sync", 162, 81),
    both("acct", 163, 89),
    both("settimeofday", 164, 170),
    both("mount", 165, 40),
    both("umount2", 166, 39),
    both("swapon", 167, 224),
    both("swapoff", 168, 225),
    both("reboot", 169, 142),
    both("sethostname", 170, 161),
    both("setdomainname", 171, 162),
    x86("iopl", 172),
    x86("ioperm", 173),
    x86("create_module", 174),
    both("init_module", 175, 105),
    both("delete_module", 176, 106),
    x86("get_kernel_syms", 177),
    x86("query_module", 178),
    both("quotactl", 179, 60),
    both("nfsservctl", 180, 42),
    x86("getpmsg", 181),
    x86("putpmsg", 182),
    x86("afs_syscall", 183),
    x86("tuxcall", 184),
    x86("security", 185),
    both("gettid", 186, 178),
    both("readahead", 187, 213),
    both("setxattr", 188, 5),
    both("lsetxattr", 189, 6),
    both("fsetxattr", 190, 7),
    both("getxattr", 191, 8),
    both("lgetxattr", 192, 9),
    both("fgetxattr", 193, 10),
    both("listxattr", 194, 11),
    both("llistxattr", 195, 12),
    both("flistxattr", 196, 13),
    both("removexattr", 197, 14),
    both("lremovexattr", 198, 15),
    both("fremovexattr", 199, 16),
    both("tkill", 200, 130),
    x86("time", 201),
    both("futex", 202, 98),
    both("sched_setaffinity", 203, 122),
    both("sched_getaffinity", 204, 123),
    x86("set_thread_area", 205),
    both("io_setup", 206, 0),
    both("io_destroy", 207, 1),
    both("io_getevents", 208, 4),
    both("io_submit", 209, 2),
    both("io_cancel", 210, 3),
    x86("get_thread_area", 211),
    both("lookup_dcookie", 212, 18),
    x86("epoll_create", 213),
    x86("epoll_ctl_old", 214),
    x86("epoll_wait_old", 215),
    both("remap_file_pages", 216, 234),
    both("getdents64", 217, 61),
    both("set_tid_address", 218, 96),
    both("restart_syscall", 219, 128),
    both("semtimedop", 220, 192),
    both("fadvise64", 221, 223),
    both("timer_create", 222, 107),
    both("timer_settime", 223, 110),
    both("timer_gettime", 224, 108),
    both("timer_getoverrun", 225, 109),
    both("timer_delete", 226, 111),
    both("clock_settime", 227, 112),
    both("clock_gettime", 228, 113),
    both("clock_getres", 229, 114),
    both("clock_nanosleep", 230, 115),
    both("exit_group", 231, 94),
    x86("epoll_wait", 232),
    both("epoll_ctl", 233, 21),
    both("tgkill", 234, 131),
    x86("utimes", 235),
    x86("vserver", 236),
    both("mbind", 237, 235),
    both("set_mempolicy", 238, 237),
    both("get_mempolicy", 239, 236),
    both("mq_open", 240, 180),
    both("mq_unlink", 241, 181),
    both("mq_timedsend", 242, 182),
    both("mq_timedreceive", 243, 183),
    both("mq_notify", 244, 184),
    both("mq_getsetattr", 245, 185),
    both("kexec_load", 246, 104),
    both("waitid", 247, 95),
    both("add_key", 248, 217),
    both("request_key", 249, 218),
    both("keyctl", 250, 219),
    both("ioprio_set", 251, 30),
    both("ioprio_get", 252, 31),
    x86("inotify_init", 253),
    both("inotify_add_watch", 254, 27),
    both("inotify_rm_watch", 255, 28),
    both("migrate_pages", 256, 238),
    both("openat", 257, 56),
    both("mkdirat", 258, 34),
    both("mknodat", 259, 33),
    both("fchownat", 260, 54),
    x86("futimesat", 261),
    both("newfstatat", 262, 79),
    both("unlinkat", 263, 35),
    both("renameat", 264, 38),
    both("linkat", 265, 37),
    both("symlinkat", 266, 36),
    both("readlinkat", 267, 78),
    both("fchmodat", 268, 53),
    both("faccessat", 269, 48),
    both("pselect6", 270, 72),
    both("ppoll", 271, 73),
    both("unshare", 272, 97),
    both("set_robust_list", 273, 99),
    both("get_robust_list", 274, 100),
    both("splice", 275, 76),
    both("tee", 276, 77),
    both("sync_file_range", 277, 84),
    both("vmsplice", 278, 75),
    both("move_pages", 279, 239),
    both("utimensat", 280, 88),
    both("epoll_pwait", 281, 22),
    x86("signalfd", 282),
    both("timerfd_create", 283, 85),
    x86("eventfd", 284),
    both("fallocate", 285, 47),
    both("timerfd_settime", 286, 86),
    both("timerfd_gettime", 287, 87),
    both("accept4", 288, 242),
    both("signalfd4", 289, 74),
    both("eventfd2", 290, 19),
    both("epoll_create1", 291, 20),
    both("dup3", 292, 24),
    both("pipe2", 293, 59),
    both("inotify_init1", 294, 26),
    both("preadv", 295, 69),
    both("pwritev", 296, 70),
    both("rt_tgsigqueueinfo", 297, 240),
    both("perf_event_open", 298, 241),
    both("recvmmsg", 299, 243),
    both("fanotify_init", 300, 262),
    both("fanotify_mark", 301, 263),
    both("prlimit64", 302, 261),
    both("name_to_handle_at", 303, 264),
    both("open_by_handle_at", 304, 265),
    both("clock_adjtime", 305, 266),
    both("syncfs", 306, 267),
    both("sendmmsg", 307, 269),
    both("setns", 308, 268),
    both("getcpu", 309, 168),
    both("process_vm_readv", 310, 270),
    both("process_vm_writev", 311, 271),
    both("kcmp", 312, 272),
    both("finit_module", 313, 273),
    both("sched_setattr", 314, 274),
    both("sched_getattr", 315, 275),
    both("renameat2", 316, 276),
    both("seccomp", 317, 277),
    both("getrandom", 318, 278),
    both("memfd_create", 319, 279),
    both("kexec_file_load", 320, 294),
    both("bpf", 321, 280),
    both("execveat", 322, 281),
    both("userfaultfd", 323, 282),
    both("membarrier", 324, 283),
    both("mlock2", 325, 284),
    both("copy_file_range", 326, 285),
    both("preadv2", 327, 286),
    both("pwritev2", 328, 287),
    both("pkey_mprotect", 329, 288),
    both("pkey_alloc", 330, 289),
    both("pkey_free", 331, 290),
    both("statx", 332, 291),
    both("io_pgetevents", 333, 292),
    both("rseq", 334, 293),
    x86("uretprobe", 335),
    x86("uprobe", 336),
    unified("pidfd_send_signal", 424),
    unified("io_uring_setup", 425),
    unified("io_uring_enter", 426),
    unified("io_uring_register", 427),
    unified("open_tree", 428),
    unified("move_mount", 429),
    unified("fsopen", 430),
    unified("fsconfig", 431),
    unified("fsmount", 432),
    unified("fspick", 433),
    unified("pidfd_open", 434),
    unified("clone3", 435),
    unified("close_range", 436),
    unified("openat2", 437),
    unified("pidfd_getfd", 438),
    unified("faccessat2", 439),
    unified("process_madvise", 440),
    unified("epoll_pwait2", 441),
    unified("mount_setattr", 442),
    unified("quotactl_fd", 443),
    unified("landlock_create_ruleset", 444),
    unified("landlock_add_rule", 445),
    unified("landlock_restrict_self", 446),
    unified("memfd_secret", 447),
    unified("process_mrelease", 448),
    unified("futex_waitv", 449),
    unified("set_mempolicy_home_node", 450),
    unified("cachestat", 451),
    unified("fchmodat2", 452),
    unified("map_shadow_stack", 453),
    unified("futex_wake", 454),
    unified("futex_wait", 455),
    unified("futex_requeue", 456),
    unified("statmount", 457),
    unified("listmount", 458),
    unified("lsm_get_self_attr", 459),
    unified("lsm_set_self_attr", 460),
    unified("lsm_list_modules", 461),
    unified("mseal", 462),
    unified("setxattrat", 463),
    unified("getxattrat", 464),
    unified("listxattrat", 465),
    unified("removexattrat", 466),
    unified("open_tree_attr", 467),
    unified("file_getattr", 468),
    unified("file_setattr", 469),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// Names of the generic header that no 64-bit architecture has, or that other architectures give a different shape.
    const NOT_ON_AARCH64: [&str; 3] = ["arch_specific_syscall", "sync_file_range2", "syscalls"];

    /// The numbers that a kernel header defines; the generic one says `__NR3264_` where 32-bit systems say otherwise.
    fn header(path: &str) -> Option<BTreeMap<String, u32>> {
        if !Path::new(path).exists() {
            coldframe_sys::testing::headers::skip(&format!("{path} is absent (Debian: linux-libc-dev)"));
            return None;
        }
        let text = std::fs::read_to_string(path).expect("a kernel header is text");
        let numbers = text.lines().filter_map(|line| {
            let mut words = line.strip_prefix("#define ")?.split_ascii_whitespace();
            let word = words.next()?;
            let name = word.strip_prefix("__NR_").or_else(|| word.strip_prefix("__NR3264_"))?;
            let name = if name == "fstatat" { "newfstatat" } else { name };
            Some((name.to_owned(), words.next()?.parse().ok()?))
        });
        Some(numbers.collect())
    }

    /// Compares the table with a header, both ways as far as both reach.
    fn compare(architecture: Architecture, path: &str) {
        let Some(header) = header(path) else { return };
        let newest = TABLE.iter().filter_map(|call| call.number(architecture)).max().expect("the table is not empty");
        let newest_there = header.iter().filter(|(name, _)| *name != "syscalls").map(|(_, number)| *number).max();
        for (name, number) in &header {
            if let Some(call) = find(name) {
                assert_eq!(call.number(architecture), Some(*number), "{name} on {architecture:?}");
            } else {
                let ours = NOT_ON_AARCH64.contains(&name.as_str()) || name.ends_with("time64") || *number > newest;
                assert!(ours || name.ends_with("time32"), "{name} ({number}) is missing on {architecture:?}");
            }
        }
        for call in TABLE {
            let Some(number) = call.number(architecture).filter(|number| Some(*number) <= newest_there) else {
                continue;
            };
            // Added between two old numbers in Linux 6.11 and 6.18: an older header has not heard of them.
            if !matches!(call.name, "uretprobe" | "uprobe") {
                assert_eq!(header.get(call.name), Some(&number), "{} is not in {path}", call.name);
            }
        }
    }

    #[test]
    fn numbers_of_x86_64_are_those_of_the_kernels_header() {
        compare(Architecture::X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h");
    }

    #[test]
    fn numbers_of_aarch64_are_those_of_the_kernels_generic_header() {
        compare(Architecture::Arm64, "/usr/include/asm-generic/unistd.h");
    }

    #[test]
    fn no_name_and_no_number_appears_twice() {
        for architecture in [Architecture::X86_64, Architecture::Arm64] {
            let numbers: Vec<u32> = TABLE.iter().filter_map(|call| call.number(architecture)).collect();
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "{architecture:?}");
        }
        assert_eq!(TABLE.iter().map(|call| call.name).collect::<BTreeSet<_>>().len(), TABLE.len());
    }

    #[test]
    fn new_calls_have_one_number_on_both_and_leave_no_gap() {
        for number in 424..=469 {
            let call = TABLE.iter().find(|call| call.x86_64 == Some(number)).expect("no gap since 424");
            assert_eq!(call.aarch64, Some(number), "{}", call.name);
        }
    }
}
