//! A clock that wakes a thread at a set time, and can be set by others without waking it: to wake a thread takes a CPU from
//! whoever is being served.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::process::timespec;

/// The clock.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    /// When it will go off.
    set: Mutex<Option<Instant>>,
}

impl Alarm {
    /// One that is not set.
    pub fn new() -> rustix::io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer, set: Mutex::new(None) })
    }

    /// Has it go off at `at`, or earlier if it was set to that.
    pub fn no_later_than(&self, at: Instant) {
        let mut set = self.lock();
        if set.is_none_or(|set| at < set) {
            *set = Some(at);
            // Nothing at all would stop the clock: a moment.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value = Itimerspec { it_interval: never, it_value: timespec(left) };
            // It fails only for a time that is none.
            let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value);
        }
    }

    /// Takes note that it has gone off, or that somebody looks before it does: it is not set any more.
    pub fn clear(&self) {
        // Held until the expiry is read: one that was set meanwhile would be read with it, and never go off.
        let mut set = self.lock();
        *set = None;
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
