//! The border that no panic crosses: `PyO3` would make it an exception that `except Exception` does not catch.

use coldframe_core::defect;
use pyo3::prelude::*;

use crate::errors::to_python;

/// Does what Python asks for; a panic in it is a `ColdframeError` that says that coldframe is wrong.
pub fn border<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    defect::contain(work).map_err(to_python)?
}
