//! One event whose answer comes in pieces, as the handler writes them.
//!
//! Whoever reads calls for each: nothing is read ahead, so that a handler that is faster waits, and no more than one chunk is
//! held here. The deadline is the invocation's, slow readers included.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::environment::{Cause, Listening, Reply};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::invocation::{Answer, Call, Ticket};
use crate::owner::Owner;
use crate::pool::Core;
use crate::pool::admission::Permit;
use crate::report::{Outcome, Verdict, too_large};
use crate::serving::Serving;
use crate::spec::MAX_STREAM;
use crate::wire::Kind;

/// An event to be streamed.
#[derive(Debug)]
pub struct Order {
    /// The event, as JSON.
    pub event: Vec<u8>,
    /// The client context, as JSON; empty if there is none.
    pub client_context: Vec<u8>,
    /// X-Ray's header; empty if there is none.
    pub trace_id: String,
    /// Instead of the function's own.
    pub timeout: Option<Duration>,
}

/// An invocation whose answer is read piece by piece. It begins with the first of them; dropped before its end, it is cancelled.
pub struct Streaming {
    core: Weak<Core>,
    function: Arc<Function>,
    ticket: Arc<Ticket>,
    state: State,
    outcome: Option<Outcome>,
    owner: Owner,
}

enum State {
    Ordered(Order),
    Going(Box<Going>),
    Over,
}

/// An environment in the middle of its answer.
pub(crate) struct Going {
    serving: Serving,
    listening: Listening,
    /// What has come and was not handed out.
    chunk: Option<Vec<u8>>,
    bytes: u64,
    permit: Permit,
}

impl Going {
    /// Of an environment that has sent its first chunk.
    pub fn new(serving: Serving, listening: Listening, chunk: Vec<u8>, permit: Permit) -> Self {
        Self { serving, listening, bytes: chunk.len() as u64, chunk: Some(chunk), permit }
    }

    fn finish(self, core: &Arc<Core>, ticket: &Ticket, reply: Result<Reply>) -> Result<Outcome> {
        let finished = self.serving.finish(core, ticket, reply);
        let unserved = || Error::kernel("streaming from", "an environment", io::Error::from(io::ErrorKind::BrokenPipe));
        let outcome = finished.and_then(|outcome| outcome.ok_or_else(unserved));
        let streamed = self.bytes;
        core.over(ticket, self.permit, outcome.map(|outcome| Outcome { streamed, ..outcome }))
    }
}

impl Streaming {
    /// An invocation that begins when its first chunk is asked for. Cancelling the ticket ends it, from whatever thread.
    pub fn new(core: Weak<Core>, function: Arc<Function>, ticket: Arc<Ticket>, order: Order) -> Self {
        Self { core, function, ticket, state: State::Ordered(order), outcome: None, owner: Owner::default() }
    }

    /// The next chunk; `None` when there is no more, and the outcome is there. What is no stream is one chunk.
    pub fn chunk(&mut self, interrupted: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>> {
        if !self.owner.is_here() {
            return Err(Error::Closed("in a forked process the stream of its parent"));
        }
        let state = std::mem::replace(&mut self.state, State::Over);
        let core = match state {
            State::Over => return Ok(None),
            _ => self.core.upgrade().ok_or(Error::Closed("this host"))?,
        };
        match state {
            State::Over => Ok(None),
            State::Ordered(order) => {
                let call = Call {
                    event: &order.event,
                    client_context: &order.client_context,
                    trace_id: &order.trace_id,
                    timeout: order.timeout,
                    ticket: &self.ticket,
                    wait: false,
                    reported: true,
                    streamed: true,
                    interrupted,
                };
                match core.answer(&self.function, &call)? {
                    Answer::Over(outcome) => Ok(self.over(outcome)),
                    Answer::Going(mut going) => {
                        let chunk = going.chunk.take();
                        self.state = State::Going(Box::new(going));
                        Ok(chunk)
                    }
                }
            }
            State::Going(mut going) => {
                let (environment, backstop) = (going.serving.environment(), going.serving.backstop());
                match environment.more(&mut going.listening, backstop, interrupted) {
                    Ok(Reply::Chunk(chunk)) => {
                        going.bytes += chunk.len() as u64;
                        if going.bytes <= MAX_STREAM {
                            self.state = State::Going(going);
                            return Ok(Some(chunk));
                        }
                        environment.kill(Cause::Retired);
                        let reply = Reply::Answer(Kind::Error, too_large(MAX_STREAM));
                        Ok(self.over(going.finish(&core, &self.ticket, Ok(reply))?))
                    }
                    reply => Ok(self.over(going.finish(&core, &self.ticket, reply)?)),
                }
            }
        }
    }

    /// Notes the outcome; what it has of a payload is the last chunk.
    fn over(&mut self, outcome: Outcome) -> Option<Vec<u8>> {
        let last = match &outcome.verdict {
            Verdict::Ok(payload) if !payload.is_empty() => Some(payload.clone()),
            _ => None,
        };
        self.outcome = Some(outcome);
        last
    }

    /// What came of it, once, after the last chunk.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Ends it: an environment that is at it is killed.
    pub fn close(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Over);
        if !self.owner.is_here() {
            std::mem::forget(state);
            return;
        }
        if let (State::Going(going), Some(core)) = (state, self.core.upgrade()) {
            let _ = going.finish(&core, &self.ticket, Ok(Reply::Interrupted));
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.close();
    }
}
