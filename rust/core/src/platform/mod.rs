//! What the platform writes of a function's life: one record a moment, as a line of text, as a line of JSON, and as what
//! the Telemetry API sends.

mod record;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

pub use self::record::{Metrics, Record};
use crate::error::{Error, Result};
use crate::spec::Spec;

/// The version that every function has as long as none is published.
pub const LATEST: &str = "$LATEST";

/// When a function is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the first event, within ten seconds.
    Init,
    /// Within the first invocation, since that failed: under the function's own timeout.
    Invoke,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Invoke => "invoke",
        }
    }
}

/// Why a function is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialization {
    /// There is an event.
    OnDemand,
    /// Ahead of need.
    Provisioned,
    /// For environments that will be restored from it.
    SnapStart,
}

impl Initialization {
    /// Of a function's first environment.
    pub fn of(spec: &Spec) -> Self {
        if spec.snapstart { Self::SnapStart } else { Self::OnDemand }
    }

    /// `AWS_LAMBDA_INITIALIZATION_TYPE`
    pub fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::Provisioned => "provisioned-concurrency",
            Self::SnapStart => "snap-start",
        }
    }
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Success,
    /// With an error of this type, which is the function's.
    Error(String),
    /// The same, when the runtime has answered with it: to the text format's REPORT that is a result like any other.
    Answered(String),
    /// With one that is the platform's.
    Failure(String),
    /// Its time was over.
    Timeout,
}

impl Status {
    /// As records have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error(_) | Self::Answered(_) => "error",
            Self::Failure(_) => "failure",
            Self::Timeout => "timeout",
        }
    }

    /// The type of its error, if it has one.
    pub fn error_type(&self) -> Option<&str> {
        match self {
            Self::Error(kind) | Self::Answered(kind) | Self::Failure(kind) => Some(kind),
            Self::Success | Self::Timeout => None,
        }
    }

    /// The fields of a line of text; none if all is well.
    fn fields(&self) -> String {
        match self {
            Self::Success | Self::Answered(_) => String::new(),
            Self::Error(kind) | Self::Failure(kind) => format!("\tStatus: {}\tError Type: {kind}", self.name()),
            Self::Timeout => format!("\tStatus: {}", self.name()),
        }
    }
}

/// An error type that came from inside, as the platform takes it over into its own lines: those of Lambda as they are.
pub fn error_type(said: &str) -> String {
    let known = ["Runtime.", "Function."].iter().find_map(|front| said.strip_prefix(front)).is_some_and(|name| {
        name.len() > 1
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphabetic())
    });
    if known {
        said.to_owned()
    } else if said.starts_with("Function.") {
        "Function.Unknown".to_owned()
    } else {
        "Runtime.Unknown".to_owned()
    }
}

/// What runs the function, as `INIT_START` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, and this library's version.
    pub version: String,
    /// The same in the form of an ARN.
    pub arn: String,
}

impl Runtime {
    /// Of a runtime of this name: "python:3.13" or "provided".
    pub fn new(name: &str) -> Self {
        let version = format!("{name}.v{}", env!("CARGO_PKG_VERSION"));
        let mut arn = "arn:aws:lambda:us-east-1::runtime:".to_owned();
        for byte in Sha256::digest(&version) {
            let _ = write!(arn, "{byte:02x}");
        }
        Self { version, arn }
    }
}

/// Of which function the records are.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// What runs it.
    pub runtime: Runtime,
    /// Why it is initialised.
    pub initialization: Initialization,
    /// How it wants the lines.
    pub logging: Logging,
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// To whoever looks for a fault.
    Debug,
    /// To everybody.
    Info,
    /// It should not be.
    Warn,
}

/// How a function wants the platform's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// As JSON rather than text.
    pub json: bool,
    /// What matters less is left out. In text everything is there.
    pub level: Level,
}

impl Logging {
    /// As a function's variables say it: `AWS_LAMBDA_LOG_FORMAT`, and `AWS_LAMBDA_SYSTEM_LOG_LEVEL` in place of
    /// the `SystemLogLevel` of Lambda's configuration, which it tells no function.
    pub fn of(env: &BTreeMap<String, String>) -> Result<Self> {
        const LEVEL: &str = "AWS_LAMBDA_SYSTEM_LOG_LEVEL";
        let json = env.get("AWS_LAMBDA_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("JSON"));
        let level = match env.get(LEVEL).map(|level| level.to_ascii_uppercase()).as_deref() {
            None | Some("INFO") => Level::Info,
            Some("DEBUG") => Level::Debug,
            Some("WARN") => Level::Warn,
            Some(other) => {
                return Err(Error::Configuration(format!(
                    "{LEVEL} in env is {other:?}; it must be DEBUG, INFO or WARN, or be left out for INFO"
                )));
            }
        };
        Ok(Self { json, level })
    }

    /// Adds a record's line to a log, if it has one.
    pub fn write(self, log: &mut String, record: &Record, time: SystemTime) {
        if !self.json {
            log.push_str(&record.text());
        } else if record.level() >= self.level && !matches!(record, Record::End { .. }) {
            log.push_str(&record.json(time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_say_how_lines_are_wanted() {
        let of = |variables: &[(&str, &str)]| {
            let env = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            Logging::of(&env).map(|logging| (logging.json, logging.level))
        };
        assert_eq!(of(&[]).ok(), Some((false, Level::Info)));
        assert_eq!(of(&[("AWS_LAMBDA_LOG_FORMAT", "json")]).ok(), Some((true, Level::Info)));
        assert_eq!(of(&[("AWS_LAMBDA_SYSTEM_LOG_LEVEL", "warn")]).ok(), Some((false, Level::Warn)));
        let refused = of(&[("AWS_LAMBDA_SYSTEM_LOG_LEVEL", "ERROR")]).expect_err("there is no such level");
        assert!(refused.to_string().contains("DEBUG, INFO or WARN"), "{refused}");
    }

    #[test]
    fn error_types_from_inside_are_lambdas_or_unknown() {
        for (said, taken) in [
            ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
            ("Function.Whatever", "Function.Whatever"),
            ("Function.what ever", "Function.Unknown"),
            ("ValueError", "Runtime.Unknown"),
            ("Runtime.E", "Runtime.Unknown"),
            ("Runtime.Forged\nREPORT", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ] {
            assert_eq!(error_type(said), taken);
        }
    }
}
