//! One execution environment: how it is made, how it answers, how it ends.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use coldframe_sys::child::record::{Kind as RecordKind, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::process::Pid;

use crate::cgroup::{Cgroup, Gauges, Usage};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::log::Log;
use crate::patience::Patience;
use crate::phases::Phases;
use crate::process;
use crate::random;
use crate::report::ended;
use crate::seat::{self, Lost, Seat};
use crate::wire::{Arrival, Incoming, Kind, Outgoing, PACKET};
use crate::zygote::Zygote;

/// Answers that follow one another within this time may be a burst,
const BURST_GAP: Duration = Duration::from_millis(1);
/// and are one when there are so many of them: to freeze and thaw between those would take as long as to answer.
const BURST: u32 = 8;
/// After which time without an event a burst is over.
pub const BURST_OVER: Duration = Duration::from_millis(10);
/// For how much of an environment's work its counters may be left alone.
const UNREAD: Duration = Duration::from_millis(1);
/// After which a wait first looks for a signal that it has missed.
const LOOK: Duration = Duration::from_millis(50);

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
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Frozen => "frozen",
            Self::Dead => "dead",
        }
    }
}

/// What came of a question to an environment.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer(Kind, Vec<u8>),
    /// The environment ended, or was ended: how its process ended, if it said so.
    Ended(Option<i32>),
    /// It had something to say before it was asked, and was not asked.
    Unready,
    /// It broke the protocol.
    Rubbish(&'static str),
    /// The caller was interrupted.
    Interrupted,
}

/// An environment's identity, limits and descriptors.
#[derive(Debug)]
pub struct Environment {
    id: String,
    number: u64,
    slot: u32,
    pid: Pid,
    pidfd: OwnedFd,
    control: OwnedFd,
    channel: OwnedFd,
    output: OwnedFd,
    alarm: Option<OwnedFd>,
    cgroup: Cgroup,
    gauges: Gauges,
    patience: Patience,
    function: Arc<Function>,
    state: AtomicU8,
    cause: AtomicU8,
    stopped: AtomicBool,
    /// Whether its quota is in force.
    settled: AtomicBool,
    /// Of the last question that was asked.
    token: AtomicU64,
    created: SystemTime,
    /// Of its last time among the idle (`idle::Idle`).
    stay: AtomicU64,
    inner: Mutex<Inner>,
    // Last: environments live in pid namespaces below their zygote's, which has to outlive them.
    zygote: Arc<Zygote>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    last_used: SystemTime,
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

impl Environment {
    /// Makes one of a seat with a process of the zygote in it, which is limited and told to lock itself down; the function's
    /// code has not been touched yet.
    pub fn create(seat: Seat, zygote: &Arc<Zygote>, function: &Arc<Function>, number: u64) -> Result<Self, Lost> {
        // While it locks itself down, its limits are put in force: nothing of the function's runs before it is told more, and
        // whoever helped it here does not count any more.
        let assigned = send(&seat.control, &function.assign_program, SendFlags::NOSIGNAL)
            .map_err(|e| Error::kernel("giving a function to", "an environment", e))
            .and_then(|_| seat.cgroup.limit(function.spec.memory_mb, function.spec.max_processes));
        if let Err(e) = assigned {
            return Err(Box::new((seat, e)));
        }
        let Seat { pid, pidfd, control, channel, output, alarm, cgroup, slot } = seat;
        let now = SystemTime::now();
        let log = Log::new((function.spec.log_kb as usize) << 10);
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
            gauges: Gauges::default(),
            patience: Patience::default(),
            function: Arc::clone(function),
            state: AtomicU8::new(State::Init as u8),
            cause: AtomicU8::new(Cause::None as u8),
            stopped: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            token: AtomicU64::new(random::number()),
            created: now,
            stay: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                log,
                last_used: now,
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
            zygote: Arc::clone(zygote),
        })
    }

    /// Sends a message and waits for its answer, keeping the output flowing meanwhile. The answer counts with `token`, which
    /// nobody inside can guess before.
    ///
    /// Deadlines are the supervisor's: when one passes, the environment ends, and with it this wait. `backstop` bounds
    /// the wait even if that went wrong. With `timed`, a thaw is a phase of its own. `interrupted` is asked whenever a signal
    /// came.
    #[expect(clippy::too_many_arguments, reason = "a question, and what bounds the wait for its answer")]
    pub fn ask(
        &self,
        kind: Kind,
        token: u64,
        body: &[&[u8]],
        most: usize,
        backstop: Instant,
        timed: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        let mut talk = Talk {
            outgoing: Outgoing::new(kind, token, body),
            incoming: Incoming::new(token, self.token.swap(token, Ordering::AcqRel), most),
            sent: false,
            // Taken rather than borrowed: `interrupted` may run code of the caller that invokes a function itself.
            buffer: BUFFER.take().unwrap_or_else(|| vec![0; PACKET].into_boxed_slice()),
        };
        let reply = self.talk(&mut talk, kind, backstop, timed, interrupted);
        BUFFER.set(Some(talk.buffer));
        reply
    }

    fn talk(
        &self,
        talk: &mut Talk<'_>,
        kind: Kind,
        backstop: Instant,
        timed: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        let failed = |e: io::Error| Error::kernel("talking to", self.id.clone(), e);
        // One that died while it was idle, or has something to say that nobody asked, is not given the event at all.
        if self.state() != State::Init && !self.is_silent(talk).map_err(failed)? {
            return Ok(Reply::Unready);
        }
        if !timed {
            // What it finds when it wakes up wakes it once instead of twice. How long the thaw took is lost in that: most often
            // it runs at once, on this CPU.
            talk.push(self.control.as_fd());
        }
        if self.thaw(timed).is_err() {
            // It has just ended, has seen nothing, and its cgroup is gone.
            return Ok(Reply::Unready);
        }
        talk.push(self.control.as_fd());
        let meanwhile = if kind == Kind::Init { self.prepare() } else { self.settle() };
        // The cgroup of one that has just ended may be gone.
        meanwhile.or_else(|e| if process::readable(self.pidfd(), Duration::ZERO) { Ok(()) } else { Err(e) })?;
        if talk.sent && kind != Kind::Init && self.patience.is_worth_it() {
            if let Some(reply) = self.patience.watch(|| self.hear(talk).transpose()) {
                return reply.map_err(failed);
            }
            // A signal that came meanwhile has interrupted nothing.
            if interrupted() {
                return Ok(Reply::Interrupted);
            }
        }
        let begun = Instant::now();
        loop {
            // A signal that came just before a wait does not end it: after as long again as it has taken, look.
            let look = Instant::now() + begun.elapsed().max(LOOK);
            let ready = match self.wait(talk.sent, backstop.min(look)) {
                Ok(ready) if ready.nothing() && interrupted() => return Ok(Reply::Interrupted),
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) if interrupted() => return Ok(Reply::Interrupted),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(failed(e.into())),
            };
            if ready.output {
                self.drain(&mut talk.buffer);
            }
            if ready.control {
                if let Some(reply) = self.hear(talk).map_err(failed)? {
                    return Ok(reply);
                }
            } else if ready.channel {
                return Ok(Reply::Ended(self.exit_status(Duration::ZERO)));
            }
            if Instant::now() > backstop {
                self.kill(Cause::Timeout);
                return Ok(Reply::Ended(None));
            }
            talk.push(self.control.as_fd());
        }
    }

    /// Takes what has arrived: `None` as long as that is no whole answer.
    fn hear(&self, talk: &mut Talk<'_>) -> io::Result<Option<Reply>> {
        Ok(match talk.incoming.pull(self.control.as_fd(), &mut talk.buffer)? {
            Arrival::Message(kind, body) => {
                // What was printed before the answer belongs to it.
                self.drain(&mut talk.buffer);
                Some(Reply::Answer(kind, body))
            }
            Arrival::Rubbish(why) => Some(Reply::Rubbish(why)),
            Arrival::Closed => Some(Reply::Ended(self.exit_status(Duration::from_secs(2)))),
            Arrival::Nothing => None,
        })
    }

    /// Whether it waits, as it should. Second answers to its last question are thrown away.
    fn is_silent(&self, talk: &mut Talk<'_>) -> io::Result<bool> {
        // One that stands still ended before that if at all, and the supervisor has been told.
        let ended = !self.stopped.load(Ordering::Acquire) && process::readable(self.channel.as_fd(), Duration::ZERO);
        Ok(!ended && talk.incoming.pull(self.control.as_fd(), &mut talk.buffer)? == Arrival::Nothing)
    }

    fn drain(&self, buffer: &mut [u8]) {
        self.lock().log.drain(self.output.as_fd(), buffer);
    }

    fn wait(&self, sent: bool, until: Instant) -> Result<Ready, rustix::io::Errno> {
        let left = until.saturating_duration_since(Instant::now());
        let control = if sent { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut fds = [
            PollFd::new(&self.control, control),
            PollFd::new(&self.channel, PollFlags::IN),
            PollFd::new(&self.output, PollFlags::IN),
        ];
        poll(&mut fds, Some(&process::timespec(left)))?;
        let incoming = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        Ok(Ready {
            control: fds[0].revents().intersects(incoming),
            channel: fds[1].revents().intersects(incoming),
            output: fds[2].revents().contains(PollFlags::IN),
        })
    }

    /// How the environment's process ended, as its init tells. A process that closes its end of the wire without ending
    /// is given a moment, and then ended.
    fn exit_status(&self, patience: Duration) -> Option<i32> {
        let mut record = [0; 64];
        let status = loop {
            match crate::zygote::receive(self.channel.as_fd(), &mut record, patience) {
                Ok(len) => {
                    if let Some(record) =
                        Record::from_bytes(&record[..len]).filter(|r| r.kind == RecordKind::Exited as u32)
                    {
                        break Some(record.value);
                    }
                    let mut inner = self.lock();
                    inner.failure = inner
                        .failure
                        .take()
                        .or_else(|| seat::step_failure(&record[..len], self.zygote.birth(), &self.function.assign));
                }
                Err(_) => break None,
            }
        };
        self.kill(Cause::Retired);
        self.drain(&mut [0; 4096]);
        status
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

    /// Ends it, with everything that runs in it. Only the first cause counts.
    pub fn kill(&self, cause: Cause) {
        let first = self.cause.compare_exchange(Cause::None as u8, cause as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() && self.ended() {
            return;
        }
        self.cgroup.kill();
        process::kill(self.pidfd.as_fd());
    }

    /// Why it was ended by us.
    pub fn cause(&self) -> Cause {
        Cause::from_number(self.cause.load(Ordering::Acquire))
    }

    /// Whether the kernel has killed one of its processes for memory.
    pub fn out_of_memory(&self) -> bool {
        self.cause() == Cause::Memory || self.measure_memory_kill()
    }

    /// Stops every process of it, until the next question.
    pub fn freeze(&self) -> Result<()> {
        // Made ahead of need, it has not been asked anything yet.
        self.settle()?;
        if self.cgroup.can_freeze() {
            let begun = Instant::now();
            self.gauges.freeze(&self.cgroup, true)?;
            self.stopped.store(true, Ordering::Release);
            self.set_state(State::Frozen);
            // Killed meanwhile: what version 1 has stopped would never take the signal.
            if self.cause() != Cause::None {
                self.gauges.freeze(&self.cgroup, false)?;
            }
            self.lock().phases.freeze = Some(begun.elapsed());
        }
        Ok(())
    }

    fn thaw(&self, timed: bool) -> Result<()> {
        if self.stopped.swap(false, Ordering::AcqRel) {
            let begun = Instant::now();
            self.gauges.freeze(&self.cgroup, false)?;
            if timed {
                self.lock().phases.thaw = Some(begun.elapsed());
            }
        }
        Ok(())
    }

    /// Makes ready what `settle` needs, at a moment when nobody waits for it.
    fn prepare(&self) -> Result<()> {
        self.usage();
        self.cgroup.share_cpu(self.function.spec.vcpus())
    }

    /// Puts the CPU quota in force, once: initialisation ran at full speed, and what it used counts for no invocation.
    fn settle(&self) -> Result<()> {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.cgroup.limit_cpu(Some(self.function.spec.vcpus()))?;
            self.usage();
        }
        Ok(())
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
    fn measure(&self) -> Usage {
        if let Some((last, _)) = self.lock().last {
            return last;
        }
        let now = self.gauges.usage(&self.cgroup);
        // It may have been removed while it was being read.
        self.lock().last.map_or(now, |(last, _)| last)
    }

    fn measure_memory_kill(&self) -> bool {
        if let Some((_, killed)) = self.lock().last {
            return killed;
        }
        let killed = self.cgroup.out_of_memory();
        self.lock().last.map_or(killed, |(_, killed)| killed)
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

    /// Removes its cgroup: false while something is still in there.
    pub fn remove_cgroup(&self) -> bool {
        self.cgroup.remove().is_ok()
    }

    /// Its state.
    pub fn state(&self) -> State {
        let number = self.state.load(Ordering::Acquire);
        [State::Init, State::Ready, State::Busy, State::Frozen]
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

    /// The supervisor saw its end, and is about to remove its cgroup.
    pub fn died(&self) {
        let last = (self.measure(), self.measure_memory_kill());
        self.lock().last = Some(last);
        self.gauges.close();
        self.set_state(State::Dead);
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
        (self.created, self.lock().last_used)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Ready {
    control: bool,
    channel: bool,
    output: bool,
}

impl Ready {
    fn nothing(&self) -> bool {
        !(self.control || self.channel || self.output)
    }
}

/// A question on its way, and its answer.
struct Talk<'a> {
    outgoing: Outgoing<'a>,
    incoming: Incoming,
    sent: bool,
    buffer: Box<[u8]>,
}

impl Talk<'_> {
    /// Sends what the socket takes.
    fn push(&mut self, control: BorrowedFd<'_>) {
        // When the other end is gone, its last words may still be there.
        self.sent = self.sent || self.outgoing.push(control).unwrap_or(true);
    }
}

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What a process ended by itself is said to have done.
pub fn last_words(status: Option<i32>) -> String {
    status.map_or_else(|| "Runtime exited with error: signal: killed".into(), ended)
}
