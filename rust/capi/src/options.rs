//! Options as C gives them: JSON objects with the names and defaults that Python has. New ones change nothing for old programs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use api::{Architecture, Isolation, MAX_PAYLOAD, Mount, Options, ProcView, Runtime, Sizes, Spec};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{Code, Failed};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostOptions {
    max_concurrency: Option<usize>,
    max_memory_mb: Option<u64>,
    idle_timeout_s: Option<f64>,
    freeze: Option<bool>,
    freeze_after_ms: Option<f64>,
    cgroup: Option<Cgroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Cgroup {
    Take,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FunctionOptions {
    name: Option<String>,
    runtime: Option<String>,
    memory_mb: Option<u64>,
    timeout_s: Option<f64>,
    tmp_mb: Option<u64>,
    max_processes: Option<u64>,
    log_kb: Option<u64>,
    env: BTreeMap<String, String>,
    layers: Vec<PathBuf>,
    architecture: Option<String>,
    network: bool,
    packages: Packages,
    preload: Preload,
    isolation: Strictness,
    reserved_concurrency: Option<u64>,
    provisioned_concurrency: u64,
    snapstart: bool,
    reuse: Option<bool>,
    mounts: BTreeMap<String, Source>,
    hardening: Hardening,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Preload {
    Names(Vec<String>),
    Word(String),
}

impl Default for Preload {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Packages {
    #[default]
    Inherit,
    None,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strictness {
    #[default]
    Strict,
    Available,
}

/// A path that can be read, or `[path, "rw"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Readable(PathBuf),
    Writable(PathBuf, ReadWrite),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadWrite {
    Rw,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hardening {
    proc: Option<Proc>,
    noexec_tmp: bool,
    on_unclean: Unclean,
    max_code_mb: Option<u64>,
    max_zip_mb: Option<u64>,
    max_image_mb: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Proc {
    Pid,
    Masked,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unclean {
    #[default]
    Error,
    Cold,
}

fn read<T: DeserializeOwned + Default>(of: &str, options: &str) -> Result<T, Failed> {
    if options.is_empty() {
        return Ok(T::default());
    }
    // A list would do for serde.
    if !options.trim_start().starts_with('{') {
        return Err(Failed::configuration(format!("the options of the {of} must be a JSON object")));
    }
    serde_json::from_str(options).map_err(|e| Failed::configuration(format!("the options of the {of}: {e}")))
}

fn span(name: &str, seconds: f64) -> Result<Duration, Failed> {
    Duration::try_from_secs_f64(seconds).map_err(|_| Failed::configuration(format!("{name} is out of range")))
}

/// A client context: a JSON object, as Lambda's is.
pub fn client_context(json: &[u8]) -> Result<Vec<u8>, Failed> {
    let refused = |why: String| Failed(Code::Payload, format!("the client context is no JSON object: {why}"));
    if json.len() > MAX_PAYLOAD {
        return Err(refused(format!("it has {} bytes and may have {MAX_PAYLOAD}", json.len())));
    }
    let text = std::str::from_utf8(json).map_err(|e| refused(e.to_string()))?;
    let object = text.trim_start().starts_with('{');
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| refused(e.to_string()))?;
    if !object {
        return Err(refused("it is another JSON value".into()));
    }
    Ok(json.to_vec())
}

/// The options of a host; an empty text is all the defaults.
pub fn host(options: &str) -> Result<Options, Failed> {
    let given: HostOptions = read("host", options)?;
    let usual = Options::default();
    if given.max_concurrency == Some(0) || given.max_memory_mb == Some(0) {
        return Err(Failed::configuration("max_concurrency and max_memory_mb must be whole numbers from 1 up"));
    }
    Ok(Options {
        max_concurrency: given.max_concurrency.unwrap_or(usual.max_concurrency),
        max_memory_mb: given.max_memory_mb,
        idle_timeout: given.idle_timeout_s.map_or(Ok(usual.idle_timeout), |s| span("idle_timeout_s", s))?,
        freeze: given.freeze.unwrap_or(usual.freeze),
        freeze_after: given
            .freeze_after_ms
            .map_or(Ok(usual.freeze_after), |ms| span("freeze_after_ms", ms / 1000.0))?,
        take: given.cgroup.is_some(),
    })
}

/// The options of a function, and what runs it; an empty text is all the defaults.
pub fn function(handler: &str, code: &str, options: &str) -> Result<(Runtime, Spec), Failed> {
    let given: FunctionOptions = read("function", options)?;
    let runtime = match given.runtime.as_deref() {
        None | Some("python") => Runtime::Python,
        Some("provided") => Runtime::Provided,
        Some(path) => Runtime::At(path.into()),
    };
    if given.provisioned_concurrency != 0 {
        return Err(Failed::configuration(
            "provisioned_concurrency: this version of coldframe cannot keep environments ready on its own; call \
             coldframe_host_prewarm ahead of need",
        ));
    }
    let preload = match given.preload {
        Preload::Names(names) => names,
        Preload::Word(word) => {
            return Err(Failed::configuration(format!(
                "preload is {word:?}; give a list of names, since it is the Python package that reads them off the code"
            )));
        }
    };
    let usual = Spec::new(handler, absolute(code)?);
    let Hardening { proc, noexec_tmp, on_unclean, max_code_mb, max_zip_mb, max_image_mb } = given.hardening;
    let spec = Spec {
        name: given.name.unwrap_or(usual.name),
        layers: given.layers,
        preload,
        preload_optional: matches!(on_unclean, Unclean::Cold),
        packages: matches!(given.packages, Packages::Inherit),
        memory_mb: given.memory_mb.unwrap_or(usual.memory_mb),
        timeout: given.timeout_s.map_or(Ok(usual.timeout), api::timeout_from_secs)?,
        tmp_mb: given.tmp_mb.unwrap_or(usual.tmp_mb),
        max_processes: given.max_processes.unwrap_or(usual.max_processes),
        log_kb: given.log_kb.unwrap_or(usual.log_kb),
        env: given.env,
        network: given.network,
        architecture: given.architecture.as_deref().map(Architecture::from_name).transpose()?,
        isolation: match given.isolation {
            Strictness::Strict => Isolation::Strict,
            Strictness::Available => Isolation::Available,
        },
        reserved_concurrency: given.reserved_concurrency,
        snapstart: given.snapstart,
        reuse: given.reuse.unwrap_or(usual.reuse),
        mounts: given.mounts.into_iter().map(|(target, source)| mount(target, source)).collect::<Result<_, _>>()?,
        sizes: Sizes {
            code_mb: max_code_mb.unwrap_or(usual.sizes.code_mb),
            zip_mb: max_zip_mb.unwrap_or(usual.sizes.zip_mb),
            image_mb: max_image_mb.unwrap_or(usual.sizes.image_mb),
        },
        proc_view: proc.map(|proc| match proc {
            Proc::Pid => ProcView::Pid,
            Proc::Masked => ProcView::Masked,
        }),
        noexec_tmp,
        ..usual
    };
    Ok((runtime, spec))
}

fn mount(target: String, source: Source) -> Result<Mount, Failed> {
    let (source, writable) = match source {
        Source::Readable(path) => (path, false),
        Source::Writable(path, ReadWrite::Rw) => (path, true),
    };
    let source = std::path::absolute(&source)
        .map_err(|e| Failed::configuration(format!("mounts[{target:?}]: {}: {e}", source.display())))?;
    Ok(Mount { target, source, writable })
}

fn absolute(code: &str) -> Result<PathBuf, Failed> {
    std::path::absolute(code).map_err(|e| Failed::configuration(format!("code {code:?}: {e}; give a path")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(options: &str) -> String {
        function("app.handler", "code", options).map(|_| ()).expect_err("refused").1
    }

    #[test]
    fn what_is_left_out_is_as_in_python() {
        let (runtime, spec) = function("app.handler", "/some/my code.zip", "").expect("options");
        assert_eq!((runtime, spec.name.as_str(), spec.memory_mb, spec.timeout.as_secs()), {
            (Runtime::Python, "my-code", 128, 3)
        });
        assert!(spec.reuse && spec.packages && !spec.network && spec.isolation == Isolation::Strict);
        assert_eq!(host("{}").expect("options").max_concurrency, 1000);
    }

    #[test]
    fn an_option_that_means_nothing_is_named() {
        assert!(refusal(r#"{"memoy_mb": 64}"#).contains("unknown field `memoy_mb`, expected one of `name`, `runtime`"));
        assert!(refusal(r#"{"memory_mb": -1}"#).contains("the options of the function: invalid value: integer `-1`"));
        assert!(refusal(r#"{"timeout_s": 0}"#).contains("timeout_s is 0; it must be above 0"));
        assert!(refusal(r#"{"packages": "all"}"#).contains("unknown variant `all`, expected `inherit` or `none`"));
        assert!(refusal(r#"{"preload": "auto"}"#).contains("give a list of names"));
        assert!(refusal("[]").contains("must be a JSON object"));
        assert!(refusal("{").contains("EOF"));
        assert_eq!(host(r#"{"idle_timeout_s": -1}"#).expect_err("refused").1, "idle_timeout_s is out of range");
    }

    #[test]
    fn a_mount_is_readable_or_says_that_it_can_be_written_to() {
        let options = r#"{"mounts": {"/mnt/a": "/x", "/mnt/b": ["/y", "rw"]}, "hardening": {"proc": "masked"}}"#;
        let spec = function("app.handler", "code", options).expect("options").1;
        let mounts: Vec<_> = spec.mounts.iter().map(|mount| (mount.target.as_str(), mount.writable)).collect();
        assert_eq!(mounts, [("/mnt/a", false), ("/mnt/b", true)]);
        assert_eq!(spec.proc_view, Some(ProcView::Masked));
        assert!(refusal(r#"{"mounts": {"/mnt/b": ["/y", "ro"]}}"#).contains("the options of the function"));
    }
}
