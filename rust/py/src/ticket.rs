//! The handle by which an invocation is cancelled.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::border::border;

#[pyclass(frozen, module = "coldframe._core")]
#[derive(Default)]
pub struct Ticket(pub Arc<coldframe_core::invocation::Ticket>);

#[pymethods]
impl Ticket {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        border(|| {
            py.detach(|| self.0.cancel());
            Ok(())
        })
    }
}
