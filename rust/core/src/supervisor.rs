//! The one thread that watches all environments: deadlines, deaths, memory, and what is to be cleaned up after them.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use crate::environment::{Cause, Environment};
use crate::error::{Error, Result};
use crate::pool::Core;
use crate::process::timespec;

/// What the thread and its clients share.
#[derive(Debug)]
pub struct Supervisor {
    epoll: OwnedFd,
    wake: OwnedFd,
    inner: Mutex<Inner>,
    buried: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    deadlines: BTreeMap<(Instant, u64), Weak<Environment>>,
    watched: HashMap<u64, Arc<Environment>>,
    /// Environments that are dead, but whose cgroups could not be removed yet.
    graves: Vec<Arc<Environment>>,
    /// When the thread will look at the deadlines again without being woken.
    armed: Option<Instant>,
    next: u64,
    /// When somebody has asked it to look at what is idle.
    look: Option<Instant>,
    thread: Option<ThreadId>,
    stop: bool,
}

/// A deadline that is being kept.
#[derive(Debug)]
pub struct Deadline(Instant, u64);

const WAKE: u64 = u64::MAX;
/// How often a grave that could not be closed is tried again.
const RETRY: Duration = Duration::from_millis(2);

impl Supervisor {
    /// A supervisor that does not run yet.
    pub fn new() -> Result<Self> {
        let failed = |e: rustix::io::Errno| Error::kernel("starting", "the supervisor", e);
        let supervisor = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(failed)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(failed)?,
            inner: Mutex::default(),
            buried: Condvar::new(),
        };
        epoll::add(&supervisor.epoll, &supervisor.wake, EventData::new_u64(WAKE), EventFlags::IN).map_err(failed)?;
        Ok(supervisor)
    }

    /// Starts the thread. It ends when it is told to, or when `core` is gone.
    pub fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<()> {
        let (own, core) = (Arc::clone(self), Arc::downgrade(core));
        std::thread::Builder::new()
            .name("coldframe".into())
            .spawn(move || {
                // The embedding program's signals are for its own threads.
                let _ = coldframe_sys::host::block_signals();
                own.lock().thread = Some(std::thread::current().id());
                own.run(&core);
            })
            .map_err(|e| Error::kernel("starting", "the supervisor's thread", e))?;
        Ok(())
    }

    /// Watches an environment until it is dead and buried.
    pub fn watch(&self, environment: &Arc<Environment>) -> Result<()> {
        let failed = |e: rustix::io::Errno| Error::kernel("watching", environment.id(), e);
        let id = environment.number();
        self.lock().watched.insert(id, Arc::clone(environment));
        let alarm = environment
            .alarm()
            .map_or(Ok(()), |alarm| epoll::add(&self.epoll, alarm, EventData::new_u64(id << 1 | 1), EventFlags::IN));
        alarm
            .and_then(|()| epoll::add(&self.epoll, environment.pidfd(), EventData::new_u64(id << 1), EventFlags::IN))
            .map_err(|e| {
                self.lock().watched.remove(&id);
                failed(e)
            })
    }

    /// Kills `environment` at `at`, unless the deadline is met first.
    pub fn keep(&self, environment: &Arc<Environment>, at: Instant) -> Deadline {
        let mut inner = self.lock();
        inner.next += 1;
        let key = (at, inner.next);
        inner.deadlines.insert(key, Arc::downgrade(environment));
        if inner.armed.is_none_or(|armed| at < armed) {
            inner.armed = Some(at);
            drop(inner);
            self.wake();
        }
        Deadline(key.0, key.1)
    }

    /// The deadline was met: false if it had passed already.
    pub fn met(&self, deadline: &Deadline) -> bool {
        // An answer that comes after it does not count, even if the thread has been too busy to act on it.
        self.lock().deadlines.remove(&(deadline.0, deadline.1)).is_some() && Instant::now() <= deadline.0
    }

    /// Whether the calling thread is the supervisor's own.
    pub fn is_this_thread(&self) -> bool {
        self.lock().thread == Some(std::thread::current().id())
    }

    /// Every environment that lives.
    pub fn living(&self) -> Vec<Arc<Environment>> {
        self.lock().watched.values().cloned().collect()
    }

    /// Waits until every environment is buried; false when that takes too long.
    pub fn wait_for_burials(&self, within: Duration) -> bool {
        let inner = self.lock();
        let (_inner, timeout) = self
            .buried
            .wait_timeout_while(inner, within, |inner| !inner.watched.is_empty() || !inner.graves.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn run(&self, core: &Weak<Core>) {
        let mut events = Vec::with_capacity(64);
        let mut idle: Option<Instant> = None;
        loop {
            let next = self.arm(idle);
            if self.lock().stop {
                return;
            }
            let timeout = next.map(|at| timespec(at.saturating_duration_since(Instant::now())));
            events.clear();
            // An interruption is as good as a wake-up: everything is looked at again.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            for event in &events {
                self.handle(event.data.u64(), core);
            }
            self.expire();
            self.bury(core);
            let Some(core) = core.upgrade() else { return };
            idle = core.retire_idle(Instant::now());
        }
    }

    /// When to look again without being woken; `None`: never.
    fn arm(&self, idle: Option<Instant>) -> Option<Instant> {
        let mut inner = self.lock();
        let look = inner.look.take();
        let first = inner.deadlines.first_key_value().map(|((at, _), _)| *at);
        let grave = (!inner.graves.is_empty()).then(|| Instant::now() + RETRY);
        inner.armed = [first, idle, grave, look].into_iter().flatten().min();
        inner.armed
    }

    fn handle(&self, data: u64, core: &Weak<Core>) {
        if data == WAKE {
            let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
            return;
        }
        let (id, alarm) = (data >> 1, data & 1 == 1);
        if alarm {
            let environment = self.lock().watched.get(&id).cloned();
            if let Some(environment) = environment {
                let raised = environment.alarm().is_some_and(|fd| rustix::io::read(fd, &mut [0_u8; 8]).is_ok());
                // The kernel also signals the removal of the cgroup.
                if raised && !environment.ended() {
                    environment.kill(Cause::Memory);
                }
            }
            return;
        }
        let mut inner = self.lock();
        let Some(environment) = inner.watched.remove(&id) else { return };
        inner.graves.push(Arc::clone(&environment));
        drop(inner);
        let _ = epoll::delete(&self.epoll, environment.pidfd());
        if let Some(alarm) = environment.alarm() {
            let _ = epoll::delete(&self.epoll, alarm);
        }
        environment.died();
        if let Some(core) = core.upgrade() {
            core.forget_environment(&environment);
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        loop {
            let mut inner = self.lock();
            let Some(entry) = inner.deadlines.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let environment = entry.remove().upgrade();
            drop(inner);
            if let Some(environment) = environment {
                environment.kill(Cause::Timeout);
            }
        }
    }

    fn bury(&self, core: &Weak<Core>) {
        // A copy: whoever waits for burials must see those that are under way.
        let graves = self.lock().graves.clone();
        for environment in graves {
            if environment.remove_cgroup() {
                self.lock().graves.retain(|grave| !Arc::ptr_eq(grave, &environment));
                if let Some(core) = core.upgrade() {
                    core.release_slot(environment.slot());
                }
            }
        }
        self.buried.notify_all();
    }

    /// Tells the thread to look at what has become idle.
    pub fn look(&self, at: Instant) {
        let mut inner = self.lock();
        inner.look = Some(inner.look.map_or(at, |look| look.min(at)));
        if inner.armed.is_none_or(|armed| at < armed) {
            inner.armed = Some(at);
            drop(inner);
            self.wake();
        }
    }
}
