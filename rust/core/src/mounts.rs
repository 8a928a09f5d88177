//! Directories of the host that a function's environments have under `/mnt`, in the place of Lambda's EFS.
//!
//! Nobody in an environment can see the host's files, and the zygote, which other functions share, is not to see these
//! either. So the supervisor makes a copy of the mount for each environment, attached to nothing, and sends it along with
//! the steps by which the environment becomes the function's; one of them attaches it.
//!
//! As root, environments are users that own nothing on the host. The copy shows the directory's owner as the environment's
//! user, and everything that is written there as the owner's: an idmapped mount (kernel 5.12, by file system). An ordinary
//! user's environments are that user already, but a user may copy mounts in a namespace of its own alone: an assistant does.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coldframe_sys::host::adjust_tree;
use coldframe_sys::program::Step;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::assistant::Assistant;
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::plan::RECURSIVE_PRIVATE;
use crate::plan::rootfs::mount;
use crate::process::namespace::{MOUNT, USER};
use crate::process::own_map;
use crate::spec::Mount;
use crate::state::USERS;
use crate::store::Store;

/// How long an assistant may take.
const ASSISTANCE: Duration = Duration::from_secs(5);
/// File systems that are the kernel's own: what they show, and what writing to them does, is the host's.
const OF_THE_KERNEL: &str = "proc sysfs devtmpfs devpts cgroup cgroup2 securityfs debugfs tracefs configfs bpf fusectl mqueue \
                             pstore efivarfs binfmt_misc autofs nsfs rpc_pipefs selinuxfs resctrl";

/// A function's mounts, found and tried.
#[derive(Debug, Default)]
pub struct Mounts {
    all: Vec<Found>,
    /// As an ordinary user: the user and group that the caller is.
    caller: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Found {
    /// With no symbolic link in it; one that takes its place later is not followed.
    source: PathBuf,
    writable: bool,
    /// Whether the file system can show other owners; what is open to everybody can do without.
    mapped: bool,
}

impl Mounts {
    /// Finds the directories, and makes sure that environments can be given them.
    pub fn find(wanted: &[Mount], facts: &Facts, store: &Store) -> Result<Self> {
        let mut found = Self { all: Vec::new(), caller: (!facts.root).then_some((facts.uid, facts.gid)) };
        for mount in wanted {
            let source = resolved(mount)?;
            admitted(mount, &source, store)?;
            let mapped = if facts.root { mapped(mount, &source, store)? } else { true };
            let found_one = Found { source, writable: mount.writable, mapped };
            found.open(&found_one, USERS.start)?;
            found.all.push(found_one);
        }
        Ok(found)
    }

    /// Copies of the mounts, in their order, for the environment that has this host user (as root).
    pub fn copies(&self, slot: u32) -> Result<Vec<OwnedFd>> {
        self.all.iter().map(|found| self.open(found, slot)).collect()
    }

    fn open(&self, found: &Found, slot: u32) -> Result<OwnedFd> {
        match self.caller {
            None => copy_for(&found.source, found.mapped.then_some(slot)),
            Some((uid, gid)) => {
                let owner = fs::metadata(&found.source).map_err(|e| gone(&found.source, e))?;
                let owner = std::os::unix::fs::MetadataExt::uid(&owner);
                if found.writable && owner != uid {
                    return Err(Error::HostCapability(format!(
                        "{} belongs to user {owner}; an ordinary user's functions can write only to directories of that user \
                         ({uid}): mount it read-only, or have it given to you (chown {uid} {0})",
                        found.source.display()
                    )));
                }
                copy_by_assistant(&found.source, uid, gid)
            }
        }
    }
}

/// Where the directory really is.
fn resolved(mount: &Mount) -> Result<PathBuf> {
    let Mount { target, source, .. } = mount;
    let refused = |why: String| Err(Error::Configuration(format!("mounts[{target:?}]: {why}")));
    match source.canonicalize() {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => refused(format!("{} is no directory; mount the one that it lies in", source.display())),
        Err(e) => refused(format!("{} cannot be mounted ({e}); make the directory first", source.display())),
    }
}

/// Whether it shows anything that is the kernel's or ours.
fn admitted(mount: &Mount, source: &Path, store: &Store) -> Result<()> {
    let refused = |why: String| {
        Err(Error::Configuration(format!(
            "mounts[{:?}]: {} {why}; mount a directory that holds the function's data alone",
            mount.target,
            source.display()
        )))
    };
    let ours = store.place();
    if ours.starts_with(source) || source.starts_with(ours) {
        return refused(format!("holds, or lies in, {}, where coldframe keeps the code of functions", ours.display()));
    }
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kernels = |kind: &str| OF_THE_KERNEL.split_ascii_whitespace().any(|name| name == kind);
    for (point, kind) in file_systems(&table) {
        if point.starts_with(source) && kernels(kind) {
            return refused(format!("holds {}, which is the host kernel's ({kind})", point.display()));
        }
    }
    match kind_of(&table, source) {
        Some(kind) if kernels(kind) => refused(format!("is the host kernel's ({kind})")),
        _ => Ok(()),
    }
}

/// Mount points and types of file systems, in a table such as `/proc/self/mountinfo`.
fn file_systems(table: &str) -> impl Iterator<Item = (PathBuf, &str)> {
    table.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        Some((PathBuf::from(unescaped(front.split(' ').nth(4)?)), back.split(' ').next()?))
    })
}

/// A path as that table has it: space, tab, newline and backslash as octal numbers.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |path, (code, letter)| path.replace(code, letter))
}

/// The type of file system that a path lies in.
fn kind_of<'a>(table: &'a str, path: &Path) -> Option<&'a str> {
    // Of several at one point the last is on top.
    let holding = file_systems(table).filter(|(point, _)| path.starts_with(point));
    holding.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

/// As root: whether its file system can show other owners. Where it cannot, what everybody may read can be read as it is.
fn mapped(mount: &Mount, source: &Path, store: &Store) -> Result<bool> {
    match copy_for(source, Some(USERS.start)) {
        Err(Error::Kernel { source: why, .. }) if why.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            if !mount.writable && store.looks_open(source)? {
                return Ok(false);
            }
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            Err(Error::HostCapability(format!(
                "mounts[{:?}]: the file system of {} ({}), or one mounted below it, cannot show the owner's files as the \
                 environment's (idmapped mounts); {}keep the directory on ext4, xfs, btrfs or, from kernel 6.3 on, tmpfs",
                mount.target,
                source.display(),
                kind_of(&table, source).unwrap_or("unknown"),
                if mount.writable { "" } else { "make all of it readable for everybody (chmod -R a+rX), or " },
            )))
        }
        copied => copied.map(|_| true),
    }
}

fn gone(source: &Path, error: impl Into<io::Error>) -> Error {
    let error: io::Error = error.into();
    Error::Configuration(format!(
        "{} cannot be mounted any more ({error}); it was a directory when the function was made",
        source.display()
    ))
}

/// A copy of the mount in which the directory's owner is this host user; `None` leaves all owners as they are.
fn copy_for(source: &Path, user: Option<u32>) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::kernel("mounting", source.display().to_string(), e);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        openat2(CWD, source, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map_err(|e| gone(source, e))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&directory, "", flags).map_err(|e| failed(e.into()))?;
    let owner = fstat(&directory).map_err(|e| failed(e.into()))?;
    let users = user.map(|user| users(owner.st_uid, owner.st_gid, user)).transpose().map_err(failed)?;
    adjust_tree(tree.as_fd(), 0, users.as_ref().map(OwnedFd::as_fd)).map_err(failed)?;
    Ok(tree)
}

/// A user namespace in which this user and group of a file system are this host user, and nobody else is anybody.
fn users(uid: u32, gid: u32, user: u32) -> io::Result<OwnedFd> {
    let assistant = Assistant::start(USER, &[], None)?;
    let process = format!("/proc/{}", assistant.pid()?);
    fs::write(format!("{process}/uid_map"), format!("{uid} {user} 1"))?;
    fs::write(format!("{process}/gid_map"), format!("{gid} {user} 1"))?;
    Ok(fs::File::open(format!("{process}/ns/user"))?.into())
}

/// The same by an ordinary user, with its own files as its own.
fn copy_by_assistant(source: &Path, uid: u32, gid: u32) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::kernel("mounting", source.display().to_string(), e);
    let (users, groups) = own_map(uid, gid);
    let steps = [mount("none", "/", "", RECURSIVE_PRIVATE, ""), Step::Offer { source: source.display().to_string() }];
    let assistant = Assistant::start(USER | MOUNT, &steps, Some((&users, &groups))).map_err(failed)?;
    let refusal = |said: [u8; _]| {
        let failure = crate::zygote::failure(&said, coldframe_sys::child::record::Section::Init, &steps);
        failure.unwrap_or_else(|| failed(io::ErrorKind::InvalidData.into()))
    };
    assistant.sends(ASSISTANCE).map_err(failed)?.map_err(refusal)
}

/// Borrowed, as they are sent.
pub fn borrowed(copies: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    copies.iter().map(OwnedFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "21 1 8:1 / / rw - ext4 /dev/sda rw\n22 21 0:5 / /data\\040of/ours rw shared:7 - xfs /dev/sdb rw\n\
                         23 21 0:6 / /proc rw - proc proc rw\n24 21 0:7 / /data rw - tmpfs none rw\n";

    #[test]
    fn the_type_of_a_file_system_is_that_of_the_mount_that_holds_the_path() {
        for (path, kind) in
            [("/data of/ours/x", "xfs"), ("/data of", "ext4"), ("/proc/1", "proc"), ("/data/y", "tmpfs")]
        {
            assert_eq!(kind_of(TABLE, Path::new(path)), Some(kind), "{path}");
        }
    }
}
