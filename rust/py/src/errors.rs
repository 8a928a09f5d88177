//! The one place where an error of the core becomes a Python exception.

use coldframe_core::error::Error;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pyo3::import_exception!(coldframe.errors, ColdframeError);
pyo3::import_exception!(coldframe.errors, ConfigurationError);
pyo3::import_exception!(coldframe.errors, HostCapabilityError);
pyo3::import_exception!(coldframe.errors, ThrottledError);
pyo3::import_exception!(coldframe.errors, PayloadError);
pyo3::import_exception!(concurrent.futures, CancelledError);

/// The Python exception for an error.
pub fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Configuration(_) => ConfigurationError::new_err(message),
        Error::HostCapability(_) => HostCapabilityError::new_err(message),
        Error::Throttled(_) => ThrottledError::new_err(message),
        Error::Payload(_) => PayloadError::new_err(message),
        Error::Initialisation { kind, error, .. } => Python::attach(|py| {
            let made = py.import("coldframe.errors").and_then(|errors| {
                errors.getattr("InvocationError")?.call_method1("from_outcome", (kind.name(), PyBytes::new(py, &error)))
            });
            made.map_or_else(|e| e, PyErr::from_value)
        }),
        Error::Cancelled => CancelledError::new_err(message),
        _ => ColdframeError::new_err(message),
    }
}
