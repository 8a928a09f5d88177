//! How environments come of an initialised process, a *base*: what is different about the base's own seat, and what is made of
//! its children. The base has run user code and is trusted with nothing; its children are what a zygote's are.
//!
//! A seat below a base is a copy of the base's mounts: code, layers and interpreter are there already. `/proc`, `/tmp` and
//! `/dev/shm` are new, and empty.

use coldframe_sys::child::serve;
use coldframe_sys::program::{self, Step};

use super::environment::{
    Birth, Function, Identity, Outside, SECUREBITS, confine, doors_of, enforce, masked, namespaces, seat,
};
use super::rootfs::{Grant, mount};
use super::{COVER, GROUP_ID, MERGE, NODEV, NOEXEC, NOSUID, READ_ONLY, USER_ID, User};
use crate::landlock;
use crate::posture::Posture;
use crate::spec::ProcView;

/// A base's seat, and how its children come into being.
#[derive(Debug)]
pub struct Births {
    /// What the init of the base's seat does.
    pub seat: Vec<Step>,
    /// How it locks itself down: without a filter, since the inits that it makes still have to mount and to exec.
    pub init: Vec<Step>,
    /// Its children.
    pub below: Birth,
}

impl Births {
    /// Plans them. `doors`: by how many descriptors cgroups are joined; `again`: see [`Birth::new`].
    pub fn new(function: &Function, doors: usize, landlock: Option<u32>, again: &[Grant], posture: &Posture) -> Self {
        let network = function.network;
        let identity = Identity { inside: User::default(), outside: Outside::Slot };
        let plain = seat(identity, network, again);
        let park = posture.plan(park(function, landlock));
        let init = vec![Step::DropBounding, Step::Securebits { bits: SECUREBITS }, Step::DropCapabilities];
        Self {
            seat: posture.plan(base_seat(&plain)),
            init: init.into_iter().chain([Step::NoNewPrivileges, Step::Undumpable]).collect(),
            below: Birth {
                user: identity.inside,
                namespaces: namespaces(network),
                joined: namespaces(network) | serve::APART,
                seat: posture.plan(seat_below(&plain, function)),
                init: super::environment::init(crate::spec::Architecture::HOST),
                enter: doors_of(doors),
                park_program: program::encode(&park),
                park,
                listens: false,
                assign: Some(posture.plan(vec![Step::DropCapabilities, Step::NoNewPrivileges, Step::Undumpable])),
            },
        }
    }
}

/// A base's seat: as another's, but for the limits of its user namespace, which would be those of all seats below together (the
/// filter still refuses the base every namespace); and there is a `/proc` that nobody reaches, since the kernel lets a user
/// namespace mount one only where another like it is to be seen.
fn base_seat(plain: &[Step]) -> Vec<Step> {
    let limit = |step: &&Step| matches!(step, Step::WriteFile { path, .. } if path.starts_with("/proc/sys/user/"));
    let mut steps: Vec<Step> = plain.iter().filter(|step| !limit(step)).cloned().collect();
    let hidden = format!("{MERGE}/proc");
    steps.extend([
        mount("keep", MERGE, "tmpfs", NOSUID | NODEV | NOEXEC, "size=64k,nr_inodes=16,mode=0755"),
        Step::MakeDir { path: hidden.clone(), mode: 0o755 },
        mount("proc", &hidden, "proc", NOSUID | NODEV | NOEXEC, ""),
        Step::Bind { source: COVER.into(), target: MERGE.into(), attributes: READ_ONLY | NOEXEC },
    ]);
    steps
}

/// A seat below: what otherwise waits for a function is known.
fn seat_below(plain: &[Step], function: &Function) -> Vec<Step> {
    let exec = if function.noexec_tmp { NOEXEC } else { 0 };
    let mut steps: Vec<Step> = plain
        .iter()
        .map(|step| match step {
            Step::Mount { target, kind, flags, .. } if target == "/tmp" && kind == "tmpfs" => {
                let size = format!("size={}m,nr_inodes=65536,mode=1777", function.tmp_mb);
                mount("tmp", "/tmp", "tmpfs", flags | exec, &size)
            }
            Step::Mount { target, kind, flags, .. } if target == "/dev/shm" && kind == "tmpfs" => {
                let size = format!("size={}m,nr_inodes=4096,mode=1777", function.memory_mb);
                mount("shm", "/dev/shm", "tmpfs", *flags, &size)
            }
            step => step.clone(),
        })
        .collect();
    if matches!(function.proc_view, ProcView::Masked) {
        steps.extend(masked());
    }
    steps
}

/// What the process does in its seat. Limits, the file mode mask and the filter it has of the base.
fn park(function: &Function, landlock: Option<u32>) -> Vec<Step> {
    let mut steps = vec![
        Step::CloseFrom { first: serve::ENVIRONMENT_CHANNEL as u32 + 1 },
        Step::CgroupNamespace,
        Step::SetIds { uid: USER_ID, gid: GROUP_ID, drop_groups: false },
        Step::Setsid,
        Step::NewKeyring,
        Step::DropBounding,
        Step::Securebits { bits: SECUREBITS },
        Step::Chdir { path: "/var/task".into() },
    ];
    if let Some(abi) = landlock {
        // A ruleset of its own: the base's knows another `/tmp`, and what it scopes it scopes for all children together.
        steps.extend(confine(abi));
        steps.extend(enforce(abi, function));
    }
    steps
}

/// What Landlock allows a base beside: to write wherever that is possible at all. Rules are for directories that are there, and
/// the `/tmp` of a child is not yet; its own ruleset, on top of this one, is as strict as any.
pub fn allow_scratch(abi: u32, noexec: bool) -> Step {
    Step::LandlockPath { path: "/".into(), access: landlock::scratch(abi, noexec) }
}
