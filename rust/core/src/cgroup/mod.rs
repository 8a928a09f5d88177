//! Control groups: the limits of an environment, and what freezes and kills it, wherever this host keeps them.
//!
//! A controller lives in the version 2 tree or in a version 1 hierarchy of its own; freezing and killing come from the
//! version 2 tree whenever one is mounted, even with no controllers in it (`cgroup.freeze`: kernel 5.2, `cgroup.kill`:
//! 5.14). [`Layout`] looks at the host, [`Groups`] is what this process made below its own cgroup, and [`Cgroup`] is
//! one environment's.

mod gauges;
mod layout;
mod reclaim;
mod spares;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};

pub use gauges::{Gauges, Usage, cpu_used};
pub use layout::{Controller, Layout};

/// Where one controller's files of one cgroup lie.
#[derive(Clone, Debug)]
enum Place {
    V1(PathBuf),
    V2(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }
}

/// The cgroups that this process made below its own, one in every hierarchy that it uses.
#[derive(Debug)]
pub struct Groups {
    unified: Option<PathBuf>,
    places: BTreeMap<Controller, Place>,
    freezer: Option<PathBuf>,
    accounts: Option<PathBuf>,
    freezes: bool,
    /// What tells how much memory everything uses: asked before every environment, and kept open.
    memory: Option<File>,
    gauges: Arc<gauges::Shared>,
    spares: spares::Spares,
}

impl Groups {
    /// Makes a cgroup called `name` below the caller's own wherever `layout` found something to use.
    pub fn new(layout: &Layout, name: &str) -> Result<Self> {
        layout.make_room()?;
        let unified = layout.unified.as_ref().filter(|_| layout.unified_writable()).map(|own| own.join(name));
        let mut groups = Self {
            unified,
            places: BTreeMap::new(),
            freezer: None,
            accounts: None,
            freezes: layout.can_freeze(),
            memory: None,
            gauges: Arc::default(),
            spares: spares::Spares::default(),
        };
        if let Some(path) = &groups.unified {
            make(path)?;
        }
        for (&controller, place) in layout.controllers() {
            let place = match place {
                layout::Home::Unified => {
                    let path = groups
                        .unified
                        .clone()
                        .ok_or_else(|| Error::HostCapability("the version 2 cgroup tree is not writable".into()))?;
                    write(&path.join("cgroup.subtree_control"), &format!("+{}", controller.name()))?;
                    Place::V2(path)
                }
                layout::Home::Legacy(own) => {
                    let path = own.join(name);
                    make(&path)?;
                    if controller == Controller::Memory {
                        v1::forbid_swap(&path)?;
                        // Here too: the first cap of the host switches the counting on, in the kernel's code, and the last one
                        // to go off.
                        v1::limit_sockets(&path)?;
                    }
                    Place::V1(path)
                }
            };
            groups.places.insert(controller, place);
        }
        let stand_in = |own: Option<&Path>| own.map(|own| below(own, name)).transpose();
        let [freezer, accounts] = layout.stand_ins();
        (groups.freezer, groups.accounts) = (stand_in(freezer)?, stand_in(accounts)?);
        let used = groups.places.get(&Controller::Memory).map(|place| match place {
            Place::V1(path) => path.join("memory.usage_in_bytes"),
            Place::V2(path) => path.join("memory.current"),
        });
        let open =
            |path: PathBuf| File::open(&path).map_err(|e| Error::kernel("opening", path.display().to_string(), e));
        groups.memory = used.map(open).transpose()?;
        Ok(groups)
    }

    /// Every directory that [`Groups::new`] makes, for those who clean up after a dead owner.
    pub fn planned(layout: &Layout, name: &str) -> Vec<PathBuf> {
        let legacy = layout.controllers().filter_map(|(_, home)| match home {
            layout::Home::Legacy(own) => Some(own.as_path()),
            layout::Home::Unified => None,
        });
        let unified = layout.unified.as_deref().filter(|_| layout.unified_writable());
        // The freezer before the others: what it holds ends when it goes on.
        let stand_ins = layout.stand_ins().into_iter().flatten();
        unified.into_iter().chain(stand_ins).chain(legacy).map(|own| own.join(name)).collect()
    }

    /// Every directory that this made.
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.unified.iter().chain(&self.freezer).chain(&self.accounts).cloned().collect();
        paths.extend(self.places.values().map(|place| place.path().to_path_buf()));
        paths.sort();
        paths.dedup();
        paths
    }

    /// A cgroup for one environment or zygote. `zygote` may then put children into it without any capability: the
    /// kernel wants write access to `cgroup.procs` of the target and of the common ancestor.
    pub fn create(&self, name: &str, zygote: Option<u32>) -> Result<Cgroup> {
        let below = |path: &Option<PathBuf>| path.as_ref().map(|path| path.join(name));
        let places = self.places.iter().map(|(&controller, place)| {
            let place = match place {
                Place::V1(path) => Place::V1(path.join(name)),
                Place::V2(path) => Place::V2(path.join(name)),
            };
            (controller, place)
        });
        let mut cgroup = Cgroup {
            unified: None,
            places: places.collect(),
            freezer: below(&self.freezer),
            accounts: below(&self.accounts),
            freezes: self.freezes,
            gauges: Arc::clone(&self.gauges),
        };
        // Known before it is made: what is there of it goes when not all of it could be made.
        self.join_unified(&mut cgroup, name, zygote).and_then(|()| cgroup.make_legacy()).inspect_err(|_| {
            let _ = cgroup.remove();
        })?;
        Ok(cgroup)
    }

    /// Makes the part of it that lies in the version 2 tree.
    fn join_unified(&self, cgroup: &mut Cgroup, name: &str, zygote: Option<u32>) -> Result<()> {
        cgroup.unified = self.unified.as_ref().map(|path| path.join(name));
        let Some(path) = &cgroup.unified else { return Ok(()) };
        make(path)?;
        zygote.map_or(Ok(()), |uid| own_procs(path, uid))
    }

    /// Lets `zygote` move its children below this process's cgroup of the version 2 tree.
    pub fn admit(&self, zygote: u32) -> Result<()> {
        self.unified.as_deref().map_or(Ok(()), |path| own_procs(path, zygote))
    }

    /// Lets every base do so, whichever host user it is: of the common ancestor everybody may write the file. Nobody else gets
    /// to it: the folder is closed, and a birth in a cgroup goes by a descriptor. Whoever did could take processes out of theirs,
    /// since nothing is asked of where they come from.
    pub fn admit_bases(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(folder) = self.unified.as_ref() else { return Ok(()) };
        for (path, mode) in [(folder.clone(), 0o700), (folder.join("cgroup.procs"), 0o646)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(|e| Error::kernel("opening a cgroup", path.display().to_string(), e))?;
        }
        Ok(())
    }

    /// Memory that everything below uses now, in bytes; `None` without a memory controller.
    pub fn memory_used(&self) -> Option<u64> {
        let mut buffer = [0; 32];
        let len = rustix::io::pread(self.memory.as_ref()?, &mut buffer, 0).ok()?;
        std::str::from_utf8(&buffer[..len]).ok()?.trim().parse().ok()
    }

    /// Memory that the caller may use, in bytes: the least of the machine's and its cgroups' limits.
    pub fn memory_available(&self) -> u64 {
        let mut least = rustix::system::sysinfo().totalram;
        if let Some(place) = self.places.get(&Controller::Memory) {
            let file = match place {
                Place::V1(_) => "memory.limit_in_bytes",
                Place::V2(_) => "memory.max",
            };
            for directory in place.path().ancestors() {
                least = read_number(&directory.join(file)).map_or(least, |limit| least.min(limit));
            }
        }
        least
    }

    /// Kills every process of every cgroup below, as [`Cgroup::kill`] does.
    pub fn kill(&self) -> bool {
        self.unified.as_ref().is_some_and(|path| write(&path.join("cgroup.kill"), "1").is_ok())
    }

    /// The cgroups that are left below, or of the own ones if there are none below, and the processes in them.
    pub fn left(&self) -> (Vec<PathBuf>, Vec<i32>) {
        let own: Vec<PathBuf> = self.paths().into_iter().filter(|path| path.exists()).collect();
        let below: Vec<PathBuf> = own.iter().flat_map(|path| children(path)).collect();
        let processes = processes_below(own.iter().cloned()).into_iter().map(|(pid, _)| pid).collect();
        (if below.is_empty() { own } else { below }, processes)
    }

    /// Removes what [`Groups::new`] made; the cgroups below have to be gone. False if something is left.
    pub fn remove(&self) -> bool {
        remove_all(self.paths()).is_ok()
    }
}

/// The cgroup of one environment: up to one directory in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    unified: Option<PathBuf>,
    places: BTreeMap<Controller, Place>,
    freezer: Option<PathBuf>,
    accounts: Option<PathBuf>,
    freezes: bool,
    gauges: Arc<gauges::Shared>,
}

impl Cgroup {
    /// Makes the parts of it that lie in hierarchies of version 1.
    fn make_legacy(&self) -> Result<()> {
        for (&controller, place) in &self.places {
            if let Place::V1(path) = place {
                make(path)?;
                if controller == Controller::Memory {
                    v1::limit_sockets(path)?;
                }
            }
        }
        self.freezer.iter().chain(&self.accounts).try_for_each(|path| make(path))
    }

    /// What is kept open of it.
    pub fn gauges(&self) -> Gauges {
        Gauges::new(&self.gauges)
    }

    /// The directories by hierarchy: `unified`, or the version 1 controller's name.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        let mut paths = BTreeMap::new();
        for (controller, place) in &self.places {
            if let Place::V1(path) = place {
                paths.insert(controller.name().to_owned(), path.clone());
            }
        }
        if let Some(path) = &self.unified {
            paths.insert("unified".to_owned(), path.clone());
        }
        for (name, path) in [("freezer", &self.freezer), ("cpuacct", &self.accounts)] {
            paths.extend(path.clone().map(|path| (name.to_owned(), path)));
        }
        paths
    }

    /// The directory in the version 2 tree, into which a process can be born (kernel 5.7).
    pub fn birthplace(&self) -> Result<Option<OwnedFd>> {
        self.unified.as_deref().map(|path| open(path, "opening a cgroup")).transpose()
    }

    /// The files through which a process joins the version 1 hierarchies by writing `0`. They are `tasks`, not
    /// `cgroup.procs`: for a process of one thread that is the same, without the kernel's global lock.
    pub fn doors(&self) -> Result<Vec<OwnedFd>> {
        let v1 = self.places.values().filter(|place| matches!(place, Place::V1(_))).map(Place::path);
        v1.chain(self.freezer.as_deref())
            .chain(self.accounts.as_deref())
            .map(|path| {
                let path = path.join("tasks");
                File::options()
                    .write(true)
                    .open(&path)
                    .map(Into::into)
                    .map_err(|e| Error::kernel("opening a cgroup", path.display().to_string(), e))
            })
            .collect()
    }

    /// Caps memory (and with it swap, at nothing) and processes.
    pub fn limit(&self, memory_mb: u64, processes: u64) -> Result<()> {
        let bytes = memory_mb << 20;
        match self.places.get(&Controller::Memory) {
            Some(Place::V1(path)) => v1::limit_memory(path, bytes)?,
            Some(Place::V2(path)) => v2::limit_memory(path, bytes)?,
            None => {}
        }
        if let Some(place) = self.places.get(&Controller::Pids) {
            write(&place.path().join("pids.max"), &processes.to_string())?;
        }
        Ok(())
    }

    /// Weighs its CPU time by `vcpus`.
    pub fn weigh_cpu(&self, vcpus: f64) -> Result<()> {
        match self.places.get(&Controller::Cpu) {
            Some(Place::V1(path)) => v1::weigh_cpu(path, vcpus),
            Some(Place::V2(path)) => v2::weigh_cpu(path, vcpus),
            None => Ok(()),
        }
    }

    /// Limits CPU time to `vcpus`; `None` lifts the quota.
    pub fn limit_cpu(&self, vcpus: Option<f64>) -> Result<()> {
        let quota = vcpus.map(Quota::new);
        match self.places.get(&Controller::Cpu) {
            Some(Place::V1(path)) => v1::limit_cpu(path, quota),
            Some(Place::V2(path)) => v2::limit_cpu(path, quota),
            None => Ok(()),
        }
    }

    /// Whether this cgroup can be frozen.
    pub fn can_freeze(&self) -> bool {
        self.freezes
    }

    /// Its name, for errors.
    fn subject(&self) -> String {
        self.paths().into_values().next().map_or_else(|| "a cgroup".into(), |path| path.display().to_string())
    }

    /// Kills every process, also frozen ones, and also those that are being forked meanwhile. False where the kernel
    /// cannot do that in one step: then the death of the pid namespace's init has to do.
    pub fn kill(&self) -> bool {
        let killed = self.unified.as_ref().is_some_and(|path| write(&path.join("cgroup.kill"), "1").is_ok());
        if let Some(path) = &self.freezer {
            // What version 1 froze does not take a signal.
            let _ = write(&path.join("freezer.state"), "THAWED");
        }
        killed
    }

    /// Memory in use now, in bytes.
    pub fn memory_used(&self) -> Option<u64> {
        match self.places.get(&Controller::Memory)? {
            Place::V1(path) => read_number(&path.join("memory.usage_in_bytes")),
            Place::V2(path) => read_number(&path.join("memory.current")),
        }
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub fn out_of_memory(&self) -> bool {
        let count = match self.places.get(&Controller::Memory) {
            Some(Place::V1(path)) => read_field(&path.join("memory.oom_control"), "oom_kill"),
            Some(Place::V2(path)) => read_field(&path.join("memory.events"), "oom_kill"),
            None => None,
        };
        count.unwrap_or(0) > 0
    }

    /// A descriptor that becomes readable when memory runs out, where the kernel does not end the whole group itself
    /// (version 2 does: `memory.oom.group`).
    pub fn memory_alarm(&self) -> Result<Option<OwnedFd>> {
        match self.places.get(&Controller::Memory) {
            Some(Place::V1(path)) => v1::memory_alarm(path).map(Some),
            _ => Ok(None),
        }
    }

    /// The processes in it and below it, each with the directory in which it is.
    pub fn inside(&self) -> Vec<(i32, PathBuf)> {
        processes_below(self.paths().into_values())
    }

    /// Cgroups below it, which are nobody's that knows of it.
    pub fn below(&self) -> Vec<PathBuf> {
        self.paths().values().flat_map(|path| children(path)).collect()
    }

    /// Removes the directories, waiting for the killed to be gone.
    pub fn remove_within(&self, time: Duration) -> io::Result<()> {
        let deadline = std::time::Instant::now() + time;
        loop {
            match self.remove() {
                Err(_) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                result => return result,
            }
        }
    }

    /// Removes the directories; an error where processes are still in them.
    pub fn remove(&self) -> io::Result<()> {
        remove_all(self.paths().into_values())
    }
}

/// The processes of these cgroups and of all below them, each once with the first directory that has it.
pub fn processes_below(cgroups: impl IntoIterator<Item = PathBuf>) -> Vec<(i32, PathBuf)> {
    let mut found = BTreeMap::new();
    for cgroup in cgroups {
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            found.entry(pid).or_insert_with(|| cgroup.clone());
        }
        for (pid, at) in processes_below(children(&cgroup)) {
            found.entry(pid).or_insert(at);
        }
    }
    found.into_iter().collect()
}

/// The cgroups right below one.
fn children(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes cgroups, as many as can be; the first error.
fn remove_all(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
    let mut first = Ok(());
    for path in paths {
        match fs::remove_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => first = first.and(Err(e)),
            _ => {}
        }
    }
    first
}

/// A share of CPU time as the scheduler takes it: so many microseconds in every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    quota_us: u64,
    period_us: u64,
}

impl Quota {
    /// The kernel takes no quota below 1 ms; short periods keep the stalls of a throttled process short.
    pub fn new(vcpus: f64) -> Self {
        let period_us = (1_000.0 / vcpus).ceil().clamp(10_000.0, 1_000_000.0) as u64;
        Self { quota_us: ((period_us as f64 * vcpus).round() as u64).max(1_000), period_us }
    }

    /// CPU time in a period.
    pub fn runtime(self) -> Duration {
        Duration::from_micros(self.quota_us)
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|e| Error::kernel("making a cgroup", path.display().to_string(), e))
}

fn below(path: &Path, name: &str) -> Result<PathBuf> {
    let path = path.join(name);
    make(&path)?;
    Ok(path)
}

fn own_procs(path: &Path, uid: u32) -> Result<()> {
    let path = path.join("cgroup.procs");
    std::os::unix::fs::chown(&path, Some(uid), None)
        .map_err(|e| Error::kernel("handing a cgroup to its zygote", path.display().to_string(), e))
}

fn open(path: &Path, step: &'static str) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::kernel(step, path.display().to_string(), e))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let result =
        File::options().write(true).open(path).and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
    result.map_err(|e| Error::kernel("writing a cgroup setting", format!("{} ({text})", path.display()), e))
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_proportional_and_never_below_the_kernels_least() {
        assert_eq!(Quota::new(1.0), Quota { quota_us: 10_000, period_us: 10_000 });
        assert_eq!(Quota::new(2.0), Quota { quota_us: 20_000, period_us: 10_000 });
        for memory in [32_u32, 64, 128, 512, 1769, 10_240] {
            let share = f64::from(memory) / 1769.0;
            let quota = Quota::new(share);
            assert!(quota.quota_us >= 1_000 && quota.period_us <= 1_000_000);
            let got = quota.quota_us as f64 / quota.period_us as f64;
            assert!((got / share - 1.0).abs() < 0.01, "{memory}: {got} for {share}");
        }
    }
}
