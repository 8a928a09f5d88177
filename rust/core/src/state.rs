//! What this process keeps on disk and in the cgroup trees, and what dead ones left there.
//!
//! Every owner has a directory of its own below the state directory, holds a lock in it for as long as it lives, and
//! lists its cgroups there. Whoever starts next removes what an owner left that holds its lock no more.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result};
use crate::{process, random};

/// Where the host users of environments begin, as root.
const FIRST_UID: u32 = 0x7000_0000;
/// How many an owner has at once.
pub const UIDS: u32 = 4096;
const BLOCKS: u32 = 32_768;

/// The directory of this owner.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    name: String,
    first_uid: u32,
    _lock: File,
    _uids: Option<OwnedFd>,
}

impl State {
    /// Makes it, after removing what dead owners left.
    pub fn new(root: bool) -> Result<Self> {
        let base = base(root)?;
        private(&base)?;
        // Zygotes bind what lies in it, and follow no link that somebody might put in its way.
        let base = fs::canonicalize(&base).map_err(|e| failed("looking at", &base, e))?;
        let owners = base.join("owners");
        private(&owners)?;
        collect(&owners);
        let (name, directory, lock) = claim(&owners)?;
        for (name, mode) in [("store", 0o755), ("root", 0o755)] {
            let path = directory.join(name);
            DirBuilder::new().mode(mode).create(&path).map_err(|e| failed("making a directory", &path, e))?;
            // The caller's umask may have taken something away.
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .map_err(|e| failed("setting the mode of", &path, e))?;
        }
        let (uids, first_uid) = if root { users()? } else { (None, 0) };
        Ok(Self { directory, name, first_uid, _lock: lock, _uids: uids })
    }

    /// The name of everything that this owner makes elsewhere.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As root: the first of the [`UIDS`] host users that nobody else uses.
    pub fn first_uid(&self) -> u32 {
        self.first_uid
    }

    /// Where code is kept.
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// An empty directory over which roots are mounted while they are made.
    pub fn scaffold(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Notes the cgroups, so that they can be removed if this process is killed.
    pub fn note_cgroups(&self, paths: &[PathBuf]) -> Result<()> {
        let file = self.directory.join("cgroups");
        let text = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
        fs::write(&file, text).map_err(|e| failed("writing", &file, e))
    }

    /// Removes everything.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn failed(step: &'static str, path: &Path, e: io::Error) -> Error {
    Error::kernel(step, format!("{} (COLDFRAME_STATE_DIR sets another place)", path.display()), e)
}

fn base(root: bool) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("COLDFRAME_STATE_DIR") {
        return Ok(path);
    }
    if root {
        return Ok("/var/lib/coldframe".into());
    }
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("coldframe"))
        .ok_or_else(|| {
            Error::HostCapability(
                "neither HOME nor XDG_CACHE_HOME is set; set COLDFRAME_STATE_DIR to a private directory".into(),
            )
        })
}

/// Makes a directory that is ours alone, or makes sure that it is: whoever could write to it could put code in the place
/// of a function's.
fn private(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| failed("making a directory", path, e))?;
    let found = fs::symlink_metadata(path).map_err(|e| failed("looking at", path, e))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(Error::HostCapability(format!(
            "{} belongs to somebody else, or others may write to it; remove it, or set COLDFRAME_STATE_DIR to a private \
             directory",
            path.display()
        )));
    }
    Ok(())
}

/// Makes a directory whose lock is held before anybody can see it under its name.
fn claim(owners: &Path) -> Result<(String, PathBuf, File)> {
    let name = format!("coldframe-{}-{}", std::process::id(), random::hex(8));
    let hidden = owners.join(format!(".{name}"));
    private(&hidden)?;
    let lock = hidden.join("lock");
    let file = File::create(&lock).map_err(|e| failed("making", &lock, e))?;
    file.try_lock().map_err(|e| failed("locking", &lock, e.into()))?;
    let path = owners.join(&name);
    fs::rename(&hidden, &path).map_err(|e| failed("making", &path, e))?;
    Ok((name, path, file))
}

/// Takes a block of users that no other owner of this network namespace has, wherever that keeps its state: the kernel
/// gives an abstract socket name to one holder at a time, and takes it back when that ends.
fn users() -> Result<(Option<OwnedFd>, u32)> {
    for block in 0..BLOCKS {
        let name = format!("coldframe-users-{block}");
        let claimed = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .and_then(|socket| bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?).map(|()| socket));
        match claimed {
            Ok(socket) => return Ok((Some(socket), FIRST_UID + block * UIDS)),
            Err(Errno::ADDRINUSE) => {}
            Err(e) => return Err(Error::kernel("claiming", format!("host users by the socket name @{name}"), e)),
        }
    }
    Err(Error::HostCapability(format!("all {BLOCKS} blocks of host users are in use; close some hosts")))
}

fn dead(owners: &Path) -> Vec<(PathBuf, File)> {
    let Ok(entries) = fs::read_dir(owners) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("coldframe-") {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(entry.path().join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            found.push((entry.path(), lock));
        }
    }
    found
}

/// Removes what dead owners left; what cannot be removed now is there the next time.
fn collect(owners: &Path) {
    for (path, _lock) in dead(owners) {
        let listed = fs::read_to_string(path.join("cgroups")).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        // Only what carries the dead owner's own name is touched, whatever the list says.
        let groups = listed.lines().map(Path::new).filter(|group| group.file_name() == Some(name));
        // Each of them, whatever becomes of the others.
        let left = groups.filter(|group| !end_cgroup(group)).count();
        if left == 0 {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Kills what is in a cgroup and below it, and removes both. True when nothing is left.
fn end_cgroup(path: &Path) -> bool {
    let write = |path: PathBuf, text: &str| {
        File::options().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let one_by_one = write(path.join("cgroup.kill"), "1").is_err();
    if one_by_one {
        kill_each(path);
    }
    let Ok(entries) = fs::read_dir(path) else { return true };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        // What the version 1 freezer stopped takes no signal until it goes on.
        let _ = write(entry.path().join("freezer.state"), "THAWED");
        end_cgroup(&entry.path());
    }
    // The killed are gone in moments; what takes longer is left for the next start.
    for _ in 0..50 {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                if one_by_one {
                    kill_each(path); // those that were forked meanwhile
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            result => return result.is_ok() || !path.exists(),
        }
    }
    false
}

/// Kills the processes of a version 1 cgroup, where the kernel has no order for all of them. Mostly they are dying with their
/// inits, and this is for what these cannot end: they may have been stopped.
fn kill_each(path: &Path) {
    let processes = || fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for line in processes().lines() {
        let Some(pid) = line.parse().ok().and_then(Pid::from_raw) else { continue };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Still there, now that the number cannot become another's.
        if processes().lines().any(|again| again == line) {
            process::kill(pidfd.as_fd());
        }
    }
}
