//! Environments whose runtime is a program: their launcher starts it, beside external extensions, and all of them speak
//! with a session of Lambda's APIs, which is served outside.

mod answer;
mod board;
mod farewell;
mod launcher;
mod output;
mod start;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use self::board::Board;
use self::launcher::Word;
use self::output::Reading;
use super::{Cause, Environment, Reply};
use crate::api::{self, About, News, Server, Session};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::launch::Launch;
use crate::platform::{Record, Status};
use crate::process;
use crate::spec::{MAX_PAYLOAD, MAX_STREAM};
use crate::variables::{ACCOUNT, VERSION};

/// After which time a wait first looks for a signal that it has missed.
const LOOK: Duration = Duration::from_millis(50);

/// What such an environment has beside the others.
#[derive(Debug)]
pub struct Programs {
    session: Arc<Session>,
    /// Where it is asked.
    port: u16,
    board: Arc<Board>,
    /// Both ends of the pipe that extensions print to.
    extensions: Option<(OwnedFd, OwnedFd)>,
    /// Both ends of the pipe for the runtime's framed log.
    frames: (OwnedFd, OwnedFd),
    /// Whether nothing is left to be done for the last event.
    rests: AtomicBool,
    /// Whether everybody waits for an event, and only what subscribers are to get is still on its way.
    idle: AtomicBool,
    /// Whether there is an extension, which is to be told of what happens.
    attended: AtomicBool,
    /// Whether something in it has failed.
    failed: AtomicBool,
    /// Whether those who want to know have been told that it ends.
    leaving: AtomicBool,
    reading: Mutex<Reading>,
    open: Mutex<Option<Open>>,
    /// Since when subscribers have been getting what was left to be told.
    delivering: Mutex<Option<Instant>>,
}

/// The invocation that no report has been given of yet.
#[derive(Debug)]
struct Open {
    request_id: String,
    trace_id: String,
    begun: Instant,
    status: Status,
}

impl Programs {
    /// Begins to serve what will be asked on this socket.
    pub fn new(
        server: &Server,
        listener: OwnedFd,
        control: Arc<OwnedFd>,
        slot: u32,
        function: &Function,
        launch: &Launch,
    ) -> io::Result<Self> {
        let spec = &function.spec;
        let listener = TcpListener::from(listener);
        let port = listener.local_addr()?.port();
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
            only: spec.network.then_some(slot),
        };
        let attended = !launch.extensions.is_empty();
        let board = Arc::new(Board::new(control));
        let session = server.serve(listener.into(), about)?;
        let connecting = Arc::clone(&board);
        session.deliver(Box::new(move |port| connecting.connect(port)));
        Ok(Self {
            session,
            port,
            board,
            extensions: attended.then(pipe).transpose()?,
            frames: pipe()?,
            rests: AtomicBool::new(true),
            idle: AtomicBool::new(false),
            attended: AtomicBool::new(attended),
            failed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            reading: Mutex::default(),
            open: Mutex::default(),
            delivering: Mutex::default(),
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

    /// Waits until subscribers have got what they are to get, or for as long as that may take; false if it goes on.
    fn has_delivered(&self, until: Instant) -> bool {
        const DELIVERY: Duration = Duration::from_millis(500);
        const TURN: Duration = Duration::from_millis(1);
        let mut since = self.delivering.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = *since.get_or_insert_with(|| {
            self.session.flush();
            Instant::now()
        });
        while !self.session.is_delivered() && begun.elapsed() < DELIVERY {
            if Instant::now() >= until {
                return false;
            }
            // Nothing tells of it that could be waited for; whoever waits here keeps nobody waiting.
            std::thread::sleep(TURN);
        }
        self.session.rest();
        *since = None;
        true
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
                Some(Reply::Failed(error_type, format!("extension {name:?} failed")))
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

    /// Waits for what `judge` has a reply for. Deadlines are the supervisor's: when one passes, the environment ends, and with it
    /// this wait; it is ended here if that went wrong.
    fn until_reply(
        &self,
        programs: &Programs,
        wait: &Wait<'_>,
        judge: &mut dyn FnMut(Happening) -> Result<Option<Reply>>,
    ) -> Result<Reply> {
        Ok(self.until(programs, wait, judge)?.unwrap_or_else(|| {
            self.kill(Cause::Timeout);
            Reply::Ended(None)
        }))
    }

    /// The same, and `None` when its time is up. Keeps the output flowing meanwhile.
    fn until(
        &self,
        programs: &Programs,
        wait: &Wait<'_>,
        judge: &mut dyn FnMut(Happening) -> Result<Option<Reply>>,
    ) -> Result<Option<Reply>> {
        let begun = Instant::now();
        let mut heard = begun;
        let _listening = programs.board.listen();
        loop {
            // Its end has begun, and there will be no answer.
            if programs.leaving.load(Ordering::Acquire) {
                return Ok(Some(Reply::Ended(None)));
            }
            while let Some(news) = programs.session.news() {
                if let Some(reply) = judge(Happening::News(news))? {
                    // What was printed before the answer belongs to it.
                    self.drain_programs(programs);
                    return Ok(Some(reply));
                }
            }
            // After the news: what the runtime said before it ended counts.
            while let Some(word) = programs.board.word().map_err(|e| self.unheard(e))? {
                if matches!(word, Word::Ended(..) | Word::Closed)
                    && let Some(reply) = self.last_news(programs, judge)?
                {
                    return Ok(Some(reply));
                }
                if let Some(reply) = judge(Happening::Word(word))? {
                    self.drain_programs(programs);
                    return Ok(Some(self.how_it_ended(reply)));
                }
            }
            let now = Instant::now();
            if now >= wait.until {
                return Ok(None);
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
            // One that prints without end does not keep a signal from being heard.
            if (ready == 0 || heard.elapsed() >= LOOK) && {
                heard = Instant::now();
                (wait.interrupted)()
            } {
                return Ok(Some(Reply::Interrupted));
            }
            let hung_up = fds[2].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            drop(fds);
            self.drain_programs(programs);
            if hung_up {
                if let Some(reply) = self.last_news(programs, judge)? {
                    return Ok(Some(reply));
                }
                return Ok(Some(self.how_it_ended(judge(Happening::End)?.unwrap_or(Reply::Ended(None)))));
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
}

impl Programs {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(launch: &Launch, id: u32) -> &str {
    launch.extensions.get((id as usize).wrapping_sub(1)).map_or("", |extension| &extension.name)
}
