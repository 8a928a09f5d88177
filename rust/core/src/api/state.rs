//! What a session knows, and which step follows which: Lambda's states of the runtime and of extensions, by their names.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use hyper::body::Bytes;

use super::answer::{self, Refusal};
use super::extension::agent::Agent;
use super::telemetry::Telemetry;
use super::{Event, News, Platform, Shutdown, StreamError};

/// How many bytes of a streamed answer wait for whoever called before no more is read.
pub const HELD: usize = 1 << 20;
/// What a chunk takes beside its bytes: they may be few.
const EACH: usize = 128;

/// The states of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Started,
    InitError,
    Ready,
    Running,
    InvocationResponse,
    InvocationErrorResponse,
    ResponseSent,
}

impl Runtime {
    /// Its name in messages.
    fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::InitError => "InitError",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InvocationResponse => "InvocationResponse",
            Self::InvocationErrorResponse => "InvocationErrorResponse",
            Self::ResponseSent => "RuntimeResponseSentState",
        }
    }
}

/// An event on its way: the payload is shared with the answer that carries it.
#[derive(Debug)]
pub struct Posted {
    pub event: Event,
    pub payload: Bytes,
}

/// What becomes of a call of `next`.
pub enum Next {
    /// The event is there already: the runtime asks again for what it has.
    Now(Arc<Posted>),
    /// It waits.
    Wait(Turn),
}

/// A runtime's place among those that wait: the one that came last is given what there is. One before it may be a connection
/// of which the end cannot be seen, because there is something unread on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    generation: u64,
    number: u64,
}

/// Everything.
#[derive(Debug)]
pub struct State {
    pub news: VecDeque<News>,
    /// Bytes of chunks among the news.
    held: usize,
    runtime: Runtime,
    /// How often processes have been started anew: what waits since before is not theirs.
    pub generation: u64,
    /// Whether the runtime and every extension have been ready.
    initialised: bool,
    invocation: Option<Arc<Posted>>,
    /// Whether the runtime has still to be given the open invocation.
    due: bool,
    /// Those who wait for one, and how many there have been.
    waiting: Vec<u64>,
    asked: u64,
    pub agents: Vec<Agent>,
    pub shutdown: Option<(Shutdown, u64)>,
    pub telemetry: Telemetry,
    /// Whether the environment is kept awake for what subscribers have not got yet.
    pub flushing: bool,
}

impl State {
    /// Of an environment in which nothing has been started.
    pub fn new() -> Self {
        Self {
            news: VecDeque::new(),
            held: 0,
            runtime: Runtime::Started,
            generation: 0,
            initialised: false,
            invocation: None,
            due: false,
            waiting: Vec::new(),
            asked: 0,
            agents: Vec::new(),
            shutdown: None,
            telemetry: Telemetry::default(),
            flushing: false,
        }
    }

    /// All processes are started, again: whatever those before them did is forgotten.
    pub fn start_init(&mut self, external: &[String]) {
        let generation = self.generation + 1;
        *self = Self { generation, agents: external.iter().map(|name| Agent::external(name)).collect(), ..Self::new() };
        self.registered();
    }

    /// Tells of it if the last external extension has registered.
    pub fn registered(&mut self) {
        if self.agents.iter().filter(|agent| agent.external).all(Agent::has_registered) {
            self.news.push_back(News::Registered);
        }
    }

    /// Whether extensions may still register: until the runtime asks for its first event.
    pub fn registration_open(&self) -> bool {
        self.runtime == Runtime::Started
    }

    /// Whether the environment runs: it may be frozen once its initialisation is over and nothing is open.
    pub fn runs(&self) -> bool {
        !self.initialised || self.invocation.is_some() || self.shutdown.is_some() || self.flushing
    }

    /// Tells of it if the initialisation, or the invocation, is over with this.
    pub fn settle(&mut self) {
        if self.runtime != Runtime::Ready {
            return;
        }
        if !self.initialised {
            if self.agents.iter().all(Agent::is_ready) {
                self.initialised = true;
                self.tell_of_agents();
                self.telemetry.close();
                self.news.push_back(News::Ready);
            }
        } else if self.invocation.is_some() && !self.due && self.agents.iter().all(Agent::rests) {
            self.invocation = None;
            self.news.push_back(News::Idle);
        }
    }

    /// Records what has become of the extensions.
    fn tell_of_agents(&mut self) {
        for agent in &self.agents {
            self.telemetry.platform(&Platform { kind: "platform.extension", record: agent.record() });
        }
    }

    /// The runtime asks for the next event.
    pub fn next(&mut self) -> Result<Next, Refusal> {
        match (self.runtime, &self.invocation) {
            (Runtime::Running, Some(posted)) => return Ok(Next::Now(Arc::clone(posted))),
            (Runtime::Started, _) => self.runtime = Runtime::Ready,
            (Runtime::Ready, _) => {}
            // The open invocation expired while it had it: there is nothing to read again.
            (Runtime::ResponseSent | Runtime::Running, _) => {
                self.runtime = Runtime::Ready;
                if self.invocation.is_some() {
                    self.news.push_back(News::RuntimeDone);
                }
            }
            (from, _) => return Err(refused(from, Runtime::Ready)),
        }
        self.settle();
        self.asked += 1;
        self.waiting.push(self.asked);
        Ok(Next::Wait(Turn { generation: self.generation, number: self.asked }))
    }

    /// What a runtime that waits is given.
    pub fn take(&mut self, turn: Turn) -> Option<Result<Arc<Posted>, Refusal>> {
        if turn.generation != self.generation {
            let message =
                "State transition from Ready to Running failed for runtime. Error: Concurrent state modification";
            return Some(Err(answer::forbidden("InvalidStateTransition", message)));
        }
        let mine = self.due && self.runtime == Runtime::Ready && self.waiting.last() == Some(&turn.number);
        let posted = self.invocation.as_ref().filter(|_| mine)?;
        let posted = Arc::clone(posted);
        (self.due, self.runtime) = (false, Runtime::Running);
        Some(Ok(posted))
    }

    /// It does not wait any more.
    pub fn leave(&mut self, turn: Turn) {
        if turn.generation == self.generation {
            self.waiting.retain(|number| *number != turn.number);
        }
    }

    /// There is an event, for the runtime and for those extensions that take events.
    pub fn invoke(&mut self, mut event: Event) {
        let payload = Bytes::from(mem::take(&mut event.payload));
        for agent in &mut self.agents {
            agent.invoke(&event);
        }
        self.invocation = Some(Arc::new(Posted { event, payload }));
        self.due = true;
    }

    /// The open invocation is over: what was said of it, and is not heard yet, is not said any more.
    pub fn expire(&mut self) {
        self.invocation = None;
        self.due = false;
        self.held = 0;
        self.news.retain(|news| {
            matches!(
                news,
                News::InitError { .. } | News::ExtensionError { .. } | News::Subscribed | News::Defect(_) | News::Ready
            )
        });
    }

    /// Whether `id` is the open invocation's.
    pub fn is_open(&self, id: &str) -> bool {
        self.invocation.as_ref().is_some_and(|posted| posted.event.request_id == id)
    }

    /// The runtime begins to answer, in one of two ways.
    pub fn begin(&mut self, id: &str, way: Runtime) -> Result<(), Refusal> {
        if !self.is_open(id) {
            return Err(answer::invalid_request_id());
        }
        if self.runtime != Runtime::Running {
            return Err(refused(self.runtime, way));
        }
        self.runtime = way;
        Ok(())
    }

    /// The answer is complete, whatever it is. Says whether anybody still waits for it.
    pub fn answered(&mut self, id: &str, news: News) -> bool {
        if matches!(self.runtime, Runtime::InvocationResponse | Runtime::InvocationErrorResponse) {
            self.runtime = Runtime::ResponseSent;
        }
        let open = self.is_open(id);
        if open {
            self.news.push_back(news);
        }
        open
    }

    /// A piece of the answer has come, if there is room for it: `Some(false)` if nobody waits for it any more.
    pub fn chunk(&mut self, id: &str, chunk: &mut Vec<u8>) -> Option<bool> {
        if !self.is_open(id) {
            return Some(false);
        }
        if self.held > 0 && self.held + chunk.len() + EACH > HELD {
            return None;
        }
        self.held += chunk.len() + EACH;
        self.news.push_back(News::Chunk(mem::take(chunk)));
        Some(true)
    }

    /// How much of a streamed answer waits.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The oldest of the news.
    pub fn pop(&mut self) -> Option<News> {
        let news = self.news.pop_front();
        if let Some(News::Chunk(chunk)) = &news {
            self.held -= chunk.len() + EACH;
        }
        news
    }

    /// The runtime says that its initialisation failed.
    pub fn init_error(&mut self) -> Result<(), Refusal> {
        if self.runtime != Runtime::Started {
            return Err(refused(self.runtime, Runtime::InitError));
        }
        self.runtime = Runtime::InitError;
        Ok(())
    }
}

/// What a streamed answer of which the end did not come ends with.
pub fn cut_off() -> News {
    News::StreamEnd(Some(StreamError { error_type: "Runtime.TruncatedResponse".into(), body: Vec::new() }))
}

/// The step is not allowed.
fn refused(from: Runtime, to: Runtime) -> Refusal {
    let (from, to) = (from.name(), to.name());
    let message =
        format!("State transition from {from} to {to} failed for runtime. Error: State transition is not allowed");
    answer::forbidden("InvalidStateTransition", message)
}
