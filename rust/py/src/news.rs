//! What has happened beside the answers, for Python's loggers below `coldframe`: docs/how-to/observe.md has the list.

use coldframe_core::pool::Core;
use coldframe_core::pool::news::{Level, Topic};
use coldframe_core::report::{Outcome, Verdict};
use pyo3::IntoPyObjectExt as _;
use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

const DEBUG: u8 = 10;
const INFO: u8 = 20;
const WARNING: u8 = 30;
const ERROR: u8 = 40;

/// The loggers, which live as long as the process.
static LOGGERS: [PyOnceLock<Py<PyAny>>; 4] = [const { PyOnceLock::new() }; 4];

/// Which of them.
#[derive(Clone, Copy)]
enum Logger {
    Environment,
    Host,
    Invocation,
    Preload,
}

impl Logger {
    fn get(self, py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        let make = || -> PyResult<Py<PyAny>> {
            let name = match self {
                Self::Environment => "coldframe.environment",
                Self::Host => "coldframe.host",
                Self::Invocation => "coldframe.invocation",
                Self::Preload => "coldframe.preload",
            };
            Ok(py.import("logging")?.call_method1("getLogger", (name,))?.unbind())
        };
        Ok(LOGGERS[self as usize].get_or_try_init(py, make)?.bind(py))
    }

    /// Whether anybody wants records of this level: what they say is put together only then.
    fn wants(self, py: Python<'_>, level: u8) -> PyResult<bool> {
        let asked = self.get(py).and_then(|logger| logger.call_method1("isEnabledFor", (level,))?.is_truthy());
        or_unheard(py, asked)
    }

    fn write<'py>(self, py: Python<'py>, record: impl PyCallArgs<'py>) -> PyResult<()> {
        or_unheard(py, self.get(py).and_then(|logger| logger.call_method1("log", record)).map(drop))
    }
}

/// What is wrong with a program's logging is no reason for an invocation to fail, nor for the next record to be lost. But
/// a Ctrl-C that comes while Python is in there is the program's.
fn or_unheard<T: Default>(py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
    match result {
        Err(error) if error.is_instance_of::<PyException>(py) => {
            error.write_unraisable(py, None);
            Ok(T::default())
        }
        heard => heard,
    }
}

/// Writes a record for everything that has happened since the last time.
pub fn tell(py: Python<'_>, core: &Core) -> PyResult<()> {
    for news in core.news() {
        let logger = match news.topic() {
            Topic::Environment => Logger::Environment,
            Topic::Preload => Logger::Preload,
            Topic::Host => Logger::Host,
        };
        let level = match news.level() {
            Level::Debug => DEBUG,
            Level::Info => INFO,
            Level::Warning => WARNING,
            Level::Error => ERROR,
        };
        if logger.wants(py, level)? {
            let (template, arguments) = news.told();
            let mut record = vec![level.into_bound_py_any(py)?, template.into_bound_py_any(py)?];
            for argument in arguments {
                record.push(argument.into_bound_py_any(py)?);
            }
            logger.write(py, PyTuple::new(py, record)?)?;
        }
    }
    Ok(())
}

/// Writes a record of an invocation that has cost the environment its life. What the handler itself says went wrong is an
/// answer, and no news.
pub fn tell_of_failure(py: Python<'_>, outcome: &Outcome) -> PyResult<()> {
    if matches!(outcome.verdict, Verdict::Ok(_) | Verdict::Handler(_) | Verdict::Payload(_)) {
        return Ok(());
    }
    if Logger::Invocation.wants(py, INFO)? {
        let why = match &outcome.verdict {
            Verdict::Timeout(limit) => format!("timed out after {:.2} s", limit.as_secs_f64()),
            verdict => verdict.status().error_type().unwrap_or_default().to_owned(),
        };
        let (what, environment) = ("invocation %s of %s failed in environment %s: %s", &outcome.report.environment);
        Logger::Invocation.write(py, (INFO, what, &outcome.request_id, &outcome.subject.name, environment, why))?;
    }
    Ok(())
}
