//! A function of a host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coldframe_core::error::Error;
use coldframe_core::invocation::Call;
use coldframe_core::pool::Core;
use pyo3::prelude::*;

use crate::errors::to_python;
use crate::evictions;
use crate::outcome::Outcome;
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

#[pymethods]
impl Function {
    #[pyo3(signature = (event, *, timeout_s = None, client_context = None, ticket = None, wait = false))]
    fn invoke(
        &self,
        py: Python<'_>,
        event: &[u8],
        timeout_s: Option<f64>,
        client_context: Option<&[u8]>,
        ticket: Option<&Bound<'_, Ticket>>,
        wait: bool,
    ) -> PyResult<Outcome> {
        let timeout = timeout_s
            .map(Duration::try_from_secs_f64)
            .transpose()
            .map_err(|_| to_python(Error::Configuration("timeout_s must be above 0 and at most 900 seconds".into())))?;
        let core = self.core.upgrade().ok_or_else(|| to_python(Error::Closed("this host")))?;
        let ticket = ticket.map_or_else(Arc::default, |ticket| Arc::clone(&ticket.get().0));
        let outcome = interruptible(py, |interrupted| {
            let call = Call {
                event,
                client_context: client_context.unwrap_or_default(),
                timeout,
                ticket: &ticket,
                wait,
                interrupted,
            };
            core.invoke(&self.function, &call)
        });
        evictions::tell(py, &core);
        outcome.map(Outcome)
    }

    fn isolation(&self) -> BTreeMap<String, String> {
        self.function.isolation.clone()
    }

    #[getter]
    fn code_key(&self) -> &str {
        &self.function.code.key
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(core) = self.core.upgrade() {
                core.close_function(&self.function);
            }
        });
    }
}
