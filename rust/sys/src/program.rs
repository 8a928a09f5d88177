//! Programs for the far side of a fork, as data: what is planned can be looked at, and tested, before it is done.

use crate::child::op::{Code, HEADER};

/// One step. A program stops at the first that fails, and says which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub enum Step {
    /// Makes a directory.
    MakeDir { path: String, mode: u32 },
    /// Makes a new file with this content.
    MakeFile { path: String, mode: u32, content: Vec<u8> },
    /// Makes a symbolic link at `path`.
    Symlink { target: String, path: String },
    /// Attaches a copy of the mount tree at `source` to `target`, all of it with these `MOUNT_ATTR_…` flags.
    Bind { source: String, target: String, attributes: u64 },
    /// The same for a path of the host, which has been resolved before: a symbolic link in it is an error (`ELOOP`).
    Grant { source: String, target: String, attributes: u64 },
    /// Copies the mount tree at a path of the host, which has been resolved before, and sends it to the supervisor.
    Offer { source: String },
    /// Attaches the mount tree behind this descriptor of the request, all of it with these `MOUNT_ATTR_…` flags.
    Attach { index: u64, target: String, attributes: u64 },
    /// mount(2).
    Mount { source: String, target: String, kind: String, flags: u64, data: String },
    /// umount(2).
    Unmount { path: String },
    /// Makes the mount at `path` the root and lets go of the old one.
    Pivot { path: String },
    /// Names this uts namespace.
    Hostname { name: String, domain: String },
    /// Brings the loopback interface up.
    LoopbackUp,
    /// Writes to a file that exists.
    WriteFile { path: String, content: String },
    /// Sets a resource limit, soft and hard.
    Rlimit { resource: u64, limit: u64 },
    /// umask(2).
    Umask { mask: u32 },
    /// Begins a session.
    Setsid,
    /// chdir(2).
    Chdir { path: String },
    /// Empties the capability bounding set.
    DropBounding,
    /// Empties the ambient, effective, permitted and inheritable capabilities.
    DropCapabilities,
    /// Sets the secure bits.
    Securebits { bits: u64 },
    /// Becomes this user and group, after letting go of all supplementary groups if asked to.
    SetIds { uid: u32, gid: u32, drop_groups: bool },
    /// No new privileges.
    NoNewPrivileges,
    /// Neither core dumps nor inspection by others of the same user.
    Undumpable,
    /// Begins a Landlock ruleset; `size` is how much of the attributes this kernel's version knows.
    LandlockBegin { fs: u64, net: u64, scoped: u64, size: u64 },
    /// Allows `access` beneath `path` in that ruleset.
    LandlockPath { path: String, access: u64 },
    /// Puts that ruleset in force.
    LandlockEnforce,
    /// Puts a system call filter in force.
    Seccomp { filter: Vec<u8> },
    /// Joins the version 1 cgroup behind this descriptor of the request.
    JoinCgroup { index: u64 },
    /// Lets go of the caller's session keyring.
    NewKeyring,
    /// A cgroup namespace whose root is the cgroup of now.
    CgroupNamespace,
    /// dup3(2).
    Redirect { from: i32, to: i32 },
    /// Closes every descriptor from this one on.
    CloseFrom { first: u32 },
    /// Default dispositions, nothing blocked.
    ResetSignals,
    /// Says hello to the supervisor and waits for its word.
    Sync,
    /// Listens on a port of the loopback interface, and hands the socket to the supervisor.
    Listen { port: u16 },
    /// Gives a descriptor of the request this number.
    Place { index: u64, to: i32 },
    /// Replaces the process by the program behind a descriptor, with this name and nothing else.
    ExecFd { fd: i32, name: String },
    /// Replaces the process.
    Exec { path: String, argv: Vec<String>, envp: Vec<String> },
}

impl Step {
    /// What the step does, for an error message.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MakeDir { .. } => "making a directory",
            Self::MakeFile { .. } => "making a file",
            Self::Symlink { .. } => "making a symbolic link",
            Self::Bind { .. } => "binding a path",
            Self::Grant { .. } => "binding a host path",
            Self::Offer { .. } => "copying the mounts of a host path",
            Self::Attach { .. } => "mounting a host directory",
            Self::Mount { .. } => "mounting a file system",
            Self::Unmount { .. } => "taking a file system away",
            Self::Pivot { .. } => "changing the root",
            Self::Hostname { .. } => "setting the host name",
            Self::LoopbackUp => "bringing the loopback interface up",
            Self::WriteFile { .. } => "writing a kernel setting",
            Self::Rlimit { .. } => "setting a resource limit",
            Self::Umask { .. } => "setting the file mode mask",
            Self::Setsid => "beginning a session",
            Self::Chdir { .. } => "changing the working directory",
            Self::DropBounding => "emptying the capability bounding set",
            Self::DropCapabilities => "dropping capabilities",
            Self::Securebits { .. } => "setting the secure bits",
            Self::SetIds { .. } => "changing user and group",
            Self::NoNewPrivileges => "setting no-new-privileges",
            Self::Undumpable => "becoming undumpable",
            Self::LandlockBegin { .. } => "making a Landlock ruleset",
            Self::LandlockPath { .. } => "adding a Landlock rule",
            Self::LandlockEnforce => "enforcing Landlock",
            Self::Seccomp { .. } => "installing the system call filter",
            Self::JoinCgroup { .. } => "joining a cgroup",
            Self::NewKeyring => "leaving the session keyring",
            Self::CgroupNamespace => "making a cgroup namespace",
            Self::Redirect { .. } => "duplicating a descriptor",
            Self::CloseFrom { .. } => "closing descriptors",
            Self::ResetSignals => "resetting signals",
            Self::Sync => "waiting for the supervisor",
            Self::Listen { .. } => "listening on the loopback interface",
            Self::Place { .. } => "placing a descriptor",
            Self::ExecFd { .. } | Self::Exec { .. } => "starting the program",
        }
    }

    /// To what the step does it.
    pub fn subject(&self) -> String {
        match self {
            Self::MakeDir { path, .. }
            | Self::MakeFile { path, .. }
            | Self::Symlink { path, .. }
            | Self::Unmount { path }
            | Self::Pivot { path }
            | Self::WriteFile { path, .. }
            | Self::Chdir { path }
            | Self::LandlockPath { path, .. }
            | Self::Exec { path, .. } => path.clone(),
            Self::Offer { source } => source.clone(),
            Self::Attach { target, .. } => target.clone(),
            Self::Bind { source, target, .. } | Self::Grant { source, target, .. } => format!("{source} at {target}"),
            Self::Mount { target, kind, .. } => format!("{kind} at {target}"),
            Self::Rlimit { resource, limit } => format!("resource {resource} at {limit}"),
            Self::Listen { port } => format!("port {port}"),
            Self::ExecFd { name, .. } => name.clone(),
            _ => "the new process".into(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::MakeDir { .. } => Code::MakeDir,
            Self::MakeFile { .. } => Code::MakeFile,
            Self::Symlink { .. } => Code::Symlink,
            Self::Bind { .. } => Code::Bind,
            Self::Grant { .. } => Code::Grant,
            Self::Offer { .. } => Code::Offer,
            Self::Attach { .. } => Code::Attach,
            Self::Mount { .. } => Code::Mount,
            Self::Unmount { .. } => Code::Unmount,
            Self::Pivot { .. } => Code::Pivot,
            Self::Hostname { .. } => Code::Hostname,
            Self::LoopbackUp => Code::LoopbackUp,
            Self::WriteFile { .. } => Code::WriteFile,
            Self::Rlimit { .. } => Code::Rlimit,
            Self::Umask { .. } => Code::Umask,
            Self::Setsid => Code::Setsid,
            Self::Chdir { .. } => Code::Chdir,
            Self::DropBounding => Code::DropBounding,
            Self::DropCapabilities => Code::DropCapabilities,
            Self::Securebits { .. } => Code::Securebits,
            Self::SetIds { .. } => Code::SetIds,
            Self::NoNewPrivileges => Code::NoNewPrivileges,
            Self::Undumpable => Code::Undumpable,
            Self::LandlockBegin { .. } => Code::LandlockBegin,
            Self::LandlockPath { .. } => Code::LandlockPath,
            Self::LandlockEnforce => Code::LandlockEnforce,
            Self::Seccomp { .. } => Code::Seccomp,
            Self::JoinCgroup { .. } => Code::JoinCgroup,
            Self::NewKeyring => Code::NewKeyring,
            Self::CgroupNamespace => Code::CgroupNamespace,
            Self::Redirect { .. } => Code::Redirect,
            Self::CloseFrom { .. } => Code::CloseFrom,
            Self::ResetSignals => Code::ResetSignals,
            Self::Sync => Code::Sync,
            Self::Listen { .. } => Code::Listen,
            Self::Place { .. } => Code::Place,
            Self::ExecFd { .. } => Code::ExecFd,
            Self::Exec { .. } => Code::Exec,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend((self.code() as u16).to_le_bytes());
        out.extend([0; HEADER - 2]);
        match self {
            Self::MakeDir { path, mode } => args(out, &[u64::from(*mode)], &[path]),
            Self::MakeFile { path, mode, content } => {
                args(out, &[u64::from(*mode)], &[path]);
                out.extend(content);
            }
            Self::Symlink { target, path } => args(out, &[], &[target, path]),
            Self::Bind { source, target, attributes } | Self::Grant { source, target, attributes } => {
                args(out, &[*attributes], &[source, target]);
            }
            Self::Offer { source } => args(out, &[], &[source]),
            Self::Attach { index, target, attributes } => args(out, &[*index, *attributes], &[target]),
            Self::Mount { source, target, kind, flags, data } => args(out, &[*flags], &[source, target, kind, data]),
            Self::Unmount { path } | Self::Pivot { path } | Self::Chdir { path } => args(out, &[], &[path]),
            Self::Hostname { name, domain } => args(out, &[], &[name, domain]),
            Self::WriteFile { path, content } => {
                args(out, &[], &[path]);
                out.extend(content.as_bytes());
            }
            Self::Rlimit { resource, limit } => args(out, &[*resource, *limit, *limit], &[]),
            Self::Umask { mask } => args(out, &[u64::from(*mask)], &[]),
            Self::Securebits { bits } => args(out, &[*bits], &[]),
            Self::SetIds { uid, gid, drop_groups } => {
                args(out, &[u64::from(*uid), u64::from(*gid), u64::from(*drop_groups)], &[]);
            }
            Self::LandlockBegin { fs, net, scoped, size } => args(out, &[*fs, *net, *scoped, *size], &[]),
            Self::LandlockPath { path, access } => args(out, &[*access], &[path]),
            Self::Seccomp { filter } => out.extend(filter),
            Self::JoinCgroup { index } => args(out, &[*index], &[]),
            Self::Redirect { from, to } => args(out, &[*from as u64, *to as u64], &[]),
            Self::CloseFrom { first } => args(out, &[u64::from(*first)], &[]),
            Self::Listen { port } => args(out, &[u64::from(*port)], &[]),
            Self::Place { index, to } => args(out, &[*index, *to as u64], &[]),
            Self::ExecFd { fd, name } => args(out, &[*fd as u64], &[name]),
            Self::Exec { path, argv, envp } => {
                args(out, &[argv.len() as u64, envp.len() as u64], &[path]);
                for text in argv.iter().chain(envp) {
                    string(out, text);
                }
            }
            Self::LoopbackUp
            | Self::Setsid
            | Self::DropBounding
            | Self::DropCapabilities
            | Self::NoNewPrivileges
            | Self::Undumpable
            | Self::LandlockEnforce
            | Self::NewKeyring
            | Self::CgroupNamespace
            | Self::ResetSignals
            | Self::Sync => {}
        }
        let len = (out.len() - start - HEADER) as u32;
        out[start + 4..start + HEADER].copy_from_slice(&len.to_le_bytes());
    }
}

fn args(out: &mut Vec<u8>, numbers: &[u64], strings: &[&str]) {
    for number in numbers {
        out.extend(number.to_le_bytes());
    }
    for text in strings {
        string(out, text);
    }
}

/// A string with its NUL. One that holds a NUL itself would be cut short there: callers refuse such paths.
fn string(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains('\0'), "no path or option holds a NUL");
    out.extend(text.as_bytes());
    out.push(0);
}

/// The steps as the far side reads them.
pub fn encode(steps: &[Step]) -> Vec<u8> {
    let mut out = Vec::with_capacity(steps.len() * 64);
    for step in steps {
        step.encode(&mut out);
    }
    out
}

/// The program of an init: what pid 1 does, what pid 2 does (nothing to do: no pid 2), and what pid 1 does after that.
pub fn encode_init(first: &[Step], second: &[Step], last: &[Step]) -> Vec<u8> {
    let parts = [first, second, last].map(encode);
    let mut out = Vec::new();
    for part in &parts {
        out.extend((part.len() as u32).to_le_bytes());
    }
    for part in parts {
        out.extend(part);
    }
    out
}

/// A request to a zygote for a process in a seat: namespace flags, and what it does before it has a function.
pub fn encode_request(flags: u64, park: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(crate::child::serve::HEADER + park.len());
    out.extend(flags.to_le_bytes());
    out.extend(park);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::op::Steps;
    use crate::testing::fuzz::fuzz;

    /// Takes steps as whoever runs them does, in every order in which arguments can be taken.
    #[test]
    fn fuzz_no_step_leads_beyond_its_program() {
        let steps = [
            Step::Mount { source: "a".into(), target: "/b".into(), kind: "c".into(), flags: 7, data: "d=1".into() },
            Step::MakeFile { path: "/etc/x".into(), mode: 0o644, content: b"one\ntwo\0".to_vec() },
            Step::LandlockBegin { fs: u64::MAX, net: 0, scoped: 3, size: 24 },
            Step::Exec { path: "/bin/x".into(), argv: vec!["x".into(), "y".into()], envp: vec!["A=b".into()] },
            Step::Sync,
        ];
        let seeds = [encode(&steps), encode(&steps[1..2]), encode_init(&steps, &steps[3..4], &steps[4..])];
        fuzz(&seeds, |program| {
            let mut fate = Vec::new();
            for numbers in 0..4 {
                let (mut steps, mut taken) = (Steps::new(program), 0);
                while let Some(step) = steps.take() {
                    let Ok((code, mut args)) = step else {
                        fate.push(u16::MAX);
                        break;
                    };
                    assert_eq!(Code::from_number(code as u16), Some(code));
                    fate.push(code as u16);
                    let mut held = 8 * (0..numbers).map_while(|_| args.number()).count();
                    while let Some(text) = args.string() {
                        // SAFETY: `CStr` ends in a NUL, and the program that it lies in is borrowed.
                        held += unsafe { std::ffi::CStr::from_ptr(text.as_ptr().cast()) }.to_bytes_with_nul().len();
                    }
                    let rest = args.bytes();
                    assert!(!rest.contains(&0), "what holds a NUL is a string");
                    taken += HEADER + held + rest.len();
                    assert!(taken <= program.len(), "{taken} of {}", program.len());
                }
            }
            for part in crate::child::init::parts(program).into_iter().flatten() {
                assert!(part.len() + 12 <= program.len());
                fate.push(part.len() as u16);
            }
            fate
        });
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let steps = [
            Step::Mount {
                source: "a".into(),
                target: "/b".into(),
                kind: "tmpfs".into(),
                flags: 7,
                data: "size=1m".into(),
            },
            Step::Setsid,
            Step::MakeFile { path: "/etc/x".into(), mode: 0o644, content: b"one\ntwo".to_vec() },
        ];
        let bytes = encode(&steps);
        let mut read = Steps::new(&bytes);
        let (code, mut args) = read.take().expect("a step").expect("well-formed");
        assert_eq!((code, args.number()), (Code::Mount, Some(7)));
        assert!((0..4).all(|_| args.string().is_some()) && args.string().is_none());
        assert_eq!(read.take().expect("a step").expect("well-formed").0, Code::Setsid);
        let (code, mut args) = read.take().expect("a step").expect("well-formed");
        assert_eq!((code, args.number(), args.string().is_some()), (Code::MakeFile, Some(0o644), true));
        assert_eq!(args.bytes(), b"one\ntwo");
        assert!(read.take().is_none());
    }

    #[test]
    fn rubbish_is_an_error_and_not_a_panic() {
        for len in 0..40 {
            let bytes = vec![0xff; len];
            let mut read = Steps::new(&bytes);
            assert!(len == 0 && read.take().is_none() || read.take().expect("something").is_err());
        }
        let mut cut = encode(&[Step::Chdir { path: "/var/task".into() }]);
        cut.pop();
        assert!(Steps::new(&cut).take().expect("something").is_err());
    }
}
