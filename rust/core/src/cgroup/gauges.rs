//! The files of a cgroup that every invocation reads or writes, kept open: to open one takes four times as long as to
//! read it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, pread, pwrite};
use rustix::process::{Resource, getrlimit};

use super::{Cgroup, Controller, Place};
use crate::error::{Error, Result};

/// What a cgroup has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time.
    pub cpu: Duration,
    /// Time spent waiting for the quota.
    pub throttled: Duration,
    /// The most memory that was ever in use, in bytes (version 2: kernel 5.19).
    pub peak: u64,
}

/// One cgroup's, opened when they are first needed.
#[derive(Debug)]
pub struct Gauges {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

type Slot = Mutex<Option<Open>>;

/// Those of a host that are open now, the oldest first. Taken only when one is opened: what is open is used without it. No static:
/// in a fork of the process it might be locked for ever.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<VecDeque<Weak<Slot>>>);

/// Descriptors are the embedding process's, too: of a thousand that it may have, an eighth goes into a host's.
const SHARE: u64 = 32;

#[derive(Debug)]
struct Open {
    freezer: Option<(OwnedFd, Words)>,
    used: Option<Counter>,
    throttled: Option<Counter>,
    peak: Option<OwnedFd>,
}

/// A time that only grows.
#[derive(Debug)]
struct Counter {
    fd: OwnedFd,
    /// How its line begins; nothing if the file has only one.
    line: &'static str,
    /// In one of its units.
    nanoseconds: u64,
}

impl Counter {
    fn time(&self) -> Option<Duration> {
        Some(Duration::from_nanos(read(&self.fd, self.line)? * self.nanoseconds))
    }
}

/// What stops everything, and what lets it go on.
type Words = [&'static str; 2];

impl Gauges {
    /// None is open yet.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { slot: Arc::default(), shared: Arc::clone(shared) }
    }

    /// Asks for every process to be stopped, or to go on. The kernel does it in its own time.
    pub fn freeze(&self, cgroup: &Cgroup, frozen: bool) -> Result<()> {
        let write = |open: &Open| match &open.freezer {
            Some((fd, [stop, go])) => loop {
                match pwrite(fd, if frozen { stop } else { go }.as_bytes(), 0) {
                    Err(Errno::INTR) => {}
                    result => break result.map(|_| ()).map_err(io::Error::from),
                }
            },
            None if cgroup.can_freeze() => Err(io::ErrorKind::NotFound.into()),
            None => Ok(()),
        };
        self.with(cgroup, write).flatten().map_err(|e| Error::kernel("freezing or thawing", cgroup.subject(), e))
    }

    /// What the cgroup has used; nothing when it is gone.
    pub fn usage(&self, cgroup: &Cgroup) -> Usage {
        let time = |gauge: &Option<Counter>| gauge.as_ref().and_then(Counter::time).unwrap_or_default();
        self.with(cgroup, |open| Usage {
            cpu: time(&open.used),
            throttled: time(&open.throttled),
            peak: open.peak.as_ref().and_then(|fd| read(fd, "")).unwrap_or(0),
        })
        .unwrap_or_default()
    }

    /// Closes them, until they are needed again.
    pub fn close(&self) {
        *lock(&self.slot) = None;
    }

    fn with<T>(&self, cgroup: &Cgroup, work: impl FnOnce(&Open) -> T) -> io::Result<T> {
        let mut slot = lock(&self.slot);
        if let Some(open) = &*slot {
            return Ok(work(open));
        }
        let open = Open::new(cgroup)?;
        let mut kept = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::downgrade(&self.slot));
        while kept.len() > most() {
            // One that is in use at this moment stays open until its environment ends: that happens to few.
            if let Some(oldest) = kept.pop_front().and_then(|oldest| oldest.upgrade())
                && let Ok(mut oldest) = oldest.try_lock()
            {
                *oldest = None;
            }
        }
        drop(kept);
        Ok(work(slot.insert(open)))
    }
}

impl Open {
    /// Opens what there is; an error where something is there and cannot be opened, for want of descriptors.
    fn new(cgroup: &Cgroup) -> io::Result<Self> {
        let freezer = match (&cgroup.unified, &cgroup.freezer) {
            (Some(path), _) => file(path, "cgroup.freeze", OFlags::WRONLY)?.map(|fd| (fd, ["1", "0"])),
            (None, Some(path)) => file(path, "freezer.state", OFlags::WRONLY)?.map(|fd| (fd, ["FROZEN", "THAWED"])),
            (None, None) => None,
        };
        let cpu = cgroup.places.get(&Controller::Cpu);
        let used = used(cgroup)?;
        let throttled = match cpu {
            Some(Place::V1(path)) => counter(path, "cpu.stat", "throttled_time", 1)?,
            Some(Place::V2(path)) => counter(path, "cpu.stat", "throttled_usec", 1_000)?,
            None => None,
        };
        let peak = match cgroup.places.get(&Controller::Memory) {
            Some(Place::V1(path)) => file(path, "memory.max_usage_in_bytes", OFlags::RDONLY)?,
            Some(Place::V2(path)) => match file(path, "memory.peak", OFlags::RDONLY)? {
                None => file(path, "memory.current", OFlags::RDONLY)?,
                peak => peak,
            },
            None => None,
        };
        Ok(Self { freezer, used, throttled, peak })
    }
}

/// CPU time that the cgroup has used, read from a file that is opened for it: for whoever looks on from time to time, and is
/// not to close what invocations keep open.
pub fn cpu_used(cgroup: &Cgroup) -> Option<Duration> {
    used(cgroup).ok()??.time()
}

/// Where that is counted.
fn used(cgroup: &Cgroup) -> io::Result<Option<Counter>> {
    match (&cgroup.unified, &cgroup.accounts, cgroup.places.get(&Controller::Cpu)) {
        (Some(path), ..) => counter(path, "cpu.stat", "usage_usec", 1_000),
        // Most often cpuacct is mounted with cpu.
        (None, Some(path), _) | (None, None, Some(Place::V1(path))) => counter(path, "cpuacct.usage", "", 1),
        _ => Ok(None),
    }
}

fn counter(cgroup: &Path, name: &str, line: &'static str, nanoseconds: u64) -> io::Result<Option<Counter>> {
    Ok(file(cgroup, name, OFlags::RDONLY)?.map(|fd| Counter { fd, line, nanoseconds }))
}

fn file(cgroup: &Path, name: &str, access: OFlags) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::open(cgroup.join(name), access | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// The number in the line with this name, or the only one.
fn read(fd: &OwnedFd, name: &str) -> Option<u64> {
    let mut buffer = [0; 1024];
    let len = pread(fd, &mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..len]).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// How many cgroups may have theirs open at once.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST
        .get_or_init(|| getrlimit(Resource::Nofile).current.map_or(1024, |soft| (soft / SHARE).clamp(8, 1024)) as usize)
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Open>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A directory with the files of a cgroup of version 2, and what is in them.
    fn cgroup(name: &str) -> (PathBuf, Cgroup) {
        let path = std::env::temp_dir().join(format!("coldframe-gauges-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        for (file, content) in [
            ("cgroup.freeze", "0"),
            ("cpu.stat", "usage_usec 15828\nuser_usec 5312\nthrottled_usec 7\n"),
            ("memory.peak", "4096\n"),
        ] {
            fs::write(path.join(file), content).expect("a file");
        }
        let place = || Place::V2(path.clone());
        let places = [(Controller::Cpu, place()), (Controller::Memory, place())].into();
        (
            path.clone(),
            Cgroup {
                unified: Some(path),
                places,
                freezer: None,
                accounts: None,
                freezes: true,
                gauges: Arc::default(),
            },
        )
    }

    #[test]
    fn what_is_open_is_read_anew_each_time() {
        let (path, cgroup) = cgroup("read");
        let gauges = cgroup.gauges();
        let usage = gauges.usage(&cgroup);
        assert_eq!((usage.cpu.as_micros(), usage.throttled.as_micros(), usage.peak), (15_828, 7, 4096));
        fs::write(path.join("memory.peak"), "8192\n").expect("a file");
        assert_eq!(gauges.usage(&cgroup).peak, 8192);
        assert_eq!(cpu_used(&cgroup), Some(usage.cpu));
        for (frozen, word) in [(true, "1"), (false, "0")] {
            gauges.freeze(&cgroup, frozen).expect("a freezer");
            assert_eq!(fs::read_to_string(path.join("cgroup.freeze")).expect("a file"), word);
        }
        fs::remove_dir_all(&path).expect("removed");
        gauges.close();
        assert!(gauges.freeze(&cgroup, true).is_err(), "what cannot be frozen is not said to be");
        assert_eq!(gauges.usage(&cgroup).peak, 0);
    }

    #[test]
    fn only_so_many_are_open_at_once() {
        let (path, cgroup) = cgroup("many");
        let descriptors = || fs::read_dir("/proc/self/fd").expect("descriptors").count();
        let before = descriptors();
        let many: Vec<Gauges> = (0..most() + 50).map(|_| cgroup.gauges()).collect();
        for gauges in &many {
            assert_eq!(gauges.usage(&cgroup).peak, 4096);
        }
        // Other tests have their own.
        assert!(descriptors() < before + 4 * most() + 100);
        assert!(lock(&many[0].slot).is_none() && lock(&many[most()].slot).is_some());
        assert_eq!(many[0].usage(&cgroup).peak, 4096, "opened again");
        fs::remove_dir_all(&path).expect("removed");
    }
}
