//! The records, and how each is written.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{Initialization, LATEST, Level, Phase, Runtime, Status};
use crate::calendar;

/// What an invocation took.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// From the event to the answer.
    pub duration: Duration,
    /// The same as it is billed, in milliseconds.
    pub billed_ms: u64,
    /// The cap, in MiB.
    pub memory_mb: u64,
    /// The most that was in use, in MiB.
    pub max_memory_mb: u64,
    /// The initialisation, if there was one before it.
    pub init: Option<Duration>,
    /// The restore, if there was one before it, and how much of it is billed, in milliseconds.
    pub restore: Option<(Duration, u64)>,
}

/// Something that happened to a function.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// It begins to be initialised.
    InitStart {
        /// Why.
        initialization: Initialization,
        /// When.
        phase: Phase,
        /// What runs it.
        runtime: Runtime,
        /// Its name.
        function: String,
        /// The environment.
        instance: String,
        /// The environment's cap, in MiB.
        memory_mb: u64,
    },
    /// Its runtime is ready, or is not going to be.
    InitRuntimeDone {
        /// Why it was initialised.
        initialization: Initialization,
        /// When.
        phase: Phase,
        /// How that ended.
        status: Status,
    },
    /// It has been initialised, or could not be.
    InitReport {
        /// Why it was initialised.
        initialization: Initialization,
        /// When.
        phase: Phase,
        /// How that ended.
        status: Status,
        /// How long it took.
        duration: Duration,
    },
    /// An environment begins to be restored.
    RestoreStart {
        /// What runs it.
        runtime: Runtime,
        /// Its function's name.
        function: String,
        /// The environment.
        instance: String,
        /// The environment's cap, in MiB.
        memory_mb: u64,
    },
    /// Its runtime is ready again, or is not going to be.
    RestoreRuntimeDone {
        /// How it ended.
        status: Status,
    },
    /// It has been restored, or could not be.
    RestoreReport {
        /// How it ended.
        status: Status,
        /// How long it took.
        duration: Duration,
    },
    /// An event is given to it.
    Start {
        /// The event's id.
        request_id: String,
        /// As it was called.
        arn: String,
        /// X-Ray's header; empty if there is none.
        trace_id: String,
    },
    /// Its runtime has answered, or ended.
    RuntimeDone {
        /// The event's id.
        request_id: String,
        /// How it ended.
        status: Status,
        /// From the event to the answer.
        duration: Duration,
        /// The answer's length.
        produced_bytes: u64,
        /// X-Ray's header; empty if there is none.
        trace_id: String,
    },
    /// The invocation is over. Text only.
    End {
        /// The event's id.
        request_id: String,
    },
    /// What it took.
    Report {
        /// The event's id.
        request_id: String,
        /// How it ended.
        status: Status,
        /// What it took.
        metrics: Metrics,
        /// X-Ray's header; empty if there is none.
        trace_id: String,
    },
    /// An extension has registered, or failed.
    Extension {
        /// Its name.
        name: String,
        /// "Ready", or what became of it.
        state: String,
        /// What it wants to be told.
        events: Vec<String>,
    },
    /// An extension has subscribed to records.
    Subscription {
        /// Its name.
        name: String,
        /// To which: platform, function, extension.
        types: Vec<String>,
    },
    /// Something of the log is missing. JSON only: in text the log says so itself.
    LogsDropped {
        /// How much.
        bytes: u64,
        /// How many lines.
        records: u64,
        /// Why.
        reason: String,
    },
}

impl Record {
    /// Its type: "platform.start", and so on.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InitStart { .. } => "platform.initStart",
            Self::InitRuntimeDone { .. } => "platform.initRuntimeDone",
            Self::InitReport { .. } => "platform.initReport",
            Self::RestoreStart { .. } => "platform.restoreStart",
            Self::RestoreRuntimeDone { .. } => "platform.restoreRuntimeDone",
            Self::RestoreReport { .. } => "platform.restoreReport",
            Self::Start { .. } => "platform.start",
            Self::RuntimeDone { .. } => "platform.runtimeDone",
            Self::End { .. } => "platform.end",
            Self::Report { .. } => "platform.report",
            Self::Extension { .. } => "platform.extension",
            Self::Subscription { .. } => "platform.telemetrySubscription",
            Self::LogsDropped { .. } => "platform.logsDropped",
        }
    }

    /// What the Telemetry API has under "record".
    pub fn value(&self) -> Value {
        let mut value = self.fields();
        if let Some(map) = value.as_object_mut() {
            if let Some(status) = self.status() {
                map.insert("status".into(), status.name().into());
                status.error_type().map(|kind| map.insert("errorType".into(), kind.into()));
            }
            if let Some(trace_id) = self.trace_id() {
                map.insert("tracing".into(), json!({"type": "X-Amzn-Trace-Id", "value": trace_id}));
            }
        }
        value
    }

    fn fields(&self) -> Value {
        match self {
            Self::InitStart { initialization, phase, runtime, function, instance, memory_mb } => {
                let mut fields = started(runtime, function, instance, *memory_mb);
                fields.insert("initializationType".into(), initialization.name().into());
                fields.insert("phase".into(), phase.name().into());
                fields.into()
            }
            Self::InitRuntimeDone { initialization, phase, .. } => {
                json!({"initializationType": initialization.name(), "phase": phase.name()})
            }
            Self::InitReport { initialization, phase, duration, .. } => {
                json!({"initializationType": initialization.name(), "phase": phase.name(),
                       "metrics": {"durationMs": ms(*duration)}})
            }
            Self::RestoreStart { runtime, function, instance, memory_mb } => {
                started(runtime, function, instance, *memory_mb).into()
            }
            Self::RestoreRuntimeDone { .. } => json!({}),
            Self::RestoreReport { duration, .. } => json!({"metrics": {"durationMs": ms(*duration)}}),
            Self::Start { request_id, arn, .. } => {
                json!({"requestId": request_id, "functionArn": arn, "version": LATEST})
            }
            Self::RuntimeDone { request_id, duration, produced_bytes, .. } => {
                json!({"requestId": request_id,
                       "metrics": {"durationMs": ms(*duration), "producedBytes": produced_bytes}})
            }
            Self::End { request_id } => json!({"requestId": request_id}),
            Self::Report { request_id, metrics, .. } => json!({"requestId": request_id, "metrics": metrics.value()}),
            Self::Extension { name, state, events } => json!({"name": name, "state": state, "events": events}),
            Self::Subscription { name, types } => json!({"name": name, "state": "Subscribed", "types": types}),
            Self::LogsDropped { bytes, records, reason } => {
                json!({"droppedBytes": bytes, "droppedRecords": records, "reason": reason})
            }
        }
    }

    fn status(&self) -> Option<&Status> {
        match self {
            Self::InitRuntimeDone { status, .. }
            | Self::InitReport { status, .. }
            | Self::RestoreRuntimeDone { status }
            | Self::RestoreReport { status, .. }
            | Self::RuntimeDone { status, .. }
            | Self::Report { status, .. } => Some(status),
            _ => None,
        }
    }

    fn trace_id(&self) -> Option<&str> {
        match self {
            Self::Start { trace_id, .. } | Self::RuntimeDone { trace_id, .. } | Self::Report { trace_id, .. } => {
                Some(trace_id.as_str()).filter(|id| !id.is_empty())
            }
            _ => None,
        }
    }

    /// What matters to whom: Lambda's table of its system log.
    pub fn level(&self) -> Level {
        match self {
            Self::LogsDropped { .. } => Level::Warn,
            _ if self.status().is_some_and(|status| *status != Status::Success) => Level::Warn,
            Self::InitRuntimeDone { .. }
            | Self::RestoreRuntimeDone { .. }
            | Self::RuntimeDone { .. }
            | Self::InitReport { initialization: Initialization::OnDemand, .. } => Level::Debug,
            _ => Level::Info,
        }
    }

    /// The line of the text format; empty for what has none.
    pub fn text(&self) -> String {
        match self {
            Self::InitStart { runtime: Runtime { version, arn }, .. } => {
                format!("INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n")
            }
            Self::RestoreStart { runtime: Runtime { version, arn }, .. } => {
                format!("RESTORE_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n")
            }
            // Of one that went well nothing is said, unless others will be made of it.
            Self::InitReport { initialization, status: Status::Success, .. }
                if *initialization != Initialization::SnapStart =>
            {
                String::new()
            }
            Self::InitReport { phase, status, duration, .. } => {
                let (phase, status) = (phase.name(), status.fields());
                format!("INIT_REPORT Init Duration: {:.2} ms\tPhase: {phase}{status}\n", ms(*duration))
            }
            Self::RestoreReport { status, duration } => {
                format!("RESTORE_REPORT Restore Duration: {:.2} ms{}\n", ms(*duration), status.fields())
            }
            Self::Start { request_id, .. } => format!("START RequestId: {request_id} Version: {LATEST}\n"),
            Self::End { request_id } => format!("END RequestId: {request_id}\n"),
            Self::Report { request_id, status, metrics, .. } => {
                format!("REPORT RequestId: {request_id}\t{}{}\t\n", metrics.text(), status.fields())
            }
            Self::Extension { name, state, events } => {
                format!("EXTENSION\tName: {name}\tState: {state}\tEvents: [{}]\n", events.join(", "))
            }
            Self::Subscription { name, types } => {
                format!("TELEMETRY\tName: {name}\tState: Subscribed\tTypes: [{}]\n", types.join(", "))
            }
            Self::InitRuntimeDone { .. }
            | Self::RestoreRuntimeDone { .. }
            | Self::RuntimeDone { .. }
            | Self::LogsDropped { .. } => String::new(),
        }
    }

    /// The line of the JSON format.
    pub(super) fn json(&self, time: SystemTime) -> String {
        let (time, kind, record) = (calendar::timestamp(time), self.kind(), self.value());
        // By hand: people read the beginning of a line.
        format!("{{\"time\":\"{time}\",\"type\":\"{kind}\",\"record\":{record}}}\n")
    }
}

/// What is said of an environment that begins.
fn started(runtime: &Runtime, function: &str, instance: &str, memory_mb: u64) -> Map<String, Value> {
    let fields = [
        ("runtimeVersion", runtime.version.as_str().into()),
        ("runtimeVersionArn", runtime.arn.as_str().into()),
        ("functionName", function.into()),
        ("functionVersion", LATEST.into()),
        ("instanceId", instance.into()),
        ("instanceMaxMemory", (memory_mb << 20).into()),
    ];
    fields.map(|(name, value): (_, Value)| (name.to_owned(), value)).into_iter().collect()
}

impl Metrics {
    fn value(&self) -> Value {
        let mut value = json!({"durationMs": ms(self.duration), "billedDurationMs": self.billed_ms,
                               "memorySizeMB": self.memory_mb, "maxMemoryUsedMB": self.max_memory_mb});
        if let Some(init) = self.init {
            value["initDurationMs"] = ms(init).into();
        }
        if let Some((restore, billed_ms)) = self.restore {
            value["restoreDurationMs"] = ms(restore).into();
            value["billedRestoreDurationMs"] = billed_ms.into();
        }
        value
    }

    fn text(&self) -> String {
        let mut text = format!(
            "Duration: {:.2} ms\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB",
            exact_ms(self.duration),
            self.billed_ms,
            self.memory_mb,
            self.max_memory_mb
        );
        if let Some(init) = self.init {
            let _ = write!(text, "\tInit Duration: {:.2} ms", exact_ms(init));
        }
        if let Some((restore, billed_ms)) = self.restore {
            let restore = exact_ms(restore);
            let _ = write!(text, "\tRestore Duration: {restore:.2} ms\tBilled Restore Duration: {billed_ms} ms");
        }
        text
    }
}

fn exact_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Milliseconds to a microsecond, as records have them.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::Logging;
    use super::*;
    use std::time::UNIX_EPOCH;

    const ON_DEMAND: Initialization = Initialization::OnDemand;

    fn runtime() -> Runtime {
        Runtime { version: "python:3.13.v1".into(), arn: "arn".into() }
    }

    fn metrics() -> Metrics {
        Metrics {
            duration: Duration::from_micros(3010),
            billed_ms: 4,
            memory_mb: 128,
            max_memory_mb: 36,
            init: Some(Duration::from_micros(110_100)),
            restore: None,
        }
    }

    fn report(status: Status, metrics: Metrics) -> Record {
        Record::Report { request_id: "id".into(), status, metrics, trace_id: String::new() }
    }

    fn init_report(status: Status) -> Record {
        let duration = Duration::from_micros(1_236_040);
        Record::InitReport { initialization: ON_DEMAND, phase: Phase::Init, status, duration }
    }

    #[test]
    fn the_lines_of_text_are_lambdas() {
        let start = Record::InitStart {
            initialization: ON_DEMAND,
            phase: Phase::Init,
            runtime: runtime(),
            function: "f".into(),
            instance: "i".into(),
            memory_mb: 128,
        };
        assert_eq!(start.text(), "INIT_START Runtime Version: python:3.13.v1\tRuntime Version ARN: arn\n");
        assert_eq!(
            init_report(Status::Timeout).text(),
            "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: timeout\n"
        );
        assert_eq!(
            init_report(Status::Error("Extension.Crash".into())).text(),
            "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: error\tError Type: Extension.Crash\n"
        );
        assert_eq!(init_report(Status::Success).text(), "");
        let restored = Record::RestoreReport { status: Status::Success, duration: Duration::from_micros(511_250) };
        assert_eq!(restored.text(), "RESTORE_REPORT Restore Duration: 511.25 ms\n");
        assert_eq!(
            report(Status::Timeout, metrics()).text(),
            "REPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\
             Init Duration: 110.10 ms\tStatus: timeout\t\n"
        );
        let restored = Metrics { init: None, restore: Some((Duration::from_micros(204_270), 205)), ..metrics() };
        assert_eq!(
            report(Status::Success, restored).text(),
            "REPORT RequestId: id\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\
             Restore Duration: 204.27 ms\tBilled Restore Duration: 205 ms\t\n"
        );
        let ready = Record::Extension {
            name: "ext".into(),
            state: "Ready".into(),
            events: vec!["INVOKE".into(), "SHUTDOWN".into()],
        };
        assert_eq!(ready.text(), "EXTENSION\tName: ext\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n");
    }

    #[test]
    fn a_line_of_json_is_what_the_telemetry_api_sends() {
        let mut log = String::new();
        Logging { json: true, level: Level::Info }.write(&mut log, &report(Status::Success, metrics()), UNIX_EPOCH);
        let front = r#"{"time":"1970-01-01T00:00:00.000Z","type":"platform.report","record":{"#;
        assert!(log.starts_with(front) && log.ends_with("}\n"), "{log}");
        let line: Value = serde_json::from_str(&log).expect("JSON");
        assert_eq!(
            line["record"],
            json!({"requestId": "id", "status": "success", "metrics": {"durationMs": 3.01, "billedDurationMs": 4,
                   "memorySizeMB": 128, "maxMemoryUsedMB": 36, "initDurationMs": 110.1}})
        );
        let done = Record::RuntimeDone {
            request_id: "id".into(),
            status: Status::Error("Runtime.ExitError".into()),
            duration: Duration::from_micros(1500),
            produced_bytes: 0,
            trace_id: "Root=1".into(),
        };
        assert_eq!(
            done.value(),
            json!({"requestId": "id", "status": "error", "errorType": "Runtime.ExitError",
                   "metrics": {"durationMs": 1.5, "producedBytes": 0},
                   "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"}})
        );
    }

    #[test]
    fn what_matters_less_than_the_level_is_left_out_of_json_and_never_of_text() {
        let records = [
            init_report(Status::Success),
            init_report(Status::Timeout),
            report(Status::Success, metrics()),
            report(Status::Answered("Runtime.Unknown".into()), metrics()),
        ];
        let written = |logging: Logging| {
            records.each_ref().map(|record| {
                let mut log = String::new();
                logging.write(&mut log, record, UNIX_EPOCH);
                !log.is_empty()
            })
        };
        assert_eq!(written(Logging { json: true, level: Level::Debug }), [true; 4]);
        assert_eq!(written(Logging { json: true, level: Level::Info }), [false, true, true, true]);
        assert_eq!(written(Logging { json: true, level: Level::Warn }), [false, true, false, true]);
        assert_eq!(written(Logging { json: false, level: Level::Warn }), [false, true, true, true]);
    }
}
