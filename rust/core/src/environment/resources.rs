//! What an environment may use, what it has used, and standing still: its side of its cgroup.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::{Cause, Environment, State};
use crate::cgroup::{Cgroup, Quota, Usage, cpu_used};
use crate::error::{Error, Result};

/// On which its threads could run at a time.
static PROCESSORS: LazyLock<u32> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u32));
/// For how much of an environment's work its counters may be left alone.
const UNREAD: Duration = Duration::from_millis(1);

impl Environment {
    /// Whether it may have used its quota up: it is busy, or has done so before.
    pub fn may_be_throttled(&self) -> bool {
        self.state() == State::Busy || !self.lock().usage.throttled.is_zero()
    }

    /// Lets it die as fast as it can: one that has used its quota up dies slowly. To set a quota takes the kernel a look at
    /// all others: not for those that wait for an event and never needed so much.
    pub fn lift_quota(&self) {
        if self.is_settled() {
            let _ = self.with_cgroup(|cgroup| cgroup.limit_cpu(None));
        }
    }

    /// Does something to its cgroup, as long as that is its own.
    pub(super) fn with_cgroup(&self, work: impl FnOnce(&Cgroup) -> Result<()>) -> Result<()> {
        let own = self.owns_cgroup.read().unwrap_or_else(PoisonError::into_inner);
        if *own {
            work(&self.cgroup)
        } else {
            Err(Error::kernel("using", self.id(), io::Error::from(io::ErrorKind::NotFound)))
        }
    }

    /// Gives its cgroup up: from now on nothing is done to it in this environment's name.
    pub fn leave_cgroup(&self) {
        *self.owns_cgroup.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Stops every process of it, until the next question; where nothing does that, it is to be limited.
    pub fn freeze(&self) -> Result<()> {
        if !self.cgroup.can_freeze() {
            return self.settle();
        }
        let begun = Instant::now();
        self.with_cgroup(|cgroup| self.gauges.freeze(cgroup, true))?;
        self.stopped.store(true, Ordering::Release);
        self.set_state(State::Frozen);
        // Killed meanwhile: what version 1 has stopped would never take the signal.
        if self.cause() != Cause::None {
            self.with_cgroup(|cgroup| self.gauges.freeze(cgroup, false))?;
        }
        self.lock().phases.freeze = Some(begun.elapsed());
        Ok(())
    }

    pub(super) fn thaw(&self, timed: bool) -> Result<()> {
        if self.stopped.swap(false, Ordering::AcqRel) {
            let begun = Instant::now();
            self.with_cgroup(|cgroup| self.gauges.freeze(cgroup, false))?;
            if timed {
                self.lock().phases.thaw = Some(begun.elapsed());
            }
        }
        Ok(())
    }

    /// What has to be done before the first event, at a moment when nobody waits for it.
    pub(super) fn prepare(&self) -> Result<()> {
        self.usage();
        self.with_cgroup(|cgroup| cgroup.weigh_cpu(self.function.spec.vcpus()))
    }

    /// At an event: what initialisation has used counts for no invocation.
    pub(super) fn begin(&self) {
        if !self.counted.swap(true, Ordering::AcqRel) {
            let initialised = self.usage().cpu;
            let mut inner = self.lock();
            if let Some(ready) = inner.ready.take() {
                // It has been at its event since then, and has used as much as a thread could, or less.
                inner.usage.cpu -= ready.elapsed().min(initialised);
            }
        }
    }

    /// For how long the next event may run before the quota has to be in force; `None`: it is.
    ///
    /// One that has not been busy for as long as the quota lets it run in one period, on all processors together, could not have
    /// used that up. Most end or stand still before, and to set a quota takes the kernel a look at all cgroups.
    pub fn unlimited_for(&self) -> Option<Duration> {
        let runtime = || Quota::new(self.function.spec.vcpus()).runtime() / *PROCESSORS;
        (!self.is_settled()).then(|| runtime().saturating_sub(self.lock().busy))
    }

    /// Notes that an event took so long.
    pub fn was_busy(&self, time: Duration) {
        self.lock().busy += time;
    }

    /// Puts the CPU quota in force, once: initialisation ran at full speed.
    pub fn settle(&self) -> Result<()> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let limited = self.with_cgroup(|cgroup| cgroup.limit_cpu(Some(self.function.spec.vcpus())));
        limited.inspect_err(|_| self.settled.store(false, Ordering::Release))
    }

    /// Puts the quota in force; one that cannot be limited must not go on.
    pub fn settle_or_end(&self) {
        if let Err(e) = self.settle()
            && self.usable()
        {
            self.lock().failure.get_or_insert(e);
            self.kill(Cause::Retired);
        }
    }

    /// Whether its quota was put in force.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Notes when it was ready, and went on to the event that it had.
    pub fn went_on(&self, ready: Instant) {
        self.lock().ready = Some(ready);
    }

    /// CPU time, and time throttled, since this was last asked; the most memory that was ever in use.
    pub fn usage(&self) -> Usage {
        let now = self.measure();
        let mut inner = self.lock();
        inner.unread = Duration::ZERO;
        let before = std::mem::replace(&mut inner.usage, now);
        Usage {
            cpu: now.cpu.saturating_sub(before.cpu),
            throttled: now.throttled.saturating_sub(before.throttled),
            peak: now.peak,
        }
    }

    /// The same after an invocation that took this long and whose report nobody looks at: as a rule nothing but the peak that
    /// is known, since to ask takes as long as a short handler runs. What that leaves out is caught up with before it comes
    /// to a millisecond.
    pub fn usage_after(&self, duration: Duration) -> Usage {
        let mut inner = self.lock();
        inner.unread += duration;
        if inner.unread < UNREAD {
            return Usage { peak: inner.usage.peak, ..Usage::default() };
        }
        drop(inner);
        self.usage()
    }

    /// Asks, if the invocation before did not: what it used is not the next one's.
    pub fn catch_up(&self) {
        if !self.lock().unread.is_zero() {
            self.usage();
        }
    }

    /// Asks the cgroup, or if it is gone already what was noted then.
    pub(super) fn measure(&self) -> Usage {
        if let Some((last, _)) = self.lock().last {
            return last;
        }
        let now = self.gauges.usage(&self.cgroup);
        // It may have been removed while it was being read.
        self.lock().last.map_or(now, |(last, _)| last)
    }

    pub(super) fn measure_memory_kill(&self) -> bool {
        if let Some((_, killed)) = self.lock().last {
            return killed;
        }
        let killed = self.cgroup.out_of_memory();
        self.lock().last.map_or(killed, |(_, killed)| killed)
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub fn out_of_memory(&self) -> bool {
        self.cause() == Cause::Memory || self.measure_memory_kill()
    }

    /// The memory that it holds, in bytes; 0 where nobody counts it.
    pub fn memory_held(&self) -> u64 {
        let mut inner = self.lock();
        // To ask takes as long as a freeze. What an environment holds after an event seldom changes as long as the most that
        // it ever used, which is known, does not.
        if inner.held.1 != inner.usage.peak || inner.held.0 == 0 {
            inner.held = (self.cgroup.memory_used().unwrap_or(0), inner.usage.peak);
        }
        inner.held.0
    }

    /// The memory that it holds now, in bytes, and the CPU time that it has used, for whoever looks on: nothing is noted.
    pub fn glance(&self) -> (Option<u64>, Option<Duration>) {
        let mut seen = (None, None);
        // Another's, if it has been buried meanwhile.
        let _ = self.with_cgroup(|cgroup| {
            seen = (cgroup.memory_used(), cpu_used(cgroup));
            Ok(())
        });
        seen
    }

    /// Has the kernel take back what memory it can as long as this stands still, at most so many bytes of it by swapping: the
    /// memory that it held before and holds now, in bytes, unless there was nothing worth it.
    pub fn reclaim(&self, swap: u64) -> Result<Option<(u64, u64)>> {
        let _reclaiming = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = || self.state() == State::Frozen && self.usable();
        let before = self.cgroup.memory_used().unwrap_or(0);
        let reclaimed = idle()
            && self.cgroup.reclaim(self.function.spec.memory_mb << 20, swap, &idle).or_else(|e| {
                // The cgroup of one that is being ended may be gone.
                if self.usable() { Err(e) } else { Ok(false) }
            })?;
        if !reclaimed {
            return Ok(None);
        }
        // What it holds after its next event is to be read anew: the most that it ever used will say nothing of that.
        self.lock().held = (0, 0);
        Ok(Some((before, self.cgroup.memory_used().unwrap_or(0))))
    }

    /// Whether its memory is being taken back. To remove its cgroup meanwhile would have the kernel wait for the end of that,
    /// and keep everybody from every cgroup until then.
    pub fn is_being_reclaimed(&self) -> bool {
        matches!(self.reclaiming.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Removes its cgroup: false while something is still in there.
    pub fn remove_cgroup(&self) -> bool {
        self.cgroup.remove().is_ok()
    }
}
