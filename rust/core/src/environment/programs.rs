//! Environments whose runtime is a program: their launcher starts it, beside external extensions, and all of them speak
//! with a session of Lambda's APIs, which is served outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use super::board::Board;
use super::launcher::{RUNTIME, Word};
use super::{Cause, Environment, Event, Reply};
use crate::api::{self, About, News, Server, Session, Shutdown, Source};
use crate::error::{Error, Result};
use crate::frames::Frames;
use crate::function::Function;
use crate::launch::Launch;
use crate::log::pull;
use crate::platform::{Initialization, Metrics, Phase, Record, Status, error_type};
use crate::process;
use crate::spec::MAX_PAYLOAD;
use crate::variables::{ACCOUNT, VERSION};
use crate::wire::Kind;

/// After which time a wait first looks for a signal that it has missed.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that are taken from a pipe at a time.
const PIPE: usize = 65_536;
/// Bytes that a streamed response may have in all: Lambda's 200 MB.
pub const MAX_STREAM: u64 = 200 << 20;

/// What such an environment has beside the others.
#[derive(Debug)]
pub struct Programs {
    pub(super) session: Arc<Session>,
    pub(super) board: Arc<Board>,
    /// Both ends of the pipe that extensions print to.
    extensions: Option<(OwnedFd, OwnedFd)>,
    /// Both ends of the pipe for the runtime's framed log.
    frames: (OwnedFd, OwnedFd),
    /// Whether nothing is left to be done for the last event.
    rests: AtomicBool,
    /// Whether there is an extension, which is to be told of what happens.
    pub(super) attended: AtomicBool,
    /// Whether something in it has failed.
    pub(super) failed: AtomicBool,
    /// Whether those who want to know have been told that it ends.
    pub(super) leaving: AtomicBool,
    reading: Mutex<Reading>,
    open: Mutex<Option<Open>>,
}

/// Output on its way in.
#[derive(Debug)]
struct Reading {
    buffer: Box<[u8]>,
    frames: Frames,
    function: Lines,
    extension: Lines,
}

/// The invocation that no report has been given of yet.
#[derive(Debug)]
struct Open {
    request_id: String,
    begun: Instant,
    status: Status,
}

impl Programs {
    /// Begins to serve what will be asked on this socket.
    pub fn new(
        server: &Server,
        listener: OwnedFd,
        control: Arc<OwnedFd>,
        function: &Function,
        launch: &Launch,
    ) -> io::Result<Self> {
        let spec = &function.spec;
        let about = About {
            function_name: spec.name.clone(),
            function_version: VERSION.into(),
            handler: spec.handler.clone(),
            account_id: ACCOUNT.into(),
            arn: function.names.arn.clone(),
            memory_mb: spec.memory_mb,
            initialization_type: "on-demand".into(),
            external: launch.extensions.iter().map(|extension| extension.name.clone()).collect(),
            max_response: MAX_PAYLOAD,
            max_stream: MAX_STREAM,
        };
        let attended = !launch.extensions.is_empty();
        let board = Arc::new(Board::new(control));
        let session = server.serve(listener, about)?;
        let connecting = Arc::clone(&board);
        session.deliver(Box::new(move |port| connecting.connect(port)));
        Ok(Self {
            session,
            board,
            extensions: attended.then(pipe).transpose()?,
            frames: pipe()?,
            rests: AtomicBool::new(true),
            attended: AtomicBool::new(attended),
            failed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            reading: Mutex::new(Reading {
                buffer: vec![0; PIPE].into_boxed_slice(),
                frames: Frames::default(),
                function: Lines::default(),
                extension: Lines::default(),
            }),
            open: Mutex::default(),
        })
    }

    /// Whether nothing is left to be done for the last event: it may be frozen.
    pub fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// Tells those who have subscribed to such.
    fn record(&self, record: &Record) {
        if self.attended.load(Ordering::Acquire) {
            self.session.platform(&api::Platform { kind: record.kind(), record: record.value() });
        }
    }

    /// Lets go of every connection.
    pub fn close(&self) {
        self.session.close();
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// What bounds a wait.
struct Wait<'a> {
    until: Instant,
    interrupted: &'a dyn Fn() -> bool,
}

/// What happened.
enum Happening {
    News(News),
    Word(Word),
    /// Its init has ended, or says how its launcher has.
    End,
}

impl Environment {
    /// Starts extensions and the runtime, and waits until all of them wait for an event.
    pub(super) fn start_programs(
        &self,
        programs: &Programs,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        let function = Arc::clone(&self.function);
        let Some(launch) = &function.launch else { return Ok(Reply::Rubbish("it has nothing to start")) };
        if let Some((kind, what)) = &launch.defect {
            return Ok(Reply::Answer(Kind::InitError, said(kind, what)));
        }
        programs.session.start_init(api::Phase::Init);
        let (initialization, phase, begun) = (Initialization::OnDemand, Phase::Init, Instant::now());
        programs.record(&Record::InitStart {
            initialization,
            phase,
            runtime: function.subject.runtime.clone(),
            function: function.spec.name.clone(),
            instance: self.id.clone(),
            memory_mb: function.spec.memory_mb,
        });
        for ((id, extension), (_, output)) in (1..).zip(&launch.extensions).zip(programs.extensions.iter().cycle()) {
            programs.board.start(id, &extension.steps, output.as_fd()).map_err(|e| self.unheard(e))?;
        }
        if launch.extensions.is_empty() {
            self.start_runtime(programs, launch)?;
        }
        self.prepare().or_else(|e| if self.has_hung_up() { Ok(()) } else { Err(e) })?;
        let wait = Wait { until: backstop, interrupted };
        let reply = self.until(programs, &wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Registered) if !launch.extensions.is_empty() => {
                    self.start_runtime(programs, launch)?;
                    return Ok(None);
                }
                Happening::News(News::Ready) => Reply::Answer(Kind::Ready, Vec::new()),
                Happening::News(News::InitError { body, .. }) => Reply::Answer(Kind::InitError, body),
                Happening::News(News::ExtensionError { error_type, name }) => {
                    Reply::Answer(Kind::InitError, said(&error_type, &format!("extension {name:?} failed")))
                }
                Happening::Word(Word::Failed(id, errno)) => Self::not_started(launch, id, errno),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                other => return Ok(self.common(programs, other)),
            }))
        })?;
        let registered = programs.session.registered();
        if !registered.is_empty() {
            programs.attended.store(true, Ordering::Release);
        }
        for api::Extension { name, events, .. } in registered {
            let record = Record::Extension { name, state: "Ready".into(), events };
            self.lock().log.add(record.text().as_bytes());
        }
        let status = match &reply {
            Reply::Answer(Kind::Ready, _) => Status::Success,
            Reply::Answer(_, body) => Status::Error(error_type(&type_of(body))),
            _ => Status::Error("Runtime.ExitError".into()),
        };
        programs.record(&Record::InitRuntimeDone { initialization, phase, status: status.clone() });
        programs.record(&Record::InitReport { initialization, phase, status, duration: begun.elapsed() });
        Ok(reply)
    }

    /// Gives it an event and waits for the answer.
    pub(super) fn invoke_programs(
        &self,
        programs: &Programs,
        event: &Event<'_>,
        backstop: Instant,
        timed: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        // One whose runtime has ended since is not given the event at all.
        if !programs.rests() || self.has_hung_up() || self.has_lost(programs)? || self.thaw(timed).is_err() {
            return Ok(Reply::Unready);
        }
        programs.rests.store(false, Ordering::Release);
        let deadline = SystemTime::now() + event.timeout;
        let request_id = String::from_utf8_lossy(&event.parts[0][..36.min(event.parts[0].len())]).into_owned();
        let (arn, trace_id) = (self.function.names.arn.clone(), String::new());
        programs.record(&Record::Start { request_id: request_id.clone(), arn, trace_id });
        let begun = Instant::now();
        *programs.open() = Some(Open { request_id: request_id.clone(), begun, status: Status::Success });
        programs.session.invoke(api::Event {
            request_id: request_id.clone(),
            deadline_ms: deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            arn: self.function.names.arn.clone(),
            trace_id: String::new(),
            client_context: event.parts[1].to_vec(),
            cognito_identity: String::new(),
            payload: event.parts[2].to_vec(),
            content_type: String::new(),
        });
        self.begin();
        let mut streamed = Vec::new();
        let wait = Wait { until: backstop, interrupted };
        let reply = self.until(programs, &wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Response { body, .. }) => Reply::Answer(Kind::Response, body),
                Happening::News(News::Error { body, .. }) => Reply::Answer(Kind::Error, body),
                Happening::News(News::TooLarge) => Reply::Answer(Kind::Error, too_large()),
                Happening::News(News::BadMode) => Reply::Answer(
                    Kind::Error,
                    said("Runtime.InvalidResponseModeHeader", "Invalid function response mode"),
                ),
                Happening::News(News::Chunk(chunk)) => {
                    streamed.extend(chunk);
                    return Ok(None);
                }
                Happening::News(News::StreamEnd(None)) if streamed.len() > MAX_PAYLOAD => {
                    Reply::Answer(Kind::Error, too_large())
                }
                Happening::News(News::StreamEnd(None)) => Reply::Answer(Kind::Response, std::mem::take(&mut streamed)),
                Happening::News(News::StreamEnd(Some(error))) if error.body.is_empty() => {
                    Reply::Answer(Kind::Error, said(&error.error_type, "the response ended early"))
                }
                Happening::News(News::StreamEnd(Some(error))) => Reply::Answer(Kind::Error, error.body),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                other => return Ok(self.common(programs, other)),
            }))
        });
        let (status, produced_bytes) = match &reply {
            Ok(Reply::Answer(Kind::Response, body)) => (Status::Success, body.len() as u64),
            Ok(Reply::Answer(_, body)) => (Status::Error(error_type(&type_of(body))), body.len() as u64),
            _ if self.cause() == Cause::Timeout => (Status::Timeout, 0),
            _ => (Status::Failure("Runtime.ExitError".into()), 0),
        };
        if !matches!(reply, Ok(Reply::Answer(..))) {
            programs.session.expire();
            programs.failed.store(true, Ordering::Release);
        }
        if let Some(open) = programs.open().as_mut() {
            open.status = status.clone();
        }
        let (duration, trace_id) = (begun.elapsed(), String::new());
        programs.record(&Record::RuntimeDone { request_id, status, duration, produced_bytes, trace_id });
        reply
    }

    /// Waits until nothing is left to be done for the last event, and no longer than that; whether that was so.
    pub fn comes_to_rest(&self, until: Instant) -> bool {
        let Some(programs) = &self.programs else { return true };
        if programs.rests() {
            return true;
        }
        let wait = Wait { until, interrupted: &|| false };
        let reply = self.until(programs, &wait, &mut |happening| {
            Ok(match happening {
                Happening::News(News::Idle) => Some(Reply::Unready),
                Happening::Word(Word::Ended(RUNTIME, status)) => Some(Reply::Ended(Some(status))),
                other => self.common(programs, other),
            })
        });
        match reply {
            Ok(Reply::Unready) if !programs.failed.load(Ordering::Acquire) => {
                self.conclude(programs, None);
                programs.rests.store(true, Ordering::Release);
            }
            // It goes on; whoever waits may ask again.
            Ok(Reply::Interrupted) => {}
            _ => {
                programs.failed.store(true, Ordering::Release);
                self.kill(Cause::Retired);
            }
        }
        programs.rests()
    }

    /// Tells what the last invocation took, when it is over with all that belongs to it. `end`: why the environment ends.
    pub(super) fn conclude(&self, programs: &Programs, end: Option<Shutdown>) {
        let Some(Open { request_id, begun, status }) = programs.open().take() else { return };
        if !programs.attended.load(Ordering::Acquire) {
            return;
        }
        let (duration, memory_mb) = (begun.elapsed(), self.function.spec.memory_mb);
        let metrics = Metrics {
            duration,
            billed_ms: (duration.as_secs_f64() * 1000.0).ceil() as u64,
            memory_mb,
            max_memory_mb: self.usage().peak.div_ceil(1 << 20).min(memory_mb),
            init: None,
            restore: None,
        };
        let status = if end == Some(Shutdown::Timeout) { Status::Timeout } else { status };
        programs.record(&Record::Report { request_id, status, metrics, trace_id: String::new() });
    }

    fn start_runtime(&self, programs: &Programs, launch: &Launch) -> Result<()> {
        programs.board.start(RUNTIME, &launch.runtime.steps, programs.frames.1.as_fd()).map_err(|e| self.unheard(e))
    }

    /// What it means wherever nobody waits for something better.
    fn common(&self, programs: &Programs, happening: Happening) -> Option<Reply> {
        match happening {
            Happening::Word(Word::Ended(id, status)) => {
                let name = self.function.launch.as_ref().map_or("", |launch| name_of(launch, id));
                programs.session.extension_ended(name, &crate::report::ended(status));
                None
            }
            Happening::News(News::ExtensionError { error_type, name }) => {
                programs.failed.store(true, Ordering::Release);
                Some(Reply::Answer(Kind::Error, said(&error_type, &format!("extension {name:?} failed"))))
            }
            Happening::News(News::Idle) => {
                programs.rests.store(true, Ordering::Release);
                None
            }
            Happening::News(News::Subscribed) => {
                programs.attended.store(true, Ordering::Release);
                None
            }
            Happening::News(News::Defect(_)) => Some(Reply::Rubbish("the server of its session failed")),
            Happening::Word(Word::Closed) | Happening::End => Some(Reply::Ended(None)),
            Happening::News(_) | Happening::Word(_) => None,
        }
    }

    fn not_started(launch: &Launch, id: u32, errno: i32) -> Reply {
        const NOT_FOUND: i32 = 2;
        if id == RUNTIME && launch.wrapped && errno == NOT_FOUND {
            return Reply::Ended(Some(127 << 8));
        }
        let program = launch.extensions.get((id as usize).wrapping_sub(1)).unwrap_or(&launch.runtime);
        let kind = if id == RUNTIME { "Runtime.InvalidEntrypoint" } else { "Extension.LaunchError" };
        let why = io::Error::from_raw_os_error(errno);
        Reply::Answer(Kind::InitError, said(kind, &format!("starting {}: {why}", program.path)))
    }

    /// Whether its runtime, or it, has ended since it was last looked at.
    fn has_lost(&self, programs: &Programs) -> Result<bool> {
        while let Some(word) = programs.board.word().map_err(|e| self.unheard(e))? {
            if matches!(word, Word::Closed | Word::Ended(..)) {
                return Ok(true);
            }
        }
        while let Some(news) = programs.session.news() {
            if matches!(news, News::ExtensionError { .. } | News::Defect(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_hung_up(&self) -> bool {
        process::readable(self.channel.as_fd(), Duration::ZERO)
    }

    fn unheard(&self, e: io::Error) -> Error {
        Error::kernel("talking to", self.id.clone(), e)
    }

    /// Waits for what `judge` has a reply for, keeping the output flowing meanwhile. Deadlines are the supervisor's: when one
    /// passes, the environment ends.
    fn until(
        &self,
        programs: &Programs,
        wait: &Wait<'_>,
        judge: &mut dyn FnMut(Happening) -> Result<Option<Reply>>,
    ) -> Result<Reply> {
        let begun = Instant::now();
        let _listening = programs.board.listen();
        loop {
            // Its end has begun, and there will be no answer.
            if programs.leaving.load(Ordering::Acquire) {
                return Ok(Reply::Ended(None));
            }
            while let Some(news) = programs.session.news() {
                if let Some(reply) = judge(Happening::News(news))? {
                    // What was printed before the answer belongs to it.
                    self.drain_programs(programs);
                    return Ok(reply);
                }
            }
            // After the news: what the runtime said before it ended counts.
            while let Some(word) = programs.board.word().map_err(|e| self.unheard(e))? {
                if matches!(word, Word::Ended(..) | Word::Closed)
                    && let Some(reply) = self.last_news(programs, judge)?
                {
                    return Ok(reply);
                }
                if let Some(reply) = judge(Happening::Word(word))? {
                    self.drain_programs(programs);
                    return Ok(self.how_it_ended(reply));
                }
            }
            let now = Instant::now();
            if now >= wait.until {
                return Ok(Reply::Interrupted);
            }
            let attended = programs.attended.load(Ordering::Acquire);
            let look = now + if attended { LOOK } else { (now - begun).max(LOOK) };
            let left = wait.until.min(look).saturating_duration_since(now);
            let mut fds = vec![
                PollFd::from_borrowed_fd(programs.session.signal(), PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.channel, PollFlags::IN),
                PollFd::new(&self.output, PollFlags::IN),
                PollFd::new(&programs.frames.0, PollFlags::IN),
            ];
            fds.extend(programs.extensions.as_ref().map(|(read, _)| PollFd::new(read, PollFlags::IN)));
            let ready = match poll(&mut fds, Some(&process::timespec(left))) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => 0,
                Err(e) => return Err(self.unheard(e.into())),
            };
            if ready == 0 && (wait.interrupted)() {
                return Ok(Reply::Interrupted);
            }
            let hung_up = fds[2].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            drop(fds);
            self.drain_programs(programs);
            if hung_up {
                if let Some(reply) = self.last_news(programs, judge)? {
                    return Ok(reply);
                }
                return Ok(self.how_it_ended(judge(Happening::End)?.unwrap_or(Reply::Ended(None))));
            }
        }
    }

    /// What came before an end was seen: an answer counts when it was given, whatever happened to who gave it.
    fn last_news(
        &self,
        programs: &Programs,
        judge: &mut dyn FnMut(Happening) -> Result<Option<Reply>>,
    ) -> Result<Option<Reply>> {
        while let Some(news) = programs.session.news() {
            if let Some(reply) = judge(Happening::News(news))? {
                self.drain_programs(programs);
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Where only the launcher's end is known, its init may know more.
    fn how_it_ended(&self, reply: Reply) -> Reply {
        if let Reply::Ended(None) = reply
            && !self.is_leaving()
        {
            Reply::Ended(self.exit_status(Duration::from_secs(2)))
        } else {
            reply
        }
    }

    pub(super) fn drain_programs(&self, programs: &Programs) {
        let mut reading = programs.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { buffer, frames, function, extension } = &mut *reading;
        let attended = programs.attended.load(Ordering::Acquire);
        let log = &mut self.lock().log;
        let tell = |lines: &mut Lines, source, bytes: &[u8]| {
            if attended {
                lines.take(bytes, |line| programs.session.log(source, line));
            }
        };
        pull(self.output.as_fd(), buffer, |bytes| {
            log.add(bytes);
            tell(function, Source::Function, bytes);
        });
        frames.drain_into(programs.frames.0.as_fd(), buffer, |bytes| {
            log.add(bytes);
            tell(function, Source::Function, bytes);
        });
        if let Some((read, _)) = &programs.extensions {
            pull(read.as_fd(), buffer, |bytes| {
                log.add(bytes);
                tell(extension, Source::Extension, bytes);
            });
        }
    }
}

impl Programs {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream cut into lines, of which none is longer than this.
const LINE: usize = 65_536;

#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.0.extend(piece);
            if piece.ends_with(b"\n") || self.0.len() >= LINE {
                each(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }
}

/// The type in an error's JSON; empty if it has none.
fn type_of(error: &[u8]) -> String {
    let error = serde_json::from_slice::<serde_json::Value>(error).unwrap_or_default();
    error["errorType"].as_str().unwrap_or_default().to_owned()
}

fn name_of(launch: &Launch, id: u32) -> &str {
    launch.extensions.get((id as usize).wrapping_sub(1)).map_or("", |extension| &extension.name)
}

/// Lambda's error JSON of the platform's own; the caller's request is not known to who says it.
fn said(kind: &str, what: &str) -> Vec<u8> {
    json!({"errorType": kind, "errorMessage": format!("Error: {what}")}).to_string().into_bytes()
}

fn too_large() -> Vec<u8> {
    let message = format!("Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD} bytes).");
    json!({"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}).to_string().into_bytes()
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}
