//! What was evicted, and why, for Python's logger `coldframe`.

use coldframe_core::pool::Core;
use coldframe_core::pool::room::Eviction;
use pyo3::prelude::*;

/// Writes a record of level DEBUG for every eviction since the last time.
pub fn tell(py: Python<'_>, core: &Core) {
    let evictions = core.evictions();
    if evictions.is_empty() {
        return;
    }
    // What is wrong with a program's logging is no reason for an invocation to fail.
    if let Err(error) = log(py, &evictions) {
        error.write_unraisable(py, None);
    }
}

fn log(py: Python<'_>, evictions: &[Eviction]) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("coldframe",))?;
    for Eviction { environment, function, reason } in evictions {
        logger.call_method1("debug", ("evicted environment %s of %s: %s", environment, function, reason))?;
    }
    Ok(())
}
