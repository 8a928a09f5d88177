//! The one result of an invocation, and the lines that Lambda writes around its log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::phases::Phases;
use crate::platform::{self, Metrics, Phase, Record, Status, Subject};

/// What came of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The handler's result, as JSON.
    Ok(Vec<u8>),
    /// The handler raised: Lambda's error JSON.
    Handler(Vec<u8>),
    /// The function could not be initialised: Lambda's error JSON.
    Init(Vec<u8>),
    /// The response was too large or no JSON: Lambda's error JSON.
    Payload(Vec<u8>),
    /// The deadline passed.
    Timeout(Duration),
    /// Memory ran out.
    Memory,
    /// The process ended, or was killed: how.
    Exit(String),
    /// The platform itself says why there is no answer.
    Platform {
        /// The error's type.
        kind: String,
        /// What happened.
        what: String,
        /// Whether that was before the first event.
        init: bool,
    },
}

/// What kind of end it was: Python has a class of errors for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The handler returned.
    Ok,
    /// The handler raised.
    Handler,
    /// The function could not be initialised.
    Init,
    /// The event or the response was too large or no JSON.
    Payload,
    /// The deadline passed.
    Timeout,
    /// Memory ran out.
    Memory,
    /// The process ended, or was killed.
    Exit,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Handler => "handler",
            Self::Init => "init",
            Self::Payload => "payload",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Exit => "exit",
        }
    }
}

/// How an environment came to serve an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It was made for it.
    Cold,
    /// It is a fork of its initialised function.
    Restored,
    /// It had served before.
    Warm,
}

impl Start {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Restored => "restored",
            Self::Warm => "warm",
        }
    }
}

/// Measurements of one invocation.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the environment came to serve it.
    pub start: Start,
    /// From the event's sending to the answer.
    pub duration: Duration,
    /// From the wish for a new environment to an initialised one.
    pub init: Option<Duration>,
    /// From the wish for a new environment to one that is restored.
    pub restore: Option<Duration>,
    /// The cap, in MiB.
    pub memory_mb: u64,
    /// The most that was in use, in bytes.
    pub max_memory: u64,
    /// CPU time of every process of the environment.
    pub cpu: Duration,
    /// Time spent waiting for the CPU quota.
    pub throttled: Duration,
    /// Bytes of output that were not kept.
    pub log_dropped: u64,
    /// What the time went into.
    pub phases: Phases,
    /// Which environment it was.
    pub environment: String,
}

/// An initialisation that came before an invocation.
#[derive(Clone, Debug)]
pub struct Initialisation {
    /// When.
    pub phase: Phase,
    /// Whether it is no more than the restoring of a function that was initialised before.
    pub restore: bool,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Verdict>,
    /// What was printed.
    pub output: String,
    /// Bytes of output that were not kept.
    pub dropped: u64,
}

impl Initialisation {
    fn status(&self) -> Status {
        self.failure.as_ref().map_or(Status::Success, Verdict::status)
    }
}

/// An invocation's result.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What came of it.
    pub verdict: Verdict,
    /// Its id.
    pub request_id: String,
    /// X-Ray's header; empty if there was none.
    pub trace_id: String,
    /// How a new environment was initialised for it; a second time in another one if that failed.
    pub initialisations: Vec<Initialisation>,
    /// How many bytes of the result went out as chunks.
    pub streamed: u64,
    /// What was printed.
    pub output: String,
    /// What it took.
    pub report: Report,
    /// When it was over.
    pub ended: SystemTime,
    /// Of which function.
    pub subject: Arc<Subject>,
}

impl Outcome {
    /// The handler's result, as JSON, or why there is none.
    pub fn payload(&self) -> Result<&[u8], Failure> {
        match &self.verdict {
            Verdict::Ok(body) => Ok(body),
            failed => {
                let error = failed.error(&self.request_id).unwrap_or_default();
                Err(Failure::read(failed.kind(), &error))
            }
        }
    }

    /// The output, with Lambda's lines around it. Put together on demand: many look at the result alone.
    pub fn log(&self) -> String {
        let (subject, report) = (&self.subject, &self.report);
        let mut log = String::new();
        let write = |log: &mut String, record: &Record, time| subject.logging.write(log, record, time);
        let early = self.initialisations.iter().filter(|init| init.phase == Phase::Init);
        let passed = report.duration + early.map(|init| init.took).sum::<Duration>();
        let mut now = self.ended.checked_sub(passed).unwrap_or(self.ended);
        if self.initialisations.first().is_some_and(|first| !first.restore) {
            let start = Record::InitStart {
                initialization: subject.initialization,
                phase: Phase::Init,
                runtime: subject.runtime.clone(),
                function: subject.name.clone(),
                instance: report.environment.clone(),
                memory_mb: report.memory_mb,
            };
            write(&mut log, &start, now);
        }
        for init in &self.initialisations {
            if init.restore {
                let (runtime, function) = (subject.runtime.clone(), subject.name.clone());
                let (instance, memory_mb) = (report.environment.clone(), report.memory_mb);
                write(&mut log, &Record::RestoreStart { runtime, function, instance, memory_mb }, now);
                add_output(&mut log, &init.output);
                now += init.took;
                write(&mut log, &Record::RestoreRuntimeDone { status: init.status() }, now);
                write(&mut log, &Record::RestoreReport { status: init.status(), duration: init.took }, now);
                continue;
            }
            add_output(&mut log, &init.output);
            now += init.took;
            let (phase, initialization, duration) = (init.phase, subject.initialization, init.took);
            write(&mut log, &Record::InitRuntimeDone { initialization, phase, status: init.status() }, now);
            write(&mut log, &Record::InitReport { initialization, phase, status: init.status(), duration }, now);
        }
        let (id, status, duration) = (|| self.request_id.clone(), self.verdict.status(), report.duration);
        let trace_id = || self.trace_id.clone();
        let start = Record::Start { request_id: id(), arn: subject.arn.clone(), trace_id: trace_id() };
        write(&mut log, &start, now);
        add_output(&mut log, &self.output);
        let produced_bytes = match &self.verdict {
            Verdict::Ok(body) | Verdict::Handler(body) | Verdict::Payload(body) => body.len() as u64,
            _ => 0,
        } + self.streamed;
        let (trace, done) = (trace_id(), status.clone());
        let done = Record::RuntimeDone { request_id: id(), status: done, duration, produced_bytes, trace_id: trace };
        write(&mut log, &done, self.ended);
        write(&mut log, &Record::End { request_id: id() }, self.ended);
        // One that was initialised within the invocation has no time of its own for that.
        let well = self.initialisations.iter().filter(|init| init.failure.is_none());
        let init = self.initialisations.first().filter(|init| init.failure.is_none()).map(|init| init.took);
        let restore = well.filter(|init| init.restore).map(|init| init.took).next();
        let metrics = Metrics {
            duration,
            billed_ms: report.billed_ms(),
            memory_mb: report.memory_mb,
            max_memory_mb: report.max_memory_mb(),
            init: init.filter(|_| restore.is_none()),
            restore: restore.zip(report.billed_restore_ms()),
        };
        write(&mut log, &Record::Report { request_id: id(), status, metrics, trace_id: trace_id() }, self.ended);
        log
    }
}

/// Adds what was printed, up to the end of a line.
fn add_output(log: &mut String, output: &str) {
    log.push_str(output);
    if !output.is_empty() && !output.ends_with('\n') {
        log.push('\n');
    }
}

impl Report {
    /// Whole milliseconds, rounded up.
    pub fn billed_ms(&self) -> u64 {
        (self.duration.as_secs_f64() * 1000.0).ceil() as u64
    }

    /// The same of the restoring.
    pub fn billed_restore_ms(&self) -> Option<u64> {
        self.restore.map(|restore| (restore.as_secs_f64() * 1000.0).ceil() as u64)
    }

    /// The most memory that was in use, in whole MiB, and never more than the cap.
    pub fn max_memory_mb(&self) -> u64 {
        self.max_memory.div_ceil(1 << 20).min(self.memory_mb)
    }
}

impl Verdict {
    /// What kind of end it was.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ok(_) => Kind::Ok,
            Self::Handler(_) => Kind::Handler,
            Self::Init(_) | Self::Platform { init: true, .. } => Kind::Init,
            Self::Payload(_) => Kind::Payload,
            Self::Timeout(_) => Kind::Timeout,
            Self::Memory => Kind::Memory,
            Self::Exit(_) | Self::Platform { init: false, .. } => Kind::Exit,
        }
    }

    /// Lambda's error JSON; `None` if all is well.
    pub fn error(&self, request_id: &str) -> Option<Vec<u8>> {
        // In this order, which a JSON object of serde's would not keep.
        let made = |kind: &str, what: String| {
            let message = json!(format!("RequestId: {request_id} Error: {what}"));
            Some(format!(r#"{{"errorType":"{kind}","errorMessage":{message}}}"#).into_bytes())
        };
        match self {
            Self::Ok(_) => None,
            Self::Handler(error) | Self::Init(error) | Self::Payload(error) => Some(error.clone()),
            Self::Timeout(limit) => {
                made("Sandbox.Timedout", format!("Task timed out after {:.2} seconds", limit.as_secs_f64()))
            }
            Self::Memory => made("Runtime.OutOfMemory", "Runtime exited with error: signal: killed".into()),
            Self::Exit(how) => made("Runtime.ExitError", how.clone()),
            Self::Platform { kind, what, .. } => made(kind, what.clone()),
        }
    }

    /// What the platform's lines say of it.
    pub fn status(&self) -> Status {
        match self {
            Self::Ok(_) => Status::Success,
            Self::Timeout(_) => Status::Timeout,
            Self::Memory => Status::Error("Runtime.OutOfMemory".into()),
            Self::Exit(_) => Status::Error("Runtime.ExitError".into()),
            Self::Init(error) => Status::Error(error_type(error)),
            Self::Platform { kind, .. } => Status::Error(kind.clone()),
            Self::Payload(error) if is_of_kind(error, TOO_LARGE) => Status::Error(TOO_LARGE.into()),
            Self::Payload(_) => Status::Answered("Runtime.MarshalError".into()),
            // Lambda's own runtime names no type to the platform, which knows it from the answer's body no more than we.
            Self::Handler(_) => Status::Answered(platform::error_type("")),
        }
    }
}

/// The error of an environment whose hooks for the time after a restore took longer than this.
pub fn restore_timeout(limit: Duration) -> Vec<u8> {
    let message = format!("the after-restore hooks took longer than {:.2} seconds", limit.as_secs_f64());
    json!({"errorType": "Runtime.RestoreHookUserTimeout", "errorMessage": message}).to_string().into_bytes()
}

/// The type of the error of an answer that is too large.
pub const TOO_LARGE: &str = "Function.ResponseSizeTooLarge";

/// The error of an answer of more bytes than this.
pub fn too_large(most: u64) -> Vec<u8> {
    let message = format!("Response payload size exceeded maximum allowed payload size ({most} bytes).");
    json!({"errorMessage": message, "errorType": TOO_LARGE}).to_string().into_bytes()
}

/// The type of an error JSON that the runtime wrote, if it is one of Lambda's.
fn error_type(error: &[u8]) -> String {
    platform::error_type(&type_of(error))
}

/// The type in an error's JSON; empty if it has none. Nothing else of it is looked at, nor taken into memory: what is written
/// in a few bytes may take a hundred times as many as values.
pub fn type_of(error: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, default, rename = "errorType")]
        kind: Option<&'a RawValue>,
    }
    let kind = serde_json::from_slice::<Typed<'_>>(error).ok().and_then(|error| error.kind);
    kind.and_then(|kind| serde_json::from_str(kind.get()).ok()).unwrap_or_default()
}

/// Whether an error JSON that the runtime wrote is of this kind. Its keys come in the runtime's order, so that a look at
/// the text will do; what a handler forges there changes its own error's class and nothing else.
pub fn is_of_kind(error: &[u8], kind: &str) -> bool {
    let text = String::from_utf8_lossy(error);
    [":", ": "].into_iter().any(|colon| text.contains(&format!("\"errorType\"{colon}\"{kind}\"")))
}

/// How a process ended, in Lambda's words; `status` as wait(2) gives it.
pub fn ended(status: i32) -> String {
    const NAMES: [(i32, &str); 14] = [
        (1, "hangup"),
        (2, "interrupt"),
        (3, "quit"),
        (4, "illegal instruction"),
        (5, "trace/breakpoint trap"),
        (6, "aborted"),
        (7, "bus error"),
        (8, "floating point exception"),
        (9, "killed"),
        (11, "segmentation fault"),
        (13, "broken pipe"),
        (14, "alarm clock"),
        (15, "terminated"),
        (31, "bad system call"),
    ];
    let (signal, code) = (status & 0x7f, status >> 8 & 0xff);
    if signal == 0 {
        return match code {
            0 => "Runtime exited without providing a reason".into(),
            code => format!("Runtime exited with error: exit status {code}"),
        };
    }
    match NAMES.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => format!("Runtime exited with error: signal: {name}"),
        None => format!("Runtime exited with error: signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Level, Logging, Runtime};

    #[test]
    fn an_error_is_not_taken_into_memory_to_learn_its_type() {
        let many = r#"{"":0},"#.repeat(300_000);
        let error = format!(r#"{{"errorMessage": [{many}0], "errorType": "Mine", "more": [{many}0]}}"#);
        let (kind, bytes) = coldframe_sys::testing::metered::peak(|| type_of(error.as_bytes()));
        assert_eq!(kind, "Mine");
        assert!(bytes < 1 << 10, "{bytes} bytes");
        for other in ["", "[]", "{}", r#"{"errorType": 1}"#, r#"{"errorType": "x""#] {
            assert_eq!(type_of(other.as_bytes()), "");
        }
    }

    #[test]
    fn an_end_is_told_in_lambdas_words() {
        assert_eq!(ended(0), "Runtime exited without providing a reason");
        assert_eq!(ended(127 << 8), "Runtime exited with error: exit status 127");
        assert_eq!(ended(11), "Runtime exited with error: signal: segmentation fault");
        assert_eq!(ended(9 | 0x80), "Runtime exited with error: signal: killed");
    }

    fn outcome(verdict: Verdict, initialisations: Vec<Initialisation>, logging: Logging) -> Outcome {
        let report = Report {
            start: Start::Cold,
            duration: Duration::from_micros(3010),
            init: Some(Duration::from_micros(110_100)),
            restore: None,
            memory_mb: 128,
            max_memory: 36 << 20,
            cpu: Duration::ZERO,
            throttled: Duration::ZERO,
            log_dropped: 0,
            phases: Phases::default(),
            environment: "e".into(),
        };
        let runtime = Runtime { version: "v".into(), arn: "r".into() };
        let subject = Arc::new(Subject {
            name: "f".into(),
            arn: "a".into(),
            runtime,
            initialization: platform::Initialization::OnDemand,
            logging,
        });
        let (request_id, output, ended) = ("id".into(), "hi".into(), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        let trace_id = "Root=1".into();
        Outcome { verdict, request_id, trace_id, initialisations, streamed: 0, output, report, ended, subject }
    }

    fn init(phase: Phase, failure: Option<Verdict>) -> Initialisation {
        Initialisation {
            phase,
            restore: false,
            took: Duration::from_millis(1),
            failure,
            output: "early\n".into(),
            dropped: 0,
        }
    }

    const TEXT: Logging = Logging { json: false, level: Level::Info };

    #[test]
    fn the_lines_of_a_cold_start_are_lambdas() {
        let outcome = outcome(Verdict::Timeout(Duration::from_secs(1)), vec![init(Phase::Init, None)], TEXT);
        assert_eq!(
            outcome.log(),
            "INIT_START Runtime Version: v\tRuntime Version ARN: r\nearly\nSTART RequestId: id Version: $LATEST\nhi\n\
             END RequestId: id\nREPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 36 MB\tInit Duration: 1.00 ms\tStatus: timeout\t\n"
        );
    }

    #[test]
    fn an_initialisation_that_failed_twice_is_told_twice() {
        let failed = Verdict::Init(br#"{"errorType":"Runtime.ImportModuleError"}"#.to_vec());
        let tries = vec![init(Phase::Init, Some(Verdict::Memory)), init(Phase::Invoke, Some(failed.clone()))];
        assert_eq!(
            outcome(failed, tries, TEXT).log(),
            "INIT_START Runtime Version: v\tRuntime Version ARN: r\n\
             early\nINIT_REPORT Init Duration: 1.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.OutOfMemory\n\
             early\nINIT_REPORT Init Duration: 1.00 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ImportModuleError\n\
             START RequestId: id Version: $LATEST\nhi\n\
             END RequestId: id\nREPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t\
             Max Memory Used: 36 MB\tStatus: error\tError Type: Runtime.ImportModuleError\t\n"
        );
    }

    #[test]
    fn in_json_every_line_of_the_platform_is_a_record_with_its_time() {
        let logging = Logging { json: true, level: Level::Debug };
        let log = outcome(Verdict::Ok(b"12".to_vec()), vec![init(Phase::Init, None)], logging).log();
        let records = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let told = records.map(|line| format!("{} {}", line["type"], line["time"]).replace('"', ""));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "platform.initStart 1970-01-01T00:00:00.995Z",
                "platform.initRuntimeDone 1970-01-01T00:00:00.996Z",
                "platform.initReport 1970-01-01T00:00:00.996Z",
                "platform.start 1970-01-01T00:00:00.996Z",
                "platform.runtimeDone 1970-01-01T00:00:01.000Z",
                "platform.report 1970-01-01T00:00:01.000Z",
            ]
        );
    }
}
