//! Looks at this host's hierarchies: which controller lives where, and what the caller may do there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::write;
use crate::error::{Error, Result};

/// The cgroup below its own to which the caller moves, so that there can be limits beside it.
const LEAF: &str = "coldframe-caller";
/// How often moving is tried again when a process forks meanwhile.
const MOVES: usize = 20;

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
    /// The caller's directory in the version 2 tree; the one above it when it has moved to a leaf already.
    pub(super) unified: Option<PathBuf>,
    /// Whether others in there stand in the way of limits below it.
    crowded: bool,
    homes: BTreeMap<Controller, Home>,
    /// The caller's directory in the version 1 freezer, where there is no version 2 tree.
    pub(super) freezer: Option<PathBuf>,
    /// The caller's directory in the version 1 hierarchy that counts processor time, where there is no version 2 tree.
    pub(super) accounts: Option<PathBuf>,
    /// Why nothing is to be frozen, although it could be.
    unfrozen: Option<&'static str>,
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
        let mut layout = Self::from(&mounts, &own, take);
        layout.look_around();
        Ok(layout)
    }

    fn from(mounts: &str, own: &str, take: bool) -> Self {
        let mut layout = Self { take, ..Self::default() };
        for line in mounts.lines() {
            let Some(mount) = Mount::parse(line) else { continue };
            if mount.kind == "cgroup2" && layout.unified.is_none() {
                layout.unified = own_path(own, str::is_empty).and_then(|path| mount.below(path)).map(above_leaf);
            }
            if mount.kind == "cgroup" {
                let path = |name: &str| {
                    let listed = mount.options.split(',').any(|option| option == name);
                    let own = own_path(own, |controllers| controllers.split(',').any(|c| c == name));
                    own.filter(|_| listed).and_then(|path| mount.below(path))
                };
                for controller in Controller::ALL {
                    if let Some(path) = path(controller.name()) {
                        layout.homes.entry(controller).or_insert(Home::Legacy(path));
                    }
                }
                layout.freezer = layout.freezer.take().or_else(|| path("freezer"));
                layout.accounts = layout.accounts.take().or_else(|| path("cpuacct"));
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
                    Some(path) if !delegated(path) => format!("{} cannot be written by this user", path.display()),
                    Some(path) if is_root(path) => format!("{} does not offer the {name} controller", path.display()),
                    Some(path) => format!(
                        "{} does not offer the {name} controller: cgroup.subtree_control of the cgroup above has to name it",
                        path.display()
                    ),
                    None => format!("no cgroup hierarchy with the {name} controller is mounted"),
                },
            };
            self.homes.remove(&controller);
            self.missing.insert(controller, why);
        }
        for path in [&mut self.freezer, &mut self.accounts] {
            path.take_if(|path| !writable(path));
        }
    }

    /// Counts those beside the caller: outside the root of the version 2 tree a cgroup with processes has no limits below
    /// it, and others are only moved aside where the caller allows it.
    fn look_around(&mut self) {
        let Some(own) = self.unified.clone().filter(|own| !is_root(own)) else { return };
        let wanted = self.unified_controllers();
        let others = processes(&own).iter().filter(|pid| !self.may_move(pid)).count();
        if others == 0 || enabled(&own, &wanted) {
            return;
        }
        let why = format!(
            "{} holds other processes ({others}), and version 2 allows no limits below a cgroup with processes",
            own.display()
        );
        self.crowded = true;
        for controller in wanted {
            self.forget(controller, &why);
        }
    }

    /// Whether a process of the caller's cgroup may be moved to a leaf, and can be: those of other pid namespaces are
    /// all called 0.
    fn may_move(&self, pid: &str) -> bool {
        pid != "0" && (self.take || is_ours(pid))
    }

    /// Whether others in the caller's cgroup of the version 2 tree stand in the way of limits below it.
    pub fn crowded(&self) -> bool {
        self.crowded
    }

    fn unified_controllers(&self) -> Vec<Controller> {
        self.homes.iter().filter(|(_, home)| **home == Home::Unified).map(|(&controller, _)| controller).collect()
    }

    /// The directories of version 1 that do what the version 2 tree does where there is one: the freezer, and what counts
    /// processor time, unless that is one with the controller that limits it.
    pub(super) fn stand_ins(&self) -> [Option<&Path>; 2] {
        let own = |path: &&PathBuf| !self.homes.values().any(|home| matches!(home, Home::Legacy(cpu) if cpu == *path));
        let needed = !self.unified_writable();
        [&self.freezer, &self.accounts].map(|path| path.as_ref().filter(|_| needed).filter(own).map(PathBuf::as_path))
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
        for controller in self.unified_controllers() {
            self.forget(controller, "COLDFRAME_PRETEND says so");
        }
    }

    /// Behaves as if nothing could be frozen.
    pub fn forget_freezer(&mut self, why: &'static str) {
        self.unfrozen = Some(why);
        self.freezer = None;
        // A tree that has no controller of ours does nothing but freeze and kill.
        if self.unified_controllers().is_empty() {
            self.forget_unified();
        }
    }

    /// Why nothing can be frozen, where that is so.
    pub fn unfrozen(&self) -> &'static str {
        self.unfrozen.unwrap_or("no version 2 tree and no version 1 freezer that this user can write")
    }

    /// Whether environments can be frozen and killed through the version 2 tree.
    pub fn unified_writable(&self) -> bool {
        self.unified.as_deref().is_some_and(delegated)
    }

    /// Whether environments can be frozen at all.
    pub fn can_freeze(&self) -> bool {
        self.unfrozen.is_none() && (self.unified_writable() || self.freezer.is_some())
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
    /// such a cgroup may hold no processes of its own, so they move to a leaf.
    pub(super) fn make_room(&self) -> Result<()> {
        let wanted = self.unified_controllers();
        let Some(own) = self.unified.as_ref().filter(|own| !enabled(own, &wanted)) else { return Ok(()) };
        // All in one write: beside processes the kernel would give cpu and pids alone, and never memory after that.
        let names: Vec<String> = wanted.iter().map(|controller| format!("+{}", controller.name())).collect();
        let enable = || write(&own.join("cgroup.subtree_control"), &names.join(" "));
        if is_root(own) {
            return enable();
        }
        let leaf = own.join(LEAF);
        match fs::create_dir(&leaf) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::kernel("making a cgroup", leaf.display().to_string(), e));
            }
            _ => {}
        }
        for _ in 0..MOVES {
            for pid in processes(own).iter().filter(|pid| self.may_move(pid)) {
                match write(&leaf.join("cgroup.procs"), pid) {
                    // It has ended.
                    Err(e) if errno(&e) == Some(Errno::SRCH) => {}
                    result => result?,
                }
            }
            match enable() {
                // One more was born, or has come.
                Err(e) if errno(&e) == Some(Errno::BUSY) => {}
                result => return result,
            }
        }
        Err(Error::HostCapability(format!(
            "processes keep appearing in the cgroup {}, and version 2 allows no limits below a cgroup with processes; \
             start this program in a cgroup of its own: systemd-run --user --scope -p Delegate=yes <command>",
            own.display()
        )))
    }
}

fn errno(error: &Error) -> Option<Errno> {
    let Error::Kernel { source, .. } = error else { return None };
    Errno::from_io_error(source)
}

/// The processes in a cgroup itself.
fn processes(cgroup: &Path) -> Vec<String> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether the children of a cgroup have these controllers already.
fn enabled(cgroup: &Path, wanted: &[Controller]) -> bool {
    let enabled = fs::read_to_string(cgroup.join("cgroup.subtree_control")).unwrap_or_default();
    wanted.iter().all(|controller| enabled.split_whitespace().any(|name| name == controller.name()))
}

/// Whether this is the root of the whole version 2 tree, where processes and child cgroups may live side by side. A
/// cgroup namespace calls its own root `/` as well, but every cgroup except the real root has a type.
fn is_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

/// Where a caller that was moved to a leaf before, by itself or with its parent, has its cgroups: beside that leaf.
fn above_leaf(own: PathBuf) -> PathBuf {
    match own.parent() {
        Some(above) if own.ends_with(LEAF) && delegated(above) => above.to_path_buf(),
        _ => own,
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

/// Whether the caller may make cgroups below this one of the version 2 tree and put processes into them.
fn delegated(cgroup: &Path) -> bool {
    let writable_file = |name| access(cgroup.join(name), Access::WRITE_OK).is_ok();
    writable(cgroup) && writable_file("cgroup.procs") && writable_file("cgroup.subtree_control")
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

    /// Where the cgroup with this path in `/proc/self/cgroup` appears. Nowhere if the path climbs: it does for who has left
    /// the part of the tree that its cgroup namespace shows.
    fn below(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path).strip_prefix(self.root).unwrap_or(Path::new(path));
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        // By its components, so that the root of the mount gets no slash at its end.
        Some(Path::new(self.point).join(path.strip_prefix("/").unwrap_or(path)).components().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          38 31 0:35 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    /// What is mounted, a bar, and the caller's own cgroups.
    #[test]
    fn fuzz_the_callers_cgroups_are_below_what_is_mounted() {
        let real = ["/proc/self/mountinfo", "/proc/self/cgroup"].map(|file| fs::read_to_string(file).expect("a file"));
        let seeds = [
            format!("{HYBRID}|4:memory:/a/b\n6:freezer:/\n0::/user\n"),
            "1 2 0:3 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw|0::/docker/x/y\n".into(),
            "1 2 0:3 / /sys/fs/cgroup ro - cgroup2 cgroup rw|0::/../../beside\n".into(),
            real.join("|"),
        ];
        coldframe_sys::testing::fuzz::fuzz(&seeds.map(String::into_bytes), |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (mounts, own) = text.split_once('|').unwrap_or((&text, ""));
            let layout = Layout::from(mounts, own, false);
            let points: Vec<&str> =
                mounts.lines().filter_map(|line| Mount::parse(line).map(|mount| mount.point)).collect();
            let homes = layout.homes.values().filter_map(|home| match home {
                Home::Legacy(path) => Some(path),
                Home::Unified => None,
            });
            for path in homes.chain(&layout.unified).chain(&layout.freezer) {
                let climbs = |path: &Path| path.components().any(|part| part.as_os_str() == "..");
                let below =
                    points.iter().any(|point| path.starts_with(point) && (climbs(point.as_ref()) || !climbs(path)));
                assert!(below, "{path:?} is below none of {points:?}");
            }
            for controller in Controller::ALL {
                assert_ne!(layout.homes.contains_key(&controller), layout.missing(controller).is_some());
            }
            (layout.describe(), layout.homes.len(), layout.unified.is_some(), layout.freezer.is_some())
        });
    }

    #[test]
    fn controllers_and_the_unified_tree_are_found_by_their_mounts() {
        let layout = Layout::from(HYBRID, "4:memory:/a/b\n6:freezer:/\n0::/user\n", false);
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/user")));
        assert!(layout.missing(Controller::Pids).is_some(), "a controller that is nowhere is missing, with a reason");
    }

    #[test]
    fn a_mount_that_shows_a_subtree_is_seen_through() {
        let mount = Mount::parse("1 2 0:3 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw").expect("a mount");
        assert_eq!(mount.below("/docker/x/y"), Some("/sys/fs/cgroup/y".into()));
        assert_eq!(mount.below("/docker/x").expect("it is there").as_os_str(), "/sys/fs/cgroup");
        assert_eq!(mount.below("/docker/x/../z"), None);
    }

    #[test]
    fn who_was_moved_to_a_leaf_has_its_cgroups_beside_it() {
        let own = std::env::temp_dir().join(format!("coldframe-layout-{}", std::process::id()));
        let leaf = own.join(LEAF);
        fs::create_dir_all(&leaf).expect("directories");
        assert_eq!(above_leaf(leaf.clone()), leaf, "not where the one above is somebody else's");
        for file in ["cgroup.procs", "cgroup.subtree_control"] {
            fs::write(own.join(file), "memory pids\n").expect("a file");
        }
        assert_eq!(above_leaf(leaf.clone()), own);
        assert_eq!(above_leaf(own.clone()), own);
        assert!(enabled(&own, &[Controller::Pids]) && !enabled(&own, &[Controller::Pids, Controller::Cpu]));
        fs::remove_dir_all(&own).expect("removed");
    }

    #[test]
    fn what_is_forgotten_is_missing() {
        let mut layout = Layout { unified: Some("/".into()), ..Layout::default() };
        layout.homes.insert(Controller::Memory, Home::Unified);
        layout.forget_unified();
        assert!(layout.missing(Controller::Memory).is_some() && !layout.can_freeze());
    }
}
