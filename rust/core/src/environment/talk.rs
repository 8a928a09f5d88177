//! Questions to an environment, and its answers.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use coldframe_sys::child::record::{Kind as RecordKind, Record};
use coldframe_sys::program;
use rustix::event::{PollFd, PollFlags, poll};

use super::{Cause, Environment, State};
use crate::error::{Error, Result};
use crate::platform::Phase;
use crate::process;
use crate::random;
use crate::report::ended;
use crate::seat;
use crate::spec::MAX_PAYLOAD;
use crate::wire::{self, Arrival, Incoming, Kind, Outgoing, PACKET};

/// After which time a wait first looks for a signal that it has missed.
const LOOK: Duration = Duration::from_millis(50);

/// For how long an initialisation may have an event beside it: then that counts as if it had begun. An import could read it and
/// do its work ahead of time, without a quota and without a deadline; one that has taken longer before gets no event.
pub const HEAD_START: Duration = Duration::from_millis(50);

/// A question, and what bounds the wait for its answer.
///
/// Deadlines are the supervisor's: when one passes, the environment ends, and with it this wait. `backstop` bounds it even
/// if that went wrong.
#[derive(Clone, Copy, Debug)]
struct Question<'a> {
    kind: Kind,
    /// With which the answer counts: nobody inside can guess it before.
    token: u64,
    /// One part after another.
    body: &'a [&'a [u8]],
    /// Whether it has been sent already.
    sent: bool,
    /// Bytes that the answer may have.
    most: usize,
    backstop: Instant,
    /// Whether a thaw is a phase of its own.
    timed: bool,
}

/// An invocation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// With which its answer counts.
    pub token: u64,
    /// How long it may take.
    pub timeout: Duration,
    /// What goes first, the client context, and the event.
    pub parts: [&'a [u8]; 3],
}

impl Event<'_> {
    /// Its request id, its trace id, and when its time is up: what its first part says.
    pub(crate) fn head(&self) -> (String, String, SystemTime) {
        const ID: usize = 36;
        const FIXED: usize = ID + 8 + 4;
        let (id, rest) = self.parts[0].split_at(ID.min(self.parts[0].len()));
        let end = rest.first_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        let left = Duration::from_nanos(end.saturating_sub(process::monotonic_ns()));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(id), text(self.parts[0].get(FIXED..).unwrap_or_default()), SystemTime::now() + left)
    }
}

/// What came of a question to an environment.
#[derive(Debug)]
pub enum Reply {
    /// An answer, or the end of one that came in chunks.
    Answer(Kind, Vec<u8>),
    /// A part of one; see [`Environment::more`].
    Chunk(Vec<u8>),
    /// The environment ended, or was ended: how its process ended, if it said so.
    Ended(Option<i32>),
    /// It had something to say before it was asked, and was not asked.
    Unready,
    /// The platform says what went wrong: the error's type, and the message.
    Failed(String, String),
    /// It broke the protocol.
    Rubbish(&'static str),
    /// The caller was interrupted.
    Interrupted,
}

/// What is open after a chunk: the rest of the answer.
#[derive(Debug)]
pub struct Listening(Incoming);

impl Environment {
    /// Tells it what its function is, ahead of need. None of the function's code runs.
    pub fn describe(&self, backstop: Instant) -> Result<()> {
        if self.programs.is_some() {
            return Ok(());
        }
        let question = Question {
            kind: Kind::Describe,
            token: random::number(),
            body: &[&self.function.init],
            sent: false,
            most: 0,
            backstop,
            timed: true,
        };
        let reply = self.ask(&question, &|| false)?;
        if !matches!(reply, Reply::Answer(Kind::Described, _)) {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(self.setup_failure().unwrap_or_else(|| Error::kernel("parking", self.id.clone(), source)));
        }
        self.described.store(true, Ordering::Release);
        Ok(())
    }

    /// Has it import its handler, and waits until it is ready. An `event` that it will have goes with the order, so that nobody
    /// waits for anybody in between. `interrupted` is asked whenever a signal came.
    pub fn initialise(
        &self,
        event: Option<&Event<'_>>,
        phase: Phase,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        if let Some(programs) = &self.programs {
            return self.start_programs(programs, phase, backstop, interrupted);
        }
        let (description, bytecode) = self.order();
        let len = ((description.len() + 1 + bytecode.len()) as u32).to_le_bytes();
        let event_token = event.map_or(0, |event| event.token).to_le_bytes();
        let [head, context, payload] = event.map_or([&[][..]; 3], |event| event.parts);
        let both = [&len[..], description, b"\0", bytecode, &event_token, head, context, payload];
        let question = Question {
            kind: if self.is_restored() { Kind::Restore } else { Kind::Init },
            token: random::number(),
            body: if self.has_event() { &both } else { &both[..4] },
            sent: false,
            most: MAX_PAYLOAD,
            backstop,
            timed: true,
        };
        self.ask(&question, interrupted)
    }

    /// How it became its function's.
    fn assigned(&self) -> &[program::Step] {
        self.zygote.birth().assign.as_ref().unwrap_or(&self.function.assign)
    }

    /// Decides whether an event is to go with the order to initialise: see [`Self::has_event`].
    pub fn will_have(&self, event: Option<&Event<'_>>) {
        const FIXED: usize = 4 + 1 + 8;
        let (description, bytecode) = self.order();
        let fits = |event: &Event<'_>| {
            let event: usize = event.parts.iter().map(|part| part.len()).sum();
            FIXED + description.len() + bytecode.len() + event <= wire::FIRST
        };
        // What an initialisation prints comes before START, and nobody could tell it from what the handler prints.
        let quiet = self.programs.is_none() && !self.function.speaks_early.load(Ordering::Relaxed);
        let has_event = quiet && event.is_some_and(fits) && self.function.initialises_within(HEAD_START / 2);
        self.has_event.store(has_event, Ordering::Release);
    }

    /// What the function is, unless it knows, and the bytecode of its handler, if that is known.
    fn order(&self) -> (&[u8], &[u8]) {
        if self.is_restored() {
            return (&self.restoring, b"");
        }
        let description: &[u8] = if self.described.load(Ordering::Acquire) { b"" } else { &self.function.init };
        (description, self.function.bytecode.get().map_or(&[], Vec::as_slice))
    }

    /// Whether it has got an event with the order to initialise, for whose answer nobody has waited yet.
    pub fn has_event(&self) -> bool {
        self.has_event.load(Ordering::Acquire)
    }

    /// Gives it an event, unless it has it already, and waits for the answer. With `timed`, a thaw is a phase of its own.
    pub fn invoke(
        &self,
        event: &Event<'_>,
        backstop: Instant,
        timed: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        if let Some(programs) = &self.programs {
            return self.invoke_programs(programs, event, backstop, interrupted, true);
        }
        let sent = self.has_event.swap(false, Ordering::AcqRel);
        let (token, body) = (event.token, &event.parts);
        self.ask(&Question { kind: Kind::Invoke, token, body, sent, most: MAX_PAYLOAD, backstop, timed }, interrupted)
    }

    /// Gives it an event whose answer may come in chunks, and waits for the first or for the whole.
    pub fn stream(
        &self,
        event: &Event<'_>,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(Reply, Listening)> {
        if let Some(programs) = &self.programs {
            let reply = self.invoke_programs(programs, event, backstop, interrupted, false)?;
            return Ok((reply, Listening(Incoming::new(0, 0, 0))));
        }
        let (token, body) = (event.token, &event.parts);
        let question =
            Question { kind: Kind::Stream, token, body, sent: false, most: MAX_PAYLOAD, backstop, timed: true };
        let mut talk = Talk::new(&question, self.token.swap(token, Ordering::AcqRel));
        let reply = self.talk(&question, &mut talk, interrupted);
        let incoming = talk.end();
        Ok((reply?, Listening(incoming)))
    }

    /// Waits for what comes next of an answer in chunks. Nobody reads in between: one that writes faster than it is read
    /// waits, when what its socket holds is full.
    pub fn more(&self, listening: &mut Listening, backstop: Instant, interrupted: &dyn Fn() -> bool) -> Result<Reply> {
        if let Some(programs) = &self.programs {
            return self.hear_answer(programs, backstop, interrupted, false);
        }
        let question = Question {
            kind: Kind::Stream,
            token: self.token.load(Ordering::Acquire),
            body: &[],
            sent: true,
            most: MAX_PAYLOAD,
            backstop,
            timed: true,
        };
        let mut talk = Talk::new(&question, question.token);
        std::mem::swap(&mut talk.incoming, &mut listening.0);
        let reply = self.listen(&question, &mut talk, interrupted);
        listening.0 = talk.end();
        reply
    }

    /// Whether it lives, and has nothing to say.
    pub fn waits(&self) -> bool {
        self.usable() && self.wait(true, Instant::now()).is_ok_and(|ready| ready.nothing())
    }

    /// Sends a message and waits for its answer, keeping the output flowing meanwhile.
    fn ask(&self, question: &Question<'_>, interrupted: &dyn Fn() -> bool) -> Result<Reply> {
        let mut talk = Talk::new(question, self.token.swap(question.token, Ordering::AcqRel));
        let reply = self.talk(question, &mut talk, interrupted);
        talk.end();
        reply
    }

    fn talk(&self, question: &Question<'_>, talk: &mut Talk<'_>, interrupted: &dyn Fn() -> bool) -> Result<Reply> {
        let &Question { kind, timed, .. } = question;
        let failed = |e: io::Error| Error::kernel("talking to", self.id.clone(), e);
        // One that died while it was idle, or has something to say that nobody asked, is not given the event at all.
        if !talk.sent && self.state() != State::Init && !self.is_silent(talk).map_err(failed)? {
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
        let meanwhile = match kind {
            Kind::Init if self.described.load(Ordering::Acquire) => Ok(()),
            Kind::Init | Kind::Describe | Kind::Restore => self.prepare(),
            _ => {
                self.begin();
                Ok(())
            }
        };
        // The cgroup of one that has just ended may be gone.
        meanwhile.or_else(|e| if process::readable(self.pidfd(), Duration::ZERO) { Ok(()) } else { Err(e) })?;
        // One that goes from its initialisation to its event takes longer than a moment.
        let soon = talk.sent && !matches!(kind, Kind::Init | Kind::Restore) && !question.sent;
        if soon && self.patience.is_worth_it() {
            if let Some(reply) = self.patience.watch(|| self.hear(talk).transpose()) {
                return reply.map_err(failed);
            }
            // A signal that came meanwhile has interrupted nothing.
            if interrupted() {
                return Ok(Reply::Interrupted);
            }
        }
        self.listen(question, talk, interrupted)
    }

    /// Waits for an answer, or a part of it, and sends what is left of the question meanwhile.
    fn listen(&self, question: &Question<'_>, talk: &mut Talk<'_>, interrupted: &dyn Fn() -> bool) -> Result<Reply> {
        let backstop = question.backstop;
        let failed = |e: io::Error| Error::kernel("talking to", self.id.clone(), e);
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
            Arrival::Message(Kind::Chunk, _) if !talk.sent => {
                Some(Reply::Rubbish("an answer came before the question"))
            }
            Arrival::Message(Kind::Chunk, body) => Some(Reply::Chunk(body)),
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

    pub(super) fn drain(&self, buffer: &mut [u8]) {
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
    pub(super) fn exit_status(&self, patience: Duration) -> Option<i32> {
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
                        .or_else(|| seat::step_failure(&record[..len], self.zygote.birth(), self.assigned()));
                }
                Err(_) => break None,
            }
        };
        self.kill(Cause::Retired);
        self.drain(&mut [0; 4096]);
        status
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

impl<'a> Talk<'a> {
    /// A question that is to be asked, after the one whose token is `stale`.
    fn new(question: &Question<'a>, stale: u64) -> Self {
        let &Question { kind, token, body, sent, most, .. } = question;
        Self {
            outgoing: Outgoing::new(kind, token, body),
            incoming: Incoming::new(token, stale, most),
            sent,
            buffer: take_buffer(),
        }
    }

    /// Gives the buffer back; what has arrived of the answer stays.
    fn end(self) -> Incoming {
        give_buffer_back(self.buffer);
        self.incoming
    }

    /// Sends what the socket takes.
    fn push(&mut self, control: BorrowedFd<'_>) {
        // When the other end is gone, its last words may still be there.
        self.sent = self.sent || self.outgoing.push(control).unwrap_or(true);
    }
}

thread_local! {
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Room for a packet, or for what a pipe holds. Taken rather than borrowed: whoever has it may run code of the caller that
/// invokes a function itself.
pub(super) fn take_buffer() -> Box<[u8]> {
    BUFFER.take().unwrap_or_else(|| vec![0; PACKET].into_boxed_slice())
}

/// The next one in this thread has it.
pub(super) fn give_buffer_back(buffer: Box<[u8]>) {
    BUFFER.set(Some(buffer));
}

/// What a process ended by itself is said to have done.
pub fn last_words(status: Option<i32>) -> String {
    status.map_or_else(|| "Runtime exited with error: signal: killed".into(), ended)
}
