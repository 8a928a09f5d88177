//! The owner of environments.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coldframe_core::error::Error;
use coldframe_core::host::Facts;
use coldframe_core::pool::{Core, Options};
use coldframe_core::state::{self, Leftover};
use coldframe_core::stock::Most;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::border::border;
use crate::environment::EnvironmentInfo;
use crate::errors::to_python;
use crate::function::{Function, interruptible};
use crate::news;
use crate::spec;

#[pyclass(frozen, module = "coldframe._core")]
pub struct Host {
    core: Mutex<Option<Arc<Core>>>,
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Core>>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn core(&self) -> PyResult<Arc<Core>> {
        self.lock().clone().ok_or_else(|| to_python(Error::Closed("this host")))
    }
}

#[pymethods]
impl Host {
    #[new]
    #[pyo3(signature = (*, max_concurrency, max_memory_mb, idle_timeout_s, freeze, freeze_after_ms, cgroup))]
    fn new(
        py: Python<'_>,
        max_concurrency: usize,
        max_memory_mb: Option<u64>,
        idle_timeout_s: f64,
        freeze: bool,
        freeze_after_ms: f64,
        cgroup: Option<&str>,
    ) -> PyResult<Self> {
        let options = Options {
            max_concurrency,
            max_memory_mb,
            idle_timeout: duration("idle_timeout_s", idle_timeout_s)?,
            freeze,
            freeze_after: duration("freeze_after_ms", freeze_after_ms / 1000.0)?,
            take: cgroup == Some("take"),
        };
        let core = border(|| py.detach(|| Core::new(options)).map_err(to_python))?;
        Ok(Self { core: Mutex::new(Some(core)) })
    }

    #[pyo3(signature = (**options))]
    fn function(&self, py: Python<'_>, options: Option<Bound<'_, PyDict>>) -> PyResult<Function> {
        border(|| {
            let core = self.core()?;
            let spec = spec::from_keywords(&options.unwrap_or_else(|| PyDict::new(py)))?;
            let function = py.detach(|| core.function(spec)).map_err(to_python)?;
            Ok(Function { core: Arc::downgrade(&core), function })
        })
    }

    fn prewarm(&self, py: Python<'_>, function: &Bound<'_, Function>, n: usize) -> PyResult<()> {
        border(|| {
            let core = self.core()?;
            let function = Arc::clone(&function.get().function);
            let result = interruptible(py, |interrupted| core.prewarm(&function, n, interrupted));
            news::tell(py, &core)?;
            result
        })
    }

    fn environments(&self) -> PyResult<Vec<EnvironmentInfo>> {
        border(|| Ok(self.core()?.environments().iter().map(|environment| EnvironmentInfo::of(environment)).collect()))
    }

    #[getter]
    fn parked(&self, py: Python<'_>) -> PyResult<usize> {
        border(|| {
            let core = self.lock().clone();
            Ok(py.detach(|| core.map_or(0, |core| core.parked())))
        })
    }

    #[getter]
    fn max_memory_mb(&self) -> PyResult<u64> {
        border(|| Ok(self.core()?.max_memory() >> 20))
    }

    fn wait_for_stock(&self, py: Python<'_>, within_s: f64) -> PyResult<bool> {
        border(|| {
            let core = self.core()?;
            Ok(py.detach(|| core.wait_for_stock(Duration::try_from_secs_f64(within_s).unwrap_or_default())))
        })
    }

    #[pyo3(signature = (most, seats = None))]
    fn park_at_most(&self, most: Option<usize>, seats: Option<usize>) -> PyResult<()> {
        border(|| {
            let all = Most::default();
            let most = Most { parked: most.unwrap_or(all.parked), seats: seats.unwrap_or(all.seats), ..all };
            self.core()?.make_ahead_at_most(most);
            Ok(())
        })
    }

    fn reclaim_after(&self, rest_s: f64) -> PyResult<()> {
        border(|| {
            self.core()?.reclaim_after(duration("rest_s", rest_s)?);
            Ok(())
        })
    }

    #[getter]
    fn closed(&self) -> bool {
        self.lock().as_ref().is_none_or(|core| core.is_closed())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        border(|| {
            // Whoever else closes it meanwhile waits for the same end.
            let Some(core) = self.lock().clone() else { return Ok(()) };
            let closed = py.detach(|| core.end());
            self.lock().take();
            news::tell(py, &core)?;
            closed.map_err(to_python)
        })
    }

    /// In a forked child: lets go of everything without touching it.
    fn forget(&self) {
        // Nothing of it is ours here: neither the environments nor the thread that watched them exist in this process.
        let core = self.lock().take();
        if let Some(core) = &core {
            core.disown();
        }
        std::mem::forget(core);
    }
}

fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| to_python(Error::Configuration(format!("{name} is out of range; it must be 0 or more"))))
}

#[pyfunction]
pub fn doctor(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let facts = border(|| py.detach(|| Facts::probe(false)).map_err(to_python))?;
    let list = PyList::empty(py);
    for protection in facts.protections() {
        let entry = PyDict::new(py);
        entry.set_item("protection", protection.name)?;
        entry.set_item("in_force", protection.in_force)?;
        entry.set_item("detail", protection.detail)?;
        entry.set_item("remedy", protection.remedy)?;
        list.append(entry)?;
    }
    Ok(list)
}

#[pyfunction]
pub fn leftovers(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let found = border(|| Ok(py.detach(state::leftovers)))?;
    let list = PyList::empty(py);
    for leftover in found {
        list.append(described(py, leftover)?)?;
    }
    Ok(list)
}

#[pyfunction]
pub fn gc(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let found = border(|| py.detach(state::gc).map_err(to_python))?;
    let list = PyList::empty(py);
    for collected in found {
        let entry = described(py, collected.leftover)?;
        entry.set_item("failures", collected.failures)?;
        list.append(entry)?;
    }
    Ok(list)
}

#[pyfunction]
pub fn owners(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let found = border(|| py.detach(state::owners).map_err(to_python))?;
    let list = PyList::empty(py);
    for owner in found {
        let entry = PyDict::new(py);
        entry.set_item("owner", owner.name)?;
        entry.set_item("directory", owner.directory.display().to_string())?;
        list.append(entry)?;
    }
    Ok(list)
}

fn described(py: Python<'_>, leftover: Leftover) -> PyResult<Bound<'_, PyDict>> {
    let text = |path: &std::path::Path| path.display().to_string();
    let entry = PyDict::new(py);
    entry.set_item("owner", leftover.owner)?;
    entry.set_item("alive", leftover.alive)?;
    entry.set_item("directory", text(&leftover.directory))?;
    entry.set_item("cgroups", leftover.cgroups.iter().map(|path| text(path)).collect::<Vec<_>>())?;
    entry.set_item("processes", leftover.processes)?;
    Ok(entry)
}
