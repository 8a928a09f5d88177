//! One execution environment: how it is made, how it answers, how it ends.

mod programs;
mod resources;
mod talk;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use coldframe_sys::program;
use rustix::process::Pid;

use self::programs::Programs;
pub use self::talk::{Event, HEAD_START, Listening, Reply, last_words};
use crate::api::Server;
use crate::cgroup::{Cgroup, Gauges, Usage};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::log::Log;
use crate::mounts;
use crate::owner::Owner;
use crate::patience::Patience;
use crate::phases::Phases;
use crate::process;
use crate::random;
use crate::seat::{Lost, Seat};
use crate::supervisor::Supervisor;
use crate::variables;
use crate::zygote::{self, Zygote};

/// Answers that follow one another within this time may be a burst,
const BURST_GAP: Duration = Duration::from_millis(1);
/// and are one when there are so many of them: to freeze and thaw between those would take as long as to answer.
const BURST: u32 = 8;
/// After which time without an event a burst is over.
pub const BURST_OVER: Duration = Duration::from_millis(10);

/// Why an environment was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// It was not.
    None = 0,
    /// Its deadline passed.
    Timeout,
    /// Its memory ran out.
    Memory,
    /// The caller cancelled.
    Cancelled,
    /// It is not needed any more, or misbehaved.
    Retired,
}

impl Cause {
    fn from_number(number: u8) -> Self {
        [Self::Timeout, Self::Memory, Self::Cancelled, Self::Retired]
            .into_iter()
            .find(|&cause| cause as u8 == number)
            .unwrap_or(Self::None)
    }
}

/// The state of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It is being made and initialised.
    Init = 0,
    /// Made ahead of need, it waits to be initialised.
    Parked,
    /// It waits for an event.
    Ready,
    /// It has one.
    Busy,
    /// It waits, stopped.
    Frozen,
    /// It is no more.
    Dead,
}

impl State {
    /// Its name, as people see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Parked => "parked",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Frozen => "frozen",
            Self::Dead => "dead",
        }
    }
}

/// An environment's identity, limits and descriptors.
#[derive(Debug)]
pub struct Environment {
    id: String,
    number: u64,
    slot: u32,
    pid: Pid,
    pidfd: OwnedFd,
    control: Arc<OwnedFd>,
    channel: OwnedFd,
    output: OwnedFd,
    alarm: Option<OwnedFd>,
    cgroup: Cgroup,
    /// Whether the cgroup is its own: after its end another environment may have it. Held by whoever writes to it.
    owns_cgroup: RwLock<bool>,
    gauges: Gauges,
    patience: Patience,
    owner: Owner,
    function: Arc<Function>,
    state: AtomicU8,
    cause: AtomicU8,
    /// When it was first killed.
    killed: OnceLock<Instant>,
    /// Who is to see that a kill ends it.
    supervisor: OnceLock<Weak<Supervisor>>,
    /// Itself, for threads of its own.
    this: OnceLock<Weak<Self>>,
    stopped: AtomicBool,
    /// Whether its quota is in force.
    settled: AtomicBool,
    /// How many events it has been given.
    events: AtomicU64,
    /// Whether it was made ahead, and nobody has needed it yet.
    ahead: AtomicBool,
    /// Whether it has been told what its function is.
    described: AtomicBool,
    /// What it is told when it is restored.
    restoring: Vec<u8>,
    /// Of the last question that was asked.
    token: AtomicU64,
    /// Whether an event went with the order to initialise that was not asked about yet.
    has_event: AtomicBool,
    /// Of its last time among the idle (`idle::Idle`).
    stay: AtomicU64,
    /// Held as long as its memory is being taken back.
    reclaiming: Mutex<()>,
    inner: Mutex<Inner>,
    /// Where its runtime is a program.
    programs: Option<Programs>,
    // Last: environments live in pid namespaces below their zygote's, which has to outlive them.
    zygote: Arc<Zygote>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    created: SystemTime,
    last_used: SystemTime,
    /// When it was ready, if it has an event since then.
    ready: Option<Instant>,
    /// How long all its events took.
    busy: Duration,
    /// When it was last asked.
    usage: Usage,
    /// How long the invocations took after which it was not asked.
    unread: Duration,
    /// The memory that it held, and the most that it had ever used, when the former was last read.
    held: (u64, u64),
    answered: Option<Instant>,
    answers: u64,
    /// How many answers have come in a burst.
    burst: u32,
    phases: Phases,
    failure: Option<Error>,
    /// What the cgroup had to say before it was removed, and whether it had run out of memory.
    last: Option<(Usage, bool)>,
}

/// Has the process in a seat lock itself down as the function's.
fn assign(seat: &Seat, function: &Function, own: Option<&[u8]>) -> Result<()> {
    let copies = if own.is_some() { Vec::new() } else { function.mounts.copies(seat.slot)? };
    zygote::send(&seat.control, own.unwrap_or(&function.assign_program), &mounts::borrowed(&copies))
        .map_err(|e| Error::kernel("giving a function to", "an environment", e))
}

impl Environment {
    /// Makes one of a seat with a process of the zygote in it, which is limited and told to lock itself down; the function's
    /// code has not been touched yet. `state`: whether it is needed now, or parked. `server`: by whom a runtime is answered that
    /// is a program.
    pub fn create(
        seat: Seat,
        zygote: &Arc<Zygote>,
        function: &Arc<Function>,
        number: u64,
        state: State,
        server: &Server,
    ) -> Result<Self, Lost> {
        // While it locks itself down, its limits are put in force: nothing of the function's runs before it is told more, and
        // whoever helped it here does not count any more.
        let own = zygote.birth().assign.as_deref().map(program::encode);
        let assigned = assign(&seat, function, own.as_deref())
            .and_then(|()| seat.cgroup.limit(function.spec.memory_mb, function.spec.max_processes));
        if let Err(e) = assigned {
            return Err(Box::new((seat, e)));
        }
        let mut seat = seat;
        let served = match (&function.launch, seat.listener.take()) {
            (Some(launch), Some(listener)) => {
                Programs::new(server, listener, Arc::clone(&seat.control), seat.slot, function, launch).map(Some)
            }
            _ => Ok(None),
        };
        let programs = match served {
            Ok(programs) => programs,
            Err(e) => return Err(Box::new((seat, Error::kernel("serving Lambda's APIs to", "an environment", e)))),
        };
        let Seat { pid, pidfd, control, channel, output, alarm, cgroup, slot, listener: _ } = seat;
        let gauges = cgroup.gauges();
        let now = SystemTime::now();
        let log = Log::new((function.spec.log_kb as usize) << 10, function.subject.logging);
        Ok(Self {
            id: random::hex(32),
            number,
            slot,
            pid,
            pidfd,
            control,
            channel,
            output,
            alarm,
            cgroup,
            owns_cgroup: RwLock::new(true),
            gauges,
            patience: Patience::default(),
            owner: Owner::default(),
            function: Arc::clone(function),
            state: AtomicU8::new(state as u8),
            cause: AtomicU8::new(Cause::None as u8),
            killed: OnceLock::new(),
            supervisor: OnceLock::new(),
            this: OnceLock::new(),
            stopped: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            events: AtomicU64::new(0),
            ahead: AtomicBool::new(state == State::Parked),
            described: AtomicBool::new(false),
            restoring: if zygote.base().is_some() { variables::restoration() } else { Vec::new() },
            token: AtomicU64::new(random::number()),
            has_event: AtomicBool::new(false),
            stay: AtomicU64::new(0),
            reclaiming: Mutex::default(),
            inner: Mutex::new(Inner {
                log,
                created: now,
                last_used: now,
                ready: None,
                busy: Duration::ZERO,
                usage: Usage::default(),
                unread: Duration::ZERO,
                held: (0, 0),
                answered: None,
                answers: 0,
                burst: 0,
                phases: Phases::default(),
                failure: None,
                last: None,
            }),
            programs,
            zygote: Arc::clone(zygote),
        })
    }

    /// Needed now, it is not parked any more; false if it has ended, or has something to say that nobody asked.
    pub fn unpark(&self) -> bool {
        let now = SystemTime::now();
        let mut inner = self.lock();
        (inner.created, inner.last_used) = (now, now);
        drop(inner);
        self.ahead.store(false, Ordering::Release);
        self.set_state(State::Init);
        self.waits()
    }

    /// Copies of the descriptors by which it, as a base, is asked for others: its control socket, its init's channel, its pidfd.
    pub fn descriptors(&self) -> Result<[OwnedFd; 3]> {
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| Error::kernel("copying a descriptor of", self.id(), e));
        Ok([copy(&self.control)?, copy(&self.channel)?, copy(&self.pidfd)?])
    }

    /// Whether it is a fork of a function that was initialised.
    pub fn is_restored(&self) -> bool {
        self.zygote.base().is_some()
    }

    /// What it was forked from.
    pub fn zygote(&self) -> &Arc<Zygote> {
        &self.zygote
    }

    /// Whether it ended because its zygote did.
    pub fn lost_its_zygote(&self) -> bool {
        !self.zygote.alive()
    }

    /// The step that failed while it was being set up, if one did.
    pub fn setup_failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    /// It is not to be used any more, and will be ended.
    pub fn retire(&self) {
        let _ =
            self.cause.compare_exchange(Cause::None as u8, Cause::Retired as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Ends it, with everything that runs in it. Only the first cause counts. Extensions are told before, and have a moment.
    pub fn kill(&self, cause: Cause) {
        if !self.owner.is_here() {
            return;
        }
        let first = self.cause.compare_exchange(Cause::None as u8, cause as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() && self.ended() || self.takes_leave(cause) {
            return;
        }
        self.end_now();
    }

    /// Ends it at once.
    fn end_now(&self) {
        if self.may_be_throttled() {
            self.lift_quota();
        }
        let _ = self.with_cgroup(|cgroup| {
            cgroup.kill();
            Ok(())
        });
        process::kill(self.pidfd.as_fd());
        if self.killed.set(Instant::now()).is_ok()
            && let Some(supervisor) = self.supervisor.get().and_then(Weak::upgrade)
        {
            supervisor.expect_an_end();
        }
    }

    /// From now on it is watched, until it is buried.
    pub fn watched_by(self: &Arc<Self>, supervisor: Weak<Supervisor>) {
        let _ = self.this.set(Arc::downgrade(self));
        let _ = self.supervisor.set(supervisor);
    }

    /// Whether it was killed so long ago, and still is.
    pub fn outlives_its_kill(&self, by: Duration) -> bool {
        !self.ended() && self.killed.get().is_some_and(|killed| killed.elapsed() >= by)
    }

    /// Whether it was killed.
    pub fn was_killed(&self) -> bool {
        self.killed.get().is_some()
    }

    /// Waits for its end when it has been killed; false if that takes longer than it may.
    pub fn ends(&self) -> bool {
        const SOON: Duration = Duration::from_millis(20);
        process::readable(self.pidfd(), SOON) || {
            self.lift_quota();
            process::readable(self.pidfd(), Duration::from_secs(1))
        }
    }

    /// Why it was ended by us.
    pub fn cause(&self) -> Cause {
        Cause::from_number(self.cause.load(Ordering::Acquire))
    }

    /// Notes that it has answered; whether that was one of a burst.
    pub fn answered(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.answers += 1;
        let quick = inner.answered.replace(now).is_some_and(|before| now.duration_since(before) < BURST_GAP);
        inner.burst = if quick { inner.burst.saturating_add(1) } else { 0 };
        inner.burst >= BURST
    }

    /// How often it has been used.
    pub fn used(&self) -> u64 {
        self.lock().answers
    }

    /// How many events it has been given.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Acquire)
    }

    /// The number of its last stay among the idle.
    pub fn stay(&self) -> u64 {
        self.stay.load(Ordering::Acquire)
    }

    /// Notes the number of its stay among the idle.
    pub fn set_stay(&self, stay: u64) {
        self.stay.store(stay, Ordering::Release);
    }

    /// What its time has gone into since this was last asked.
    pub fn phases(&self) -> Phases {
        std::mem::take(&mut self.lock().phases)
    }

    /// Notes what its time went into.
    pub fn note(&self, note: impl FnOnce(&mut Phases)) {
        note(&mut self.lock().phases);
    }

    /// The output since this was last asked, and how many bytes of it were dropped.
    pub fn output(&self) -> (String, u64) {
        let mut inner = self.lock();
        inner.last_used = SystemTime::now();
        inner.log.take()
    }

    /// Whether nothing in its life was out of the ordinary.
    pub fn ended_well(&self) -> bool {
        self.events() > 0 && self.cause() == Cause::Retired && !self.out_of_memory()
    }

    /// Its state.
    pub fn state(&self) -> State {
        let number = self.state.load(Ordering::Acquire);
        [State::Init, State::Parked, State::Ready, State::Busy, State::Frozen]
            .into_iter()
            .find(|&s| s as u8 == number)
            .unwrap_or(State::Dead)
    }

    /// Notes its state; the dead stay dead.
    pub fn set_state(&self, state: State) {
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now != State::Dead as u8).then_some(state as u8));
    }

    /// The supervisor saw its end, and is about to remove its cgroup. What that counted is noted where somebody waits for
    /// an answer, and asks.
    pub fn died(&self) {
        let asked = matches!(self.state(), State::Init | State::Busy);
        let last = if asked { (self.measure(), self.measure_memory_kill()) } else { (self.lock().usage, false) };
        self.lock().last = Some(last);
        self.gauges.close();
        self.programs.iter().for_each(Programs::close);
        self.set_state(State::Dead);
    }

    /// Whether it was made ahead, and nobody has needed it.
    pub fn was_made_ahead(&self) -> bool {
        self.ahead.load(Ordering::Acquire)
    }

    /// Whether it is no more.
    pub fn ended(&self) -> bool {
        self.state() == State::Dead
    }

    /// Whether it can be given an event.
    pub fn usable(&self) -> bool {
        !self.ended() && self.cause() == Cause::None
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its number in this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The host user that it is, as root.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The host's process id of its init.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// A descriptor that is readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// A descriptor that is readable when its memory has run out.
    pub fn alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(AsFd::as_fd)
    }

    /// Whose it is.
    pub fn function(&self) -> &Arc<Function> {
        &self.function
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// When it was made, and when it last served.
    pub fn times(&self) -> (SystemTime, SystemTime) {
        let inner = self.lock();
        (inner.created, inner.last_used)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
