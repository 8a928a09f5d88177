//! What a session knows about one extension: its states by Lambda's names, and what it is to be told.

use serde_json::{Value, json};

use crate::api::answer::{self, Refusal};
use crate::api::{Event, Extension, Shutdown};
use crate::random;

/// The states of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
    Exited,
}

/// What an extension may want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invoke,
    Shutdown,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "INVOKE",
            Self::Shutdown => "SHUTDOWN",
        }
    }
}

/// What an extension is told when it asks.
#[derive(Clone, Debug)]
pub enum Told {
    Invoke(String),
    Shutdown(String),
}

/// An extension.
#[derive(Debug)]
pub struct Agent {
    pub name: String,
    pub id: String,
    pub external: bool,
    pub stage: Stage,
    /// What it said went wrong.
    pub error_type: Option<String>,
    events: Vec<Kind>,
    due: Option<Told>,
}

impl Agent {
    /// One that is a process of its own, and has still to register.
    pub fn external(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: random::uuid_and_number().0,
            external: true,
            stage: Stage::Started,
            error_type: None,
            events: Vec::new(),
            due: None,
        }
    }

    /// One that is part of the runtime's process.
    pub fn internal(name: &str) -> Self {
        Self { external: false, ..Self::external(name) }
    }

    /// It registers for some events.
    pub fn register(&mut self, events: Vec<Kind>) -> Result<(), Refusal> {
        if self.stage != Stage::Started {
            return Err(self.refused(Stage::Registered, &self.name));
        }
        self.events = events;
        self.stage = Stage::Registered;
        Ok(())
    }

    /// It asks for what it is to be told next.
    pub fn next(&mut self) -> Result<(), Refusal> {
        if !matches!(self.stage, Stage::Registered | Stage::Running) {
            return Err(self.refused(Stage::Ready, &self.id));
        }
        self.stage = Stage::Ready;
        Ok(())
    }

    /// What it is told, if there is something and it asked.
    pub fn take(&mut self) -> Option<Told> {
        let told = self.due.take_if(|_| self.stage == Stage::Ready)?;
        self.stage = Stage::Running;
        Some(told)
    }

    /// It says that it has failed. Whether that is news.
    pub fn failed(&mut self, stage: Stage, error_type: String) -> Result<bool, Refusal> {
        let allowed = match stage {
            Stage::InitError => self.stage == Stage::Registered,
            _ => matches!(self.stage, Stage::Registered | Stage::Ready | Stage::Running),
        };
        // It may say so again, and the first time counts.
        if self.stage == stage {
            return Ok(false);
        }
        if !allowed {
            let to = if stage == Stage::ExitError { Stage::Exited } else { stage };
            return Err(self.refused(to, &self.id));
        }
        self.stage = stage;
        self.error_type = Some(error_type);
        Ok(true)
    }

    /// Its process has ended. Whether that is a surprise.
    pub fn ended(&mut self) -> bool {
        let known = matches!(self.stage, Stage::InitError | Stage::ExitError | Stage::Exited);
        self.stage = if known { self.stage } else { Stage::Exited };
        !known
    }

    /// Tells it of an event, if it wants to know.
    pub fn invoke(&mut self, event: &Event) {
        if self.events.contains(&Kind::Invoke) {
            self.due = Some(Told::Invoke(invoke(event)));
        }
    }

    /// Tells it of the end, if it wants to know.
    pub fn shut_down(&mut self, reason: Shutdown, deadline_ms: u64) {
        if self.events.contains(&Kind::Shutdown) {
            let reason = match reason {
                Shutdown::Spindown => "SPINDOWN",
                Shutdown::Timeout => "TIMEOUT",
                Shutdown::Failure => "FAILURE",
            };
            self.due = Some(Told::Shutdown(format!(
                r#"{{"eventType":"SHUTDOWN","deadlineMs":{deadline_ms},"shutdownReason":"{reason}"}}"#
            )));
        }
    }

    /// Whether it has registered.
    pub fn has_registered(&self) -> bool {
        self.stage != Stage::Started
    }

    /// Whether it waits for something to be told.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether nothing of an invocation is left to it.
    pub fn rests(&self) -> bool {
        !self.events.contains(&Kind::Invoke) || self.is_ready() && self.due.is_none()
    }

    /// For whoever runs the environment.
    pub fn described(&self) -> Extension {
        let events = self.events.iter().map(|kind| kind.name().to_owned()).collect();
        Extension { name: self.name.clone(), external: self.external, events }
    }

    /// For telemetry.
    pub fn record(&self) -> Value {
        let events: Vec<&str> = self.events.iter().map(|kind| kind.name()).collect();
        let mut record = json!({ "name": self.name, "state": format!("{:?}", self.stage), "events": events });
        if let Some(error_type) = &self.error_type {
            record["errorType"] = json!(error_type);
        }
        record
    }

    fn refused(&self, to: Stage, who: &str) -> Refusal {
        let from = self.stage;
        let message = format!(
            "State transition from {from:?} to {to:?} failed for extension {who}. Error: State transition is not allowed"
        );
        answer::forbidden("Extension.InvalidExtensionState", message)
    }
}

/// An event as extensions are told of it: without the payload.
fn invoke(event: &Event) -> String {
    let tracing = match event.trace_id.as_str() {
        "" => String::new(),
        trace_id => format!(r#","tracing":{{"type":"X-Amzn-Trace-Id","value":{}}}"#, Value::from(trace_id)),
    };
    format!(
        r#"{{"eventType":"INVOKE","deadlineMs":{},"requestId":{},"invokedFunctionArn":{}{tracing}}}"#,
        event.deadline_ms,
        Value::from(event.request_id.as_str()),
        Value::from(event.arn.as_str()),
    )
}
