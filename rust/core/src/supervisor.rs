//! The one thread that watches all environments: deadlines, deaths, memory, and what is to be cleaned up after them.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::alarm::Alarm;
use crate::defect;
use crate::environment::{Cause, Environment};
use crate::error::{Error, Result};
use crate::pool::Core;
use crate::status::{self, Server};

/// What the thread and its clients share.
#[derive(Debug)]
pub struct Supervisor {
    epoll: OwnedFd,
    /// When the thread will look at everything again, if nothing happens before.
    alarm: Alarm,
    inner: Mutex<Inner>,
    buried: Condvar,
    /// Whether something has been killed of which the end was not seen yet.
    dying: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    deadlines: BTreeMap<(Instant, u64), (Weak<Environment>, Then)>,
    watched: HashMap<u64, Arc<Environment>>,
    /// Environments that are dead, but whose cgroups are still to be removed, by when that is tried.
    graves: BTreeMap<(Instant, u64), Grave>,
    /// Whether one of them is being removed.
    burying: bool,
    /// Environments that the thread is to end.
    condemned: Vec<Arc<Environment>>,
    next: u64,
    thread: Option<ThreadId>,
    stop: bool,
    /// Whether the thread is no more, and nobody is buried.
    gone: bool,
}

#[derive(Debug)]
struct Grave {
    environment: Arc<Environment>,
    /// How long to wait when it cannot be closed this time.
    patience: Duration,
    dug: Instant,
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug)]
enum Then {
    Kill,
    Settle,
}

/// A deadline that is being kept.
#[derive(Debug)]
pub struct Deadline(Instant, u64);

const ALARM: u64 = u64::MAX;
const STATUS: u64 = u64::MAX - 1;
/// How long after its last answer an environment that is not needed any more is ended.
const GRACE: Duration = Duration::from_micros(200);
/// When a grave that could not be closed is tried again; each time it takes twice as long,
const RETRY: Duration = Duration::from_millis(2);
/// up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// For how long the dead of a host that closes wait for the others: the end of a cgroup takes the kernel a look at what all
/// those that live still have.
const WAKE: Duration = Duration::from_secs(1);
/// After which time what does not end, or cannot be buried, is reported: the kernel takes moments, also under a fork bomb.
const OVERDUE: Duration = Duration::from_secs(5);
/// How often the thread goes on after a panic, to see off what it has killed.
const LIVES: usize = 4;

impl Supervisor {
    /// A supervisor that does not run yet.
    pub fn new() -> Result<Self> {
        let failed = |e: rustix::io::Errno| Error::kernel("starting", "the supervisor", e);
        let supervisor = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(failed)?,
            alarm: Alarm::new().map_err(failed)?,
            inner: Mutex::default(),
            buried: Condvar::new(),
            dying: AtomicBool::new(false),
        };
        epoll::add(&supervisor.epoll, &supervisor.alarm, EventData::new_u64(ALARM), EventFlags::IN).map_err(failed)?;
        Ok(supervisor)
    }

    /// Starts the thread. It ends when it is told to, or when `core` is gone.
    pub fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<()> {
        if let Some(listener) = core.status().and_then(Server::listener) {
            let (data, once) = (EventData::new_u64(STATUS), EventFlags::IN | EventFlags::ONESHOT);
            epoll::add(&self.epoll, listener, data, once)
                .map_err(|e| Error::kernel("starting", "the supervisor", e))?;
        }
        let (own, core) = (Arc::clone(self), Arc::downgrade(core));
        std::thread::Builder::new()
            .name("coldframe".into())
            .spawn(move || {
                // The embedding program's signals are for its own threads.
                let _ = coldframe_sys::host::block_signals();
                own.lock().thread = Some(std::thread::current().id());
                own.live(&core);
            })
            .map_err(|e| Error::kernel("starting", "the supervisor's thread", e))?;
        Ok(())
    }

    /// Watches an environment until it is dead and buried.
    pub fn watch(self: &Arc<Self>, environment: &Arc<Environment>) -> Result<()> {
        let failed = |e: rustix::io::Errno| Error::kernel("watching", environment.id(), e);
        environment.watched_by(Arc::downgrade(self));
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
        self.add(environment, at, Then::Kill)
    }

    /// Puts the quota of `environment` in force at `at`, unless the deadline is met first.
    pub fn settle(&self, environment: &Arc<Environment>, at: Instant) -> Deadline {
        self.add(environment, at, Then::Settle)
    }

    fn add(&self, environment: &Arc<Environment>, at: Instant, then: Then) -> Deadline {
        let mut inner = self.lock();
        inner.next += 1;
        let key = (at, inner.next);
        inner.deadlines.insert(key, (Arc::downgrade(environment), then));
        drop(inner);
        self.alarm.no_later_than(at);
        Deadline(key.0, key.1)
    }

    /// The deadline was met: false if it had passed already.
    pub fn met(&self, deadline: &Deadline) -> bool {
        // An answer that comes after it does not count, even if the thread has been too busy to act on it.
        self.lock().deadlines.remove(&(deadline.0, deadline.1)).is_some() && Instant::now() <= deadline.0
    }

    /// Has the thread end an environment that is not needed any more.
    pub fn condemn(&self, environment: &Arc<Environment>) {
        environment.retire();
        self.lock().condemned.push(Arc::clone(environment));
        // Not at once: the caller is to have its answer first.
        self.alarm.no_later_than(Instant::now() + GRACE);
    }

    /// Has the thread look later whether one that has just been killed is gone.
    pub fn expect_an_end(&self) {
        if !self.dying.swap(true, Ordering::AcqRel) {
            self.alarm.no_later_than(Instant::now() + OVERDUE);
        }
    }

    /// Whether the calling thread is the supervisor's own.
    pub fn is_this_thread(&self) -> bool {
        self.lock().thread == Some(std::thread::current().id())
    }

    /// Every environment that lives.
    pub fn living(&self) -> Vec<Arc<Environment>> {
        self.lock().watched.values().cloned().collect()
    }

    /// One of those that live of which this holds.
    pub fn one_of_the_living(&self, wanted: impl Fn(&Environment) -> bool) -> Option<Arc<Environment>> {
        self.lock().watched.values().find(|environment| wanted(environment)).cloned()
    }

    /// Waits until every environment is buried; false when that takes too long.
    pub fn wait_for_burials(&self, within: Duration) -> bool {
        let inner = self.lock();
        let (inner, timeout) = self
            .buried
            .wait_timeout_while(inner, within, |inner| {
                !inner.gone && (inner.burying || !inner.watched.is_empty() || !inner.graves.is_empty())
            })
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out() && !inner.gone
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.alarm.no_later_than(Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until it is told to stop. Nobody else keeps deadlines: after a panic the host has an end, its environments are
    /// killed, and this only sees them off.
    fn live(&self, core: &Weak<Core>) {
        let mut sound = true;
        for _ in 0..LIVES {
            let Err(defect) = defect::contain(|| self.run(core, sound)) else { return };
            sound = false;
            let _ = defect::contain(|| core.upgrade().inspect(|core| core.fail(&defect)));
        }
        self.lock().gone = true;
        self.buried.notify_all();
    }

    fn run(&self, core: &Weak<Core>, sound: bool) {
        let mut events = Vec::with_capacity(64);
        let mut patrol = None;
        self.lock().burying = false;
        while !self.lock().stop {
            events.clear();
            // An interruption is as good as an alarm: everything is looked at again.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            // First: what comes from now on sets it anew.
            self.alarm.clear();
            for event in &events {
                self.handle(event.data.u64(), core);
            }
            self.expire();
            let condemned = std::mem::take(&mut self.lock().condemned);
            for environment in &condemned {
                environment.kill(Cause::Retired);
            }
            self.bury(core);
            let Some(core) = core.upgrade() else { return };
            let now = Instant::now();
            self.patrol(&core, &mut patrol, now);
            let idle = if sound { core.retire_idle(now) } else { None };
            [idle, self.next(), patrol].into_iter().flatten().for_each(|at| self.alarm.no_later_than(at));
        }
    }

    /// Looks from time to time, as long as something has been killed and is not gone, whether that takes too long.
    fn patrol(&self, core: &Core, next: &mut Option<Instant>, now: Instant) {
        if next.is_none_or(|at| now < at) {
            *next = next.or_else(|| self.dying.load(Ordering::Acquire).then(|| now + OVERDUE));
            return;
        }
        // First: what is killed from now on is noted anew.
        self.dying.store(false, Ordering::Release);
        let mut dying = self.living();
        dying.retain(|environment| environment.was_killed());
        for environment in dying.iter().filter(|environment| environment.outlives_its_kill(OVERDUE)) {
            core.report_stuck(environment);
        }
        *next = (!dying.is_empty()).then(|| now + OVERDUE);
    }

    /// When there is something to do next.
    fn next(&self) -> Option<Instant> {
        let inner = self.lock();
        let first = inner.deadlines.first_key_value().map(|((at, _), _)| *at);
        let grave = inner.graves.first_key_value().map(|((at, _), _)| *at);
        [first, grave].into_iter().flatten().min()
    }

    fn handle(&self, data: u64, core: &Weak<Core>) {
        if data == ALARM {
            return;
        }
        if data == STATUS {
            return core.upgrade().map_or((), |core| status::answer(&core));
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
        let dug = Instant::now();
        let grave = Grave { environment: Arc::clone(&environment), patience: RETRY, dug };
        let core = core.upgrade();
        let wait = if core.as_ref().is_some_and(|core| core.is_closed()) { WAKE } else { Duration::ZERO };
        inner.graves.insert((dug + wait, id), grave);
        drop(inner);
        let _ = epoll::delete(&self.epoll, environment.pidfd());
        if let Some(alarm) = environment.alarm() {
            let _ = epoll::delete(&self.epoll, alarm);
        }
        environment.died();
        if let Some(core) = core {
            core.forget_environment(&environment);
        }
    }

    fn expire(&self) {
        let now = Instant::now();
        loop {
            let mut inner = self.lock();
            let Some(entry) = inner.deadlines.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let (environment, then) = entry.remove();
            drop(inner);
            let Some(environment) = environment.upgrade() else { continue };
            match then {
                Then::Kill => environment.kill(Cause::Timeout),
                // What is dying is not to be slowed down.
                Then::Settle if environment.usable() => environment.settle_or_end(),
                Then::Settle => {}
            }
        }
    }

    fn bury(&self, core: &Weak<Core>) {
        let mut inner = self.lock();
        // When nobody is left to die, nobody waits.
        let until = Instant::now() + if inner.watched.is_empty() { WAKE } else { Duration::ZERO };
        let later = inner.graves.split_off(&(until, u64::MAX));
        let due = std::mem::replace(&mut inner.graves, later);
        inner.burying = true;
        drop(inner);
        for ((_, id), Grave { environment, patience, dug }) in due {
            let owner = core.upgrade();
            let removed = owner.as_ref().map_or_else(|| environment.remove_cgroup(), |core| core.bury(&environment));
            let now = Instant::now();
            if removed {
                owner.inspect(|core| core.forget_stuck(&environment));
            } else {
                owner.filter(|_| now.duration_since(dug) > OVERDUE).inspect(|core| core.report_stuck(&environment));
                let next = Grave { environment, patience: (patience * 2).min(LONGEST_RETRY), dug };
                self.lock().graves.insert((now + patience, id), next);
            }
        }
        self.lock().burying = false;
        self.buried.notify_all();
    }

    /// Has the thread look for other programs that ask what the host does, as it does once.
    pub fn expect_questions(&self, listener: BorrowedFd<'_>) {
        let (data, once) = (EventData::new_u64(STATUS), EventFlags::IN | EventFlags::ONESHOT);
        let _ = epoll::modify(&self.epoll, listener, data, once);
    }

    /// Tells the thread to look at what has become idle.
    pub fn look(&self, at: Instant) {
        self.alarm.no_later_than(at);
    }
}
