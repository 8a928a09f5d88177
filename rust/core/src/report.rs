//! The one result of an invocation, and the lines that Lambda writes around its log.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::phases::Phases;

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
}

/// How an environment came to serve an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It was made for it.
    Cold,
    /// It had served before.
    Warm,
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

/// An invocation's result.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What came of it.
    pub verdict: Verdict,
    /// Its id.
    pub request_id: String,
    /// What was printed.
    pub output: String,
    /// What it took.
    pub report: Report,
}

impl Outcome {
    /// The output, with Lambda's lines around it. Put together on demand: many look at the result alone.
    pub fn log(&self) -> String {
        lines(&self.request_id, &self.output, &self.verdict, &self.report)
    }
}

impl Report {
    /// Whole milliseconds, rounded up.
    pub fn billed_ms(&self) -> u64 {
        (self.duration.as_secs_f64() * 1000.0).ceil() as u64
    }

    /// The most memory that was in use, in whole MiB, and never more than the cap.
    pub fn max_memory_mb(&self) -> u64 {
        self.max_memory.div_ceil(1 << 20).min(self.memory_mb)
    }
}

impl Verdict {
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
        }
    }

    /// What the REPORT line says of it.
    fn status(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "\tStatus: timeout",
            Self::Memory => "\tStatus: error\tError Type: Runtime.OutOfMemory",
            Self::Exit(_) => "\tStatus: error\tError Type: Runtime.ExitError",
            Self::Init(_) => "\tStatus: error\tError Type: Runtime.Unknown",
            Self::Payload(error) if is_of_kind(error, "Function.ResponseSizeTooLarge") => {
                "\tStatus: error\tError Type: Function.ResponseSizeTooLarge"
            }
            // A handler's own exception, and a result that is no JSON, are results like any other to the platform.
            Self::Ok(_) | Self::Handler(_) | Self::Payload(_) => "",
        }
    }
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

/// The invocation's log: START, the output, END and REPORT (Lambda's text format: fields separated by tabs).
fn lines(request_id: &str, output: &str, verdict: &Verdict, report: &Report) -> String {
    let mut log = format!("START RequestId: {request_id} Version: $LATEST\n{output}");
    if !output.is_empty() && !output.ends_with('\n') {
        log.push('\n');
    }
    let _ = write!(
        log,
        "END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: {:.2} ms\tBilled Duration: {} ms\t\
         Memory Size: {} MB\tMax Memory Used: {} MB",
        report.duration.as_secs_f64() * 1000.0,
        report.billed_ms(),
        report.memory_mb,
        report.max_memory_mb()
    );
    if let Some(init) = report.init {
        let _ = write!(log, "\tInit Duration: {:.2} ms", init.as_secs_f64() * 1000.0);
    }
    log.push_str(verdict.status());
    log.push_str("\t\n");
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_lambdas_words() {
        assert_eq!(ended(0), "Runtime exited without providing a reason");
        assert_eq!(ended(127 << 8), "Runtime exited with error: exit status 127");
        assert_eq!(ended(11), "Runtime exited with error: signal: segmentation fault");
        assert_eq!(ended(9 | 0x80), "Runtime exited with error: signal: killed");
    }

    #[test]
    fn the_report_line_is_lambdas() {
        let report = Report {
            start: Start::Cold,
            duration: Duration::from_micros(3010),
            init: Some(Duration::from_micros(110_100)),
            memory_mb: 128,
            max_memory: 36 << 20,
            cpu: Duration::ZERO,
            throttled: Duration::ZERO,
            log_dropped: 0,
            phases: Phases::default(),
            environment: String::new(),
        };
        let log = lines("id", "hi", &Verdict::Timeout(Duration::from_secs(1)), &report);
        assert_eq!(
            log,
            "START RequestId: id Version: $LATEST\nhi\nEND RequestId: id\nREPORT RequestId: id\tDuration: 3.01 ms\t\
             Billed Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\tStatus: timeout\t\n"
        );
    }
}
