//! One event through one environment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::defect;
use crate::environment::{Cause, Environment, Event, Listening, Reply};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::owner::Owner;
use crate::platform::Phase;
use crate::pool::Core;
use crate::pool::admission::Permit;
use crate::pool::make::{INIT_TIMEOUT, Made, Need, Served};
use crate::process;
use crate::random;
use crate::report::{Initialisation, Kind, Outcome, Verdict};
use crate::serving::{Serving, failed, stillborn};
use crate::spec::{self, MAX_PAYLOAD};
use crate::streaming::Going;

/// What goes with one event.
pub struct Call<'a> {
    /// The event, as JSON.
    pub event: &'a [u8],
    /// The client context, as JSON; empty if there is none.
    pub client_context: &'a [u8],
    /// X-Ray's header, which the handler finds as `_X_AMZN_TRACE_ID`; empty if there is none.
    pub trace_id: &'a str,
    /// Instead of the function's own.
    pub timeout: Option<Duration>,
    /// By which it can be cancelled.
    pub ticket: &'a Ticket,
    /// Whether to wait for room rather than be refused.
    pub wait: bool,
    /// Whether somebody will look at the report also when all is well.
    pub reported: bool,
    /// Whether the answer may come in chunks.
    pub streamed: bool,
    /// Asked whenever a signal came: whether to give up.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// What came of an event so far.
enum Progress {
    Over(Outcome),
    Going(Serving, Listening, Vec<u8>),
}

/// The same, as whoever waits for chunks has it.
pub(crate) enum Answer {
    /// All of it is here.
    Over(Outcome),
    /// A chunk is, and more to come.
    Going(Going),
}

/// Set in a deadline that is counted from the moment at which the environment is ready.
const AFTER_READY: u64 = 1 << 63;

/// Bytes that a trace id may have: X-Ray's are of 74, and some more with what it calls the lineage.
const MAX_TRACE_ID: usize = 255;

impl Call<'_> {
    /// What goes before the client context and the event: the request id, the deadline in nanoseconds of the monotonic clock,
    /// how long the client context is (24 bits) and the trace id (8 bits), and the trace id.
    fn head(&self, request: &str, deadline_ns: u64) -> Vec<u8> {
        let beside = (self.trace_id.len() as u32) << 24 | self.client_context.len() as u32;
        [request.as_bytes(), &deadline_ns.to_le_bytes(), &beside.to_le_bytes(), self.trace_id.as_bytes()].concat()
    }

    /// Why this cannot go out, if it cannot.
    fn check(&self) -> Result<()> {
        for (what, len) in [("event", self.event.len()), ("client context", self.client_context.len())] {
            if len > MAX_PAYLOAD {
                return Err(Error::Payload(format!(
                    "the {what} is {len} bytes and may be {MAX_PAYLOAD}; pass large data in a file or in parts"
                )));
            }
        }
        // It becomes a header, and a variable of the environment.
        if self.trace_id.len() > MAX_TRACE_ID || !self.trace_id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::Configuration(format!(
                "the trace id must be at most {MAX_TRACE_ID} visible characters of ASCII, as X-Ray's header is"
            )));
        }
        Ok(())
    }
}

/// The handle by which an invocation is cancelled from elsewhere.
#[derive(Debug, Default)]
pub struct Ticket {
    held: Mutex<Held>,
    owner: Owner,
}

#[derive(Debug, Default)]
struct Held {
    cancelled: bool,
    environment: Weak<Environment>,
}

impl Ticket {
    /// Kills the environment that runs the invocation; one that has not begun will not. Does nothing in a fork of the process.
    pub fn cancel(&self) {
        if !self.owner.is_here() {
            return;
        }
        let mut held = self.lock();
        held.cancelled = true;
        if let Some(environment) = held.environment.upgrade() {
            environment.kill(Cause::Cancelled);
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Notes the environment; false if the invocation was cancelled already.
    pub fn hold(&self, environment: &Arc<Environment>) -> bool {
        let mut held = self.lock();
        if !held.cancelled {
            held.environment = Arc::downgrade(environment);
        }
        !held.cancelled
    }

    /// The invocation has left its environment: a late cancellation must not hit whoever has that next.
    pub(crate) fn release(&self) {
        self.lock().environment = Weak::new();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Runs one event. What went wrong inside is an outcome; what the caller got wrong is an error.
    pub fn invoke(self: &Arc<Self>, function: &Arc<Function>, call: &Call<'_>) -> Result<Outcome> {
        match self.answer(function, &Call { streamed: false, ..*call })? {
            Answer::Over(outcome) => Ok(outcome),
            Answer::Going(_) => unreachable!("only a streamed answer comes in chunks"),
        }
    }

    /// The same, up to the first chunk of an answer that comes in chunks.
    pub(crate) fn answer(self: &Arc<Self>, function: &Arc<Function>, call: &Call<'_>) -> Result<Answer> {
        call.check()?;
        let timeout = call.timeout.unwrap_or(function.spec.timeout);
        spec::check_timeout(timeout)?;
        let begun = Instant::now();
        let permit = self.admit(function, call.wait, &|| call.ticket.is_cancelled() || (call.interrupted)())?;
        match self.run(function, call, timeout, begun) {
            Ok(Progress::Going(serving, listening, chunk)) => {
                Ok(Answer::Going(Going::new(serving, listening, chunk, permit)))
            }
            Ok(Progress::Over(outcome)) => self.over(call.ticket, permit, Ok(outcome)).map(Answer::Over),
            Err(e) => self.over(call.ticket, permit, Err(e)).map(Answer::Over),
        }
    }

    /// An invocation has ended.
    pub(crate) fn over(&self, ticket: &Ticket, permit: Permit, outcome: Result<Outcome>) -> Result<Outcome> {
        ticket.release();
        drop(permit);
        // What a host that has failed did to it is nothing that the handler did.
        if !matches!(&outcome, Ok(Outcome { verdict: Verdict::Ok(_) | Verdict::Handler(_), .. })) && !self.is_closed() {
            self.open()?;
        }
        outcome
    }

    fn run(
        self: &Arc<Self>,
        function: &Arc<Function>,
        call: &Call<'_>,
        timeout: Duration,
        begun: Instant,
    ) -> Result<Progress> {
        let (request, token) = random::uuid_and_number();
        // An idle environment may have died, or have something to say that nobody asked for: then the next one, and in
        // the end a new one.
        while let Some(environment) = self.reuse(function) {
            if !call.ticket.hold(&environment) {
                self.keep(&environment);
                return Err(Error::Cancelled);
            }
            environment.note(|phases| phases.queue = Some(begun.elapsed()));
            let served = Served { environment, begun: None, initialisations: Vec::new() };
            if let Some(outcome) = self.serve(served, call, &request, token, timeout, None)? {
                return Ok(outcome);
            }
        }
        let queue = Some(begun.elapsed());
        let head = call.head(&request, AFTER_READY | timeout.as_nanos() as u64);
        let event = Event { token, timeout, parts: [&head[..], call.client_context, call.event] };
        let need = Need {
            // One whose answer may come in chunks goes alone.
            event: (!call.streamed).then_some(&event),
            deadline: None,
            ticket: call.ticket,
            wait: call.wait,
            interrupted: call.interrupted,
        };
        // One that dies before it has seen the event is replaced, once.
        for _ in 0..2 {
            match self.make(function, &need)? {
                Made::Ready(mut served) => {
                    served.environment.note(|phases| phases.queue = queue);
                    served.take_early_output();
                    if let Some(outcome) = self.serve(served, call, &request, token, timeout, None)? {
                        return Ok(outcome);
                    }
                }
                Made::Failed(environment, reply, took) => {
                    let first = failed(&environment, reply, Phase::Init, took, timeout);
                    // What is initialised once, or restored, is not tried again.
                    if !self.serves(function) || function.spec.snapstart {
                        environment.note(|phases| phases.queue = queue);
                        return Ok(Progress::Over(stillborn(
                            &environment,
                            call,
                            &request,
                            Duration::ZERO,
                            vec![first],
                        )));
                    }
                    return self.initialise_again(function, call, &request, token, timeout, first, queue);
                }
            }
        }
        let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        Err(Error::kernel("starting", "an invocation in a new environment", source))
    }

    /// An initialisation that failed is tried again, in another environment: within the invocation, whose timeout has begun.
    #[expect(clippy::too_many_arguments, reason = "an invocation, and what became of it so far")]
    fn initialise_again(
        self: &Arc<Self>,
        function: &Arc<Function>,
        call: &Call<'_>,
        request: &str,
        token: u64,
        timeout: Duration,
        first: Initialisation,
        queue: Option<Duration>,
    ) -> Result<Progress> {
        let begun = Instant::now();
        let deadline = Some(begun + timeout);
        let need = Need { event: None, deadline, ticket: call.ticket, wait: call.wait, interrupted: call.interrupted };
        match self.make(function, &need)? {
            Made::Ready(mut served) => {
                served.environment.note(|phases| phases.queue = queue);
                served.take_early_output();
                served.initialisations.insert(0, first);
                self.serve(served, call, request, token, timeout, Some(begun))?.ok_or_else(|| {
                    let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
                    Error::kernel("starting", "an invocation in a new environment", source)
                })
            }
            Made::Failed(environment, reply, took) => {
                environment.note(|phases| phases.queue = queue);
                let second = failed(&environment, reply, Phase::Invoke, took, timeout);
                Ok(Progress::Over(stillborn(&environment, call, request, begun.elapsed(), vec![first, second])))
            }
        }
    }

    /// `None`: the environment was not in a state to serve, and has not seen the event. `since`: when the invocation's time
    /// began, if the environment was initialised within it.
    fn serve(
        self: &Arc<Self>,
        served: Served,
        call: &Call<'_>,
        request: &str,
        token: u64,
        timeout: Duration,
        since: Option<Instant>,
    ) -> Result<Option<Progress>> {
        let serving = Serving::begin(self, served, call, request, timeout, since);
        let head = call.head(request, process::monotonic_ns() + serving.left().as_nanos() as u64);
        let event = Event { token, timeout, parts: [&head[..], call.client_context, call.event] };
        let (environment, backstop) = (serving.environment(), serving.backstop());
        if !call.streamed {
            let reply = environment.invoke(&event, backstop, call.reported, call.interrupted);
            return Ok(serving.finish(self, call.ticket, reply)?.map(Progress::Over));
        }
        match environment.stream(&event, backstop, call.interrupted) {
            Ok((Reply::Chunk(chunk), listening)) => Ok(Some(Progress::Going(serving, listening, chunk))),
            reply => Ok(serving.finish(self, call.ticket, reply.map(|(reply, _)| reply))?.map(Progress::Over)),
        }
    }

    /// Takes an environment back after its answer. A runtime that is a program has to ask for the next event first, and so
    /// have its extensions: most do at once, and whoever takes longer keeps no caller waiting. Its deadline still counts.
    pub(crate) fn see_off(self: &Arc<Self>, environment: &Arc<Environment>, until: Instant) {
        const AT_ONCE: Duration = Duration::from_millis(1);
        if environment.comes_to_rest(Instant::now() + AT_ONCE) {
            return self.give_back(environment);
        }
        if !environment.usable() {
            return;
        }
        // It is at work, and nobody looks at the clock for it any more.
        environment.settle_or_end();
        let (core, waiting) = (Arc::clone(self), Arc::clone(environment));
        self.finishing(environment, 1);
        let finish = move || {
            let finished = defect::contain(|| {
                if waiting.comes_to_rest(until) {
                    core.give_back(&waiting);
                } else if waiting.usable() {
                    waiting.kill(Cause::Timeout);
                }
            });
            core.finishing(&waiting, -1);
            if let Err(defect) = finished {
                core.fail(&defect);
            }
        };
        if std::thread::Builder::new().name("coldframe-finish".into()).spawn(finish).is_err() {
            self.finishing(environment, -1);
            environment.kill(Cause::Retired);
        }
    }

    /// Makes environments ahead of need: they are initialised and idle afterwards.
    pub fn prewarm(
        self: &Arc<Self>,
        function: &Arc<Function>,
        count: usize,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<()> {
        let need = Need { event: None, deadline: None, ticket: &Ticket::default(), wait: false, interrupted };
        let mut ready = Vec::with_capacity(count);
        let result = (0..count).try_for_each(|_| match self.make(function, &need)? {
            Made::Ready(served) => {
                ready.push(served.environment);
                Ok(())
            }
            Made::Failed(environment, reply, took) => {
                let failure = failed(&environment, reply, Phase::Init, took, INIT_TIMEOUT).failure;
                let kind = failure.as_ref().map_or(Kind::Init, Verdict::kind);
                let error = failure.and_then(|verdict| verdict.error("")).unwrap_or_default();
                Err(Error::Initialisation { function: function.spec.name.clone(), kind, error })
            }
        });
        for environment in &ready {
            // Nobody waited for it.
            environment.phases();
            // It has seen no event: also where none is to see two.
            self.keep(environment);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000000";
    const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    fn call<'a>(trace_id: &'a str, client_context: &'a [u8], ticket: &'a Ticket) -> Call<'a> {
        Call {
            event: b"{}",
            client_context,
            trace_id,
            timeout: None,
            ticket,
            wait: false,
            reported: true,
            streamed: false,
            interrupted: &|| false,
        }
    }

    #[test]
    fn what_goes_first_says_how_long_the_rest_is() {
        let (ticket, longest) = (Ticket::default(), "x".repeat(MAX_TRACE_ID));
        let context = vec![b' '; MAX_PAYLOAD];
        for (trace_id, client_context) in [("", &b""[..]), (TRACE, b""), ("", b"{}"), (&longest, &context)] {
            let call = call(trace_id, client_context, &ticket);
            call.check().expect("both are of a length that can be said");
            let head = call.head(ID, 7);
            assert_eq!((&head[..36], &head[36..44]), (ID.as_bytes(), &7_u64.to_le_bytes()[..]));
            let beside = u32::from_le_bytes(*head[44..].first_chunk().expect("four bytes"));
            assert_eq!((beside >> 24, beside & 0xff_ffff), (trace_id.len() as u32, client_context.len() as u32));
            assert_eq!(&head[48..], trace_id.as_bytes());
            let event = Event { token: 1, timeout: Duration::ZERO, parts: [&head, client_context, b"{}"] };
            let (request, trace, _) = event.head();
            assert_eq!((request.as_str(), trace.as_str()), (ID, trace_id));
        }
    }

    #[test]
    fn what_would_break_a_header_or_a_length_is_refused() {
        let (ticket, long) = (Ticket::default(), "x".repeat(MAX_TRACE_ID + 1));
        for trace_id in [&long, "a b", "a\nb", "a\0b", "\u{e9}"] {
            assert!(matches!(call(trace_id, b"", &ticket).check(), Err(Error::Configuration(_))), "{trace_id:?}");
        }
        let context = vec![b' '; MAX_PAYLOAD + 1];
        assert!(matches!(call("", &context, &ticket).check(), Err(Error::Payload(_))));
    }
}
