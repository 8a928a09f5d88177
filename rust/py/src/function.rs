//! A function of a host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coldframe_core::error::Error;
use coldframe_core::invocation::Call;
use coldframe_core::pool::Core;
use coldframe_core::report::Verdict;
use coldframe_core::spec;
use coldframe_core::streaming::{Order, Streaming};
use pyo3::exceptions::{PyRecursionError, PyValueError};
use pyo3::prelude::*;

use crate::border::border;
use crate::errors::to_python;
use crate::news;
use crate::outcome::Outcome;
use crate::stream::Stream;
use crate::ticket::Ticket;

#[pyclass(frozen, module = "coldframe._core")]
pub struct Function {
    /// Not the host's owner: a closed host has nothing open, however long its functions are kept.
    pub core: Weak<Core>,
    pub function: Arc<coldframe_core::function::Function>,
}

/// Runs `work` without the interpreter lock. It is given a question to ask when a signal came; an exception that a
/// signal handler of Python raised is what comes out.
pub fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let raised: Mutex<Option<PyErr>> = Mutex::new(None);
    let result = py.detach(|| {
        work(&|| {
            Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(e) => {
                    *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    true
                }
            })
        })
    });
    match raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(e) => Err(e),
        None => result.map_err(to_python),
    }
}

fn timeout(timeout_s: Option<f64>) -> PyResult<Option<Duration>> {
    timeout_s.map(spec::timeout_from_secs).transpose().map_err(to_python)
}

#[pymethods]
impl Function {
    #[pyo3(signature = (event, *, timeout_s = None, client_context = None, trace_id = "", ticket = None, wait = false))]
    #[expect(clippy::too_many_arguments, reason = "each is one in Python")]
    fn invoke(
        &self,
        py: Python<'_>,
        event: &[u8],
        timeout_s: Option<f64>,
        client_context: Option<&[u8]>,
        trace_id: &str,
        ticket: Option<&Bound<'_, Ticket>>,
        wait: bool,
    ) -> PyResult<Outcome> {
        border(|| {
            let ticket = ticket.map_or_else(Arc::default, |ticket| Arc::clone(&ticket.get().0));
            self.run(py, event, timeout_s, client_context, trace_id, &ticket, wait, true).map(Outcome)
        })
    }

    /// What `decode` makes of the payload, as text; the outcome where there is none, or none that it takes.
    #[pyo3(signature = (event, decode, timeout_s = None, client_context = None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        event: &[u8],
        decode: &Bound<'py, PyAny>,
        timeout_s: Option<f64>,
        client_context: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ticket = coldframe_core::invocation::Ticket::default();
        let outcome = border(|| self.run(py, event, timeout_s, client_context, "", &ticket, false, false))?;
        if let Verdict::Ok(payload) = &outcome.verdict
            && let Ok(text) = std::str::from_utf8(payload)
        {
            match decode.call1((text,)) {
                Err(e) if e.is_instance_of::<PyValueError>(py) || e.is_instance_of::<PyRecursionError>(py) => {}
                decoded => return decoded,
            }
        }
        Ok(Bound::new(py, Outcome(outcome))?.into_any())
    }

    #[pyo3(signature = (event, *, timeout_s = None, client_context = None, trace_id = ""))]
    fn stream(
        &self,
        event: Vec<u8>,
        timeout_s: Option<f64>,
        client_context: Option<Vec<u8>>,
        trace_id: &str,
    ) -> PyResult<Stream> {
        border(|| {
            let (client_context, trace_id) = (client_context.unwrap_or_default(), trace_id.to_owned());
            let order = Order { event, client_context, trace_id, timeout: timeout(timeout_s)? };
            let ticket = Arc::<coldframe_core::invocation::Ticket>::default();
            let (core, function) = (Weak::clone(&self.core), Arc::clone(&self.function));
            let streaming = Streaming::new(Weak::clone(&core), function, Arc::clone(&ticket), order);
            Ok(Stream::new(streaming, ticket, core))
        })
    }

    #[getter]
    fn in_flight(&self) -> u64 {
        self.core.upgrade().map_or(0, |core| core.in_flight(&self.function))
    }

    fn isolation(&self) -> BTreeMap<String, String> {
        self.function.isolation.clone()
    }

    #[getter]
    fn code_key(&self) -> &str {
        &self.function.code.key
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        border(|| {
            py.detach(|| self.core.upgrade().inspect(|core| core.close_function(&self.function)));
            Ok(())
        })
    }
}

impl Function {
    #[expect(clippy::too_many_arguments, reason = "each is an argument of `invoke`")]
    fn run(
        &self,
        py: Python<'_>,
        event: &[u8],
        timeout_s: Option<f64>,
        client_context: Option<&[u8]>,
        trace_id: &str,
        ticket: &coldframe_core::invocation::Ticket,
        wait: bool,
        reported: bool,
    ) -> PyResult<coldframe_core::report::Outcome> {
        let timeout = timeout(timeout_s)?;
        let core = self.core.upgrade().ok_or_else(|| to_python(Error::Closed("this host")))?;
        let outcome = interruptible(py, |interrupted| {
            let call = Call {
                event,
                client_context: client_context.unwrap_or_default(),
                trace_id,
                timeout,
                ticket,
                wait,
                reported,
                streamed: false,
                interrupted,
            };
            core.invoke(&self.function, &call)
        });
        news::tell(py, &core)?;
        let outcome = outcome?;
        news::tell_of_failure(py, &outcome)?;
        Ok(outcome)
    }
}
