//! The standard system call policy as data: what is allowed, what is refused and with which error.
//!
//! It is an allow-list by name. What it does not name is answered with `ENOSYS`, numbers not yet invented too: C
//! libraries and runtimes probe for new calls and fall back on that answer alone. What programs know as privileged is
//! answered with `EPERM`, so that they print a sensible error. Only a foreign calling convention kills.
//!
//! `clone3` is unknown too, and must stay so: its flags lie behind a pointer, where no filter can see them, and C
//! libraries fall back on `clone`.
//!
//! Arguments are compared by their low 32 bits, which is all that the kernel reads of the ones judged here; a
//! comparison of all 64 could be passed by by garbage in the upper half (CVE-2019-10063).
//!
//! Left out on purpose: a rule against `MAP_HUGETLB`. It would have `mmap`, among the hottest calls of all, run the
//! filter each time instead of being answered by the kernel's bitmap of numbers that are always allowed, and huge
//! pages are scarce only where the host has set a pool aside.

use std::collections::BTreeMap;

use super::table;
use crate::spec::Architecture;

/// "Operation not permitted": what programs expect of a privileged call.
pub const EPERM: u16 = 1;
/// "Invalid argument".
pub const EINVAL: u16 = 22;
/// "Inappropriate ioctl for device": what a file without the requested control says.
pub const ENOTTY: u16 = 25;
/// "Function not implemented": what makes libraries fall back on an older call.
pub const ENOSYS: u16 = 38;
/// "Protocol not available": what a kernel without an option says.
pub const ENOPROTOOPT: u16 = 92;
/// "Protocol not supported".
pub const EPROTONOSUPPORT: u16 = 93;
/// "Operation not supported": what file copying takes for a file system without extended attributes.
pub const EOPNOTSUPP: u16 = 95;
/// "Address family not supported by protocol".
pub const EAFNOSUPPORT: u16 = 97;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel carries it out.
    Allow,
    /// It fails with this error number and does nothing.
    Refuse(u16),
    /// The whole process dies of `SIGSYS`.
    Kill,
}

/// How the verdict on a call is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Without looking at arguments.
    Always(Verdict),
    /// By the value of an argument.
    Switch {
        /// Which argument, counted from 0.
        argument: u8,
        /// The bits of its low half that count.
        mask: u32,
        /// Values with a rule of their own.
        cases: &'static [Case],
        /// The verdict on all other values.
        otherwise: Verdict,
    },
}

/// Values of an argument and the rule that they lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The values, after masking.
    pub values: &'static [u32],
    /// What holds for them.
    pub rule: Rule,
}

/// System calls under one rule.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Their names, separated by white space.
    pub names: &'static str,
    /// What holds for them.
    pub rule: Rule,
}

const ALLOW: Rule = Rule::Always(Verdict::Allow);
const ALL_BITS: u32 = u32::MAX;

const fn refuse(error: u16) -> Rule {
    Rule::Always(Verdict::Refuse(error))
}

/// Allows the given values of an argument and refuses all others.
const fn only(argument: u8, mask: u32, cases: &'static [Case], error: u16) -> Rule {
    Rule::Switch { argument, mask, cases, otherwise: Verdict::Refuse(error) }
}

/// What holds for options of a socket, at one level.
const fn options(cases: &'static [Case]) -> Rule {
    only(2, ALL_BITS, cases, ENOPROTOOPT)
}

const fn allow(values: &'static [u32]) -> Case {
    Case { values, rule: ALLOW }
}

/// No bit of the mask may be set.
const CLEAR: &[Case] = &[allow(&[0])];
/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID` and `NEWNET`.
const CLONE_NAMESPACES: u32 = 0x7E02_0000;
const MSG_OOB: u32 = 1;
const MFD_HUGETLB: u32 = 4;
/// `F_SETLEASE` and `F_NOTIFY`, and Linux 6.19's `F_SETDELEG`: they delay or watch others' use of a file.
const LEASES: &[u32] = &[1024, 1026, 1040];
/// The default personality, and the question which one is set.
const PERSONALITIES: &[u32] = &[0, u32::MAX];

const SOL_SOCKET: u32 = 1;
const SO_LINGER: u32 = 13;
/// Those that concern the socket alone. Not among them is what holds memory of the kernel's that no cgroup counts, for each of
/// thousands of sockets: filters (compiled), copies of what was sent (`SO_TIMESTAMPING`, `SO_ZEROCOPY`).
const SOCKET_OPTIONS: &[u32] = &[
    2, 5, 6, // SO_REUSEADDR, SO_DONTROUTE, SO_BROADCAST
    7, 8, // SO_SNDBUF, SO_RCVBUF
    9, 10, 12, 15, // SO_KEEPALIVE, SO_OOBINLINE, SO_PRIORITY, SO_REUSEPORT
    16, 18, 20, 21, // SO_PASSCRED, SO_RCVLOWAT, SO_RCVTIMEO, SO_SNDTIMEO
    29, 35, // SO_TIMESTAMP, SO_TIMESTAMPNS: of what is received
    42, 47, 49, // SO_PEEK_OFF, SO_MAX_PACING_RATE, SO_INCOMING_CPU
    63, 64, 66, 67, // SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RCVTIMEO, SO_SNDTIMEO with 64 bits
    76, 83, // SO_PASSPIDFD, SO_PASSRIGHTS
];
const IPPROTO_IP: u32 = 0;
const IP_RECVERR: u32 = 11;
const IP_OPTIONS: &[u32] = &[
    1, 2, 6, 8, // IP_TOS, IP_TTL, IP_RECVOPTS, IP_PKTINFO
    10, 12, 13, 15, // IP_MTU_DISCOVER, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND
    24, 32, 33, 34, // IP_BIND_ADDRESS_NO_PORT, IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP
    35, 36, // IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP: twenty to a socket
    49, 50, 51, // IP_MULTICAST_ALL, IP_UNICAST_IF, IP_LOCAL_PORT_RANGE
];
const IPPROTO_IPV6: u32 = 41;
const IPV6_RECVERR: u32 = 25;
/// No memberships: of these a socket can have thousands.
const IPV6_OPTIONS: &[u32] = &[
    16, 17, 18, 19, // IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP
    23, 24, 26, 29, // IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_V6ONLY, IPV6_MULTICAST_ALL
    49, 51, 62, 66, 67, // IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_DONTFRAG, IPV6_RECVTCLASS, IPV6_TCLASS
    70, 72, // IPV6_AUTOFLOWLABEL, IPV6_ADDR_PREFERENCES
];
const IPPROTO_TCP: u32 = 6;
/// No keys (`TCP_MD5SIG`, `TCP_AO_ADD_KEY`), and nothing that loads or repairs.
const TCP_OPTIONS: &[u32] = &[
    1, 2, 3, // TCP_NODELAY, TCP_MAXSEG, TCP_CORK
    4, 5, 6, 7, 8, 9, // TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT
    10, 12, 13, 16,
    17, // TCP_WINDOW_CLAMP, TCP_QUICKACK, TCP_CONGESTION, TCP_THIN_LINEAR_TIMEOUTS, TCP_THIN_DUPACK
    18, 23, 24, 25, // TCP_USER_TIMEOUT, TCP_FASTOPEN, TCP_TIMESTAMP, TCP_NOTSENT_LOWAT
    30, 34, 36, 37, // TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE, TCP_INQ, TCP_TX_DELAY
];
const IPPROTO_UDP: u32 = 17;
/// `UDP_CORK`, `UDP_SEGMENT` and `UDP_GRO`.
const UDP_OPTIONS: &[u32] = &[1, 103, 104];
/// Errors that nobody fetches are kept, and counted by no cgroup. The C library's resolver asks for them, and for nothing to
/// happen: it fails if it is refused, and takes it well if there are none.
const RECORDING_ERRORS: Rule = refuse(0);

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_SEQPACKET: u32 = 5;
/// The bits of a socket's type that are not flags such as `SOCK_CLOEXEC`.
const SOCK_TYPE_MASK: u32 = 0xf;

const UNIX_TYPES: Rule = only(1, SOCK_TYPE_MASK, &[allow(&[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET])], EPROTONOSUPPORT);
/// TCP and UDP by name or by default; Multipath TCP and ICMP are not among them, and callers fall back on the error.
const INTERNET_TYPES: Rule = only(
    1,
    SOCK_TYPE_MASK,
    &[
        Case { values: &[SOCK_STREAM], rule: only(2, ALL_BITS, &[allow(&[0, 6])], EPROTONOSUPPORT) },
        Case { values: &[SOCK_DGRAM], rule: only(2, ALL_BITS, &[allow(&[0, 17])], EPROTONOSUPPORT) },
    ],
    EPROTONOSUPPORT,
);
const UNIX: Case = Case { values: &[AF_UNIX], rule: UNIX_TYPES };
const INTERNET: Case = Case { values: &[AF_INET, AF_INET6], rule: INTERNET_TYPES };
/// Routing messages alone, which `getifaddrs` asks for.
const NETLINK: Case = Case { values: &[AF_NETLINK], rule: only(2, ALL_BITS, &[allow(&[0])], EPROTONOSUPPORT) };

/// What programs ask of terminals, pipes and sockets. None of it types into a terminal or takes one over.
const CONTROLS: &[u32] = &[
    0x5401, // TCGETS: is this a terminal?
    0x5402, 0x5403, 0x5404, // TCSETS, TCSETSW, TCSETSF
    0x540F, // TIOCGPGRP
    0x5413, 0x5414, // TIOCGWINSZ, TIOCSWINSZ
    0x541B, // FIONREAD
    0x5421, // FIONBIO
    0x5450, 0x5451, 0x5452, // FIONCLEX, FIOCLEX, FIOASYNC
    0x8905, // SIOCATMARK
    0x8910, // SIOCGIFNAME
    0x8912, 0x8913, // SIOCGIFCONF, SIOCGIFFLAGS
    0x8915, 0x8917, 0x8919, 0x891B, // SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK
    0x8921, 0x8927, 0x8933, // SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX
];

/// Questions, and settings that touch only the caller. `PR_SET_DUMPABLE` is not among them (nothing here is dumpable),
/// nor is what would change memory layout, capabilities, tracing, speculation, core scheduling or system call dispatch.
const PROCESS_OPTIONS: &[u32] = &[
    1,  // PR_SET_PDEATHSIG: orphans die with their pid namespace anyway, and process pools use it
    2,  // PR_GET_PDEATHSIG
    3,  // PR_GET_DUMPABLE
    13, // PR_GET_TIMING
    15, 16, // PR_SET_NAME, PR_GET_NAME
    21, // PR_GET_SECCOMP
    23, // PR_CAPBSET_READ
    27, // PR_GET_SECUREBITS
    29, 30, // PR_SET_TIMERSLACK, PR_GET_TIMERSLACK
    33, 34, // PR_MCE_KILL, PR_MCE_KILL_GET
    36, 37, // PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER
    38, 39, // PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS
    40, // PR_GET_TID_ADDRESS
    41, 42, // PR_SET_THP_DISABLE, PR_GET_THP_DISABLE
    51, 64, // PR_SVE_GET_VL, PR_SME_GET_VL: vector lengths of aarch64
    65, 66, // PR_SET_MDWE, PR_GET_MDWE
    PR_SET_VMA,
];
/// Gives anonymous memory a name in `/proc`.
const PR_SET_VMA: u32 = 0x5356_4D41;

/// The rules without sockets of the network, in no order that matters: each name appears once.
pub static STANDARD: &[Group] = &[
    Group {
        names: "accept accept4 bind brk cachestat capget chdir clock_getres clock_gettime clock_nanosleep close \
            close_range connect copy_file_range dup dup3 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 \
            execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 \
            fdatasync fgetxattr flistxattr flock fstat fstatfs fsync ftruncate futex futex_requeue futex_wait \
            futex_waitv futex_wake get_robust_list getcpu getcwd getdents64 getegid geteuid getgid getgroups getitimer \
            getpeername getpgid getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid \
            getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init1 \
            inotify_rm_watch ioprio_get kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
            lgetxattr linkat listen listxattr llistxattr lseek madvise map_shadow_stack membarrier mincore mkdirat \
            mlock mlock2 mmap mprotect mremap mseal msync munlock munlockall munmap nanosleep newfstatat openat \
            openat2 pidfd_open pidfd_send_signal pipe2 pkey_alloc pkey_free pkey_mprotect ppoll pread64 preadv preadv2 \
            prlimit64 pselect6 pwrite64 pwritev pwritev2 read readlinkat readv renameat renameat2 restart_syscall rseq \
            rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
            rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
            sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_yield sendfile \
            set_robust_list set_tid_address setitimer setpgid setpriority setrlimit setsid shutdown \
            sigaltstack signalfd4 statfs statx symlinkat sync_file_range sysinfo tgkill timer_create timer_delete \
            timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill \
            truncate umask uname unlinkat utimensat wait4 waitid write writev",
        rule: ALLOW,
    },
    // Old calls that x86-64 alone has.
    Group {
        names: "access alarm arch_prctl chmod creat dup2 epoll_create epoll_wait eventfd fork futimesat \
            get_thread_area getdents getpgrp inotify_init link lstat mkdir open pause pipe poll readlink rename rmdir \
            select set_thread_area signalfd stat symlink time unlink utime utimes vfork",
        rule: ALLOW,
    },
    Group { names: "clone", rule: only(0, CLONE_NAMESPACES, CLEAR, EPERM) },
    Group { names: "socketpair", rule: only(0, ALL_BITS, &[allow(&[AF_UNIX])], EAFNOSUPPORT) },
    // Out-of-band data on AF_UNIX is unused and had bugs (CVE-2025-38236).
    Group { names: "sendto sendmmsg recvfrom recvmmsg", rule: only(3, MSG_OOB, CLEAR, EOPNOTSUPP) },
    Group { names: "sendmsg recvmsg", rule: only(2, MSG_OOB, CLEAR, EOPNOTSUPP) },
    // What is set by name. No lingering: of all descriptors that can be had here, only a lingering socket's close blocks, and it blocks whoever
    // closes last, which may be the supervisor if it was sent there (kernels before 6.16 cannot refuse to receive it).
    Group {
        names: "setsockopt",
        rule: only(
            1,
            ALL_BITS,
            &[
                Case {
                    values: &[SOL_SOCKET],
                    rule: options(&[allow(SOCKET_OPTIONS), Case { values: &[SO_LINGER], rule: refuse(EPERM) }]),
                },
                Case {
                    values: &[IPPROTO_IP],
                    rule: options(&[allow(IP_OPTIONS), Case { values: &[IP_RECVERR], rule: RECORDING_ERRORS }]),
                },
                Case {
                    values: &[IPPROTO_IPV6],
                    rule: options(&[allow(IPV6_OPTIONS), Case { values: &[IPV6_RECVERR], rule: RECORDING_ERRORS }]),
                },
                Case { values: &[IPPROTO_TCP], rule: options(&[allow(TCP_OPTIONS)]) },
                Case { values: &[IPPROTO_UDP], rule: options(&[allow(UDP_OPTIONS)]) },
            ],
            ENOPROTOOPT,
        ),
    },
    Group { names: "ioctl", rule: only(1, ALL_BITS, &[allow(CONTROLS)], ENOTTY) },
    Group { names: "prctl", rule: only(0, ALL_BITS, &[allow(PROCESS_OPTIONS)], EPERM) },
    Group { names: "personality", rule: only(0, ALL_BITS, &[allow(PERSONALITIES)], EPERM) },
    Group {
        names: "fcntl",
        rule: Rule::Switch {
            argument: 1,
            mask: ALL_BITS,
            cases: &[Case { values: LEASES, rule: refuse(EPERM) }],
            otherwise: Verdict::Allow,
        },
    },
    Group { names: "memfd_create", rule: only(1, MFD_HUGETLB, CLEAR, EINVAL) },
    // Three families of page cache bugs needed them, no popular library does, and Go falls back on EINVAL alone.
    Group { names: "splice tee vmsplice", rule: refuse(EINVAL) },
    Group {
        names: "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat",
        rule: refuse(EOPNOTSUPP),
    },
    // Identities, capabilities and owners: without capabilities they change nothing.
    Group {
        names: "capset chown fchown fchownat lchown setfsgid setfsuid setgid setgroups setregid setresgid setresuid \
            setreuid setuid",
        rule: refuse(EPERM),
    },
    // Namespaces, mounts, devices, file handles and watches of whole file systems.
    Group {
        names: "chroot fanotify_init fanotify_mark fsconfig fsmount fsopen fspick listmount mknod mknodat mount \
            mount_setattr move_mount name_to_handle_at open_by_handle_at open_tree pivot_root setns statmount umount2 \
            unshare",
        rule: refuse(EPERM),
    },
    // Other processes' memory and descriptors.
    Group {
        names: "kcmp pidfd_getfd process_madvise process_mrelease process_vm_readv process_vm_writev ptrace",
        rule: refuse(EPERM),
    },
    // Large or recent parts of the kernel that handlers do not need. (Linux 6.14 and later ask no filter on uretprobe.)
    Group {
        names: "bpf io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_enter \
            io_uring_register io_uring_setup memfd_secret mlockall perf_event_open remap_file_pages seccomp uretprobe \
            userfaultfd",
        rule: refuse(EPERM),
    },
    // Keys, and the objects of System V and POSIX message queues, which outlive their makers.
    Group {
        names: "add_key keyctl mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget \
            msgrcv msgsnd request_key semctl semget semop semtimedop shmat shmctl shmdt shmget",
        rule: refuse(EPERM),
    },
    // The host itself: its clock, name, modules, swap, quotas, log and priorities.
    Group {
        names: "acct adjtimex clock_adjtime clock_settime delete_module epoll_ctl_old epoll_wait_old finit_module \
            init_module ioperm iopl ioprio_set kexec_file_load kexec_load quotactl quotactl_fd readahead reboot \
            sched_setattr sched_setparam sched_setscheduler setdomainname sethostname settimeofday swapoff swapon sync \
            syncfs syslog vhangup",
        rule: refuse(EPERM),
    },
];

/// The rule of `socket`, with or without a network.
pub const fn socket(network: bool) -> Group {
    let cases: &'static [Case] = if network { &[UNIX, INTERNET, NETLINK] } else { &[UNIX, INTERNET] };
    Group { names: "socket", rule: only(0, ALL_BITS, cases, EAFNOSUPPORT) }
}

/// `S_ISUID | S_ISGID`
const SET_ID: u32 = 0o6000;
const O_CREAT: u32 = 0o100;
/// Of `O_TMPFILE` the bit that is its own.
const O_TMPFILE: u32 = 0o20_000_000;
/// Flags of an open that makes a file, and so takes a mode.
const MAKES: &[u32] = &[O_CREAT, O_TMPFILE, O_CREAT | O_TMPFILE];

const fn plain_mode(argument: u8) -> Rule {
    only(argument, SET_ID, CLEAR, EPERM)
}

const fn opens(flags: u8, made: &'static [Case]) -> Rule {
    Rule::Switch { argument: flags, mask: O_CREAT | O_TMPFILE, cases: made, otherwise: Verdict::Allow }
}

/// What holds instead where files are written that others see: no set-user-id programs. There, what belongs to an owner on
/// the host is written with its identity, and whoever starts such a program out there would become that owner.
pub static SHARED_FILES: &[Group] = &[
    Group { names: "chmod fchmod creat", rule: plain_mode(1) },
    Group { names: "fchmodat fchmodat2", rule: plain_mode(2) },
    Group { names: "open", rule: opens(1, &[Case { values: MAKES, rule: plain_mode(2) }]) },
    Group { names: "openat", rule: opens(2, &[Case { values: MAKES, rule: plain_mode(3) }]) },
    // Its mode lies behind a pointer; C libraries and runtimes fall back.
    Group { names: "openat2", rule: UNKNOWN },
];

/// What holds for every number that no group names.
pub const UNKNOWN: Rule = refuse(ENOSYS);

/// The first number of x86-64's x32 calling convention, whose calls would otherwise pass by every rule by number.
pub const X32: u32 = 0x4000_0000;

/// Every named rule by its number on an architecture.
pub fn rules(architecture: Architecture, network: bool) -> BTreeMap<u32, Rule> {
    let socket = socket(network);
    STANDARD.iter().chain([&socket]).flat_map(|group| numbered(group, architecture)).collect()
}

/// The same where files are written that others see.
pub fn rules_for_shared_files(architecture: Architecture, network: bool) -> BTreeMap<u32, Rule> {
    let mut rules = rules(architecture, network);
    rules.extend(SHARED_FILES.iter().flat_map(|group| numbered(group, architecture)));
    rules
}

fn numbered(group: &Group, architecture: Architecture) -> impl Iterator<Item = (u32, Rule)> {
    let calls = group.names.split_ascii_whitespace().filter_map(table::find);
    calls.filter_map(move |call| Some((call.number(architecture)?, group.rule)))
}

/// All numbers as ranges with one rule each: the first number of each and its rule, from 0 upwards. `rest` holds for
/// those without a rule.
pub fn ranges(architecture: Architecture, rules: &BTreeMap<u32, Rule>, rest: Rule) -> Vec<(u32, Rule)> {
    let mut starts = BTreeMap::from([(0, rest)]);
    for (number, rule) in rules {
        starts.insert(*number, *rule);
        starts.insert(number + 1, rest);
    }
    if architecture == Architecture::X86_64 {
        starts.insert(X32, Rule::Always(Verdict::Kill));
    }
    let mut ranges: Vec<(u32, Rule)> = starts.into_iter().collect();
    ranges.dedup_by_key(|(_, rule)| *rule);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldframe_sys::testing::headers::{assert_facts, fact};
    use std::collections::BTreeSet;

    fn names() -> impl Iterator<Item = &'static str> {
        STANDARD.iter().map(|group| group.names).chain(["socket"]).flat_map(str::split_ascii_whitespace)
    }

    #[test]
    fn values_are_those_of_the_headers() {
        let errors = [
            ("EPERM", EPERM),
            ("EINVAL", EINVAL),
            ("ENOTTY", ENOTTY),
            ("ENOSYS", ENOSYS),
            ("EPROTONOSUPPORT", EPROTONOSUPPORT),
            ("EOPNOTSUPP", EOPNOTSUPP),
            ("EAFNOSUPPORT", EAFNOSUPPORT),
        ];
        let mut facts: Vec<_> = errors.into_iter().map(|(name, value)| fact(name, value)).collect();
        // In the order of the lists, which have comments where these have names.
        let controls = "TCGETS TCSETS TCSETSW TCSETSF TIOCGPGRP TIOCGWINSZ TIOCSWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX \
            FIOASYNC SIOCATMARK SIOCGIFNAME SIOCGIFCONF SIOCGIFFLAGS SIOCGIFADDR SIOCGIFDSTADDR SIOCGIFBRDADDR \
            SIOCGIFNETMASK SIOCGIFMTU SIOCGIFHWADDR SIOCGIFINDEX";
        let options = "PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_GET_TIMING PR_SET_NAME PR_GET_NAME \
            PR_GET_SECCOMP PR_CAPBSET_READ PR_GET_SECUREBITS PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_MCE_KILL \
            PR_MCE_KILL_GET PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS \
            PR_GET_TID_ADDRESS PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_SVE_GET_VL PR_SME_GET_VL PR_SET_MDWE \
            PR_GET_MDWE PR_SET_VMA";
        for (names, values) in [(controls, CONTROLS), (options, PROCESS_OPTIONS)] {
            assert_eq!(names.split_ascii_whitespace().count(), values.len());
            facts.extend(names.split_ascii_whitespace().zip(values).map(|(name, value)| match name {
                "PR_SET_MDWE" | "PR_GET_MDWE" => fact(name, *value).since(6, 3),
                _ => fact(name, *value),
            }));
        }
        facts.extend([
            fact(
                "CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | \
                 CLONE_NEWNET",
                CLONE_NAMESPACES,
            ),
            fact("MFD_HUGETLB", MFD_HUGETLB),
            fact("F_SETLEASE", LEASES[0]),
            fact("F_NOTIFY", LEASES[1]),
            fact("F_SETDELEG", LEASES[2]).since(6, 19),
            fact("SOL_SOCKET", SOL_SOCKET),
            fact("SO_LINGER", SO_LINGER),
            fact("NETLINK_ROUTE", 0),
            fact("O_CREAT", O_CREAT),
            fact("__O_TMPFILE", O_TMPFILE),
            fact("S_ISUID | S_ISGID", SET_ID),
        ]);
        let headers = "asm/errno.h asm/ioctls.h asm/socket.h linux/sockios.h linux/prctl.h linux/sched.h linux/memfd.h \
            linux/fcntl.h linux/netlink.h linux/stat.h";
        assert_facts(headers, &facts);
        let library = [
            fact("MSG_OOB", MSG_OOB),
            fact("AF_UNIX", AF_UNIX),
            fact("AF_INET", AF_INET),
            fact("AF_INET6", AF_INET6),
            fact("AF_NETLINK", AF_NETLINK),
            fact("SOCK_STREAM", SOCK_STREAM),
            fact("SOCK_DGRAM", SOCK_DGRAM),
            fact("SOCK_SEQPACKET", SOCK_SEQPACKET),
            fact("IPPROTO_TCP", 6),
            fact("IPPROTO_UDP", 17),
        ];
        assert_facts("sys/socket.h netinet/in.h", &library);
    }

    #[test]
    fn every_name_is_a_system_call() {
        for name in names() {
            assert!(table::find(name).is_some(), "{name} is no system call of either architecture");
        }
    }

    #[test]
    fn no_name_has_two_rules() {
        let mut seen = BTreeSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name} is named twice");
        }
    }

    #[test]
    fn the_allow_list_has_the_tested_size() {
        for (architecture, tested) in [(Architecture::X86_64, 215), (Architecture::Arm64, 180)] {
            let allowed = rules(architecture, false).into_values().filter(|rule| *rule == ALLOW).count();
            assert_eq!(allowed, tested, "{architecture:?}");
        }
    }

    #[test]
    fn neighbours_with_one_rule_share_a_range() {
        let rules = BTreeMap::from([(3, ALLOW), (4, ALLOW), (5, UNKNOWN), (6, ALLOW)]);
        let mut expected = vec![(0, UNKNOWN), (3, ALLOW), (5, UNKNOWN), (6, ALLOW), (7, UNKNOWN)];
        assert_eq!(ranges(Architecture::Arm64, &rules, UNKNOWN), expected);
        expected.push((X32, Rule::Always(Verdict::Kill)));
        assert_eq!(ranges(Architecture::X86_64, &rules, UNKNOWN), expected);
        assert_eq!(ranges(Architecture::Arm64, &BTreeMap::from([(0, ALLOW)]), UNKNOWN), [(0, ALLOW), (1, UNKNOWN)]);
    }

    /// Walks a rule: its arguments exist, its values survive the mask, and no case says what holds without it.
    fn check(name: &str, rule: Rule) {
        let Rule::Switch { argument, mask, cases, otherwise } = rule else { return };
        assert!(argument < 6, "{name} looks at argument {argument}");
        let mut seen = BTreeSet::new();
        for case in cases {
            assert!(!case.values.is_empty(), "{name} has a case without values");
            assert_ne!(case.rule, Rule::Always(otherwise), "{name} has a case that changes nothing");
            for value in case.values {
                assert_eq!(value & mask, *value, "{name} can never see {value:#x}");
                assert!(seen.insert(*value), "{name} has {value:#x} twice");
            }
            check(name, case.rule);
        }
    }

    #[test]
    fn no_case_of_an_argument_rule_is_redundant() {
        for group in STANDARD.iter().chain(SHARED_FILES).chain([&socket(false), &socket(true)]) {
            check(group.names, group.rule);
        }
    }
}
