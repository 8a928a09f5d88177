//! What this process keeps on disk and in the cgroup trees, and what dead ones left there.
//!
//! Every owner has a directory of its own below the state directory, holds a lock in it for as long as it lives, and
//! lists its cgroups there. Whoever starts next removes what an owner left that holds its lock no more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::error::{Error, Result};
use crate::random;

mod leftovers;

pub use leftovers::{Collected, Leftover, Owner, gc, leftovers, owners};
use leftovers::{STUCK, collect_in_passing};

/// Where the host users of environments begin, as root.
const FIRST_UID: u32 = 0x7000_0000;
/// How many an owner has at once.
pub const UIDS: u32 = 4096;
const BLOCKS: u32 = 32_768;
/// All of them.
pub const USERS: std::ops::Range<u32> = FIRST_UID..FIRST_UID + BLOCKS * UIDS;
/// How often a directory is made anew that somebody has taken for a dead one's, between its making and its locking.
const CLAIMS: usize = 8;

/// The directory of this owner.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    name: String,
    first_uid: u32,
    lock: Mutex<Option<File>>,
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
        collect_in_passing(&owners);
        let (name, directory, lock) = claim(&owners)?;
        let furnished = furnish(&directory).and_then(|()| if root { users() } else { Ok((None, 0)) });
        let (uids, first_uid) = furnished.inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })?;
        Ok(Self { directory, name, first_uid, lock: Mutex::new(Some(lock)), _uids: uids })
    }

    /// The name of everything that this owner makes elsewhere.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As root: the first of the [`UIDS`] host users that nobody else uses.
    pub fn first_uid(&self) -> u32 {
        self.first_uid
    }

    /// Its directory, which is this user's alone.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where code is kept.
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// An empty directory over which roots are mounted while they are made.
    pub fn scaffold(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Writes files, by their paths below a directory of this name that is made for them.
    pub fn place(&self, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        let open = |path: &Path, mode| {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(path, permissions).map_err(|e| failed("setting the mode of", path, e))
        };
        for (file, content) in files {
            let path = directory.join(file);
            let parents: Vec<&Path> =
                path.ancestors().skip(1).take_while(|above| above.starts_with(&directory)).collect();
            for above in parents.into_iter().rev().filter(|above| !above.exists()) {
                fs::create_dir(above).map_err(|e| failed("making a directory", above, e))?;
                open(above, 0o755)?;
            }
            fs::write(&path, content).map_err(|e| failed("writing", &path, e))?;
            open(&path, 0o644)?;
        }
        Ok(directory)
    }

    /// Notes the cgroups, so that they can be removed if this process is killed.
    pub fn note_cgroups(&self, paths: &[PathBuf]) -> Result<()> {
        let file = self.directory.join("cgroups");
        let text = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
        fs::write(&file, text).map_err(|e| failed("writing", &file, e))
    }

    /// Notes what could not be ended, for [`leftovers`]. A note that cannot be written is only missed there.
    pub fn note_stuck<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        let text = paths.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
        // In one step for whoever reads it.
        let (new, path) = (self.directory.join(".stuck"), self.directory.join(STUCK));
        let _ = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
    }

    /// In a forked copy of the process: the lock is the parent's, and is not to outlive it here.
    pub fn let_go(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    is_private(path)
}

fn is_private(path: &Path) -> Result<()> {
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
    let mut last = Ok(());
    for _ in 0..CLAIMS {
        let name = format!("coldframe-{}-{}", std::process::id(), random::hex(8));
        let hidden = owners.join(format!(".{name}"));
        match try_claim(&hidden, &owners.join(&name)) {
            Ok(file) => return Ok((name.clone(), owners.join(name), file)),
            // Once more: another's start may have come between the making of it and the lock, and collected it.
            Err(e) => last = Err(e),
        }
        let _ = fs::remove_dir_all(&hidden);
    }
    last.and_then(|()| Err(failed("making", owners, io::ErrorKind::AlreadyExists.into())))
}

fn try_claim(hidden: &Path, path: &Path) -> Result<File> {
    private(hidden)?;
    let lock = hidden.join("lock");
    let file = File::create(&lock).map_err(|e| failed("making", &lock, e))?;
    file.try_lock().map_err(|e| failed("locking", &lock, e.into()))?;
    fs::rename(hidden, path).map_err(|e| failed("making", path, e))?;
    Ok(file)
}

/// Makes what is in an owner's directory.
fn furnish(directory: &Path) -> Result<()> {
    for (name, mode) in [("store", 0o755), ("root", 0o755)] {
        let path = directory.join(name);
        DirBuilder::new().mode(mode).create(&path).map_err(|e| failed("making a directory", &path, e))?;
        // The caller's umask may have taken something away.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .map_err(|e| failed("setting the mode of", &path, e))?;
    }
    Ok(())
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
