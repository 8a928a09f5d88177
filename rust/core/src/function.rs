//! A function that has been checked, read and planned: everything about it that does not change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use coldframe_sys::child::serve;
use coldframe_sys::program;

use crate::error::{Error, Result};
use crate::host::Facts;
use crate::launch::Launch;
use crate::mounts::Mounts;
use crate::plan::rootfs::{Grant, misplaced};
use crate::plan::{MNT, environment};
use crate::platform::{Initialization, Logging, Runtime, Subject};
use crate::random;
use crate::spec::{Architecture, Interpreter, ProcView, Spec};
use crate::store::image::{Image, is_image};
use crate::store::{Limits, Snapshot, Store};
use crate::variables::{Names, description, variables};

/// Which zygote an environment is forked from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZygoteKey {
    /// The interpreter that it is, or that its environments start.
    pub interpreter: Interpreter,
    /// Whether it is none: its environments start programs.
    pub native: bool,
    /// The image that is its root; it stays in the store for as long as it may be.
    pub image: Option<Image>,
    /// What it has imported.
    pub preload: Vec<String>,
    /// Whether installed packages are readable.
    pub packages: bool,
    /// Whether it is in the host's network.
    pub network: bool,
    /// The runtime's files.
    pub runtime: PathBuf,
    /// The host's directories that have to be readable at their own paths, beside `/usr`. Where they really are is found
    /// out when the function is made: a symbolic link that takes the place of one later is not followed.
    pub directories: Vec<Grant>,
}

impl ZygoteKey {
    fn of(spec: &Spec, image: Option<Image>, native: bool) -> Result<Self> {
        let interpreter = spec.interpreter.clone().unwrap_or_default();
        Ok(Self {
            directories: directories(&interpreter, spec.packages)?,
            interpreter,
            native,
            image,
            preload: if native { Vec::new() } else { spec.preload.clone() },
            packages: spec.packages,
            network: spec.network,
            runtime: spec.runtime_dir.canonicalize().unwrap_or_else(|_| spec.runtime_dir.clone()),
        })
    }

    /// Directories of installed packages that those would show, and may not.
    pub fn hidden(&self) -> Vec<PathBuf> {
        if self.packages {
            return Vec::new();
        }
        let mut all: Vec<PathBuf> = self.interpreter.site.iter().map(PathBuf::from).collect();
        let version = format!("python{}", self.interpreter.version);
        let usr = [PathBuf::from("/usr"), PathBuf::from("/usr/local")];
        for prefix in self.interpreter.prefixes.iter().chain(&usr) {
            for below in [&version, "python3"] {
                let library = prefix.join("lib").join(below);
                all.extend([library.join("site-packages"), library.join("dist-packages")]);
            }
        }
        all.retain(|path| path.is_dir());
        all.sort();
        all.dedup_by(|inner, outer| inner.starts_with(outer));
        all
    }
}

/// A function, ready to be given environments.
#[derive(Debug)]
pub struct Function {
    /// Distinguishes it from every other in this process.
    pub id: u64,
    /// As its owner described it.
    pub spec: Spec,
    /// Where its environments come from.
    pub zygote: ZygoteKey,
    /// Every protection, and what is in force.
    pub isolation: BTreeMap<String, String>,
    /// What of it the plans of its environments need.
    pub planned: environment::Function,
    /// How an environment becomes this function's.
    pub assign: Vec<program::Step>,
    /// `assign`, encoded.
    pub assign_program: Vec<u8>,
    /// What the runtime is told first.
    pub init: Vec<u8>,
    /// What its processes are told it is called.
    pub names: Names,
    /// What its environments start, unless the process that was forked calls the handler.
    pub launch: Option<Launch>,
    /// What the platform's records say of it.
    pub subject: Arc<Subject>,
    /// Whether an initialisation has printed anything.
    pub speaks_early: AtomicBool,
    /// The bytecode of the handler's module, as the runtime wanted it kept after the first import; it is as much the
    /// function's own as its code. No event had been seen then.
    pub bytecode: OnceLock<Vec<u8>>,
    /// The host's directories that its environments have.
    pub mounts: Mounts,
    /// The code, which stays in the store for as long as this lives.
    pub code: Snapshot,
    _layers: Option<Snapshot>,
    /// What it takes to make an environment of it, in nanoseconds.
    init_ns: AtomicU64,
}

impl Function {
    /// Checks the description, reads the code, and plans.
    pub fn new(spec: Spec, facts: &Facts, store: &Store) -> Result<Self> {
        spec.check()?;
        let isolation = facts.grant(spec.isolation)?;
        let mut limits = Limits::new(&spec.sizes);
        let image = image_of(&spec, store)?;
        let code = match &image {
            Some(image) => image.root.clone(),
            None => store.code(&spec.code, Architecture::HOST, &mut limits)?,
        };
        let layers = store.layers(&spec.layers, Architecture::HOST, &mut limits)?;
        let mounts = Mounts::find(&spec.mounts, facts, store)?;
        let names = Names::of(&spec);
        let env = variables(&spec, &names, image.as_ref().map(|image| &*image.settings));
        let launch = match &image {
            Some(image) => Some(Launch::of_image(&spec, &env, image)?),
            None => Launch::of(&spec, &names, &env, &code.path, layers.as_ref().map(|layers| layers.path.as_path()))?,
        };
        if launch.is_some() && spec.network && !facts.root {
            return Err(Error::HostCapability(format!(
                "{:?} has network=True, and a runtime or extensions that ask Lambda's APIs on the host's loopback interface: \
                 only where environments have users of their own can others be kept from them; run as root, or leave \
                 network out",
                spec.name
            )));
        }
        check_copies(&spec, launch.is_some())?;
        let zygote = ZygoteKey::of(&spec, image, launch.is_some())?;
        if let Some(grant) =
            zygote.directories.iter().find(|grant| !spec.mounts.is_empty() && grant.target.starts_with(MNT))
        {
            return Err(Error::Configuration(format!(
                "mounts go under {MNT}, where the interpreter lives, too ({}); use an interpreter from another place",
                grant.target.display()
            )));
        }
        let opt = layers.as_ref().map(|layers| beside_layers(&zygote.interpreter, &layers.path)).transpose()?.flatten();
        let planned = environment::Function {
            opt,
            code: zygote.image.is_none().then(|| code.key.clone()),
            layers: layers.as_ref().map(|snapshot| snapshot.key.clone()),
            tmp_mb: spec.tmp_mb,
            memory_mb: spec.memory_mb,
            max_processes: spec.max_processes,
            mounts: spec.mounts.iter().map(|mount| (mount.target.clone(), mount.writable)).collect(),
            noexec_tmp: spec.noexec_tmp,
            proc_view: spec.proc_view.unwrap_or(if spec.interpreter.is_some() {
                ProcView::Pid
            } else {
                ProcView::Masked
            }),
            network: spec.network,
            snapstart: spec.snapstart,
        };
        let assign =
            environment::assign(&planned, facts.landlock, facts.seccomp.then_some(Architecture::HOST), &facts.posture);
        let assign_program = program::encode(&assign);
        if assign_program.len() > serve::ROOM {
            return Err(Error::Configuration(format!(
                "the mounts of {:?} take {} bytes to describe and may take {}; have fewer directories at the top of its layers",
                spec.name,
                assign_program.len(),
                serve::ROOM
            )));
        }
        let init = description(&spec, &names, &env, layers.is_some())?;
        let subject = Subject {
            name: spec.name.clone(),
            arn: names.arn.clone(),
            runtime: Runtime::new(
                &spec
                    .interpreter
                    .as_ref()
                    .map_or_else(|| "provided".to_owned(), |interpreter| format!("python:{}", interpreter.version)),
            ),
            initialization: Initialization::of(&spec),
            logging: Logging::of(&spec.env)?,
        };
        Ok(Self {
            id: random::number(),
            zygote,
            isolation,
            planned,
            assign,
            assign_program,
            init,
            names,
            launch,
            subject: Arc::new(subject),
            speaks_early: AtomicBool::new(false),
            bytecode: OnceLock::new(),
            mounts,
            code,
            _layers: layers,
            init_ns: AtomicU64::new(0),
            spec,
        })
    }

    /// Notes how long it took to make and initialise an environment.
    pub fn note_init(&self, took: Duration) {
        let took = took.as_nanos() as u64;
        // One that was slow for a reason of its own counts for a quarter, and less later.
        let mean = |before: u64| Some(if before == 0 { took } else { before - before / 4 + took / 4 });
        let _ = self.init_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
    }

    /// Whether it has been initialised before, and was in less than this.
    pub fn initialises_within(&self, time: Duration) -> bool {
        (1..time.as_nanos() as u64).contains(&self.init_ns.load(Ordering::Relaxed))
    }

    /// How long it takes to make another environment, as far as is known.
    pub fn init_cost(&self) -> Duration {
        Duration::from_nanos(self.init_ns.load(Ordering::Relaxed))
    }
}

/// The image that the function's code is, if it is one.
fn image_of(spec: &Spec, store: &Store) -> Result<Option<Image>> {
    if !is_image(&spec.code) {
        return Ok(None);
    }
    let refused =
        |why: &str| Err(Error::Configuration(format!("the code of {:?} is a container image; {why}", spec.name)));
    if spec.interpreter.is_some() {
        return refused("it brings its own runtime, so say runtime=\"provided\"");
    }
    if !spec.layers.is_empty() {
        return refused("put what its layers hold into the image, and leave layers out");
    }
    store.image(&spec.code, Architecture::HOST, &spec.sizes).map(Some)
}

/// Whether copies can be made of its environments. `programs`: whether those start programs of the function's.
fn check_copies(spec: &Spec, programs: bool) -> Result<()> {
    let beside = if programs {
        "an image, extensions or a wrapper, with processes that no copy would have"
    } else if !spec.mounts.is_empty() {
        "mounts, which belong to one user of the host, and every copy is another"
    } else {
        return Ok(());
    };
    if !spec.snapstart {
        return Ok(());
    }
    Err(Error::Configuration(format!("{:?} has snapstart=True and {beside}; leave out one of the two", spec.name)))
}

/// The directories of an interpreter that `/usr` does not show, and where they really are: outer ones only.
fn directories(interpreter: &Interpreter, packages: bool) -> Result<Vec<Grant>> {
    let site = interpreter.site.iter().map(PathBuf::from).filter(|_| packages);
    let mut all: Vec<PathBuf> = interpreter.prefixes.iter().cloned().chain(site).collect();
    all.retain(|path| path.is_dir() && !path.starts_with("/usr"));
    all.sort();
    // Sorted, whatever lies in a directory follows it.
    all.dedup_by(|inner, outer| inner.starts_with(outer));
    let found = all.into_iter().filter_map(|target| Some(Grant { source: target.canonicalize().ok()?, target }));
    found.map(|grant| granted(&interpreter.executable, grant)).collect()
}

/// The grant, unless it would show something of the host that no interpreter lives in.
fn granted(executable: &Path, grant: Grant) -> Result<Grant> {
    let Grant { source, target } = &grant;
    match misplaced(target).or_else(|| misplaced(source)) {
        None => Ok(grant),
        Some(place) => Err(Error::Configuration(format!(
            "{} or a .pth file of its packages wants {} ({}), which cannot be shown inside because of {place}; take it from the \
             .pth file, or use an interpreter from another place",
            executable.display(),
            target.display(),
            source.display(),
        ))),
    }
}

/// What of an interpreter lives under `/opt`, where the layers go, and what the layers have there.
fn beside_layers(interpreter: &Interpreter, layers: &Path) -> Result<Option<environment::Opt>> {
    let prefixes: Vec<String> = interpreter
        .prefixes
        .iter()
        .filter(|path| path.starts_with("/opt") && path.is_dir())
        .map(|path| path.display().to_string())
        .collect();
    if prefixes.is_empty() {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let failed = |e| Error::kernel("reading", layers.display().to_string(), e);
    for entry in std::fs::read_dir(layers).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let taken = prefixes.iter().any(|path| path.split('/').nth(2) == Some(&name));
        if taken || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return Err(Error::Configuration(format!(
                "a layer has {name:?} at its top, and the interpreter lives in /opt, too ({}); use an interpreter from another \
                 place, or keep only directories of other names at the layer's top",
                prefixes.join(", ")
            )));
        }
        entries.push(name);
    }
    Ok(Some(environment::Opt { prefixes, entries }))
}
