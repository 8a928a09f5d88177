//! One event through one environment.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::cgroup::Usage;
use crate::environment::{Cause, Environment, Event, Reply, last_words};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::platform::Phase;
use crate::pool::Core;
use crate::pool::make::{INIT_TIMEOUT, Made, Need, Served};
use crate::process;
use crate::random;
use crate::report::{self, Initialisation, Outcome, Report, Start, Verdict};
use crate::spec::MAX_PAYLOAD;
use crate::wire::Kind;

/// What goes with one event.
pub struct Call<'a> {
    /// The event, as JSON.
    pub event: &'a [u8],
    /// The client context, as JSON; empty if there is none.
    pub client_context: &'a [u8],
    /// Instead of the function's own.
    pub timeout: Option<Duration>,
    /// By which it can be cancelled.
    pub ticket: &'a Ticket,
    /// Whether to wait for room rather than be refused.
    pub wait: bool,
    /// Whether somebody will look at the report also when all is well.
    pub reported: bool,
    /// Asked whenever a signal came: whether to give up.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// Set in a deadline that is counted from the moment at which the environment is ready.
const AFTER_READY: u64 = 1 << 63;

impl Call<'_> {
    /// What goes before the client context and the event: the request id, the deadline in nanoseconds of the monotonic clock,
    /// and how long the client context is.
    fn head(&self, request: &str, deadline_ns: u64) -> Vec<u8> {
        let len = self.client_context.len() as u32;
        [request.as_bytes(), &deadline_ns.to_le_bytes(), &len.to_le_bytes()].concat()
    }
}

/// The handle by which an invocation is cancelled from elsewhere.
#[derive(Debug, Default)]
pub struct Ticket(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    cancelled: bool,
    environment: Weak<Environment>,
}

impl Ticket {
    /// Kills the environment that runs the invocation; one that has not begun will not.
    pub fn cancel(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.cancelled = true;
        if let Some(environment) = held.environment.upgrade() {
            environment.kill(Cause::Cancelled);
        }
    }

    /// Notes the environment; false if the invocation was cancelled already.
    pub fn hold(&self, environment: &Arc<Environment>) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.cancelled {
            held.environment = Arc::downgrade(environment);
        }
        !held.cancelled
    }

    /// The invocation is over: a late cancellation must not hit whoever has the environment next.
    fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).environment = Weak::new();
    }
}

impl Core {
    /// Runs one event. What went wrong inside is an outcome; what the caller got wrong is an error.
    pub fn invoke(self: &Arc<Self>, function: &Arc<Function>, call: &Call<'_>) -> Result<Outcome> {
        if call.event.len() > MAX_PAYLOAD {
            return Err(Error::Payload(format!(
                "the event is {} bytes and may be {MAX_PAYLOAD}; pass large data in a file or in parts",
                call.event.len()
            )));
        }
        let timeout = call.timeout.unwrap_or(function.spec.timeout);
        if timeout.is_zero() || timeout > Duration::from_secs(900) {
            return Err(Error::Configuration("timeout_s must be above 0 and at most 900 seconds".into()));
        }
        let begun = Instant::now();
        let permit = self.admit(function, call.wait, call.interrupted)?;
        let outcome = self.run(function, call, timeout, begun);
        call.ticket.release();
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
    ) -> Result<Outcome> {
        let (request, token) = random::uuid_and_number();
        // An idle environment may have died, or have something to say that nobody asked for: then the next one, and in
        // the end a new one.
        while let Some(environment) = function.spec.reuse.then(|| self.reuse(function)).flatten() {
            if !call.ticket.hold(&environment) {
                self.give_back(&environment);
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
            event: Some(&event),
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
                    if !self.serves(function) {
                        environment.note(|phases| phases.queue = queue);
                        return Ok(stillborn(&environment, &request, Duration::ZERO, vec![first]));
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
    ) -> Result<Outcome> {
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
                Ok(stillborn(&environment, request, begun.elapsed(), vec![first, second]))
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
    ) -> Result<Option<Outcome>> {
        let Served { environment, begun, initialisations } = served;
        let environment = &environment;
        if call.reported {
            environment.catch_up();
        }
        let begun = begun.unwrap_or_else(Instant::now);
        let end = since.unwrap_or(begun) + timeout;
        let deadline = self.supervisor().keep(environment, end);
        let quota = environment.unlimited_for().map(|time| self.supervisor().settle(environment, begun + time));
        let left = end.saturating_duration_since(begun);
        let head = call.head(request, process::monotonic_ns() + left.as_nanos() as u64);
        let event = Event { token, timeout, parts: [&head[..], call.client_context, call.event] };
        let reply = environment.invoke(&event, end + Duration::from_secs(5), call.reported, call.interrupted);
        let busy = begun.elapsed();
        environment.note(|phases| phases.invoke = Some(busy.saturating_sub(phases.thaw.unwrap_or_default())));
        let in_time = self.supervisor().met(&deadline);
        if let Some(quota) = quota {
            self.supervisor().met(&quota);
            environment.was_busy(busy);
        }
        let duration = since.map_or(busy, |since| since.elapsed());
        let reply = match reply {
            Ok(reply) => reply,
            Err(e) => {
                environment.kill(Cause::Retired);
                return Err(e);
            }
        };
        if matches!(reply, Reply::Ended(_))
            && let Some(e) = environment.setup_failure()
        {
            environment.kill(Cause::Retired);
            return Err(e);
        }
        let verdict = match judge(environment, reply, in_time, timeout) {
            Judged::Verdict(verdict) => verdict,
            Judged::Unserved => {
                environment.kill(Cause::Retired);
                return Ok(None);
            }
            Judged::Cancelled => {
                environment.kill(Cause::Cancelled);
                return Err(Error::Cancelled);
            }
        };
        let keep = matches!(verdict, Verdict::Ok(_) | Verdict::Handler(_) | Verdict::Payload(_));
        if !keep {
            environment.kill(Cause::Retired);
        }
        let usage = match verdict {
            Verdict::Ok(_) if !call.reported => environment.usage_after(busy),
            _ => environment.usage(),
        };
        let outcome = sum_up(environment, usage, verdict, request, duration, initialisations);
        if keep {
            // Before anybody else can have it. Cancelled until now, it is killed and not kept.
            call.ticket.release();
            self.see_off(environment, end);
        }
        Ok(Some(outcome))
    }

    /// Takes an environment back after its answer. A runtime that is a program has to ask for the next event first, and so
    /// have its extensions: most do at once, and whoever takes longer keeps no caller waiting. Its deadline still counts.
    fn see_off(self: &Arc<Self>, environment: &Arc<Environment>, until: Instant) {
        const AT_ONCE: Duration = Duration::from_millis(1);
        if environment.comes_to_rest(Instant::now() + AT_ONCE) {
            return self.give_back(environment);
        }
        if !environment.usable() {
            return;
        }
        let (core, waiting) = (Arc::clone(self), Arc::clone(environment));
        self.finishing(environment, 1);
        let finish = move || {
            if waiting.comes_to_rest(until) {
                core.give_back(&waiting);
            } else if waiting.usable() {
                waiting.kill(Cause::Timeout);
            }
            core.finishing(&waiting, -1);
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
                let error = failure.and_then(|verdict| verdict.error("")).unwrap_or_default();
                Err(Error::Configuration(format!(
                    "{:?} could not be initialised: {}",
                    function.spec.name,
                    String::from_utf8_lossy(&error)
                )))
            }
        });
        for environment in &ready {
            // Nobody waited for it.
            environment.phases();
            self.give_back(environment);
        }
        result
    }
}

enum Judged {
    Verdict(Verdict),
    Unserved,
    Cancelled,
}

fn judge(environment: &Environment, reply: Reply, in_time: bool, timeout: Duration) -> Judged {
    if !in_time || environment.cause() == Cause::Timeout {
        return Judged::Verdict(Verdict::Timeout(timeout));
    }
    match environment.cause() {
        Cause::Cancelled => return Judged::Cancelled,
        Cause::Memory => return Judged::Verdict(Verdict::Memory),
        _ => {}
    }
    Judged::Verdict(match reply {
        Reply::Answer(Kind::Response, body) => Verdict::Ok(body),
        Reply::Answer(Kind::Error, body) if is_payload_error(&body) => Verdict::Payload(body),
        Reply::Answer(Kind::Error, body) => Verdict::Handler(body),
        Reply::Unready => return Judged::Unserved,
        Reply::Answer(..) | Reply::Rubbish(_) => Verdict::Exit(
            "Runtime exited with error: it wrote something to its control channel that is no answer".into(),
        ),
        Reply::Ended(_) if environment.out_of_memory() => Verdict::Memory,
        Reply::Ended(status) => Verdict::Exit(last_words(status)),
        Reply::Interrupted => return Judged::Cancelled,
    })
}

fn is_payload_error(error: &[u8]) -> bool {
    ["Function.ResponseSizeTooLarge", "Runtime.MarshalError"].into_iter().any(|kind| report::is_of_kind(error, kind))
}

/// Why an environment's function could not be initialised. `timeout`: the invocation's.
fn failed(environment: &Environment, reply: Reply, phase: Phase, took: Duration, timeout: Duration) -> Initialisation {
    // One that has its event has that event's time, too.
    let limit = if phase == Phase::Invoke || environment.has_event() { timeout } else { INIT_TIMEOUT };
    let verdict = match reply {
        _ if environment.cause() == Cause::Timeout => Verdict::Timeout(limit),
        _ if environment.out_of_memory() => Verdict::Memory,
        Reply::Answer(Kind::InitError, body) => Verdict::Init(body),
        Reply::Ended(status) => Verdict::Exit(last_words(status)),
        // It was ready, and was ended at that moment: its host or its function was closed.
        Reply::Answer(Kind::Ready, _) if environment.cause() == Cause::Retired => Verdict::Exit(last_words(None)),
        _ => Verdict::Exit(
            "Runtime exited with error: it wrote something to its control channel that is no answer".into(),
        ),
    };
    let (output, dropped) = environment.output();
    Initialisation { phase, took, failure: Some(verdict), output, dropped }
}

/// The outcome of an invocation that no environment could be initialised for: with the last one's error.
fn stillborn(
    environment: &Arc<Environment>,
    request: &str,
    duration: Duration,
    initialisations: Vec<Initialisation>,
) -> Outcome {
    let failure = initialisations.last().and_then(|last| last.failure.clone());
    let verdict = failure.unwrap_or_else(|| Verdict::Exit(last_words(None)));
    sum_up(environment, environment.usage(), verdict, request, duration, initialisations)
}

fn sum_up(
    environment: &Arc<Environment>,
    Usage { cpu, throttled, peak }: Usage,
    verdict: Verdict,
    request: &str,
    duration: Duration,
    initialisations: Vec<Initialisation>,
) -> Outcome {
    let (output, dropped) = environment.output();
    let (function, init) = (environment.function(), initialisations.first().map(|init| init.took));
    let memory_mb = function.spec.memory_mb;
    let report = Report {
        start: if init.is_some() { Start::Cold } else { Start::Warm },
        duration,
        init,
        memory_mb,
        max_memory: if verdict == Verdict::Memory { memory_mb << 20 } else { peak },
        cpu,
        throttled,
        log_dropped: dropped + initialisations.iter().map(|init| init.dropped).sum::<u64>(),
        phases: environment.phases(),
        environment: environment.id().to_owned(),
    };
    let (request_id, subject, ended) = (request.to_owned(), Arc::clone(&function.subject), SystemTime::now());
    Outcome { verdict, request_id, initialisations, output, report, ended, subject }
}

impl Served {
    /// Takes what the initialisation of a new environment has printed. One that has its event may be printing for that already.
    fn take_early_output(&mut self) {
        if let Some(init) = self.initialisations.last_mut().filter(|_| self.begun.is_none()) {
            (init.output, init.dropped) = self.environment.output();
            if !init.output.is_empty() {
                self.environment.function().speaks_early.store(true, Ordering::Relaxed);
            }
        }
    }
}
