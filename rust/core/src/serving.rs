//! An environment at an event: what bounds it meanwhile, and what becomes of it with the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crate::cgroup::Usage;
use crate::environment::{Cause, Environment, Reply, last_words};
use crate::error::{Error, Result};
use crate::invocation::{Call, Ticket};
use crate::platform::Phase;
use crate::pool::Core;
use crate::pool::make::{INIT_TIMEOUT, Served};
use crate::report::{self, Initialisation, Outcome, Report, Start, Verdict};
use crate::supervisor::Deadline;
use crate::wire::Kind;

/// How long after its deadline an environment is waited for that the supervisor has not ended.
const BACKSTOP: Duration = Duration::from_secs(5);

/// An environment at an event.
pub(crate) struct Serving {
    environment: Arc<Environment>,
    initialisations: Vec<Initialisation>,
    request: String,
    trace_id: String,
    timeout: Duration,
    begun: Instant,
    /// When the invocation's time began, if the environment was initialised within it.
    since: Option<Instant>,
    deadline: Deadline,
    quota: Option<Deadline>,
    reported: bool,
}

impl Serving {
    /// From now on its time counts.
    pub fn begin(
        core: &Core,
        served: Served,
        call: &Call<'_>,
        request: &str,
        timeout: Duration,
        since: Option<Instant>,
    ) -> Self {
        let Served { environment, begun, initialisations } = served;
        if call.reported {
            environment.catch_up();
        }
        let begun = begun.unwrap_or_else(Instant::now);
        let deadline = core.supervisor().keep(&environment, since.unwrap_or(begun) + timeout);
        let quota = environment.unlimited_for().map(|time| core.supervisor().settle(&environment, begun + time));
        let (request, trace_id, reported) = (request.to_owned(), call.trace_id.to_owned(), call.reported);
        Self { environment, initialisations, request, trace_id, timeout, begun, since, deadline, quota, reported }
    }

    /// Which it is.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    fn end(&self) -> Instant {
        self.since.unwrap_or(self.begun) + self.timeout
    }

    /// How much time it had when it began.
    pub fn left(&self) -> Duration {
        self.end().saturating_duration_since(self.begun)
    }

    /// When to wait no more, whatever the supervisor does.
    pub fn backstop(&self) -> Instant {
        self.end() + BACKSTOP
    }

    /// It has answered, or will not: `None` if it was not in a state to serve, and has not seen the event.
    pub fn finish(self, core: &Arc<Core>, ticket: &Ticket, reply: Result<Reply>) -> Result<Option<Outcome>> {
        let end = self.end();
        let Self { environment, initialisations, request, trace_id, timeout, begun, since, deadline, quota, reported } =
            self;
        let environment = &environment;
        let busy = begun.elapsed();
        environment.note(|phases| phases.invoke = Some(busy.saturating_sub(phases.thaw.unwrap_or_default())));
        let in_time = core.supervisor().met(&deadline);
        if let Some(quota) = quota {
            core.supervisor().met(&quota);
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
            Verdict::Ok(_) if !reported => environment.usage_after(busy),
            _ => environment.usage(),
        };
        let outcome = sum_up(environment, usage, verdict, (request, trace_id), duration, initialisations);
        if keep {
            // Before anybody else can have it. Cancelled until now, it is killed and not kept.
            ticket.release();
            core.see_off(environment, end);
        }
        Ok(Some(outcome))
    }
}

impl Served {
    /// Takes what the initialisation of a new environment has printed. One that has its event may be printing for that already.
    pub(crate) fn take_early_output(&mut self) {
        if let Some(init) = self.initialisations.last_mut().filter(|_| self.begun.is_none()) {
            (init.output, init.dropped) = self.environment.output();
            if !init.output.is_empty() {
                self.environment.function().speaks_early.store(true, Ordering::Relaxed);
            }
        }
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
        Reply::Failed(kind, what) => Verdict::Platform { kind, what, init: false },
        Reply::Answer(Kind::Error, body) if is_payload_error(&body) => Verdict::Payload(body),
        Reply::Answer(Kind::Error, body) => Verdict::Handler(body),
        Reply::Unready => return Judged::Unserved,
        Reply::Answer(..) | Reply::Chunk(_) | Reply::Rubbish(_) => Verdict::Exit(
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
pub(crate) fn failed(
    environment: &Environment,
    reply: Reply,
    phase: Phase,
    took: Duration,
    timeout: Duration,
) -> Initialisation {
    // One that has its event has that event's time, too.
    let limit = if phase == Phase::Invoke || environment.has_event() { timeout } else { INIT_TIMEOUT };
    let verdict = match reply {
        _ if environment.cause() == Cause::Timeout && environment.is_restored() && limit == INIT_TIMEOUT => {
            Verdict::Init(report::restore_timeout(limit))
        }
        _ if environment.cause() == Cause::Timeout => Verdict::Timeout(limit),
        _ if environment.out_of_memory() => Verdict::Memory,
        Reply::Answer(Kind::InitError, body) => Verdict::Init(body),
        Reply::Failed(kind, what) => Verdict::Platform { kind, what, init: true },
        Reply::Ended(status) => Verdict::Exit(last_words(status)),
        // It was ready, and was ended at that moment: its host or its function was closed.
        Reply::Answer(Kind::Ready, _) if environment.cause() == Cause::Retired => Verdict::Exit(last_words(None)),
        _ => Verdict::Exit(
            "Runtime exited with error: it wrote something to its control channel that is no answer".into(),
        ),
    };
    let (output, dropped) = environment.output();
    Initialisation { phase, restore: environment.is_restored(), took, failure: Some(verdict), output, dropped }
}

/// The outcome of an invocation that no environment could be initialised for: with the last one's error.
pub(crate) fn stillborn(
    environment: &Arc<Environment>,
    call: &Call<'_>,
    request: &str,
    duration: Duration,
    initialisations: Vec<Initialisation>,
) -> Outcome {
    let failure = initialisations.last().and_then(|last| last.failure.clone());
    let verdict = failure.unwrap_or_else(|| Verdict::Exit(last_words(None)));
    let ids = (request.to_owned(), call.trace_id.to_owned());
    sum_up(environment, environment.usage(), verdict, ids, duration, initialisations)
}

fn sum_up(
    environment: &Arc<Environment>,
    Usage { cpu, throttled, peak }: Usage,
    verdict: Verdict,
    (request_id, trace_id): (String, String),
    duration: Duration,
    initialisations: Vec<Initialisation>,
) -> Outcome {
    let (output, dropped) = environment.output();
    let restored = initialisations.last().is_some_and(|last| last.restore);
    let made = if restored { initialisations.last() } else { initialisations.first() };
    let (function, init) = (environment.function(), made.map(|init| init.took));
    let memory_mb = function.spec.memory_mb;
    let report = Report {
        start: match init {
            Some(_) if restored => Start::Restored,
            Some(_) => Start::Cold,
            None => Start::Warm,
        },
        duration,
        init: init.filter(|_| !restored),
        restore: init.filter(|_| restored),
        memory_mb,
        max_memory: if verdict == Verdict::Memory { memory_mb << 20 } else { peak },
        cpu,
        throttled,
        log_dropped: dropped + initialisations.iter().map(|init| init.dropped).sum::<u64>(),
        phases: environment.phases(),
        environment: environment.id().to_owned(),
    };
    let (subject, ended) = (Arc::clone(&function.subject), SystemTime::now());
    Outcome { verdict, request_id, trace_id, initialisations, streamed: 0, output, report, ended, subject }
}
