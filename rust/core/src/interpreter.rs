//! Asks a `CPython` what it is and what of the file system it needs.
//!
//! It is run once, isolated from the caller's variables and user site, with the script that the Python package asks with: that
//! is where an interpreter is described, for every language.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::process;
use crate::spec::Interpreter;

const SCRIPT: &str = include_str!("../../../python/coldframe/_probe.py");
/// How long an interpreter may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// And how many bytes.
const MOST: usize = 1 << 20;
/// The interpreter of a caller that names none.
const USUAL: &str = "python3";

/// What is known of the interpreters that were asked: each is asked again when its file has changed.
#[derive(Debug, Default)]
pub struct Interpreters(Mutex<HashMap<(PathBuf, SystemTime, bool), Interpreter>>);

/// What the script says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Refusal { error: String },
    Description { executable: PathBuf, version: String, prefixes: Vec<PathBuf>, stdlib: Vec<String>, site: Vec<String> },
}

impl Interpreters {
    /// The interpreter at `path`; `None` is `python3`, as a shell would find it. `packages`: whether its installed packages are
    /// to be readable; without them the prefix of a virtual environment, which has nothing else, is left out.
    pub fn describe(&self, path: Option<&Path>, packages: bool) -> Result<Interpreter> {
        let refused = |path: &Path, why: &str| Error::Configuration(format!("runtime={}: {why}", path.display()));
        let path = match path {
            None => on_path(USUAL).ok_or_else(|| {
                Error::Configuration(format!("there is no {USUAL} on PATH; give the path of a CPython as runtime"))
            })?,
            Some(path) if path.as_os_str().as_encoded_bytes().contains(&b'/') => {
                std::path::absolute(path).map_err(|e| refused(path, &e.to_string()))?
            }
            Some(path) => {
                return Err(refused(path, "use \"python\" or the path of a CPython, such as /usr/bin/python3"));
            }
        };
        let found = path.metadata().map_err(|e| refused(&path, &format!("{e}; give the path of a CPython")))?;
        if !is_program(&path) {
            return Err(refused(&path, "it is not an executable file; give the path of a CPython"));
        }
        let key = (path.clone(), found.modified().unwrap_or(SystemTime::UNIX_EPOCH), packages);
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let answer = ask(&path, packages).map_err(|why| {
            let why = format!("it does not answer as CPython 3.9 or later would ({why}); give the path of another");
            refused(&path, &why)
        })?;
        let interpreter = match answer {
            Answer::Refusal { error } => return Err(refused(&path, &error)),
            Answer::Description { executable, version, prefixes, stdlib, site } => {
                Interpreter { executable, version, prefixes, stdlib, site }
            }
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, interpreter.clone());
        Ok(interpreter)
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The program of this name, as a shell would find it.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
    std::env::split_paths(path.as_deref().unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")))
        .filter_map(|directory| std::path::absolute(directory.join(name)).ok())
        .find(|path| is_program(path))
}

fn ask(path: &Path, packages: bool) -> Result<Answer, String> {
    let mut command = Command::new(path);
    command.args(["-I", "-c", SCRIPT, if packages { "inherit" } else { "none" }]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let told = listen(&mut child);
    // It has ended, or is not waited for any longer.
    let _ = child.kill();
    let ended = child.wait().map_err(|e| e.to_string())?;
    let told = told?;
    if !ended.success() {
        return Err(ended.to_string());
    }
    serde_json::from_slice(&told).map_err(|e| e.to_string())
}

/// What a process writes to its standard output, up to its end.
fn listen(child: &mut Child) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + TIMEOUT;
    let late = || format!("it took longer than {} seconds", TIMEOUT.as_secs());
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = child.stdout.take().ok_or("it has no output")?;
    let (mut told, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if !process::readable(output.as_fd(), left()) {
            return Err(late());
        }
        match rustix::io::read(&output, &mut buffer) {
            Ok(0) => break,
            Ok(read) => told.extend_from_slice(&buffer[..read]),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.to_string()),
        }
        if told.len() > MOST {
            return Err(format!("it says more than {MOST} bytes"));
        }
    }
    let end = Pid::from_raw(child.id() as i32).ok_or("it has no process id")?;
    let end = pidfd_open(end, PidfdFlags::empty()).map_err(|e| e.to_string())?;
    if process::readable(end.as_fd(), left()) { Ok(told) } else { Err(late()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_does_not_answer_is_refused_and_what_does_is_asked_once() {
        let directory = std::env::temp_dir().join(format!("coldframe-interpreters-{}", std::process::id()));
        fs::create_dir(&directory).expect("a directory");
        let script = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
            path
        };
        let interpreters = Interpreters::default();
        let refusal = |path: &Path| interpreters.describe(Some(path), true).expect_err("none").to_string();
        assert!(refusal(&directory).contains("not an executable file"));
        assert!(refusal(&directory.join("none")).contains("No such file"));
        assert!(refusal(Path::new("python3.12")).contains("use \"python\" or the path"));
        assert!(refusal(&script("silent", "")).contains("does not answer as CPython"));
        assert!(refusal(&script("failing", "exit 3")).contains("exit status: 3"));
        assert!(refusal(&script("old", r#"echo '{"error": "is cpython 3.8.18"}'"#)).contains("is cpython 3.8.18"));
        assert!(refusal(&script("endless", "yes")).contains("more than"));
        let answer =
            r#"{"executable": "/x/python3.13", "version": "3.13", "prefixes": ["/x"], "stdlib": [], "site": []}"#;
        let path = script("good", &format!("echo x >> {}/count\necho '{answer}'", directory.display()));
        for _ in 0..2 {
            let found = interpreters.describe(Some(&path), true).expect("a description");
            assert_eq!((found.version.as_str(), found.executable.to_str()), ("3.13", Some("/x/python3.13")));
        }
        assert_eq!(fs::read_to_string(directory.join("count")).expect("a count"), "x\n");
        fs::remove_dir_all(directory).expect("no directory");
    }
}
