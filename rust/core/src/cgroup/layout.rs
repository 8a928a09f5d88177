//! Looks at this host's hierarchies: which controller lives where, and what the caller may do there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::write;
use crate::error::{Error, Result};

/// A controller that environments are limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Processes.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// Where a controller can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In the version 2 tree.
    Unified,
    /// In the caller's directory of this version 1 hierarchy.
    Legacy(PathBuf),
}

/// What the caller finds.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The caller's directory in the version 2 tree.
    pub(super) unified: Option<PathBuf>,
    /// Whether that is the root of the tree, where processes and child cgroups may live side by side.
    at_root: bool,
    homes: BTreeMap<Controller, Home>,
    /// The caller's directory in the version 1 freezer, where there is no version 2 tree.
    pub(super) freezer: Option<PathBuf>,
    /// Whether a version 1 hierarchy has a controller, usable or not.
    legacy: bool,
    /// Why a controller cannot be used, where that is so.
    missing: BTreeMap<Controller, String>,
    /// Whether the caller's own processes may be moved to a leaf.
    take: bool,
}

impl Layout {
    /// Looks. `take`: the caller's own processes may be moved aside in a delegated cgroup of the version 2 tree.
    pub fn probe(take: bool) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::from(&mounts, &own, take))
    }

    fn from(mounts: &str, own: &str, take: bool) -> Self {
        let mut layout = Self { take, ..Self::default() };
        for line in mounts.lines() {
            let Some(mount) = Mount::parse(line) else { continue };
            if mount.kind == "cgroup2" && layout.unified.is_none() {
                layout.unified = own_path(own, str::is_empty).map(|path| mount.below(path));
                layout.at_root = own_path(own, str::is_empty) == Some("/") && mount.root == "/";
            }
            if mount.kind == "cgroup" {
                let path = |name: &str| {
                    let listed = mount.options.split(',').any(|option| option == name);
                    let own = own_path(own, |controllers| controllers.split(',').any(|c| c == name));
                    own.filter(|_| listed).map(|path| mount.below(path))
                };
                for controller in Controller::ALL {
                    if let Some(path) = path(controller.name()) {
                        layout.homes.entry(controller).or_insert(Home::Legacy(path));
                    }
                }
                layout.freezer = layout.freezer.take().or_else(|| path("freezer"));
            }
        }
        layout.sift();
        layout
    }

    /// Keeps what can be used, and notes why the rest cannot.
    fn sift(&mut self) {
        self.legacy = self.homes.values().any(|home| matches!(home, Home::Legacy(_)));
        let offered = self.unified.as_ref().and_then(|path| fs::read_to_string(path.join("cgroup.controllers")).ok());
        let offered = offered.unwrap_or_default();
        for controller in Controller::ALL {
            let name = controller.name();
            let why = match self.homes.get(&controller) {
                Some(Home::Legacy(path)) if writable(path) => continue,
                Some(Home::Legacy(path)) => format!("{} cannot be written by this user", path.display()),
                _ if offered.split_whitespace().any(|c| c == name) && self.unified_writable() => {
                    self.homes.insert(controller, Home::Unified);
                    continue;
                }
                _ => match &self.unified {
                    Some(path) if !writable(path) => format!("{} cannot be written by this user", path.display()),
                    Some(path) => format!("{} does not offer the {name} controller", path.display()),
                    None => format!("no cgroup hierarchy with the {name} controller is mounted"),
                },
            };
            self.homes.remove(&controller);
            self.missing.insert(controller, why);
        }
        if self.freezer.as_ref().is_some_and(|path| !writable(path)) {
            self.freezer = None;
        }
    }

    /// The controllers that can be used, and where.
    pub(super) fn controllers(&self) -> impl Iterator<Item = (&Controller, &Home)> {
        self.homes.iter()
    }

    /// Why a controller cannot be used; `None` if it can.
    pub fn missing(&self, controller: Controller) -> Option<&str> {
        self.missing.get(&controller).map(String::as_str)
    }

    /// Behaves as if this controller were not there.
    pub fn forget(&mut self, controller: Controller, why: &str) {
        self.homes.remove(&controller);
        self.missing.insert(controller, why.to_owned());
    }

    /// Behaves as if no version 2 tree were mounted.
    pub fn forget_unified(&mut self) {
        self.unified = None;
        self.homes.retain(|_, home| *home != Home::Unified);
    }

    /// Behaves as if nothing could be frozen.
    pub fn forget_freezer(&mut self) {
        self.unified = None;
        self.freezer = None;
    }

    /// Whether environments can be frozen and killed through the version 2 tree.
    pub fn unified_writable(&self) -> bool {
        self.unified.as_deref().is_some_and(writable)
    }

    /// Whether environments can be frozen at all.
    pub fn can_freeze(&self) -> bool {
        self.unified_writable() || self.freezer.is_some()
    }

    /// `unified`, `hybrid`, `legacy` or `none`, with the words that people use for them.
    pub fn describe(&self) -> &'static str {
        match (self.unified.is_some(), self.legacy) {
            (true, true) => "hybrid",
            (true, false) => "unified",
            (false, true) => "legacy",
            (false, false) => "none",
        }
    }

    /// Makes the caller's cgroup of the version 2 tree one that may have children with controllers: outside the root
    /// such a cgroup may hold no processes of its own, so they move to a leaf, where the caller allows it.
    pub(super) fn make_room(&self) -> Result<()> {
        let Some(own) = self.unified.as_ref().filter(|_| self.homes.values().any(|home| *home == Home::Unified)) else {
            return Ok(());
        };
        let control = own.join("cgroup.subtree_control");
        let wanted: Vec<&str> =
            self.homes.iter().filter(|(_, home)| **home == Home::Unified).map(|(c, _)| c.name()).collect();
        let enable = || wanted.iter().try_for_each(|name| write(&control, &format!("+{name}")));
        let enabled = fs::read_to_string(&control).unwrap_or_default();
        if wanted.iter().all(|name| enabled.split_whitespace().any(|c| c == *name)) {
            return Ok(());
        }
        if !self.at_root {
            let procs = fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default();
            let others: Vec<&str> = procs.lines().filter(|pid| !is_ours(pid)).collect();
            if !others.is_empty() && !self.take {
                return Err(Error::HostCapability(format!(
                    "the cgroup {} holds {} processes beside this one, and version 2 allows no limits below a cgroup with \
                     processes; start this program in a cgroup of its own: systemd-run --user --scope -p Delegate=yes \
                     <command>, or pass Host(cgroup=\"take\") to have them moved into a leaf of it",
                    own.display(),
                    others.len()
                )));
            }
            let leaf = own.join("coldframe-caller");
            match fs::create_dir(&leaf) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::kernel("making a cgroup", leaf.display().to_string(), e));
                }
                _ => {}
            }
            for pid in procs.lines() {
                write(&leaf.join("cgroup.procs"), pid)?;
            }
        }
        enable()
    }
}

/// Whether the process is this one or a descendant of it.
fn is_ours(pid: &str) -> bool {
    let own = std::process::id().to_string();
    let mut pid = pid.to_owned();
    for _ in 0..64 {
        if pid == own {
            return true;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // The name in parentheses may hold anything; the parent is the second field after it.
        let Some(parent) = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) else {
            return false;
        };
        parent.clone_into(&mut pid);
    }
    false
}

fn writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The path of the line of `/proc/self/cgroup` whose controllers satisfy `wanted`.
fn own_path(own: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        wanted(controllers).then_some(path)
    })
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let kind = back.next()?;
        Some(Self { root, point, kind, options: back.nth(1)? })
    }

    /// Where the cgroup with this path in `/proc/self/cgroup` appears.
    fn below(&self, path: &str) -> PathBuf {
        let path = path.strip_prefix(self.root).unwrap_or(path);
        Path::new(self.point).join(path.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          38 31 0:35 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn controllers_and_the_unified_tree_are_found_by_their_mounts() {
        let layout = Layout::from(HYBRID, "4:memory:/a/b\n6:freezer:/\n0::/user\n", false);
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/user")));
        assert!(layout.missing(Controller::Pids).is_some(), "a controller that is nowhere is missing, with a reason");
    }

    #[test]
    fn a_mount_that_shows_a_subtree_is_seen_through() {
        let mount = Mount::parse("1 2 0:3 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw").expect("a mount");
        assert_eq!(mount.below("/docker/x/y"), Path::new("/sys/fs/cgroup/y"));
    }
}
