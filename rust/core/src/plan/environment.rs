//! How an execution environment comes into being: what the init of its seat does, what its process does before it has a
//! function, and how that is locked down when it gets one. User code runs after the last of these steps, never before.

use std::collections::BTreeSet;
use std::path::Path;

use coldframe_sys::child::serve;
use coldframe_sys::program::{self, Step};

use super::rootfs::{Grant, HIDING, mount};
use super::{COVER, MERGE, MNT, NODEV, NOEXEC, NOSUID, RDONLY, READ_ONLY, REMOUNT, REMOUNT_BIND, STORE, User};
use crate::landlock;
use crate::launch::PORT;
use crate::posture::Posture;
use crate::process::namespace::{IPC, MOUNT, NETWORK, PID, USER, UTS};
use crate::seccomp;
use crate::spec::{Architecture, ProcView};

/// Resource limits by number, as the kernel of both architectures counts them.
pub mod rlimit {
    /// File size.
    pub const FSIZE: u64 = 1;
    /// Stack of the main thread.
    pub const STACK: u64 = 3;
    /// Core dumps.
    pub const CORE: u64 = 4;
    /// Processes.
    pub const NPROC: u64 = 6;
    /// Descriptors.
    pub const NOFILE: u64 = 7;
    /// Locked memory.
    pub const MEMLOCK: u64 = 8;
    /// Pending signals.
    pub const SIGPENDING: u64 = 11;
    /// POSIX message queues.
    pub const MSGQUEUE: u64 = 12;
    /// Nice values.
    pub const NICE: u64 = 13;
    /// Real-time priority.
    pub const RTPRIO: u64 = 14;
}

/// Root means nothing, ids change nothing, nothing is kept, nothing becomes ambient, and all of that for good.
pub const SECUREBITS: u64 = 0xef;

/// Who an environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Inside.
    pub inside: User,
    /// On the host.
    pub outside: Outside,
}

/// Who an environment is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The supervisor writes the id maps: a host user that no other live environment has.
    Slot,
    /// The environment maps the only user and group there are, its zygote's, itself.
    Callers(u32, u32),
}

/// The namespaces of an environment, but for the cgroup namespace.
pub(super) fn namespaces(network: bool) -> u64 {
    // The cgroup namespace comes later: made before the version 1 cgroups are joined, /proc/self/cgroup tells host paths.
    USER | PID | MOUNT | IPC | UTS | if network { 0 } else { NETWORK }
}

/// How environments of one zygote come into being, up to where a function is given to them.
#[derive(Debug)]
pub struct Birth {
    /// Who its environments are, inside.
    pub user: User,
    /// The namespaces that a seat's init is born in.
    pub namespaces: u64,
    /// Those that an environment's process joins on its way there.
    pub joined: u64,
    /// What the seat's init does.
    pub seat: Vec<Step>,
    /// How it locks itself down.
    pub init: Vec<Step>,
    /// What the process does on its way into the seat, as far as it is told.
    pub enter: Vec<Step>,
    /// What it does there before it has a function.
    pub park: Vec<Step>,
    /// `park`, encoded.
    pub park_program: Vec<u8>,
    /// How the process becomes the function's, where that is not the function's own way.
    pub assign: Option<Vec<Step>>,
    /// Whether Lambda's APIs are served in its environments: a socket comes with the seat.
    pub listens: bool,
}

/// The steps of a birth, in their order: of the seat's init, of its lock-down, on the way into the seat, and there.
pub type Sections<'a> = [&'a [Step]; 4];

impl Birth {
    /// Its steps.
    pub fn sections(&self) -> Sections<'_> {
        [&self.seat, &self.init, &self.enter, &self.park]
    }

    /// Plans it. `again`: directories that the environment's own file systems would hide, by where else they are.
    pub fn new(
        identity: Identity,
        doors: usize,
        network: bool,
        landlock: Option<u32>,
        again: &[Grant],
        listens: bool,
        posture: &Posture,
    ) -> Self {
        let user = identity.inside;
        let park = posture.plan(park(landlock, user));
        let mut seat = seat(identity, network, again);
        if listens {
            // Of the host's network any port will do that is free.
            seat.push(Step::Listen { port: if network { 0 } else { PORT } });
        }
        Self {
            user,
            namespaces: namespaces(network),
            joined: namespaces(network),
            seat: posture.plan(seat),
            init: init(Architecture::HOST),
            enter: doors_of(doors),
            park_program: program::encode(&park),
            park,
            assign: None,
            listens,
        }
    }
}

pub(super) fn doors_of(doors: usize) -> Vec<Step> {
    (0..doors as u64).map(|index| Step::JoinCgroup { index }).collect()
}

/// What the init of a seat does with all its capabilities there.
pub(super) fn seat(identity: Identity, network: bool, again: &[Grant]) -> Vec<Step> {
    let (mut steps, user) = (Vec::new(), identity.inside);
    if let Outside::Callers(uid, gid) = identity.outside {
        for (file, content) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{} {uid} 1", user.uid)),
            ("gid_map", format!("{} {gid} 1", user.gid)),
        ] {
            steps.push(Step::WriteFile { path: format!("/proc/self/{file}"), content });
        }
    }
    steps.push(Step::Sync);
    steps.push(Step::SetIds { uid: user.uid, gid: user.gid, drop_groups: false });
    // No keyring of its own: the kernel looks at all there are whenever one ends. It has that of its zygote's init.
    steps.push(Step::Setsid);
    steps.push(Step::Hostname { name: "coldframe".into(), domain: "(none)".into() });
    if !network {
        steps.push(Step::LoopbackUp);
    }
    // Of its own: the kernel looks a setting of a user namespace up among those of all user namespaces that ever opened it
    // through the same mount, one by one.
    steps.push(mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC, ""));
    // A second layer below the filter: no namespaces inside this user namespace, and few watches, which are counted by user.
    steps.extend(user_limits(Path::new("/proc/sys/user")));
    // Its end, rather than a mount on top: what every memory cgroup of the host holds grows with the number of file systems.
    steps.push(Step::Unmount { path: "/proc".into() });
    steps.push(proc("subset=pid,hidepid=invisible"));
    // Their sizes are a function's.
    steps.push(mount("tmp", "/tmp", "tmpfs", NOSUID | NODEV, "size=1m,nr_inodes=65536,mode=1777"));
    steps.push(mount("shm", "/dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "size=1m,nr_inodes=4096,mode=1777"));
    steps.extend(bind_again(again));
    steps
}

/// The limits of a seat's user namespace. `known`: where this kernel shows those that it has; one that shows none is asked
/// for all, and the seat fails, rather than stand without them.
fn user_limits(known: &Path) -> Vec<Step> {
    const ALWAYS: [(&str, u32); 9] = [
        ("max_user_namespaces", 0),
        ("max_mnt_namespaces", 0),
        ("max_pid_namespaces", 0),
        ("max_net_namespaces", 0),
        ("max_ipc_namespaces", 0),
        ("max_uts_namespaces", 0),
        // The environment's own, which its process makes.
        ("max_cgroup_namespaces", 1),
        ("max_inotify_instances", 16),
        ("max_inotify_watches", 1024),
    ];
    // By configuration, and the latter two since 5.13.
    const OF_SOME: [(&str, u32); 3] =
        [("max_time_namespaces", 0), ("max_fanotify_groups", 0), ("max_fanotify_marks", 0)];
    let missing = |name: &str| known.is_dir() && !known.join(name).exists();
    let of_some = OF_SOME.into_iter().filter(|(name, _)| !missing(name));
    let write = |(name, most): (&str, u32)| Step::WriteFile {
        path: format!("/proc/sys/user/{name}"),
        content: most.to_string(),
    };
    ALWAYS.into_iter().chain(of_some).map(write).collect()
}

/// What an environment's process does before it has a function.
fn park(landlock: Option<u32>, user: User) -> Vec<Step> {
    let mut steps = vec![
        Step::CloseFrom { first: serve::ENVIRONMENT_CHANNEL as u32 + 1 },
        // In its cgroups: made any earlier, the namespace would show the host's paths.
        Step::CgroupNamespace,
        Step::SetIds { uid: user.uid, gid: user.gid, drop_groups: false },
        Step::Setsid,
        Step::NewKeyring,
        Step::Umask { mask: 0o022 },
        Step::DropBounding,
        Step::Securebits { bits: SECUREBITS },
    ];
    steps.extend(common_limits());
    steps.extend(landlock.map(confine).unwrap_or_default());
    steps
}

/// What of a function matters to the lock-down.
#[derive(Clone, Debug)]
pub struct Function {
    /// Key of its code in the store; `None`: it has the root of an image, and its code in it.
    pub code: Option<String>,
    /// Key of its layers in the store.
    pub layers: Option<String>,
    /// What an interpreter that lives under `/opt` needs to keep there, beside the layers' top-level entries.
    pub opt: Option<Opt>,
    /// Size of `/tmp` in MiB.
    pub tmp_mb: u64,
    /// The memory cap in MiB.
    pub memory_mb: u64,
    /// Processes and threads together.
    pub max_processes: u64,
    /// Directories of the host: where they appear, and whether they can be written to.
    pub mounts: Vec<(String, bool)>,
    /// Whether programs in `/tmp` may not be executed, nor in any other place that can be written to.
    pub noexec_tmp: bool,
    /// How much of `/proc` is visible.
    pub proc_view: ProcView,
    /// Whether it is in the host's network.
    pub network: bool,
    /// Whether its first environment is a base.
    pub snapstart: bool,
}

/// `/opt` where layers are not alone in it.
#[derive(Clone, Debug)]
pub struct Opt {
    /// Directories of the interpreter.
    pub prefixes: Vec<String>,
    /// Names of the directories at the top of the layers.
    pub entries: Vec<String>,
}

/// How the second process becomes the function's: its files, its limits, and then no way back. `landlock` and `filter`
/// are `None` where the host has no such thing and the caller has waived it.
pub fn assign(
    function: &Function,
    landlock: Option<u32>,
    filter: Option<Architecture>,
    posture: &Posture,
) -> Vec<Step> {
    let mut steps = files(function);
    steps.extend(limits(function));
    steps.extend([Step::DropCapabilities, Step::NoNewPrivileges, Step::Undumpable]);
    if let Some(abi) = landlock {
        if function.snapstart {
            steps.push(super::restored::allow_scratch(abi, function.noexec_tmp));
        }
        steps.extend(enforce(abi, function));
    }
    if let Some(architecture) = filter {
        let program = if function.mounts.iter().any(|(_, writable)| *writable) {
            seccomp::program_for_shared_files
        } else {
            seccomp::program
        };
        steps.push(Step::Seccomp { filter: seccomp::bytes(&program(architecture, function.network)) });
    }
    posture.plan(steps)
}

fn files(function: &Function) -> Vec<Step> {
    let exec = if function.noexec_tmp { NOEXEC } else { 0 };
    let mut steps = match function.proc_view {
        ProcView::Pid => vec![],
        ProcView::Masked => masked(),
    };
    let size = |mb: u64| format!("size={mb}m");
    steps.push(mount("none", "/tmp", "", REMOUNT | NOSUID | NODEV | exec, &size(function.tmp_mb)));
    steps.push(mount("none", "/dev/shm", "", REMOUNT | NOSUID | NODEV | NOEXEC, &size(function.memory_mb)));
    steps.extend(function.code.as_ref().map(|code| Step::Bind {
        source: format!("{STORE}/{code}"),
        target: "/var/task".into(),
        attributes: READ_ONLY,
    }));
    if let Some(layers) = &function.layers {
        steps.extend(match &function.opt {
            Some(opt) => merge(layers, opt),
            None => {
                vec![Step::Bind { source: format!("{STORE}/{layers}"), target: "/opt".into(), attributes: READ_ONLY }]
            }
        });
    }
    steps.extend(mounted(function));
    // Other functions' code goes out of sight; nobody inside will be able to take this cover away. It is the zygote's: each
    // file system more makes every end of an environment on this host a little longer.
    steps.push(Step::Bind { source: COVER.into(), target: STORE.into(), attributes: READ_ONLY | NOEXEC });
    steps.push(Step::Chdir { path: if function.code.is_some() { "/var/task" } else { "/" }.into() });
    steps
}

/// Binds again what the environment's own mounts hide, each at its own path.
fn bind_again(grants: &[Grant]) -> Vec<Step> {
    let (mut steps, mut made) = (Vec::new(), BTreeSet::from(HIDING.map(str::to_owned)));
    for Grant { source, target } in grants {
        let target = target.display().to_string();
        let ends = target.char_indices().skip(1).filter(|&(_, c)| c == '/').map(|(at, _)| at).chain([target.len()]);
        let parents =
            ends.map(|end| target[..end].to_owned()).filter(|path| HIDING.iter().any(|top| path.starts_with(top)));
        let missing = parents.filter(|path| made.insert(path.clone()));
        steps.extend(missing.map(|path| Step::MakeDir { path, mode: 0o755 }).collect::<Vec<_>>());
        steps.push(Step::Bind { source: source.display().to_string(), target, attributes: READ_ONLY });
    }
    steps
}

/// Attaches the host's directories, which come along with the program, in a small file system of their own.
fn mounted(function: &Function) -> Vec<Step> {
    if function.mounts.is_empty() {
        return Vec::new();
    }
    let mut steps = vec![mount("mnt", MNT, "tmpfs", NOSUID | NODEV | NOEXEC, "size=4k,nr_inodes=16,mode=0755")];
    for (index, (target, writable)) in function.mounts.iter().enumerate() {
        let attributes = match (writable, function.noexec_tmp) {
            (false, _) => READ_ONLY,
            (true, true) => NOSUID | NODEV | NOEXEC,
            (true, false) => NOSUID | NODEV,
        };
        steps.push(Step::MakeDir { path: target.clone(), mode: 0o755 });
        steps.push(Step::Attach { index: index as u64, target: target.clone(), attributes });
    }
    steps.push(mount("none", MNT, "", REMOUNT_BIND | RDONLY | NOSUID | NODEV | NOEXEC, ""));
    steps
}

/// Puts layers and interpreter side by side in a tmpfs, and that in place of `/opt`.
fn merge(layers: &str, opt: &Opt) -> Vec<Step> {
    let mut steps = vec![mount("opt", MERGE, "tmpfs", NOSUID | NODEV, "size=1m,nr_inodes=1024,mode=0755")];
    let prefixes = opt.prefixes.iter().map(|path| (path.clone(), path.strip_prefix("/opt").unwrap_or(path)));
    let entries = opt.entries.iter().map(|name| (format!("{STORE}/{layers}/{name}"), name.as_str()));
    let mut made = BTreeSet::new();
    for (source, place) in prefixes.chain(entries) {
        let mut target = MERGE.to_owned();
        for part in place.split('/').filter(|part| !part.is_empty()) {
            target = format!("{target}/{part}");
            if made.insert(target.clone()) {
                steps.push(Step::MakeDir { path: target.clone(), mode: 0o755 });
            }
        }
        steps.push(Step::Bind { source, target, attributes: READ_ONLY });
    }
    steps.push(mount("none", MERGE, "", REMOUNT_BIND | RDONLY | NOSUID | NODEV, ""));
    steps.push(Step::Bind { source: MERGE.into(), target: "/opt".into(), attributes: READ_ONLY });
    steps
}

fn proc(options: &str) -> Step {
    mount("proc", "/proc", "proc", RDONLY | NOSUID | NODEV | NOEXEC, options)
}

/// The whole of `/proc`, with what tells of the host covered by something empty of our own.
pub(super) fn masked() -> Vec<Step> {
    let mut steps = vec![proc("hidepid=invisible")];
    for directory in ["acpi", "asound", "bus", "fs", "irq", "scsi", "sys", "tty", "driver"] {
        let path = format!("/proc/{directory}");
        if Path::new(&path).is_dir() {
            steps.push(Step::Bind { source: "/.empty".into(), target: path, attributes: READ_ONLY | NOEXEC });
        }
    }
    for file in [
        "kcore",
        "keys",
        "key-users",
        "kallsyms",
        "kmsg",
        "latency_stats",
        "timer_list",
        "timer_stats",
        "sched_debug",
        "interrupts",
        "iomem",
        "ioports",
        "modules",
        "config.gz",
        "kpagecount",
        "kpageflags",
        "kpagecgroup",
        "vmallocinfo",
        "slabinfo",
        "pagetypeinfo",
        "locks",
        "partitions",
        "diskstats",
        "mdstat",
        "swaps",
        "sysrq-trigger",
        "cmdline",
    ] {
        let path = format!("/proc/{file}");
        if Path::new(&path).exists() {
            steps.push(Step::Bind { source: "/.nothing".into(), target: path, attributes: READ_ONLY | NOEXEC });
        }
    }
    steps
}

/// Resource limits of this function's environments.
fn limits(function: &Function) -> Vec<Step> {
    rlimits(&[
        // Above what the cgroup allows (one for the init), so that it is the cgroup that says no.
        (rlimit::NPROC, function.max_processes + 2),
        (rlimit::FSIZE, function.tmp_mb.max(function.memory_mb) << 20),
    ])
}

/// Resource limits of every environment.
pub(super) fn common_limits() -> Vec<Step> {
    rlimits(&[
        // One, not zero: a limit of one byte also stops what core_pattern pipes to a program.
        (rlimit::CORE, 1),
        (rlimit::NOFILE, 1024),
        (rlimit::MEMLOCK, 64 << 10),
        (rlimit::MSGQUEUE, 0),
        (rlimit::RTPRIO, 0),
        (rlimit::NICE, 0),
        (rlimit::SIGPENDING, 1024),
        (rlimit::STACK, 8 << 20),
    ])
}

fn rlimits(limits: &[(u64, u64)]) -> Vec<Step> {
    limits.iter().map(|&(resource, limit)| Step::Rlimit { resource, limit }).collect()
}

/// What Landlock allows in every environment.
pub(super) fn confine(abi: u32) -> Vec<Step> {
    let Some(ruleset) = landlock::ruleset(abi) else { return Vec::new() };
    // The attributes grew with the versions: file system (1), network (4), scopes (6).
    let size = match abi {
        ..4 => 8,
        4..6 => 16,
        _ => 24,
    };
    let mut steps = vec![Step::LandlockBegin {
        fs: ruleset.handled_access_fs,
        net: ruleset.handled_access_net,
        scoped: ruleset.scoped,
        size,
    }];
    let mut allow = |path: &str, access| steps.push(Step::LandlockPath { path: path.into(), access });
    allow("/", landlock::read_only(abi));
    allow("/usr", landlock::programs(abi));
    allow("/dev/shm", landlock::scratch(abi, true));
    for name in ["null", "zero", "full", "random", "urandom"] {
        allow(&format!("/dev/{name}"), landlock::device(abi));
    }
    steps
}

/// What it allows in this function's, and then no more.
pub(super) fn enforce(abi: u32, function: &Function) -> Vec<Step> {
    if landlock::ruleset(abi).is_none() {
        return Vec::new();
    }
    let access = landlock::scratch(abi, function.noexec_tmp);
    let written = function.mounts.iter().filter(|(_, writable)| *writable).map(|(target, _)| target.clone());
    let rules = ["/tmp".to_owned()].into_iter().chain(written).map(|path| Step::LandlockPath { path, access });
    rules.chain([Step::LandlockEnforce]).collect()
}

/// It reads, sends, waits, closes and exits; everything else kills it, and with it the environment.
const CALLS_OF_INIT: &str = "read sendto ppoll wait4 close close_range dup3 exit_group";

/// What the init of an environment does: it needs next to nothing, and is given no more.
pub(super) fn init(architecture: Architecture) -> Vec<Step> {
    vec![
        Step::Rlimit { resource: rlimit::CORE, limit: 1 },
        Step::DropBounding,
        Step::Securebits { bits: SECUREBITS },
        Step::DropCapabilities,
        Step::NoNewPrivileges,
        Step::Undumpable,
        Step::Seccomp { filter: seccomp::bytes(&seccomp::nothing_but(CALLS_OF_INIT, architecture)) },
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use coldframe_sys::testing::headers::{assert_facts, fact};

    use super::*;
    use crate::seccomp::Instruction;
    use crate::seccomp::interpreter::{Call, check, run};

    pub fn function() -> Function {
        Function {
            code: Some("c0de".into()),
            layers: Some("1a7e".into()),
            opt: None,
            tmp_mb: 64,
            memory_mb: 128,
            max_processes: 10,
            mounts: vec![],
            noexec_tmp: false,
            proc_view: ProcView::Pid,
            network: false,
            snapstart: false,
        }
    }
    #[test]
    fn a_limit_is_left_out_only_where_the_kernel_shows_that_it_has_none() {
        let count = |steps: Vec<Step>| steps.iter().filter(|s| matches!(s, Step::WriteFile { .. })).count();
        assert_eq!(count(user_limits(Path::new("/nowhere"))), 12, "hidden, all are asked for");
        let known = tempdir();
        assert_eq!(count(user_limits(&known)), 9);
        std::fs::write(known.join("max_time_namespaces"), "1").expect("a file");
        assert_eq!(count(user_limits(&known)), 10);
        std::fs::remove_dir_all(known).expect("it is ours");
    }

    fn tempdir() -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("coldframe-limits-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    #[test]
    fn limits_and_bits_are_those_of_the_kernels_headers() {
        let facts = [
            fact("RLIMIT_FSIZE", rlimit::FSIZE),
            fact("RLIMIT_STACK", rlimit::STACK),
            fact("RLIMIT_CORE", rlimit::CORE),
            fact("RLIMIT_NPROC", rlimit::NPROC),
            fact("RLIMIT_NOFILE", rlimit::NOFILE),
            fact("RLIMIT_MEMLOCK", rlimit::MEMLOCK),
            fact("RLIMIT_SIGPENDING", rlimit::SIGPENDING),
            fact("RLIMIT_MSGQUEUE", rlimit::MSGQUEUE),
            fact("RLIMIT_NICE", rlimit::NICE),
            fact("RLIMIT_RTPRIO", rlimit::RTPRIO),
            // All of them with their locks, but for KEEP_CAPS, whose lock alone is set.
            fact("(SECURE_ALL_BITS | SECURE_ALL_LOCKS) & ~(1 << SECURE_KEEP_CAPS)", SECUREBITS),
        ];
        assert_facts("linux/resource.h linux/securebits.h", &facts);
    }

    fn position(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> usize {
        steps.iter().position(wanted).expect("the step is planned")
    }

    #[test]
    fn the_lock_down_is_in_the_only_order_that_works() {
        let steps = assign(&function(), Some(7), Some(Architecture::X86_64), &Posture::default());
        assert!(
            park(None, User::default()).contains(&Step::DropBounding)
                && park(None, User::default()).contains(&Step::Securebits { bits: SECUREBITS })
        );
        let capabilities = position(&steps, |s| *s == Step::DropCapabilities);
        let privileges = position(&steps, |s| *s == Step::NoNewPrivileges);
        let landlock = position(&steps, |s| *s == Step::LandlockEnforce);
        assert!(capabilities < privileges && privileges < landlock);
        assert!(matches!(steps.last(), Some(Step::Seccomp { .. })), "the filter comes last");
        assert!(
            steps.iter().rposition(|s| matches!(s, Step::Mount { .. } | Step::Bind { .. })).expect("mounts")
                < capabilities
        );
    }

    /// The numbers as the headers have them, not by the table that the filter is made with.
    #[test]
    fn an_init_lives_by_eight_calls() {
        let here = [
            (Architecture::X86_64, 0xc000_003e, [0, 44, 271, 61, 3, 436, 292, 231]),
            (Architecture::Arm64, 0xc000_00b7, [63, 206, 73, 260, 57, 436, 24, 94]),
        ];
        for (architecture, convention, calls) in here {
            let steps = init(architecture);
            let Some(Step::Seccomp { filter }) = steps.last() else { panic!("the filter comes last") };
            let instruction = |bytes: &[u8]| Instruction {
                code: u16::from_le_bytes([bytes[0], bytes[1]]),
                jt: bytes[2],
                jf: bytes[3],
                k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            };
            let program: Vec<Instruction> = filter.chunks(8).map(instruction).collect();
            check(&program);
            for number in (0..2048).chain([0x4000_0000, 0x4000_0000 | calls[0], u32::MAX]) {
                let answer = run(&program, Call { number, convention, arguments: [u64::MAX; 6] }).answer;
                let expected = if calls.contains(&number) { 0x7fff_0000 } else { 0x8000_0000 };
                assert_eq!(answer, expected, "{number} on {architecture:?}");
                for foreign in [0, 0x4000_0003, 0x4000_0028, convention ^ 0x89] {
                    let answer = run(&program, Call { number, convention: foreign, arguments: [0; 6] }).answer;
                    assert_eq!(answer, 0x8000_0000, "{number} by {foreign:#x} on {architecture:?}");
                }
            }
        }
    }

    #[test]
    fn other_functions_code_is_covered_after_the_own_is_bound() {
        let steps = assign(&function(), None, Some(Architecture::Arm64), &Posture::default());
        let code = position(&steps, |s| matches!(s, Step::Bind { target, .. } if target == "/var/task"));
        let layers = position(&steps, |s| matches!(s, Step::Bind { target, .. } if target == "/opt"));
        let cover =
            position(&steps, |s| matches!(s, Step::Bind { target, source, .. } if target == STORE && source == COVER));
        assert!(code < cover && layers < cover);
    }

    #[test]
    fn the_hosts_directories_have_no_powers_and_a_place_that_is_closed() {
        let mounts = vec![("/mnt/a".to_owned(), false), ("/mnt/b".to_owned(), true)];
        let function = Function { mounts, noexec_tmp: true, ..function() };
        let steps = assign(&function, Some(7), Some(Architecture::X86_64), &Posture::default());
        let attached = steps.iter().filter_map(|s| match s {
            Step::Attach { index, target, attributes } => Some((*index, target.as_str(), *attributes)),
            _ => None,
        });
        assert_eq!(attached.collect::<Vec<_>>(), [(0, "/mnt/a", READ_ONLY), (1, "/mnt/b", NOSUID | NODEV | NOEXEC)]);
        let last = steps.iter().rposition(|s| matches!(s, Step::Attach { .. })).expect("attached");
        assert!(matches!(&steps[last + 1], Step::Mount { target, flags, .. } if target == MNT && flags & RDONLY != 0));
        let written: Vec<String> =
            steps.iter().filter(|s| matches!(s, Step::LandlockPath { .. })).map(Step::subject).collect();
        assert_eq!(written, ["/tmp", "/mnt/b"]);
    }

    #[test]
    fn what_tmp_hides_is_bound_again_in_directories_that_are_made_once() {
        let grant = |target: &str| Grant { source: "/.grants/0".into(), target: target.into() };
        let steps = bind_again(&[grant("/tmp/a/one"), grant("/tmp/a/two")]);
        let made: Vec<String> = steps.iter().filter(|s| matches!(s, Step::MakeDir { .. })).map(Step::subject).collect();
        assert_eq!(made, ["/tmp/a", "/tmp/a/one", "/tmp/a/two"]);
    }
}
