//! Environments whose runtime is a program: their launcher starts it, beside external extensions, and all of them speak
//! with a session of Lambda's APIs, which is served outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;

use super::launcher::{self, RUNTIME, Word};
use super::{Cause, Environment, Event, Reply};
use crate::api::{self, About, News, Phase, Server, Session};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::launch::Launch;
use crate::process;
use crate::spec::{MAX_PAYLOAD, MAX_STREAM};
use crate::variables::{ACCOUNT, VERSION};
use crate::wire::Kind;

/// After which time a wait first looks for a signal that it has missed.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that are taken from a pipe at a time.
const PIPE: usize = 65_536;

/// What such an environment has beside the others.
#[derive(Debug)]
pub struct Programs {
    session: Arc<Session>,
    /// Both ends of the pipe that extensions print to.
    extensions: Option<(OwnedFd, OwnedFd)>,
    /// Whether nothing is left to be done for the last event.
    rests: AtomicBool,
    buffer: Mutex<Box<[u8]>>,
}

impl Programs {
    /// Begins to serve what will be asked on this socket.
    pub fn new(server: &Server, listener: OwnedFd, function: &Function, launch: &Launch) -> io::Result<Self> {
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
        let extensions = if launch.extensions.is_empty() {
            None
        } else {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&read, true)?;
            Some((read, write))
        };
        let session = server.serve(listener, about)?;
        Ok(Self {
            session,
            extensions,
            rests: AtomicBool::new(true),
            buffer: Mutex::new(vec![0; PIPE].into_boxed_slice()),
        })
    }

    /// Whether nothing is left to be done for the last event: it may be frozen.
    pub fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// Lets go of every connection.
    pub fn close(&self) {
        self.session.close();
    }
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
        programs.session.start_init(Phase::Init);
        for (id, extension) in (1..).zip(&launch.extensions) {
            let output = programs.extensions.as_ref().map_or(self.control.as_fd(), |(_, write)| write.as_fd());
            launcher::start(self.control.as_fd(), id, &extension.steps, output).map_err(|e| self.unheard(e))?;
        }
        if launch.extensions.is_empty() {
            self.start_runtime(launch)?;
        }
        self.prepare().or_else(|e| if self.has_hung_up() { Ok(()) } else { Err(e) })?;
        let wait = Wait { until: backstop, interrupted };
        self.until(programs, &wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Registered) if !launch.extensions.is_empty() => {
                    self.start_runtime(launch)?;
                    return Ok(None);
                }
                Happening::News(News::Ready) => Reply::Answer(Kind::Ready, Vec::new()),
                Happening::News(News::InitError { body, .. }) => Reply::Answer(Kind::InitError, body),
                Happening::News(News::ExtensionError { error_type, name }) => {
                    Reply::Answer(Kind::InitError, said(&error_type, &format!("extension {name:?} failed")))
                }
                Happening::Word(Word::Failed(id, errno)) => Self::not_started(launch, id, errno),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                Happening::Word(Word::Ended(id, status)) => {
                    programs.session.extension_ended(name_of(launch, id), &crate::report::ended(status));
                    return Ok(None);
                }
                other => return Ok(Self::common(programs, other)),
            }))
        })
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
        if !self.give(programs, event, timed)? {
            return Ok(Reply::Unready);
        }
        let mut streamed = Vec::new();
        self.hear_programs(programs, &Wait { until: backstop, interrupted }, Some(&mut streamed))
    }

    /// Gives it an event, and waits for the first chunk of the answer or for the whole.
    pub(super) fn stream_programs(
        &self,
        programs: &Programs,
        event: &Event<'_>,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        if !self.give(programs, event, true)? {
            return Ok(Reply::Unready);
        }
        self.more_of_programs(programs, backstop, interrupted)
    }

    /// Waits for the next chunk of an answer, or its end. The session holds no more than it may, and then its writer waits.
    pub(super) fn more_of_programs(
        &self,
        programs: &Programs,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        self.hear_programs(programs, &Wait { until: backstop, interrupted }, None)
    }

    /// Gives it an event; false if it is not in a state to serve.
    fn give(&self, programs: &Programs, event: &Event<'_>, timed: bool) -> Result<bool> {
        // One whose runtime has ended since is not given the event at all.
        if !programs.rests() || self.has_hung_up() || self.has_lost(programs)? || self.thaw(timed).is_err() {
            return Ok(false);
        }
        programs.rests.store(false, Ordering::Release);
        let deadline = SystemTime::now() + event.timeout;
        programs.session.invoke(api::Event {
            request_id: String::from_utf8_lossy(&event.parts[0][..36.min(event.parts[0].len())]).into_owned(),
            deadline_ms: deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            arn: self.function.names.arn.clone(),
            trace_id: String::new(),
            client_context: event.parts[1].to_vec(),
            cognito_identity: String::new(),
            payload: event.parts[2].to_vec(),
            content_type: String::new(),
        });
        self.begin();
        Ok(true)
    }

    /// Waits for its answer. Chunks are put together in `whole`, as far as that may be answered; without one each is a reply.
    fn hear_programs(&self, programs: &Programs, wait: &Wait<'_>, mut whole: Option<&mut Vec<u8>>) -> Result<Reply> {
        let reply = self.until(programs, wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Response { body, .. }) => Reply::Answer(Kind::Response, body),
                Happening::News(News::Error { body, .. }) => Reply::Answer(Kind::Error, body),
                Happening::News(News::TooLarge) => Reply::Answer(Kind::Error, too_large()),
                Happening::News(News::BadMode) => Reply::Answer(
                    Kind::Error,
                    said("Runtime.InvalidResponseModeHeader", "Invalid function response mode"),
                ),
                Happening::News(News::Chunk(chunk)) => match &mut whole {
                    None => Reply::Chunk(chunk),
                    Some(whole) => {
                        // Too much is as good as more.
                        if whole.len() <= MAX_PAYLOAD {
                            whole.extend(chunk);
                        }
                        return Ok(None);
                    }
                },
                Happening::News(News::StreamEnd(None)) => {
                    let whole = whole.as_mut().map(|whole| std::mem::take(*whole)).unwrap_or_default();
                    if whole.len() > MAX_PAYLOAD {
                        Reply::Answer(Kind::Error, too_large())
                    } else {
                        Reply::Answer(Kind::Response, whole)
                    }
                }
                Happening::News(News::StreamEnd(Some(error))) if error.body.is_empty() => {
                    Reply::Answer(Kind::Error, said(&error.error_type, "the response ended early"))
                }
                Happening::News(News::StreamEnd(Some(error))) => Reply::Answer(Kind::Error, error.body),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                other => return Ok(Self::common(programs, other)),
            }))
        });
        if !matches!(reply, Ok(Reply::Answer(..) | Reply::Chunk(_))) {
            programs.session.expire();
        }
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
                other => Self::common(programs, other),
            })
        });
        match reply {
            Ok(Reply::Unready) => programs.rests.store(true, Ordering::Release),
            // It goes on; whoever waits may ask again.
            Ok(Reply::Interrupted) => {}
            _ => self.kill(Cause::Retired),
        }
        programs.rests()
    }

    fn start_runtime(&self, launch: &Launch) -> Result<()> {
        // Its framed log has a place, but nobody reads frames yet: they are lines like any others.
        launcher::start(self.control.as_fd(), RUNTIME, &launch.runtime.steps, self.control.as_fd())
            .map_err(|e| self.unheard(e))
    }

    /// What it means wherever nobody waits for something better.
    fn common(programs: &Programs, happening: Happening) -> Option<Reply> {
        match happening {
            Happening::News(News::ExtensionError { error_type, name }) => {
                Some(Reply::Answer(Kind::Error, said(&error_type, &format!("extension {name:?} failed"))))
            }
            Happening::News(News::Idle) => {
                programs.rests.store(true, Ordering::Release);
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
        while let Some(word) = launcher::hear(self.control.as_fd()).map_err(|e| self.unheard(e))? {
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
        loop {
            while let Some(news) = programs.session.news() {
                if let Some(reply) = judge(Happening::News(news))? {
                    // What was printed before the answer belongs to it.
                    self.drain_programs(programs);
                    return Ok(reply);
                }
            }
            // After the news: what the runtime said before it ended counts.
            while let Some(word) = launcher::hear(self.control.as_fd()).map_err(|e| self.unheard(e))? {
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
            let look = now + (now - begun).max(LOOK);
            let left = wait.until.min(look).saturating_duration_since(now);
            let mut fds = vec![
                PollFd::from_borrowed_fd(programs.session.signal(), PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.channel, PollFlags::IN),
                PollFd::new(&self.output, PollFlags::IN),
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
        if let Reply::Ended(None) = reply { Reply::Ended(self.exit_status(Duration::from_secs(2))) } else { reply }
    }

    fn drain_programs(&self, programs: &Programs) {
        let mut buffer = programs.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        self.drain(&mut buffer);
        if let Some((read, _)) = &programs.extensions {
            self.lock().log.drain(read.as_fd(), &mut buffer);
        }
    }
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
