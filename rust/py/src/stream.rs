//! An invocation whose answer is read piece by piece.

use std::sync::{Arc, Mutex, TryLockError, Weak};

use coldframe_core::pool::Core;
use coldframe_core::streaming::Streaming;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::border::border;
use crate::function::interruptible;
use crate::news;
use crate::outcome::Outcome;

#[pyclass(frozen, module = "coldframe._core")]
pub struct Stream {
    streaming: Mutex<Streaming>,
    ticket: Arc<coldframe_core::invocation::Ticket>,
    core: Weak<Core>,
}

impl Stream {
    pub fn new(streaming: Streaming, ticket: Arc<coldframe_core::invocation::Ticket>, core: Weak<Core>) -> Self {
        Self { streaming: Mutex::new(streaming), ticket, core }
    }
}

#[pymethods]
impl Stream {
    fn chunk<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        border(|| {
            let mut streaming = match self.streaming.try_lock() {
                Ok(streaming) => streaming,
                Err(TryLockError::Poisoned(e)) => e.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    return Err(PyValueError::new_err("this stream is being read by another thread already"));
                }
            };
            let streaming = &mut *streaming;
            let chunk = interruptible(py, |interrupted| streaming.chunk(interrupted));
            if let Some(core) = self.core.upgrade() {
                news::tell(py, &core)?;
            }
            Ok(chunk?.map(|chunk| PyBytes::new(py, &chunk)))
        })
    }

    fn outcome(&self, py: Python<'_>) -> PyResult<Option<Outcome>> {
        // It waits for nobody: a thread that reads at this moment needs the interpreter lock, which this one holds, to get on.
        let outcome = match self.streaming.try_lock() {
            Ok(mut streaming) => streaming.take_outcome(),
            Err(TryLockError::Poisoned(e)) => e.into_inner().take_outcome(),
            Err(TryLockError::WouldBlock) => None,
        };
        outcome.as_ref().map_or(Ok(()), |outcome| news::tell_of_failure(py, outcome))?;
        Ok(outcome.map(Outcome))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        border(|| {
            py.detach(|| {
                self.ticket.cancel();
                // Whoever reads it at this moment is told.
                if let Ok(mut streaming) = self.streaming.try_lock() {
                    streaming.close();
                }
            });
            Ok(())
        })
    }
}
