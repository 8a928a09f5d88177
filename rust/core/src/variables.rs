//! The environment variables of a function's processes, and what else its runtime is told of it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::json;

use crate::calendar;
use crate::error::{Error, Result};
use crate::platform::Initialization;
use crate::random;
use crate::spec::Spec;
use crate::store::image::Settings;

/// What the runtime may be told of a function, in bytes.
const MOST: usize = 1 << 20;
/// Who owns functions, as far as their names tell: nobody.
pub const ACCOUNT: &str = "123456789012";
/// The version of every function.
pub const VERSION: &str = "$LATEST";

/// A function's names, as its processes are told them.
#[derive(Clone, Debug)]
pub struct Names {
    /// What it is invoked by.
    pub arn: String,
    /// Where its log would go.
    pub log_group: String,
    /// And which part of that is one environment's.
    pub log_stream: String,
}

impl Names {
    /// Those of a function. The log stream is the function's here, and not an environment's: environments are made ahead.
    pub fn of(spec: &Spec) -> Self {
        Self {
            arn: format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:{}", spec.name),
            log_group: format!("/aws/lambda/{}", spec.name),
            log_stream: log_stream(),
        }
    }
}

/// The name of another log stream.
fn log_stream() -> String {
    format!("{}/[{VERSION}]{}", calendar::date(SystemTime::now()), random::hex(32))
}

/// What is new in a restored environment, for its runtime.
pub fn restoration() -> Vec<u8> {
    json!({"log_stream_name": log_stream()}).to_string().into_bytes()
}

/// The variables of the handler: Lambda's own, its image's and the function's.
pub fn variables(spec: &Spec, names: &Names, image: Option<&Settings>) -> BTreeMap<String, String> {
    let memory = spec.memory_mb.to_string();
    // A copy of a process has one thread: libraries are to start no more.
    let threads = if spec.snapstart { 1 } else { (spec.vcpus().ceil() as u64).max(1) }.to_string();
    let mut env: BTreeMap<&str, &str> = BTreeMap::from([
        ("_HANDLER", spec.handler.as_str()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_NAME", &spec.name),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
        ("AWS_LAMBDA_FUNCTION_VERSION", VERSION),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", Initialization::of(spec).name()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &names.log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &names.log_stream),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("TZ", ":UTC"),
        ("LANG", "en_US.UTF-8"),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        (
            "LD_LIBRARY_PATH",
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        ),
        ("PWD", "/var/task"),
        ("SHLVL", "0"),
        // Libraries that count the host's CPUs would start more threads than the quota can feed.
        ("OMP_NUM_THREADS", &threads),
        ("OPENBLAS_NUM_THREADS", &threads),
        ("MKL_NUM_THREADS", &threads),
    ]);
    // A custom runtime is told of none, and brings its own settings.
    let execution = spec.interpreter.as_ref().map(|interpreter| format!("AWS_Lambda_python{}", interpreter.version));
    if let Some(execution) = &execution {
        env.extend([
            ("AWS_EXECUTION_ENV", execution.as_str()),
            ("LC_CTYPE", "C.UTF-8"),
            ("PYTHONPATH", "/var/runtime"),
        ]);
    }
    if let Some(image) = image {
        of_image(&mut env, spec, image);
    }
    for (name, value) in &spec.env {
        env.entry(name).or_insert(value);
    }
    // What Lambda does not reserve, and the region, which here nobody else could set.
    for name in [
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "TZ",
        "LANG",
        "LC_CTYPE",
        "PATH",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
    ] {
        if let Some(value) = spec.env.get(name) {
            env.insert(name, value);
        }
    }
    env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// An image has its own idea of where programs and libraries are, and of the language.
fn of_image<'a>(env: &mut BTreeMap<&'a str, &'a str>, spec: &'a Spec, image: &'a Settings) {
    const OF_AWS_IMAGES: [&str; 6] = ["TZ", "LANG", "PATH", "LD_LIBRARY_PATH", "PWD", "SHLVL"];
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env.retain(|name, _| !OF_AWS_IMAGES.contains(name));
    env.insert("PATH", DEFAULT_PATH);
    env.insert("PWD", image.directory());
    if spec.handler.is_empty() {
        env.insert("_HANDLER", image.cmd.first().map_or("", String::as_str));
    }
    for (name, value) in &image.env {
        let platforms = (name.starts_with("AWS_") || name == "_HANDLER") && env.contains_key(name.as_str());
        if !platforms && !spec.env.contains_key(name) {
            env.insert(name, value);
        }
    }
}

/// What our own runtime is told of a function before it imports the handler. `env`: its variables.
pub fn description(spec: &Spec, names: &Names, env: &BTreeMap<String, String>, layers: bool) -> Result<Vec<u8>> {
    let site = spec.interpreter.as_ref().filter(|_| spec.packages).map(|interpreter| interpreter.site.clone());
    let message = json!({
        "handler": spec.handler,
        "env": env,
        "packages": site.unwrap_or_default(),
        "layers": layers,
        "snapstart": spec.snapstart,
        "function_name": spec.name,
        "function_version": VERSION,
        "memory_limit_in_mb": spec.memory_mb.to_string(),
        "log_group_name": names.log_group,
        "log_stream_name": names.log_stream,
        "invoked_function_arn": names.arn,
    });
    let bytes = message.to_string().into_bytes();
    if bytes.len() > MOST {
        return Err(Error::Configuration(format!("env is {} bytes; keep it below {MOST}", bytes.len())));
    }
    Ok(bytes)
}
