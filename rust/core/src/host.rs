//! What this machine and this user can give, found by looking and by trying.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rustix::process::{getgid, getuid};
use sha2::{Digest, Sha256};

use crate::caller::{self, Refusal};
use crate::cgroup::{Controller, Layout};
use crate::error::{Error, Result};
use crate::posture::{Posture, Wall};
use crate::seccomp;
use crate::spec::{Architecture, Isolation};

/// Why something is missing that is not.
const PRETENDED: &str = "COLDFRAME_PRETEND says so";

/// The oldest kernel that has all that is used without asking: `cgroup.kill` and `mount_setattr`.
const OLDEST_KERNEL: (u32, u32) = (5, 14);

/// A protection, and what stands between the host and it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Its name, as in `fn.isolation`.
    pub name: &'static str,
    /// Whether it is in force.
    pub in_force: bool,
    /// How, or why not.
    pub detail: String,
    /// What would mend it.
    pub remedy: Option<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether the caller is root, see [`caller::is_root`].
    pub root: bool,
    /// The caller's user.
    pub uid: u32,
    /// The caller's group.
    pub gid: u32,
    /// The Landlock version.
    pub landlock: Option<u32>,
    /// The cgroup hierarchies.
    pub cgroups: Layout,
    /// Whether system calls can be filtered.
    pub seccomp: bool,
    /// The walls that are built here.
    pub posture: Posture,
    kernel: (u32, u32),
    namespaces: Result<(), Refusal>,
}

impl Facts {
    /// Looks at the host. `take`: see [`Layout::probe`].
    ///
    /// `COLDFRAME_PRETEND` makes features look missing, and takes walls away, so that what happens then can be tried on any
    /// machine: see [`Posture::pretended`].
    pub fn probe(take: bool) -> Result<Self> {
        let posture = Posture::pretended()?;
        let gone = |name: &str| posture.lacks(name);
        let mut cgroups = Layout::probe(take).map_err(|e| Error::kernel("looking at", "/proc/self/cgroup", e))?;
        for controller in Controller::ALL {
            if gone(controller.name()) {
                cgroups.forget(controller, PRETENDED);
            }
        }
        if gone("cgroup2") {
            cgroups.forget_unified();
        }
        if gone("freezer") {
            cgroups.forget_freezer(PRETENDED);
        }
        let root = caller::is_root();
        let namespaces = if gone("namespaces") {
            Err(Refusal { why: PRETENDED.to_owned(), remedy: "unset COLDFRAME_PRETEND" })
        } else {
            caller::try_namespaces(root)
        };
        Ok(Self {
            root,
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
            landlock: coldframe_sys::host::landlock_abi().filter(|_| !gone("landlock")),
            cgroups,
            kernel: kernel_version(),
            seccomp: seccomp_available() && !gone("seccomp"),
            namespaces,
            posture,
        })
    }

    /// Swap that is free now, in bytes.
    pub fn swap_free(&self) -> u64 {
        let now = rustix::system::sysinfo();
        if self.posture.lacks("swap") { 0 } else { now.freeswap as u64 * u64::from(now.mem_unit) }
    }

    /// Where the memory of environments that stand still can go.
    fn room_for_pages(&self) -> String {
        match (self.cgroups.missing(Controller::Memory), self.swap_free() >> 20) {
            (Some(_), _) => {
                "environments that stand still give no memory back: there is no memory controller".to_owned()
            }
            (None, 0) => {
                "of environments that stand still, pages of files go; there is no swap for the others".to_owned()
            }
            (None, mb) => {
                format!("of environments that stand still, pages of files go; the others have {mb} MiB of swap")
            }
        }
    }

    /// Every protection, in force or not.
    pub fn protections(&self) -> Vec<Protection> {
        let mut all = vec![
            protection(
                "kernel",
                self.kernel >= OLDEST_KERNEL,
                format!("Linux {}.{}", self.kernel.0, self.kernel.1),
                &format!("run Linux {}.{} or newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1),
            ),
            protection(
                "namespaces",
                self.namespaces.is_ok(),
                match &self.namespaces {
                    Ok(()) => "user, pid, mount, network, ipc, uts, cgroup".to_owned(),
                    Err(refusal) => format!("cannot be made: {}", refusal.why),
                },
                self.namespaces.as_ref().err().map_or("", |refusal| refusal.remedy),
            ),
            protection("seccomp", self.seccomp, FILTER.clone(), "use a kernel with CONFIG_SECCOMP_FILTER"),
            protection(
                "landlock",
                self.landlock.is_some(),
                self.landlock.map_or("not offered by this kernel".to_owned(), |abi| format!("version {abi}")),
                "boot with landlock among the lsm= modules (kernel 5.13 or newer)",
            ),
        ];
        for controller in Controller::ALL {
            let name = match controller {
                Controller::Cpu => "cgroup.cpu",
                Controller::Memory => "cgroup.memory",
                Controller::Pids => "cgroup.pids",
            };
            let missing = self.cgroups.missing(controller);
            all.push(protection(
                name,
                missing.is_none(),
                missing.map_or_else(|| format!("{} layout", self.cgroups.describe()), str::to_owned),
                &self.delegation(),
            ));
        }
        all.push(protection(
            "cgroup.freeze",
            self.cgroups.can_freeze(),
            match (self.cgroups.unified_writable(), self.cgroups.can_freeze()) {
                (true, true) => "version 2 freezer",
                (false, true) => "version 1 freezer",
                (_, false) => self.cgroups.unfrozen(),
            }
            .to_owned(),
            &self.delegation(),
        ));
        all.extend(Wall::ALL.map(|wall| {
            let stands = self.posture.has(wall);
            let detail = if stands { wall.what(self.root) } else { PRETENDED };
            protection(wall.name(), stands, detail.to_owned(), "unset COLDFRAME_PRETEND")
        }));
        // Nothing that protects, but good to know: it lacks nothing where it is not.
        all.push(protection("cgroup.reclaim", true, self.room_for_pages(), ""));
        all
    }

    /// What an ordinary user, or root in a container, has to be given.
    fn delegation(&self) -> String {
        if self.cgroups.crowded() {
            let manager = if self.root { "" } else { " --user" };
            format!(
                "start this program in a cgroup of its own: systemd-run{manager} --scope -p Delegate=yes <command>; or pass \
                 Host(cgroup=\"take\") to have the others moved into a leaf of this one"
            )
        } else if self.root {
            "run where the cgroup tree is writable: in a container that takes --cgroupns=private and a writable \
             /sys/fs/cgroup"
                .to_owned()
        } else if self.cgroups.describe() == "unified" || self.cgroups.describe() == "none" {
            "systemd-run --user --scope -p Delegate=yes <command>".to_owned()
        } else {
            format!(
                "as root, make a cgroup for this user in every hierarchy and put the program into it: for h in \
                 /sys/fs/cgroup/{{cpu,memory,pids,unified}}; do mkdir $h/user-{uid} && chown -R {uid} $h/user-{uid} && \
                 echo $PID > $h/user-{uid}/cgroup.procs; done",
                uid = self.uid
            )
        }
    }

    /// What is in force for a function, or why it is refused. Without namespaces there is no environment at all.
    pub fn grant(&self, isolation: Isolation) -> Result<BTreeMap<String, String>> {
        const NEVER_WAIVED: [&str; 2] = ["kernel", "namespaces"];
        let mut granted = BTreeMap::new();
        let mut missing = Vec::new();
        for p in self.protections() {
            if !p.in_force && (isolation == Isolation::Strict || NEVER_WAIVED.contains(&p.name)) {
                missing.push(format!(
                    "{} ({}; {})",
                    p.name,
                    p.detail,
                    p.remedy.as_deref().unwrap_or("no remedy is known")
                ));
            }
            granted.insert(p.name.to_owned(), if p.in_force { p.detail } else { format!("missing: {}", p.detail) });
        }
        if missing.is_empty() {
            return Ok(granted);
        }
        Err(Error::HostCapability(format!(
            "this host cannot give the isolation that was asked for; missing: {}. Mend that, or accept less with \
             isolation=\"available\" where it can be waived; `coldframe doctor` shows the whole list",
            missing.join("; ")
        )))
    }
}

fn protection(name: &'static str, in_force: bool, detail: String, remedy: &str) -> Protection {
    Protection { name, in_force, detail, remedy: (!in_force).then(|| remedy.to_owned()) }
}

/// Which filter it is: the digest of the one without a network tells two of them apart.
static FILTER: LazyLock<String> = LazyLock::new(|| {
    let program = seccomp::bytes(&seccomp::program(Architecture::HOST, false));
    let digest = Sha256::digest(program).iter().take(4).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("allow-list of system calls, profile {digest}")
});

fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn seccomp_available() -> bool {
    use crate::seccomp::emit::{ERRNO, KILL_PROCESS};
    [KILL_PROCESS, ERRNO].into_iter().all(coldframe_sys::host::seccomp_action_available)
}
