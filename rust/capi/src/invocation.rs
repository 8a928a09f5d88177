//! What came of an invocation, as C sees it: structures that it reads, and that this side owns.

use std::ffi::{CString, c_char, c_double, c_int};
use std::ptr;
use std::time::Duration;

use api::{Kind, Outcome, Start};

use crate::error::c_text;

/// `coldframe_report`: fields are only ever added, at the end.
#[repr(C)]
pub struct Report {
    start: c_int,
    duration_ms: c_double,
    billed_duration_ms: u64,
    init_duration_ms: c_double,
    restore_duration_ms: c_double,
    memory_mb: u64,
    max_memory_mb: u64,
    cpu_ms: c_double,
    throttled_ms: c_double,
    log_dropped_bytes: u64,
    environment_id: *const c_char,
}

/// `coldframe_invocation`: fields are only ever added, at the end.
#[repr(C)]
pub struct Invocation {
    verdict: c_int,
    request_id: *const c_char,
    payload: *const c_char,
    payload_size: usize,
    error: *const c_char,
    error_size: usize,
    error_type: *const c_char,
    error_message: *const c_char,
    stack_trace: *const *const c_char,
    stack_trace_size: usize,
    log: *const c_char,
    log_size: usize,
    report: *const Report,
}

/// What C has a pointer to, and behind it what the pointers in there point to: none of it moves until it is freed.
#[repr(C)]
pub struct Owned {
    shown: Invocation,
    _report: Box<Report>,
    _texts: Vec<CString>,
    _bytes: Vec<Vec<u8>>,
    _frames: Vec<*const c_char>,
}

/// What owns texts and bytes while pointers to them are given out.
#[derive(Default)]
struct Keeper {
    texts: Vec<CString>,
    bytes: Vec<Vec<u8>>,
}

impl Keeper {
    /// A pointer to a text that ends with a NUL and has no other.
    fn text(&mut self, text: &str) -> *const c_char {
        let owner = c_text(text);
        // The heap's: it stays where it is when the owner moves.
        let pointer = owner.as_ptr();
        self.texts.push(owner);
        pointer
    }

    /// A pointer to bytes with a NUL after them, and their number without that.
    fn bytes(&mut self, mut bytes: Vec<u8>) -> (*const c_char, usize) {
        let size = bytes.len();
        bytes.push(0);
        let pointer = bytes.as_ptr().cast();
        self.bytes.push(bytes);
        (pointer, size)
    }
}

const NONE: (*const c_char, usize) = (ptr::null(), 0);

impl From<Outcome> for Box<Owned> {
    fn from(outcome: Outcome) -> Self {
        let mut keeper = Keeper::default();
        let log = keeper.bytes(outcome.log().into_bytes());
        let failure = outcome.payload().err();
        let error = outcome.verdict.error(&outcome.request_id).map_or(NONE, |error| keeper.bytes(error));
        let Outcome { verdict, request_id, report, .. } = outcome;
        let payload = if let api::Verdict::Ok(body) = verdict { keeper.bytes(body) } else { NONE };
        let (error_type, error_message) = failure.as_ref().map_or((ptr::null(), ptr::null()), |failure| {
            (keeper.text(&failure.error_type), keeper.text(&failure.error_message))
        });
        let frames: Vec<*const c_char> =
            failure.iter().flat_map(|failure| &failure.stack_trace).map(|frame| keeper.text(frame)).collect();
        let report = Box::new(Report {
            start: start(report.start),
            duration_ms: ms(report.duration),
            billed_duration_ms: report.billed_ms(),
            init_duration_ms: report.init.map_or(-1.0, ms),
            restore_duration_ms: report.restore.map_or(-1.0, ms),
            memory_mb: report.memory_mb,
            max_memory_mb: report.max_memory_mb(),
            cpu_ms: ms(report.cpu),
            throttled_ms: ms(report.throttled),
            log_dropped_bytes: report.log_dropped,
            environment_id: keeper.text(&report.environment),
        });
        let shown = Invocation {
            verdict: verdict_of(failure.map_or(Kind::Ok, |failure| failure.kind)),
            request_id: keeper.text(&request_id),
            payload: payload.0,
            payload_size: payload.1,
            error: error.0,
            error_size: error.1,
            error_type,
            error_message,
            stack_trace: if frames.is_empty() { ptr::null() } else { frames.as_ptr() },
            stack_trace_size: frames.len(),
            log: log.0,
            log_size: log.1,
            report: &raw const *report,
        };
        Box::new(Owned { shown, _report: report, _texts: keeper.texts, _bytes: keeper.bytes, _frames: frames })
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// `coldframe_verdict`
fn verdict_of(kind: Kind) -> c_int {
    match kind {
        Kind::Ok => 0,
        Kind::Handler => 1,
        Kind::Init => 2,
        Kind::Timeout => 3,
        Kind::Memory => 4,
        Kind::Exit => 5,
        Kind::Payload => 6,
    }
}

/// `coldframe_start`
fn start(start: Start) -> c_int {
    match start {
        Start::Cold => 0,
        Start::Warm => 1,
        Start::Restored => 2,
    }
}
