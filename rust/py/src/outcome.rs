//! The result of an invocation, as Python sees it.

use coldframe_core::report::{Outcome as Core, Verdict};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::border::border;

#[pyclass(frozen, module = "coldframe._core")]
pub struct Outcome(pub Core);

fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[pymethods]
impl Outcome {
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.verdict.kind().name()
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match &self.0.verdict {
            Verdict::Ok(body) => Some(PyBytes::new(py, body)),
            _ => None,
        }
    }

    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        border(|| Ok(self.0.verdict.error(&self.0.request_id).map(|error| PyBytes::new(py, &error))))
    }

    #[getter]
    fn request_id(&self) -> &str {
        &self.0.request_id
    }

    #[getter]
    fn log(&self) -> PyResult<String> {
        border(|| Ok(self.0.log()))
    }

    #[getter]
    fn start(&self) -> &'static str {
        self.0.report.start.name()
    }

    #[getter]
    fn duration_ms(&self) -> f64 {
        ms(self.0.report.duration)
    }

    #[getter]
    fn billed_duration_ms(&self) -> u64 {
        self.0.report.billed_ms()
    }

    #[getter]
    fn init_duration_ms(&self) -> Option<f64> {
        self.0.report.init.map(ms)
    }

    #[getter]
    fn restore_duration_ms(&self) -> Option<f64> {
        self.0.report.restore.map(ms)
    }

    #[getter]
    fn memory_mb(&self) -> u64 {
        self.0.report.memory_mb
    }

    #[getter]
    fn max_memory_mb(&self) -> u64 {
        self.0.report.max_memory_mb()
    }

    #[getter]
    fn cpu_ms(&self) -> f64 {
        ms(self.0.report.cpu)
    }

    #[getter]
    fn throttled_ms(&self) -> f64 {
        ms(self.0.report.throttled)
    }

    #[getter]
    fn log_dropped_bytes(&self) -> u64 {
        self.0.report.log_dropped
    }

    #[getter]
    fn phases<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let phases = PyDict::new(py);
        for (name, time) in self.0.report.phases.named() {
            phases.set_item(name, ms(time))?;
        }
        Ok(phases)
    }

    #[getter]
    fn environment_id(&self) -> &str {
        &self.0.report.environment
    }
}
