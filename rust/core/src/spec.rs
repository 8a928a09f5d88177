//! What a function is: its handler, its code and its limits. Immutable once it has been checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// The machine architectures that Lambda has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `x86_64`
    X86_64,
    /// `arm64`, which the kernel calls aarch64
    Arm64,
}

impl Architecture {
    /// The architecture that this library was compiled for.
    pub const HOST: Self = if cfg!(target_arch = "x86_64") { Self::X86_64 } else { Self::Arm64 };

    /// The architecture of this name, in Lambda's spelling.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "x86_64" => Ok(Self::X86_64),
            "arm64" => Ok(Self::Arm64),
            other => Err(Error::Configuration(format!(
                "architecture is {other:?}; it must be \"x86_64\" or \"arm64\", or None for the host's"
            ))),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        })
    }
}

/// What to do where the host lacks a protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Refuse.
    Strict,
    /// Go on with what there is, and say so.
    Available,
}

/// How much of `/proc` an environment sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcView {
    /// Its own processes and nothing else.
    Pid,
    /// Also `cpuinfo`, `meminfo` and the like, with what tells of the host covered.
    Masked,
}

/// A `CPython` and where it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interpreter {
    /// The program.
    pub executable: PathBuf,
    /// `major.minor`
    pub version: String,
    /// Directories that have to be readable at their own paths.
    pub prefixes: Vec<PathBuf>,
    /// `sys.path` of the standard library.
    pub stdlib: Vec<String>,
    /// Directories of installed packages.
    pub site: Vec<String>,
}

/// A directory of the host that appears inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Inside: `/mnt/` and a name.
    pub target: String,
    /// On the host.
    pub source: PathBuf,
    /// Whether it can be written to.
    pub writable: bool,
}

/// How large a function's package may be, in MiB: Lambda's limits, unless its owner says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Its code and layers together, unpacked.
    pub code_mb: u64,
    /// Each `.zip` file.
    pub zip_mb: u64,
    /// An image, unpacked.
    pub image_mb: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { code_mb: 250, zip_mb: 50, image_mb: 10_240 }
    }
}

/// A function as its owner describes it.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "a description of many independent switches")]
pub struct Spec {
    /// `AWS_LAMBDA_FUNCTION_NAME`
    pub name: String,
    /// `module.function`, or whatever a runtime of the owner's wants.
    pub handler: String,
    /// A directory, a `.py` file or a `.zip`.
    pub code: PathBuf,
    /// Directories or `.zip` files, laid over one another under `/opt`.
    pub layers: Vec<PathBuf>,
    /// What runs the handler; `None`: a program in the code or a layer (`runtime="provided"`).
    pub interpreter: Option<Interpreter>,
    /// Modules that are imported before the environment is forked.
    pub preload: Vec<String>,
    /// Whether one of them that is unfit is left out rather than refused: they were read off the code, or the owner says so.
    pub preload_optional: bool,
    /// Whether the interpreter's installed packages are readable.
    pub packages: bool,
    /// Cap of everything the environment dirties, in MiB.
    pub memory_mb: u64,
    /// The least share of one CPU, whatever the memory: 0.0 for what is to behave like Lambda.
    pub least_vcpus: f64,
    /// Wall clock of one invocation.
    pub timeout: Duration,
    /// Size of `/tmp`, in MiB.
    pub tmp_mb: u64,
    /// Processes and threads together.
    pub max_processes: u64,
    /// How much of one invocation's output is kept, in KiB.
    pub log_kb: u64,
    /// The handler's variables, beside Lambda's own.
    pub env: BTreeMap<String, String>,
    /// The host's network instead of an empty one.
    pub network: bool,
    /// The architecture the owner declared.
    pub architecture: Option<Architecture>,
    /// What to do where the host lacks a protection.
    pub isolation: Isolation,
    /// At most this many invocations at once.
    pub reserved_concurrency: Option<u64>,
    /// Whether it is initialised once, and environments are forks of that.
    pub snapstart: bool,
    /// Whether an environment serves more than one event.
    pub reuse: bool,
    /// Directories of the host.
    pub mounts: Vec<Mount>,
    /// How large its code may be.
    pub sizes: Sizes,
    /// How much of `/proc` is visible; `None`: the processes alone for Python, more for a runtime that is a program.
    pub proc_view: Option<ProcView>,
    /// Whether programs in `/tmp` may not be executed.
    pub noexec_tmp: bool,
    /// Where the files of the runtime lie on the host.
    pub runtime_dir: PathBuf,
}

/// Memory at which a function has one vCPU, in MiB.
pub const MEMORY_OF_ONE_VCPU: u64 = 1769;
/// Largest event and response in bytes: Lambda's 6 MiB and 100 bytes.
pub const MAX_PAYLOAD: usize = 6_291_556;

/// Largest streamed response in bytes: Lambda's 200 MB.
pub const MAX_STREAM: u64 = 200 << 20;

/// Longest invocation: Lambda's 15 minutes.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(900);

/// Lambda sets these itself, or has them set by nobody. It reserves the region and the credentials, too, which it takes from
/// the function's role; there are no roles here, so that whoever calls AWS or a stand-in for it has to give them.
const RESERVED: [&str; 12] = [
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
];

impl Spec {
    /// A function with the defaults of everything else, which are Lambda's where it has them. Whoever makes it says how it is
    /// run: by [`Spec::interpreter`], or by a `bootstrap` of its own.
    pub fn new(handler: impl Into<String>, code: impl Into<PathBuf>) -> Self {
        let code = code.into();
        Self {
            name: name_of(&code),
            handler: handler.into(),
            code,
            layers: Vec::new(),
            interpreter: None,
            preload: Vec::new(),
            preload_optional: false,
            packages: true,
            memory_mb: 128,
            least_vcpus: 0.0,
            timeout: Duration::from_secs(3),
            tmp_mb: 512,
            max_processes: 1024,
            log_kb: 1024,
            env: BTreeMap::new(),
            network: false,
            architecture: None,
            isolation: Isolation::Strict,
            reserved_concurrency: None,
            snapstart: false,
            reuse: true,
            mounts: Vec::new(),
            sizes: Sizes::default(),
            proc_view: None,
            noexec_tmp: false,
            runtime_dir: PathBuf::new(),
        }
    }

    /// Checks every range; the error names the argument, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        self.check_names()?;
        range("memory_mb", self.memory_mb, 32, 10_240, "MiB")?;
        if !(0.0..=1.0).contains(&self.least_vcpus) {
            return Err(Error::Configuration(format!("least_vcpus is {}; it must be from 0 to 1", self.least_vcpus)));
        }
        range("tmp_mb", self.tmp_mb, 1, 10_240, "MiB")?;
        range("max_processes", self.max_processes, 1, 32_768, "processes")?;
        for (option, size) in [
            ("max_code_mb", self.sizes.code_mb),
            ("max_zip_mb", self.sizes.zip_mb),
            ("max_image_mb", self.sizes.image_mb),
        ] {
            range(option, size, 1, 1 << 20, "MiB")?;
        }
        range("log_kb", self.log_kb, 0, 1_048_576, "KiB")?;
        check_timeout(self.timeout)?;
        if self.layers.len() > 5 {
            return Err(Error::Configuration(format!(
                "Cannot reference more than 5 layers. {} were given; merge some of them",
                self.layers.len()
            )));
        }
        if let Some(architecture) = self.architecture.filter(|&a| a != Architecture::HOST) {
            return Err(Error::Configuration(format!(
                "function {:?} is for {architecture} and this host is {}; run it on an {architecture} machine, or leave \
                 architecture out if its code runs anywhere",
                self.name,
                Architecture::HOST
            )));
        }
        self.check_mounts()?;
        if self.snapstart && self.interpreter.is_none() {
            return Err(Error::Configuration(
                "snapstart with the runtime \"provided\": a copy of a process has one thread, and most runtimes keep more; \
                 leave it out, or use a Python runtime"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Names that a Lambda function could have.
    fn check_names(&self) -> Result<()> {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&self.name.len()) || !self.name.chars().all(letter) {
            return Err(Error::Configuration(format!(
                "name is {:?}; use 1 to 64 letters, digits, hyphens and underscores",
                self.name
            )));
        }
        let (module, function) = self.handler.rsplit_once('.').unwrap_or_default();
        let odd = self.handler.contains(char::is_whitespace) || function.contains(':');
        if self.interpreter.is_some() && (module.trim_matches(['.', '/']).is_empty() || function.is_empty() || odd) {
            return Err(Error::Configuration(format!(
                "handler {:?} is not in Lambda's notation, module.function: write the module, a dot and the function's \
                 name, like {:?}",
                self.handler,
                in_lambdas_notation(&self.handler)
            )));
        }
        if self.handler.contains('\0') {
            return Err(Error::Configuration(format!("handler {:?} holds a NUL character; remove it", self.handler)));
        }
        for (name, value) in &self.env {
            if RESERVED.contains(&name.as_str()) {
                return Err(Error::Configuration(format!(
                    "env[{name:?}]: this name is reserved by Lambda; choose another"
                )));
            }
            let mut letters = name.chars();
            let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
            if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(Error::Configuration(format!(
                    "env[{name:?}]: a name is a letter followed by letters, digits and underscores"
                )));
            }
            if value.contains('\0') {
                return Err(Error::Configuration(format!("env[{name:?}]: the value holds a NUL character; remove it")));
            }
        }
        Ok(())
    }

    /// Places that EFS could have in Lambda, each once. The descriptors of the copies go with one packet.
    fn check_mounts(&self) -> Result<()> {
        const MOST: usize = 8;
        const LONGEST: usize = 160;
        if self.mounts.len() > MOST {
            return Err(Error::Configuration(format!(
                "mounts has {} directories; a function may have {MOST}, so mount one that holds several",
                self.mounts.len()
            )));
        }
        for (index, Mount { target, source, .. }) in self.mounts.iter().enumerate() {
            let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let name = target.strip_prefix("/mnt/").unwrap_or_default();
            if name.is_empty() || matches!(name, "." | "..") || !name.chars().all(letter) || target.len() > LONGEST {
                return Err(Error::Configuration(format!(
                    "mounts[{target:?}]: the place inside must be /mnt/ and a name of letters, digits, hyphens, underscores \
                     and dots, at most {LONGEST} characters together, such as \"/mnt/data\""
                )));
            }
            if self.mounts[..index].iter().any(|other| other.target == *target) {
                return Err(Error::Configuration(format!("mounts[{target:?}] is there twice")));
            }
            if source.as_os_str().as_encoded_bytes().contains(&0) || source.to_str().is_none() {
                return Err(Error::Configuration(format!(
                    "mounts[{target:?}]: the path {} is no UTF-8, or holds a NUL character; rename the directory",
                    source.display()
                )));
            }
        }
        Ok(())
    }

    /// The share of one CPU that goes with the memory, 1.0 at 1,769 MiB, or the least that was asked for.
    ///
    /// ```
    /// # use coldframe_core::spec::Spec;
    /// let spec = Spec { memory_mb: 64, ..Spec::new("app.handler", "code") };
    /// assert!(spec.vcpus() < 0.04);
    /// assert_eq!(Spec { least_vcpus: 1.0, ..spec.clone() }.vcpus(), 1.0);
    /// assert!(Spec { least_vcpus: f64::NAN, ..spec }.check().is_err());
    /// ```
    pub fn vcpus(&self) -> f64 {
        (self.memory_mb as f64 / MEMORY_OF_ONE_VCPU as f64).max(self.least_vcpus)
    }
}

/// The time of an invocation that may take so many seconds.
///
/// ```
/// # use coldframe_core::spec::timeout_from_secs as timeout;
/// assert_eq!(timeout(0.25).unwrap().as_millis(), 250);
/// for seconds in [0.0, -1.0, 900.5, f64::NAN, f64::INFINITY] {
///     assert!(timeout(seconds).unwrap_err().to_string().contains("above 0 and at most 900"));
/// }
/// ```
pub fn timeout_from_secs(seconds: f64) -> Result<Duration> {
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| no_timeout(seconds))?;
    check_timeout(timeout)?;
    Ok(timeout)
}

/// Refuses a time that no invocation may take.
pub fn check_timeout(timeout: Duration) -> Result<()> {
    if timeout.is_zero() || timeout > MAX_TIMEOUT { Err(no_timeout(timeout.as_secs_f64())) } else { Ok(()) }
}

fn no_timeout(seconds: f64) -> Error {
    Error::Configuration(format!("timeout_s is {seconds}; it must be above 0 and at most 900 seconds"))
}

/// What was meant by a handler as other tools write it, `pkg/app.py:main`; of anything else, an example.
fn in_lambdas_notation(handler: &str) -> String {
    let word = |text: &str, also: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_' || also.contains(c))
    };
    match handler.split_once(':') {
        Some((module, function)) if word(module, "./-") && word(function, "") => {
            format!("{}.{function}", module.strip_suffix(".py").unwrap_or(module))
        }
        _ => "app.handler".into(),
    }
}

/// A function's name, made of the name of its code's file or directory.
pub fn name_of(code: &Path) -> String {
    let stem = code.file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.split('.').next().unwrap_or_default();
    let parts =
        stem.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).filter(|part| !part.is_empty());
    let name: String = parts.collect::<Vec<_>>().join("-").trim_matches('-').chars().take(64).collect();
    if name.is_empty() { "function".into() } else { name }
}

fn range(argument: &str, value: u64, least: u64, most: u64, unit: &str) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Configuration(format!("{argument} is {value}; it must be from {least} to {most} {unit}")))
}
