//! What an environment's launcher starts: a runtime that is a program and speaks Lambda's Runtime API, and external
//! extensions. Pure data, made when the function is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use coldframe_sys::child::serve::ROOM;
use coldframe_sys::program::{self, Step};
use rustix::fs::{Dir, FileType, OFlags, fstat};

use crate::error::{Error, Result};
use crate::plan::RUNTIME;
use crate::spec::{Interpreter, Spec};
use crate::store::image::{Image, Settings};
use crate::store::inside;
use crate::variables::Names;

/// Where the API is served, on the environment's own loopback interface.
pub const PORT: u16 = 9001;
/// What stands for a port that is known only when there is an environment: as long as any that the kernel gives.
const ANY: &str = "127.0.0.1:00000";
/// The variable that tells it.
const ADDRESS: &str = "AWS_LAMBDA_RUNTIME_API";
/// The descriptor of a runtime's framed log.
pub const LOG: i32 = 62;
/// External extensions, and those that a runtime registers, together.
pub const MOST_EXTENSIONS: usize = 10;
/// Variables and arguments of one process at most.
const MOST_VARIABLES: usize = 1000;
/// Variables that only a runtime has.
const OF_RUNTIMES: [&str; 9] = [
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_HANDLER",
];

/// A process to be started.
#[derive(Clone, Debug)]
pub struct Program {
    /// An extension's file name; empty for the runtime.
    pub name: String,
    /// What is executed.
    pub path: String,
    /// How, but for the port.
    steps: Vec<u8>,
}

/// All that an environment starts.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The runtime.
    pub runtime: Program,
    /// External extensions, which are started before it.
    pub extensions: Vec<Program>,
    /// Whether a script of the owner's starts the runtime: one that is missing is an exit of the runtime's (127).
    pub wrapped: bool,
    /// Why the runtime cannot be started, as Lambda calls it and in words, where that was seen before.
    pub defect: Option<(&'static str, String)>,
}

impl Launch {
    /// What environments of this function start; `None` where its handler is called by the process that was forked.
    /// `code` and `layers` are where those are on the host.
    pub fn of(
        spec: &Spec,
        names: &Names,
        env: &BTreeMap<String, String>,
        code: &Path,
        layers: Option<&Path>,
    ) -> Result<Option<Self>> {
        let extensions = layers.map_or_else(|| Ok(Vec::new()), |layers| extensions(layers, "extensions"))?;
        let wrapper = spec.env.get("AWS_LAMBDA_EXEC_WRAPPER").filter(|wrapper| !wrapper.is_empty());
        let mut runtime_env = env.clone();
        let command = match &spec.interpreter {
            Some(_) if extensions.is_empty() && wrapper.is_none() => return Ok(None),
            Some(interpreter) => {
                runtime_env.insert("_COLDFRAME".into(), settings(spec, names, interpreter));
                let script = format!("{RUNTIME}/bootstrap.py");
                [&interpreter.executable.display().to_string(), "-I", "-S", "-B", &script].map(str::to_owned).to_vec()
            }
            None => vec![bootstrap(spec, code, layers)?],
        };
        let command = wrapper.into_iter().cloned().chain(command).collect();
        let launch = Self::starting(spec, command, runtime_env, env, extensions, "/var/task")?;
        Ok(Some(Self { wrapped: wrapper.is_some(), ..launch }))
    }

    /// What environments of an image start. The handler takes the place of its command, behind its entry point.
    pub fn of_image(spec: &Spec, env: &BTreeMap<String, String>, image: &Image) -> Result<Self> {
        let Settings { entrypoint, cmd, .. } = &*image.settings;
        let arguments = match spec.handler.as_str() {
            "" => cmd.clone(),
            _ if entrypoint.is_empty() => cmd.clone(),
            handler => vec![handler.to_owned()],
        };
        let mut command: Vec<String> = entrypoint.iter().cloned().chain(arguments).collect();
        let Some(program) = command.first().filter(|program| !program.is_empty()) else {
            return Err(Error::Configuration(
                "the image has neither an entry point nor a command; build it with one".to_owned(),
            ));
        };
        let (root, directory) = (&image.root.path, image.settings.directory());
        let path = env.get("PATH").map_or("", String::as_str);
        let defect = if !is_directory(root, directory) {
            Some(("Runtime.InvalidWorkingDir", format!("the image has no directory {directory:?}")))
        } else if let Some(found) = find(root, program, directory, path) {
            command[0] = found;
            None
        } else {
            Some(("Runtime.InvalidEntrypoint", format!("the image has no program {program:?}")))
        };
        let extensions = extensions(root, "opt/extensions")?;
        Ok(Self { defect, ..Self::starting(spec, command, env.clone(), env, extensions, directory)? })
    }

    fn starting(
        spec: &Spec,
        command: Vec<String>,
        mut runtime_env: BTreeMap<String, String>,
        env: &BTreeMap<String, String>,
        extensions: Vec<String>,
        directory: &str,
    ) -> Result<Self> {
        runtime_env.insert("_LAMBDA_TELEMETRY_LOG_FD".into(), LOG.to_string());
        let mut extension_env = env.clone();
        extension_env.retain(|name, _| !OF_RUNTIMES.contains(&name.as_str()));
        let address = if spec.network { ANY.to_owned() } else { format!("127.0.0.1:{PORT}") };
        for env in [&mut runtime_env, &mut extension_env] {
            env.insert(ADDRESS.into(), address.clone());
        }
        let extension = |name: String| {
            let path = format!("/opt/extensions/{name}");
            // Their output has a pipe of its own: what they write is told apart.
            let places = [Step::Place { index: 0, to: 1 }, Step::Place { index: 0, to: 2 }];
            program(name, vec![path], &extension_env, &places, directory)
        };
        Ok(Self {
            runtime: program(String::new(), command, &runtime_env, &[Step::Place { index: 0, to: LOG }], directory)?,
            extensions: extensions.into_iter().map(extension).collect::<Result<_>>()?,
            wrapped: false,
            defect: None,
        })
    }
}

impl Program {
    /// How it is started in an environment whose API is served on this port.
    pub fn steps(&self, port: u16) -> Cow<'_, [u8]> {
        if port == PORT {
            return Cow::Borrowed(&self.steps);
        }
        // The whole variable, with the end of the one before it: no other value can be taken for it.
        let variable = format!("\0{ADDRESS}={ANY}\0");
        let mut steps = self.steps.clone();
        if let Some(at) = steps.windows(variable.len()).position(|bytes| bytes == variable.as_bytes()) {
            let port = format!("{port:05}");
            let end = at + variable.len() - 1;
            steps[end - port.len()..end].copy_from_slice(port.as_bytes());
        }
        Cow::Owned(steps)
    }
}

fn program(
    name: String,
    argv: Vec<String>,
    env: &BTreeMap<String, String>,
    places: &[Step],
    directory: &str,
) -> Result<Program> {
    let path = argv[0].clone();
    if argv.len() + env.len() > MOST_VARIABLES {
        return Err(Error::Configuration(format!("env has {} variables; keep it below {MOST_VARIABLES}", env.len())));
    }
    let mut steps = vec![Step::ResetSignals, Step::Setsid];
    steps.extend(places.iter().cloned());
    steps.push(Step::Chdir { path: directory.into() });
    let envp = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    steps.push(Step::Exec { path: path.clone(), argv, envp });
    let steps = program::encode(&steps);
    // With room for what goes before it.
    if steps.len() > ROOM - 64 {
        let message = format!("env is {} bytes for a process of its own; keep it below {}", steps.len(), ROOM - 1024);
        return Err(Error::Configuration(message));
    }
    Ok(Program { name, path, steps })
}

/// The program that a function brings: in its code, or else in a layer.
fn bootstrap(spec: &Spec, code: &Path, layers: Option<&Path>) -> Result<String> {
    for (host, inside) in [(Some(code), "/var/task"), (layers, "/opt")] {
        let Some(file) = host.map(|host| host.join("bootstrap")) else { continue };
        // A link leads somewhere inside, which is seen when it is followed there.
        let Ok(found) = fs::symlink_metadata(&file) else { continue };
        if !found.is_symlink() && !found.is_file() {
            continue;
        }
        if found.is_file() && found.permissions().mode() & 0o111 == 0 {
            return Err(Error::Configuration(format!(
                "{inside}/bootstrap of {:?} is not executable; say chmod +x before it is packed",
                spec.name
            )));
        }
        return Ok(format!("{inside}/bootstrap"));
    }
    Err(Error::Configuration(format!(
        "{:?} has no runtime: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]; put an executable \
         `bootstrap` that speaks Lambda's Runtime API at the top of the code or of a layer",
        spec.name
    )))
}

/// The names of the executable files directly in a directory of a snapshot: what will be `/opt/extensions`.
fn extensions(root: &Path, directory: &str) -> Result<Vec<String>> {
    let Some(open) = inside(root, directory, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(Vec::new()) };
    let failed = |e: rustix::io::Errno| Error::kernel("reading", root.join(directory).display().to_string(), e);
    let mut names = Vec::new();
    for entry in Dir::new(open).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && is_program(root, &format!("{directory}/{name}")) {
            names.push(name);
        }
    }
    names.sort();
    if names.len() > MOST_EXTENSIONS {
        return Err(Error::Configuration(format!(
            "the function has {} external extensions and may have {MOST_EXTENSIONS}; leave some out",
            names.len()
        )));
    }
    Ok(names)
}

/// Whether a path of a snapshot is a file that can be executed. Links lead to places in it.
fn is_program(root: &Path, path: &str) -> bool {
    let stat = inside(root, path, OFlags::PATH).and_then(|file| fstat(file).ok());
    stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0)
}

fn is_directory(root: &Path, path: &str) -> bool {
    inside(root, path, OFlags::PATH | OFlags::DIRECTORY).is_some()
}

/// The program that is meant, as `execve` needs it: one without a slash is looked for where `PATH` says.
fn find(root: &Path, program: &str, directory: &str, path: &str) -> Option<String> {
    if program.contains('/') {
        let whole = if program.starts_with('/') { program.to_owned() } else { format!("{directory}/{program}") };
        return is_program(root, &whole).then(|| program.to_owned());
    }
    let places = path.split(':').filter(|place| place.starts_with('/'));
    places.map(|place| format!("{place}/{program}")).find(|whole| is_program(root, whole))
}

/// What `bootstrap.py` has to know before it can import anything.
fn settings(spec: &Spec, names: &Names, interpreter: &Interpreter) -> String {
    let packages = if spec.packages { interpreter.site.clone() } else { Vec::new() };
    serde_json::json!({"stdlib": interpreter.stdlib, "packages": packages, "arn": names.arn}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_written_where_it_is_looked_for_and_nowhere_else() {
        let value = "AWS_LAMBDA_RUNTIME_API=127.0.0.1:00000";
        let env = [("A", value), (ADDRESS, ANY), ("Z_AWS_LAMBDA_RUNTIME_API", ANY)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let program = program(String::new(), vec!["/x".into()], &env, &[], "/").expect("it is short");
        let text = |port| String::from_utf8_lossy(&program.steps(port)).into_owned();
        assert_eq!(text(PORT).matches("127.0.0.1:00000").count(), 3);
        let changed = text(41_234);
        assert!(changed.contains("\0AWS_LAMBDA_RUNTIME_API=127.0.0.1:41234\0"));
        assert_eq!(changed.matches("127.0.0.1:00000").count(), 2);
    }

    #[test]
    fn extensions_are_the_executable_files_at_the_top() {
        let layers = std::env::temp_dir().join(format!("coldframe-extensions-{}", std::process::id()));
        let directory = layers.join("extensions");
        fs::create_dir_all(directory.join("folder")).expect("a directory");
        for (name, mode) in [("second", 0o755), ("first", 0o700), ("notes.txt", 0o644)] {
            fs::write(directory.join(name), "").expect("a file");
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).expect("its mode");
        }
        assert_eq!(extensions(&layers, "extensions").expect("they are read"), ["first", "second"]);
        assert_eq!(extensions(&directory, "extensions").expect("none"), [""; 0]);
        fs::remove_dir_all(layers).expect("it is ours");
    }
}
