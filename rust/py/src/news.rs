//! What was evicted, has given memory back, cannot be preloaded or went wrong, and why, for Python's logger `coldframe`.

use coldframe_core::nursery::Unfit;
use coldframe_core::pool::Core;
use coldframe_core::pool::room::Eviction;
use coldframe_core::reclaim::Note;
use coldframe_core::trouble::Trouble;
use pyo3::prelude::*;

/// Writes a record of level DEBUG for everything since the last time, one of level WARNING for what went wrong, and of level
/// ERROR for what must not have happened.
pub fn tell(py: Python<'_>, core: &Core) {
    let (evictions, notes, unfit, troubles) = (core.evictions(), core.reclaim().notes(), core.unfit(), core.troubles());
    if evictions.is_empty() && notes.is_empty() && unfit.is_empty() && troubles.is_empty() {
        return;
    }
    // What is wrong with a program's logging is no reason for an invocation to fail.
    if let Err(error) = log(py, &evictions, &notes, &unfit, &troubles) {
        error.write_unraisable(py, None);
    }
}

fn log(py: Python<'_>, evictions: &[Eviction], notes: &[Note], unfit: &[Unfit], troubles: &[Trouble]) -> PyResult<()> {
    let logger = py.import("logging")?.call_method1("getLogger", ("coldframe",))?;
    for Eviction { environment, function, reason } in evictions {
        logger.call_method1("debug", ("evicted environment %s of %s: %s", environment, function, reason))?;
    }
    for Note { environment, function, outcome } in notes {
        let (level, what, why) = match outcome {
            Ok(given) => ("debug", "reclaimed memory of environment %s of %s: %s", given.to_string()),
            Err(error) => ("warning", "could not reclaim memory of environment %s of %s: %s", error.to_string()),
        };
        logger.call_method1(level, (what, environment, function, why))?;
    }
    for Unfit { module, reason } in unfit {
        logger.call_method1("info", ("%s is not preloaded, and imported in each environment: %s", module, reason))?;
    }
    for trouble in troubles {
        let level = if matches!(trouble, Trouble::Defect(_)) { "error" } else { "warning" };
        logger.call_method1(level, ("%s", trouble.to_string()))?;
    }
    Ok(())
}
