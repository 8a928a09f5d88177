//! How the programs of an environment are given an event, and answer.

use std::sync::atomic::Ordering;
use std::time::{Instant, UNIX_EPOCH};

use super::launcher::{RUNTIME, Word};
use super::{Happening, Open, Programs, Wait};
use crate::api::{self, News, Shutdown};
use crate::environment::{Cause, Environment, Event, Reply};
use crate::error::Result;
use crate::platform::{Metrics, Record, Status, error_type};
use crate::report::{too_large, type_of};
use crate::spec::MAX_PAYLOAD;
use crate::wire::Kind;

impl Environment {
    /// Gives it an event and waits for the answer, or for the first piece of one that comes in chunks unless it is wanted as
    /// a whole.
    pub(in crate::environment) fn invoke_programs(
        &self,
        programs: &Programs,
        event: &Event<'_>,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
        whole: bool,
    ) -> Result<Reply> {
        // One whose runtime has ended since is not given the event at all.
        if !programs.rests() || self.has_hung_up() || self.has_lost(programs)? || self.thaw(true).is_err() {
            return Ok(Reply::Unready);
        }
        programs.rests.store(false, Ordering::Release);
        let (request_id, trace_id, deadline) = event.head();
        if programs.attended.load(Ordering::Acquire) {
            let (request_id, trace_id) = (request_id.clone(), trace_id.clone());
            let (arn, begun) = (self.function.names.arn.clone(), Instant::now());
            programs.record(&Record::Start { request_id: request_id.clone(), arn, trace_id: trace_id.clone() });
            *programs.open() = Some(Open { request_id, trace_id, begun, status: Status::Success });
        }
        programs.session.invoke(api::Event {
            request_id,
            deadline_ms: deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
            arn: self.function.names.arn.clone(),
            trace_id,
            client_context: event.parts[1].to_vec(),
            payload: event.parts[2].to_vec(),
            ..api::Event::default()
        });
        self.begin();
        self.hear_answer(programs, backstop, interrupted, whole)
    }

    /// Waits for the answer, or for the next piece of one that comes in chunks unless it is wanted as a whole.
    pub(in crate::environment) fn hear_answer(
        &self,
        programs: &Programs,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
        whole: bool,
    ) -> Result<Reply> {
        let mut gathered = Vec::new();
        let wait = Wait { until: backstop, interrupted };
        let reply = self.until_reply(programs, &wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Response { body, .. }) => Reply::Answer(Kind::Response, body),
                Happening::News(News::Error { body, .. }) => Reply::Answer(Kind::Error, body),
                Happening::News(News::TooLarge) => Reply::Answer(Kind::Error, too_large(MAX_PAYLOAD as u64)),
                Happening::News(News::BadMode) => {
                    Reply::Failed("Runtime.InvalidResponseModeHeader".into(), "Invalid function response mode".into())
                }
                Happening::News(News::Chunk(chunk)) if whole => {
                    // One that has become too large is heard to its end, and not kept.
                    if gathered.len() <= MAX_PAYLOAD {
                        gathered.extend(chunk);
                    }
                    return Ok(None);
                }
                Happening::News(News::Chunk(chunk)) => Reply::Chunk(chunk),
                Happening::News(News::StreamEnd(None)) if gathered.len() > MAX_PAYLOAD => {
                    Reply::Answer(Kind::Error, too_large(MAX_PAYLOAD as u64))
                }
                Happening::News(News::StreamEnd(None)) => Reply::Answer(Kind::Response, std::mem::take(&mut gathered)),
                Happening::News(News::StreamEnd(Some(error))) if error.body.is_empty() => {
                    Reply::Failed(error.error_type, "the response ended early".into())
                }
                Happening::News(News::StreamEnd(Some(error))) => Reply::Answer(Kind::Error, error.body),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                other => return Ok(self.common(programs, other)),
            }))
        });
        if !matches!(reply, Ok(Reply::Chunk(_))) {
            self.answered_by_programs(programs, &reply);
        }
        reply
    }

    /// Notes how the runtime has done with the open invocation, and tells of it.
    fn answered_by_programs(&self, programs: &Programs, reply: &Result<Reply>) {
        if !matches!(reply, Ok(Reply::Answer(..) | Reply::Failed(..))) {
            programs.session.expire();
            programs.failed.store(true, Ordering::Release);
        }
        let mut open = programs.open();
        let Some(open) = open.as_mut() else { return };
        let (status, produced_bytes) = match reply {
            Ok(Reply::Answer(Kind::Response, body)) => (Status::Success, body.len() as u64),
            Ok(Reply::Answer(_, body)) => (Status::Error(error_type(&type_of(body))), body.len() as u64),
            Ok(Reply::Failed(kind, _)) => (Status::Error(kind.clone()), 0),
            _ if self.cause() == Cause::Timeout => (Status::Timeout, 0),
            _ => (Status::Failure("Runtime.ExitError".into()), 0),
        };
        open.status = status.clone();
        let (request_id, trace_id, duration) = (open.request_id.clone(), open.trace_id.clone(), open.begun.elapsed());
        programs.record(&Record::RuntimeDone { request_id, status, duration, produced_bytes, trace_id });
    }

    /// Waits until nothing is left to be done for the last event, and no longer than that; whether that was so.
    pub fn comes_to_rest(&self, until: Instant) -> bool {
        let Some(programs) = &self.programs else { return true };
        if programs.rests() {
            return true;
        }
        if !programs.idle.load(Ordering::Acquire) && !self.becomes_idle(programs, until) {
            return false;
        }
        if programs.attended.load(Ordering::Acquire) && !programs.has_delivered(until) {
            return false;
        }
        programs.idle.store(false, Ordering::Release);
        programs.rests.store(true, Ordering::Release);
        true
    }

    /// Waits until the runtime and all extensions have asked for the next event; whether they have.
    fn becomes_idle(&self, programs: &Programs, until: Instant) -> bool {
        // Heard of beside the answer, it is not heard of again.
        if !programs.board.lives(RUNTIME) {
            programs.failed.store(true, Ordering::Release);
            self.kill(Cause::Retired);
            return false;
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
            Ok(Some(Reply::Unready)) if !programs.failed.load(Ordering::Acquire) => {
                self.conclude(programs, None);
                programs.idle.store(true, Ordering::Release);
            }
            // It goes on; whoever waits may ask again.
            Ok(None) => {}
            _ => {
                programs.failed.store(true, Ordering::Release);
                self.kill(Cause::Retired);
            }
        }
        programs.idle.load(Ordering::Acquire)
    }

    /// Tells what the last invocation took, when it is over with all that belongs to it. `end`: why the environment ends.
    pub(super) fn conclude(&self, programs: &Programs, end: Option<Shutdown>) {
        let Some(Open { request_id, trace_id, begun, status }) = programs.open().take() else { return };
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
        programs.record(&Record::Report { request_id, status, metrics, trace_id });
    }
}
