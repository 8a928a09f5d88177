//! coldframe's extension module: one file a class, no logic. The package `coldframe` is what people import.
#![forbid(unsafe_code)]
// PyO3 takes arguments by value where Python hands over references, and exported names are documented in `_core.pyi`.
#![allow(clippy::needless_pass_by_value, clippy::unused_self, missing_docs)]

mod border;
mod environment;
mod errors;
mod function;
mod host;
mod news;
mod outcome;
mod spec;
mod stream;
mod ticket;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::environment::EnvironmentInfo;
    #[pymodule_export]
    use super::function::Function;
    #[pymodule_export]
    use super::host::{Host, doctor, gc, leftovers, owners};
    #[pymodule_export]
    use super::outcome::Outcome;
    #[pymodule_export]
    use super::spec::{check, name_of};
    #[pymodule_export]
    use super::stream::Stream;
    #[pymodule_export]
    use super::ticket::Ticket;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    /// What this build is: its version, its profile (`release` or `debug`) and the machine it was made for.
    #[pyfunction]
    fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let info = PyDict::new(py);
        info.set_item("version", env!("CARGO_PKG_VERSION"))?;
        info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        info.set_item("target", format!("{}-linux", std::env::consts::ARCH))?;
        Ok(info)
    }
}
