//! The walls that every host can build, one by one: what each is, and what a plan is without it.
//!
//! A plan is made whole. For a test that is to see what a wall holds, `COLDFRAME_PRETEND` takes some of them away, and
//! [`Posture::plan`] leaves out, or weakens, the steps that build them.

use std::collections::BTreeSet;

use coldframe_sys::program::Step;

use crate::error::{Error, Result};
use crate::plan::{COVER, NOSUID, RDONLY, STORE};

/// What a host may lack by itself, as `COLDFRAME_PRETEND` calls it; see [`crate::host::Facts`].
const FEATURES: [&str; 9] =
    ["namespaces", "seccomp", "landlock", "cpu", "memory", "pids", "freezer", "cgroup2", "swap"];

/// A protection that stands by itself on every host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wall {
    /// The root file system shows what is granted and nothing else.
    Root,
    /// A few device nodes.
    Devices,
    /// What comes from the host cannot be written.
    ReadOnly,
    /// Set-user-id bits mean nothing.
    NoSetUid,
    /// `/proc` shows the environment's own processes and can change nothing.
    Proc,
    /// Bounds of `/tmp` and `/dev/shm`.
    Scratch,
    /// Other functions' code is covered.
    Store,
    /// As root: a host user for every environment.
    Users,
    /// No capability, and none to be had.
    Capabilities,
    /// No privileges by execution.
    NoNewPrivileges,
    /// Nobody inspects the process.
    Undumpable,
    /// Hard resource limits.
    Rlimits,
    /// Limits of what is counted by user namespace.
    UserLimits,
    /// A session keyring of its own.
    Keyring,
    /// Descriptors 0 to 3 alone.
    Descriptors,
    /// A cgroup namespace.
    CgroupNamespace,
    /// Random state that is renewed after a fork.
    Random,
}

impl Wall {
    /// All of them, in the order in which `doctor` lists them.
    pub const ALL: [Self; 17] = [
        Self::Root,
        Self::Devices,
        Self::ReadOnly,
        Self::NoSetUid,
        Self::Proc,
        Self::Scratch,
        Self::Store,
        Self::Users,
        Self::Capabilities,
        Self::NoNewPrivileges,
        Self::Undumpable,
        Self::Rlimits,
        Self::UserLimits,
        Self::Keyring,
        Self::Descriptors,
        Self::CgroupNamespace,
        Self::Random,
    ];

    /// Its name, in `fn.isolation` and in `COLDFRAME_PRETEND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Devices => "devices",
            Self::ReadOnly => "read-only",
            Self::NoSetUid => "no-set-uid",
            Self::Proc => "proc",
            Self::Scratch => "scratch",
            Self::Store => "store",
            Self::Users => "users",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Undumpable => "undumpable",
            Self::Rlimits => "rlimits",
            Self::UserLimits => "user-limits",
            Self::Keyring => "keyring",
            Self::Descriptors => "descriptors",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::Random => "random",
        }
    }

    /// What it is, in a line. `root`: whether the caller is.
    pub fn what(self, root: bool) -> &'static str {
        match self {
            Self::Root => "a tmpfs with an allow-list of the host's directories",
            Self::Devices => "null, zero, full, random and urandom",
            Self::ReadOnly => "everything of the host, code and layers",
            Self::NoSetUid => "set-user-id programs and device nodes of the host mean nothing",
            Self::Proc => "own processes alone, read-only",
            Self::Scratch => "/tmp and /dev/shm are private, with bounds of bytes and files",
            Self::Store => "other functions' code is out of sight",
            Self::Users if root => "one host user for every live environment",
            Self::Users => "a user namespace of the caller's user alone",
            Self::Capabilities => "none, an empty bounding set, secure bits locked",
            Self::NoNewPrivileges => "set for every process",
            Self::Undumpable => "no core dumps, no inspection by others of the same user",
            Self::Rlimits => "descriptors, processes, locked memory, file size, core and others, hard",
            Self::UserLimits => "no namespaces within, few inotify instances and watches",
            Self::Keyring => "a session keyring of its own",
            Self::Descriptors => "0 to 3, and none of the host's",
            Self::CgroupNamespace => "the own cgroup shows as the root",
            Self::Random => "renewed after the fork: random, numpy, uuid, tempfile, multiprocessing",
        }
    }
}

/// Which walls stand, and what the host is to look as if it lacked.
#[derive(Clone, Debug, Default)]
pub struct Posture {
    gone: BTreeSet<Wall>,
    lacks: BTreeSet<&'static str>,
}

impl Posture {
    /// All walls, but for what `COLDFRAME_PRETEND`, a list such as `-landlock,-rlimits`, takes away.
    pub fn pretended() -> Result<Self> {
        Self::parse(&std::env::var("COLDFRAME_PRETEND").unwrap_or_default())
    }

    fn parse(list: &str) -> Result<Self> {
        let mut posture = Self::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let name = word.strip_prefix('-');
            if let Some(wall) = Wall::ALL.into_iter().find(|wall| Some(wall.name()) == name) {
                posture.gone.insert(wall);
            } else if let Some(feature) = FEATURES.into_iter().find(|feature| Some(*feature) == name) {
                posture.lacks.insert(feature);
            } else {
                let names: Vec<_> = FEATURES.into_iter().chain(Wall::ALL.map(Wall::name)).collect();
                return Err(Error::Configuration(format!(
                    "COLDFRAME_PRETEND has {word:?}; it takes away, each with a - in front: {}",
                    names.join(", ")
                )));
            }
        }
        Ok(posture)
    }

    /// Whether a wall stands.
    pub fn has(&self, wall: Wall) -> bool {
        !self.gone.contains(&wall)
    }

    /// Whether the host is to look as if it lacked this feature.
    pub fn lacks(&self, feature: &str) -> bool {
        debug_assert!(FEATURES.contains(&feature), "{feature} is none of them");
        self.lacks.contains(feature)
    }

    /// What is left of these steps.
    pub fn plan(&self, steps: Vec<Step>) -> Vec<Step> {
        self.gone.iter().fold(steps, |steps, &wall| steps.into_iter().filter_map(|step| without(wall, step)).collect())
    }
}

/// What is left of a step when a wall is taken away.
fn without(wall: Wall, step: Step) -> Option<Step> {
    let built = match (&step, wall) {
        (Step::Rlimit { .. }, Wall::Rlimits)
        | (Step::NoNewPrivileges, Wall::NoNewPrivileges)
        | (Step::Undumpable, Wall::Undumpable)
        | (Step::DropBounding | Step::DropCapabilities | Step::Securebits { .. }, Wall::Capabilities)
        | (Step::NewKeyring, Wall::Keyring)
        | (Step::CloseFrom { .. }, Wall::Descriptors)
        | (Step::CgroupNamespace, Wall::CgroupNamespace) => true,
        (Step::WriteFile { path, .. }, Wall::UserLimits) => path.starts_with("/proc/sys/user/"),
        (Step::Bind { source, target, .. }, Wall::Store) => source == COVER && target == STORE,
        (Step::Bind { target, .. }, Wall::Proc) => target.starts_with("/proc/"),
        _ => false,
    };
    (!built).then(|| weaken(wall, step))
}

/// A mount that lacks what the wall gives it.
fn weaken(wall: Wall, step: Step) -> Step {
    match (step, wall) {
        (
            mut step @ (Step::Bind { .. } | Step::Grant { .. } | Step::Attach { .. }),
            Wall::ReadOnly | Wall::NoSetUid,
        ) => {
            if let Step::Bind { attributes, .. } | Step::Grant { attributes, .. } | Step::Attach { attributes, .. } =
                &mut step
            {
                *attributes &= if wall == Wall::ReadOnly { !RDONLY } else { !NOSUID };
            }
            step
        }
        (Step::Mount { source, target, kind, mut flags, mut data }, _) => {
            match wall {
                Wall::ReadOnly if target != "/proc" => flags &= !RDONLY,
                Wall::NoSetUid => flags &= !NOSUID,
                Wall::Proc if target == "/proc" => (flags, data) = (flags & !RDONLY, String::new()),
                Wall::Scratch if matches!(target.as_str(), "/tmp" | "/dev/shm") => {
                    data = if kind.is_empty() { String::new() } else { "mode=1777,nr_inodes=0".into() };
                }
                _ => {}
            }
            Step::Mount { source, target, kind, flags, data }
        }
        (step, _) => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::User;
    use crate::plan::environment::tests::function;
    use crate::plan::environment::{Birth, Identity, Outside, assign};
    use crate::spec::Architecture;

    /// Everything that an environment's process and its seat go through.
    fn whole() -> Vec<Step> {
        let identity = Identity { inside: User::default(), outside: Outside::Callers(1000, 1000) };
        let birth = Birth::new(identity, 0, false, Some(7), &[], false, &Posture::default());
        let assigned = assign(&function(), Some(7), Some(Architecture::X86_64), &Posture::default());
        birth.seat.into_iter().chain(birth.park).chain(assigned).collect()
    }

    #[test]
    fn every_wall_of_a_plan_can_be_taken_away_alone() {
        // Those that are built elsewhere: by the root file system, the choice of a user, and the runtime.
        let elsewhere = [Wall::Root, Wall::Devices, Wall::Users, Wall::Random];
        for wall in Wall::ALL.into_iter().filter(|wall| !elsewhere.contains(wall)) {
            let posture = Posture::parse(&format!("-{}", wall.name())).expect("a known name");
            assert!(!posture.has(wall));
            assert_ne!(posture.plan(whole()), whole(), "{}", wall.name());
        }
        assert_eq!(Posture::default().plan(whole()), whole());
    }

    #[test]
    fn a_name_that_nobody_knows_is_an_error() {
        for list in ["landlock", "-landlok", "+root"] {
            let error = Posture::parse(list).expect_err(list).to_string();
            assert!(error.contains(list) && error.contains("landlock, cpu"), "{error}");
        }
        assert!(Posture::parse(" -landlock, -root ,").is_ok_and(|p| p.lacks("landlock") && !p.has(Wall::Root)));
    }
}
