//! One execution environment: how it is made, how it answers, how it ends.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use coldframe_sys::child::record::{Kind as RecordKind, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use crate::birth::{self, Newborn};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::function::Function;
use crate::log::Log;
use crate::process;
use crate::random;
use crate::report::ended;
use crate::wire::{Arrival, Incoming, Kind, Outgoing, PACKET};
use crate::zygote::Zygote;

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
    function: Arc<Function>,
    state: AtomicU8,
    cause: AtomicU8,
    stopped: AtomicBool,
    /// Of the last question that was asked.
    token: AtomicU64,
    created: SystemTime,
    inner: Mutex<Inner>,
    // Last: environments live in pid namespaces below their zygote's, which has to outlive them.
    _zygote: Arc<Zygote>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    last_used: SystemTime,
    cpu: Duration,
    throttled: Duration,
    failure: Option<Error>,
    /// What the cgroup had to say before it was removed.
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    cpu: Duration,
    throttled: Duration,
    peak: u64,
    out_of_memory: bool,
}

impl Environment {
    /// Makes one: forked, isolated, limited, locked down; the function's code has not been touched yet.
    ///
    /// `slot` is the host user that it is to be, as root; 0 otherwise.
    pub fn create(
        zygote: &Arc<Zygote>,
        function: &Arc<Function>,
        cgroup: Cgroup,
        number: u64,
        slot: u32,
    ) -> Result<Self> {
        let Newborn { pid, pidfd, control, channel, output, alarm } = birth::give(zygote, function, &cgroup, slot)
            .inspect_err(|_| {
                cgroup.kill();
                let _ = cgroup.remove_within(Duration::from_secs(1));
            })?;
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
            function: Arc::clone(function),
            state: AtomicU8::new(State::Init as u8),
            cause: AtomicU8::new(Cause::None as u8),
            stopped: AtomicBool::new(false),
            token: AtomicU64::new(random::number()),
            created: now,
            inner: Mutex::new(Inner {
                log,
                last_used: now,
                cpu: Duration::ZERO,
                throttled: Duration::ZERO,
                failure: None,
                last: None,
            }),
            _zygote: Arc::clone(zygote),
        })
    }

    /// Sends a message and waits for its answer, keeping the output flowing meanwhile.
    ///
    /// Deadlines are the supervisor's: when one passes, the environment ends, and with it this wait. `backstop` bounds
    /// the wait even if that went wrong. `interrupted` is asked whenever a signal came.
    pub fn ask(
        &self,
        kind: Kind,
        body: &[&[u8]],
        most: usize,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        let token = random::number();
        let mut talk = Talk {
            outgoing: Outgoing::new(kind, token, body),
            incoming: Incoming::new(token, self.token.swap(token, Ordering::AcqRel), most),
            sent: false,
            // Taken rather than borrowed: `interrupted` may run code of the caller that invokes a function itself.
            buffer: BUFFER.take().unwrap_or_else(|| vec![0; PACKET].into_boxed_slice()),
        };
        let reply = self.talk(&mut talk, backstop, interrupted);
        BUFFER.set(Some(talk.buffer));
        reply.map_err(|e| Error::kernel("talking to", self.id.clone(), e))
    }

    fn talk(&self, talk: &mut Talk<'_>, backstop: Instant, interrupted: &dyn Fn() -> bool) -> io::Result<Reply> {
        // One that died while it was idle, or has something to say that nobody asked, is not given the event at all.
        if self.state() != State::Init && !self.is_silent(talk)? {
            return Ok(Reply::Unready);
        }
        if self.thaw().is_err() {
            // It has just ended, and its cgroup is gone.
            return Ok(Reply::Unready);
        }
        loop {
            // When the other end is gone, its last words may still be there.
            talk.sent = talk.sent || talk.outgoing.push(self.control.as_fd()).unwrap_or(true);
            let ready = match self.wait(talk.sent, backstop) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) if interrupted() => return Ok(Reply::Interrupted),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            if ready.output {
                self.drain(&mut talk.buffer);
            }
            if ready.control {
                match talk.incoming.pull(self.control.as_fd(), &mut talk.buffer)? {
                    Arrival::Message(kind, body) => {
                        // What was printed before the answer belongs to it.
                        self.drain(&mut talk.buffer);
                        return Ok(Reply::Answer(kind, body));
                    }
                    Arrival::Rubbish(why) => return Ok(Reply::Rubbish(why)),
                    Arrival::Closed => return Ok(Reply::Ended(self.exit_status(Duration::from_secs(2)))),
                    Arrival::Nothing => {}
                }
            } else if ready.channel {
                return Ok(Reply::Ended(self.exit_status(Duration::ZERO)));
            }
            if Instant::now() > backstop {
                self.kill(Cause::Timeout);
                return Ok(Reply::Ended(None));
            }
        }
    }

    /// Whether it waits, as it should. Second answers to its last question are thrown away.
    fn is_silent(&self, talk: &mut Talk<'_>) -> io::Result<bool> {
        let ready = self.wait(true, Instant::now())?;
        let said =
            if ready.control { talk.incoming.pull(self.control.as_fd(), &mut talk.buffer)? } else { Arrival::Nothing };
        Ok(!ready.channel && said == Arrival::Nothing)
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
                    inner.failure =
                        inner.failure.take().or_else(|| birth::step_failure(&record[..len], &self.function));
                }
                Err(_) => break None,
            }
        };
        self.kill(Cause::Retired);
        self.drain(&mut [0; 4096]);
        status
    }

    /// The step that failed while it was being set up, if one did.
    pub fn setup_failure(&self) -> Option<Error> {
        self.lock().failure.take()
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
        self.cause() == Cause::Memory || self.measure().out_of_memory
    }

    /// Stops every process of it, until the next question.
    pub fn freeze(&self) -> Result<()> {
        if self.cgroup.can_freeze() {
            self.cgroup.freeze(true)?;
            self.stopped.store(true, Ordering::Release);
            self.set_state(State::Frozen);
            // Killed meanwhile: what version 1 has stopped would never take the signal.
            if self.cause() != Cause::None {
                self.cgroup.freeze(false)?;
            }
        }
        Ok(())
    }

    fn thaw(&self) -> Result<()> {
        if self.stopped.swap(false, Ordering::AcqRel) { self.cgroup.freeze(false) } else { Ok(()) }
    }

    /// Puts the CPU quota in force: initialisation ran at full speed.
    pub fn limit_cpu(&self) -> Result<()> {
        let vcpus = self.function.spec.vcpus();
        self.cgroup.limit_cpu(Some(vcpus))
    }

    /// CPU time, and time throttled, since this was last asked; the most memory that was ever in use, in bytes.
    pub fn usage(&self) -> (Duration, Duration, u64) {
        let now = self.measure();
        let mut inner = self.lock();
        let used = (now.cpu.saturating_sub(inner.cpu), now.throttled.saturating_sub(inner.throttled), now.peak);
        (inner.cpu, inner.throttled) = (now.cpu, now.throttled);
        used
    }

    /// Asks the cgroup, or if it is gone already what was noted then.
    fn measure(&self) -> Last {
        if let Some(last) = self.lock().last {
            return last;
        }
        let (cpu, throttled) = self.cgroup.cpu();
        let peak = self.cgroup.peak_memory().unwrap_or(0);
        let now = Last { cpu, throttled, peak, out_of_memory: self.cgroup.out_of_memory() };
        // It may have been removed while it was being read.
        self.lock().last.unwrap_or(now)
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
        let last = self.measure();
        self.lock().last = Some(last);
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

/// A question on its way, and its answer.
struct Talk<'a> {
    outgoing: Outgoing<'a>,
    incoming: Incoming,
    sent: bool,
    buffer: Box<[u8]>,
}

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What a process ended by itself is said to have done.
pub fn last_words(status: Option<i32>) -> String {
    status.map_or_else(|| "Runtime exited with error: signal: killed".into(), ended)
}
