//! A function's description, from Python's keywords.

use std::path::PathBuf;

use coldframe_core::error::Error;
use coldframe_core::spec::{self, Architecture, Interpreter, Isolation, Mount, ProcView, Sizes, Spec};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::border::border;
use crate::errors::to_python;

/// Refuses options that no function can have, before its code is looked at. `python`: whether an interpreter is to run it.
#[pyfunction]
#[pyo3(signature = (*, python = true, **options))]
pub fn check(py: Python<'_>, python: bool, options: Option<Bound<'_, PyDict>>) -> PyResult<()> {
    border(|| {
        let mut spec = from_keywords(&options.unwrap_or_else(|| PyDict::new(py)))?;
        spec.interpreter = python.then(Interpreter::default);
        spec.check().map_err(to_python)
    })
}

/// The name of a function whose code is at this path.
#[pyfunction]
pub fn name_of(path: PathBuf) -> String {
    spec::name_of(&path)
}

/// What was said of it, and the defaults of everything else.
pub fn from_keywords(given: &Bound<'_, PyDict>) -> PyResult<Spec> {
    let usual = Spec::new(item(given, "handler", "app.handler".to_owned())?, item(given, "code", PathBuf::new())?);
    let interpreter = item::<Option<Bound<'_, PyDict>>>(given, "interpreter", None)?;
    let timeout = item::<Option<f64>>(given, "timeout_s", None)?;
    let architecture = item::<Option<String>>(given, "architecture", None)?;
    Ok(Spec {
        name: item(given, "name", usual.name)?,
        layers: item(given, "layers", usual.layers)?,
        interpreter: interpreter.as_ref().map(described).transpose()?,
        preload: item(given, "preload", usual.preload)?,
        preload_optional: item(given, "preload_optional", usual.preload_optional)?,
        packages: item(given, "packages", "inherit".to_owned())? == "inherit",
        memory_mb: item(given, "memory_mb", usual.memory_mb)?,
        least_vcpus: item(given, "least_vcpus", usual.least_vcpus)?,
        timeout: timeout.map_or(Ok(usual.timeout), spec::timeout_from_secs).map_err(to_python)?,
        tmp_mb: item(given, "tmp_mb", usual.tmp_mb)?,
        max_processes: item(given, "max_processes", usual.max_processes)?,
        log_kb: item(given, "log_kb", usual.log_kb)?,
        env: item(given, "env", usual.env)?,
        network: item(given, "network", usual.network)?,
        architecture: architecture.as_deref().map(Architecture::from_name).transpose().map_err(to_python)?,
        isolation: match item(given, "isolation", "strict".to_owned())?.as_str() {
            "available" => Isolation::Available,
            _ => Isolation::Strict,
        },
        reserved_concurrency: item(given, "reserved_concurrency", usual.reserved_concurrency)?,
        snapstart: item(given, "snapstart", usual.snapstart)?,
        reuse: item(given, "reuse", usual.reuse)?,
        mounts: item::<Vec<(String, PathBuf, bool)>>(given, "mounts", Vec::new())?
            .into_iter()
            .map(|(target, source, writable)| Mount { target, source, writable })
            .collect(),
        sizes: Sizes {
            code_mb: item(given, "max_code_mb", usual.sizes.code_mb)?,
            zip_mb: item(given, "max_zip_mb", usual.sizes.zip_mb)?,
            image_mb: item(given, "max_image_mb", usual.sizes.image_mb)?,
        },
        proc_view: match item::<Option<String>>(given, "proc", None)?.as_deref() {
            Some("masked") => Some(ProcView::Masked),
            Some(_) => Some(ProcView::Pid),
            None => None,
        },
        noexec_tmp: item(given, "noexec_tmp", usual.noexec_tmp)?,
        runtime_dir: item(given, "runtime_dir", usual.runtime_dir)?,
        handler: usual.handler,
        code: usual.code,
    })
}

fn described(interpreter: &Bound<'_, PyDict>) -> PyResult<Interpreter> {
    let usual = Interpreter::default();
    Ok(Interpreter {
        executable: item(interpreter, "executable", usual.executable)?,
        version: item(interpreter, "version", usual.version)?,
        prefixes: item(interpreter, "prefixes", usual.prefixes)?,
        stdlib: item(interpreter, "stdlib", usual.stdlib)?,
        site: item(interpreter, "site", usual.site)?,
    })
}

/// A keyword's value, or the usual one; one of the wrong type or out of an integer's range is the caller's mistake, told by its
/// name.
fn item<'py, T>(given: &Bound<'py, PyDict>, name: &str, usual: T) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    let Some(value) = given.get_item(name)? else { return Ok(usual) };
    value.extract::<T>().map_err(|e| {
        let e: PyErr = e.into();
        let shown: String = value.repr().map(|text| text.to_string()).unwrap_or_default().chars().take(200).collect();
        to_python(Error::Configuration(format!("{name} is {shown}: {e}")))
    })
}
