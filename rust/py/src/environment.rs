//! A look at one environment.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use coldframe_core::environment::{Environment, State};
use pyo3::prelude::*;

#[pyclass(frozen, get_all, module = "coldframe._core")]
pub struct EnvironmentInfo {
    id: String,
    function: String,
    state: &'static str,
    pid: i32,
    cgroups: BTreeMap<String, String>,
    memory_mb: f64,
    created: f64,
    last_used: f64,
}

impl EnvironmentInfo {
    pub fn of(environment: &Environment) -> Self {
        let epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (created, last_used) = environment.times();
        let cgroups = environment.cgroup().paths();
        Self {
            id: environment.id().to_owned(),
            function: environment.function().spec.name.clone(),
            // One that has been killed is as good as dead, whatever it did last.
            state: if environment.usable() { environment.state() } else { State::Dead }.name(),
            pid: environment.pid(),
            cgroups: cgroups.into_iter().map(|(name, path)| (name, path.display().to_string())).collect(),
            memory_mb: environment.cgroup().memory_used().unwrap_or(0) as f64 / f64::from(1 << 20),
            created: epoch(created),
            last_used: epoch(last_used),
        }
    }
}
