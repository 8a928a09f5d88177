//! Cgroups of version 1 that are used again. To make and remove one costs the kernel more the more there are: the end of a
//! memory cgroup visits every file system of the host, and every setting of a quota all cgroups that have processor time.
//!
//! Those of version 2 are not: a kernel of 2025 kills whatever is born in a cgroup that was ever told to kill its processes
//! (it compares the count of kills with that of the parent's cgroup), and the peak of its memory cannot be set back.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{Cgroup, Controller, Groups, Place, read_field, read_number, write};
use crate::error::Result;

/// What a dead environment may leave charged to its cgroup: pages of files that it was the first to read, names that it
/// was the first to look up, and what each processor has been granted in advance.
const MOST_LEFT: u64 = 1 << 20;

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Spares {
    waiting: Mutex<Vec<Cgroup>>,
    /// None until somebody says how many may.
    most: AtomicUsize,
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, Vec<Cgroup>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    /// A cgroup for an environment, as `create` makes it, or one that was kept.
    pub fn lease(&self, name: &str, zygote: Option<u32>) -> Result<Cgroup> {
        let Some(mut cgroup) = self.spares.lock().pop() else { return self.create(name, zygote) };
        self.join_unified(&mut cgroup, name, zygote).inspect_err(|_| drop(cgroup.remove()))?;
        Ok(cgroup)
    }

    /// Whether the cgroup of an environment that has ended well is wanted.
    pub fn wants(&self, cgroup: &Cgroup) -> bool {
        let legacy = cgroup.places.values().all(|place| matches!(place, Place::V1(_)));
        legacy && !cgroup.places.is_empty() && self.spares.lock().len() < self.spares.most.load(Ordering::Relaxed)
    }

    /// Takes back the empty cgroup of an environment that has ended without a kill for memory, and whose quota was in force if
    /// `limited`. False if it could not be made like new: then it is to be removed.
    pub fn keep(&self, cgroup: &Cgroup, limited: bool) -> bool {
        let removed = cgroup.unified.as_ref().is_none_or(|path| fs::remove_dir(path).is_ok());
        let kept = Cgroup { unified: None, ..cgroup.clone() };
        if !removed || !kept.renew(limited) {
            return false;
        }
        self.spares.lock().push(kept);
        true
    }

    /// Keeps no more than this from now on; those over it are removed.
    pub fn keep_at_most(&self, most: usize) {
        self.spares.most.store(most, Ordering::Relaxed);
        let mut spares = self.spares.lock();
        let kept = most.min(spares.len());
        let over = spares.split_off(kept);
        drop(spares);
        for cgroup in over {
            let _ = cgroup.remove();
        }
    }
}

impl Cgroup {
    /// Takes back everything that an environment's life has set or counted here, but for counts that only matter by how much
    /// they grow.
    fn renew(&self, limited: bool) -> bool {
        let clean = |path: &Path| {
            read_field(&path.join("memory.oom_control"), "oom_kill") == Some(0)
                && read_number(&path.join("memory.usage_in_bytes")).is_some_and(|left| left <= MOST_LEFT)
        };
        // The kernel never forgets that there was throttling, and whoever was throttled is ended in another way.
        let unthrottled = |path: &Path| read_field(&path.join("cpu.stat"), "nr_throttled") == Some(0);
        let place = |controller| self.places.get(&controller).map(Place::path);
        place(Controller::Memory).is_none_or(clean)
            && (!limited || place(Controller::Cpu).is_none_or(unthrottled))
            && self.reset(limited).is_ok()
    }

    /// Whether nothing is in there any more. The kernel takes the dead out of a cgroup a little after it has told of their
    /// end.
    pub fn is_empty(&self) -> bool {
        let empty = |path: &Path| match fs::read(path.join("cgroup.procs")) {
            Ok(processes) => processes.is_empty(),
            // Removed already.
            Err(e) => matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::NODEV)),
        };
        self.paths().values().all(|path| empty(path))
    }

    fn reset(&self, limited: bool) -> Result<()> {
        if let Some(path) = &self.freezer {
            write(&path.join("freezer.state"), "THAWED")?;
        }
        for (controller, place) in &self.places {
            let path = place.path();
            match controller {
                Controller::Memory => {
                    let swap = path.join("memory.memsw.limit_in_bytes");
                    if swap.exists() {
                        write(&swap, "-1")?;
                    }
                    write(&path.join("memory.limit_in_bytes"), "-1")?;
                    write(&path.join("memory.max_usage_in_bytes"), "0")?;
                }
                Controller::Pids => write(&path.join("pids.max"), "max")?,
                // What the next one does before its function is known is not to be slower for the last one's.
                Controller::Cpu => {
                    write(&path.join("cpu.shares"), "1024")?;
                    if limited {
                        self.limit_cpu(None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
