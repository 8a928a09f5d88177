//! A function's description, from Python's keywords.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use coldframe_core::error::Error;
use coldframe_core::spec::{Architecture, Interpreter, Isolation, Mount, ProcView, Sizes, Spec};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::to_python;

pub fn from_keywords(given: &Bound<'_, PyDict>) -> PyResult<Spec> {
    let configuration = |message: String| to_python(Error::Configuration(message));
    let interpreter = item::<Option<Bound<'_, PyDict>>>(given, "interpreter")?;
    let timeout: f64 = item(given, "timeout_s")?;
    let timeout = Duration::try_from_secs_f64(timeout)
        .map_err(|_| configuration(format!("timeout_s is {timeout}; it must be above 0 and at most 900 seconds")))?;
    let architecture = item::<Option<String>>(given, "architecture")?;
    Ok(Spec {
        name: item(given, "name")?,
        handler: item(given, "handler")?,
        code: item(given, "code")?,
        layers: item(given, "layers")?,
        interpreter: interpreter.as_ref().map(described).transpose()?,
        preload: item(given, "preload")?,
        preload_optional: item(given, "preload_optional")?,
        packages: item::<String>(given, "packages")? == "inherit",
        memory_mb: item(given, "memory_mb")?,
        least_vcpus: if given.contains("least_vcpus")? { item(given, "least_vcpus")? } else { 0.0 },
        timeout,
        tmp_mb: item(given, "tmp_mb")?,
        max_processes: item(given, "max_processes")?,
        log_kb: item(given, "log_kb")?,
        env: item::<BTreeMap<String, String>>(given, "env")?,
        network: item(given, "network")?,
        architecture: architecture.as_deref().map(Architecture::from_name).transpose().map_err(to_python)?,
        isolation: if item::<String>(given, "isolation")? == "available" {
            Isolation::Available
        } else {
            Isolation::Strict
        },
        reserved_concurrency: item(given, "reserved_concurrency")?,
        snapstart: item(given, "snapstart")?,
        reuse: item(given, "reuse")?,
        mounts: item::<Vec<(String, PathBuf, bool)>>(given, "mounts")?
            .into_iter()
            .map(|(target, source, writable)| Mount { target, source, writable })
            .collect(),
        sizes: Sizes {
            code_mb: item(given, "max_code_mb")?,
            zip_mb: item(given, "max_zip_mb")?,
            image_mb: item(given, "max_image_mb")?,
        },
        proc_view: Some(if item::<String>(given, "proc")? == "masked" { ProcView::Masked } else { ProcView::Pid }),
        noexec_tmp: item(given, "noexec_tmp")?,
        runtime_dir: item::<PathBuf>(given, "runtime_dir")?,
    })
}

fn described(interpreter: &Bound<'_, PyDict>) -> PyResult<Interpreter> {
    Ok(Interpreter {
        executable: item(interpreter, "executable")?,
        version: item(interpreter, "version")?,
        prefixes: item(interpreter, "prefixes")?,
        stdlib: item(interpreter, "stdlib")?,
        site: item(interpreter, "site")?,
    })
}

/// A keyword's value; one of the wrong type or out of an integer's range is the caller's mistake, told by its name.
fn item<'py, T>(given: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
    for<'a> <T as FromPyObject<'a, 'py>>::Error: Into<PyErr>,
{
    let wrong = |why: String| to_python(Error::Configuration(format!("{name} {why}")));
    let value = given.get_item(name)?.ok_or_else(|| wrong("is missing".into()))?;
    value.extract::<T>().map_err(|e| {
        let e: PyErr = e.into();
        wrong(format!("is {}: {e}", value.repr().map(|text| text.to_string()).unwrap_or_default()))
    })
}
