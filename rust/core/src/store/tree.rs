//! A tree of files as a snapshot holds it: normalised, written below one directory, known by its content.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fchmod, fstat, futimens,
    linkat, mkdirat, openat, openat2, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::elf;
use crate::error::{Error, Result};
use crate::spec::Architecture;

/// How many directories deep a tree may be.
pub(super) const DEEPEST: usize = 64;
/// Longest path within a tree, in bytes: with `/var/task/` in front it still fits the kernel's limit of 4,095.
pub(super) const LONGEST_PATH: usize = 4000;

const COPIED_AT_ONCE: usize = 1 << 16;
/// How files are opened: not blocking, in case a FIFO took a file's place since it was looked at.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// How large what is unpacked or copied may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// What is left of it.
    pub(super) left: u64,
    most: u64,
    /// How its owner allows more.
    more: &'static str,
}

impl Room {
    /// No bound.
    pub(super) const ENDLESS: Self = Self { left: u64::MAX, most: u64::MAX, more: "" };

    /// A bound in MiB, and the option that sets another.
    pub fn of_mb(most_mb: u64, more: &'static str) -> Self {
        let most = most_mb.saturating_mul(1 << 20);
        Self { left: most, most, more }
    }

    /// Takes some of it, if there is as much.
    pub(super) fn take(&mut self, bytes: u64) -> Option<()> {
        self.left.checked_sub(bytes).map(|left| self.left = left)
    }

    /// What is said when there is not.
    pub(super) fn used_up(&self, path: &[u8], source: &Path) -> Error {
        Error::Configuration(format!(
            "Unzipped size must be smaller than {} bytes; {} of {} goes past that, so leave out what the function does not need, \
             or allow more by {}",
            self.most,
            shown(OsStr::from_bytes(path)),
            shown(source),
            self.more
        ))
    }
}

/// What stands at a path of a tree.
enum Node {
    Directory,
    File { executable: bool, digest: [u8; 32] },
    Link { target: Vec<u8> },
}

/// What is kept of a file, beside its bytes.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub(super) executable: bool,
    pub(super) modified: Timespec,
}

impl From<&Stat> for Attributes {
    fn from(stat: &Stat) -> Self {
        Self {
            executable: stat.st_mode & 0o111 != 0,
            modified: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
        }
    }
}

/// A tree that is being written to a fresh directory of ours. Paths are relative, without `.`, `..` and empty parts.
///
/// What is written later takes the place of what stood there, file by file, so that layers can be laid over one another.
pub(super) struct Tree {
    root: OwnedFd,
    nodes: BTreeMap<Vec<u8>, Node>,
    /// The directory that was written to last, and its path.
    parent: Option<(Vec<u8>, OwnedFd)>,
    native: Option<Architecture>,
    /// How many bytes of files may still come, and might at first.
    room: Room,
    /// What is being read, for messages.
    source: PathBuf,
}

impl Tree {
    /// A tree in the empty directory `root`. `native`: the architecture that native code must be made for. `room`: how many
    /// bytes its files may have.
    pub(super) fn new(root: &Path, native: Option<Architecture>, room: Room) -> Result<Self> {
        let opened = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|fd| fchmod(&fd, Mode::from_raw_mode(0o755)).map(|()| fd))
            .map_err(|error| unwritten(root.as_os_str().as_bytes(), error))?;
        Ok(Self { root: opened, nodes: BTreeMap::new(), parent: None, native, room, source: PathBuf::new() })
    }

    /// Says what is read from now on, for messages.
    pub(super) fn reads(&mut self, source: &Path) {
        self.source = source.to_path_buf();
    }

    /// Counts what comes for `path`.
    pub(super) fn count(&mut self, path: &[u8], bytes: usize) -> Result<()> {
        self.room.take(bytes as u64).ok_or_else(|| self.room.used_up(path, &self.source))
    }

    /// Where the symbolic link at `path` leads, if there is one.
    pub(super) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        match self.nodes.get(path)? {
            Node::Link { target } => Some(target),
            _ => None,
        }
    }

    /// Whether a file stands at `path`.
    pub(super) fn has_file(&self, path: &[u8]) -> bool {
        matches!(self.nodes.get(path), Some(Node::File { .. }))
    }

    /// Whether a directory stands at `path`; the top is one.
    pub(super) fn has_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || matches!(self.nodes.get(path), Some(Node::Directory))
    }

    /// All paths below a directory, each after the one that it is in.
    pub(super) fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        if path.is_empty() {
            return self.nodes.keys().cloned().collect();
        }
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat()); // '0' comes next after '/'
        self.nodes.range(first..end).map(|(below, _)| below.clone()).collect()
    }

    /// Gives a file or symbolic link another name.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let node = match self.nodes.get(target) {
            Some(Node::File { executable, digest }) => Node::File { executable: *executable, digest: *digest },
            Some(Node::Link { target }) => {
                let target = target.clone();
                return self.link(path, &target);
            }
            _ => return Err(unwritten(target, Errno::NOENT)),
        };
        self.vacate(path)?;
        let (parent, name) = self.parent(target)?;
        // The name is opened, not followed: the file stays what it is whatever becomes of the other name.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::empty()).map_err(|error| unwritten(target, error))?;
        let (parent, name) = self.parent(path)?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, link, parent, name, AtFlags::SYMLINK_FOLLOW).map_err(|error| unwritten(path, error))?;
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }

    /// What is left of the room.
    pub(super) fn room(&self) -> Room {
        self.room
    }

    /// Adds a directory, unless there is one already.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<()> {
        if matches!(self.nodes.get(path), Some(Node::Directory)) {
            return Ok(());
        }
        self.vacate(path)?;
        let (parent, name) = self.parent(path)?;
        mkdirat(parent, name, Mode::from_raw_mode(0o755))
            .and_then(|()| openat(parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()))
            // Once more, because the caller's umask took part in the first time.
            .and_then(|fd| fchmod(fd, Mode::from_raw_mode(0o755)))
            .map_err(|error| unwritten(path, error))?;
        self.nodes.insert(path.to_vec(), Node::Directory);
        Ok(())
    }

    /// Adds a symbolic link. Nothing is ever written through it, and its target is never looked at.
    pub(super) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.vacate(path)?;
        let (parent, name) = self.parent(path)?;
        symlinkat(target, parent, name).map_err(|error| unwritten(path, error))?;
        self.nodes.insert(path.to_vec(), Node::Link { target: target.to_vec() });
        Ok(())
    }

    /// Adds a file. `blame` makes the error of a failure to read `content`.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        content: &mut dyn Read,
        blame: &dyn Fn(io::Error) -> Error,
    ) -> Result<()> {
        self.vacate(path)?;
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(
            openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(|error| unwritten(path, error))?,
        );

        let (mut head, mut known) = ([0; elf::HEAD], 0);
        let (mut buffer, mut hasher) = (vec![0; COPIED_AT_ONCE], Sha256::new());
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(blame(error)),
            };
            let first = read.min(elf::HEAD - known);
            head[known..known + first].copy_from_slice(&buffer[..first]);
            known += first;
            self.count(path, read)?;
            hasher.update(&buffer[..read]);
            copy.write_all(&buffer[..read]).map_err(|error| unwritten(path, error))?;
        }
        self.check_native(path, attributes.executable, &head[..known])?;

        let mode = if attributes.executable { 0o755 } else { 0o644 };
        let times = Timestamps { last_access: attributes.modified, last_modification: attributes.modified };
        fchmod(&copy, Mode::from_raw_mode(mode))
            .and_then(|()| futimens(&copy, &times))
            .map_err(|error| unwritten(path, error))?;
        let node = Node::File { executable: attributes.executable, digest: hasher.finalize().into() };
        self.nodes.insert(path.to_vec(), node);
        Ok(())
    }

    /// The content's address: SHA-256 of all names, types, x-bits, bytes and link targets, in hexadecimal.
    pub(super) fn key(&self) -> String {
        let mut hasher = Sha256::new_with_prefix("coldframe tree 1\n");
        for (path, node) in &self.nodes {
            let (kind, value) = match node {
                Node::Directory => (b'd', &[][..]),
                Node::File { executable: false, digest } => (b'f', &digest[..]),
                Node::File { executable: true, digest } => (b'x', &digest[..]),
                Node::Link { target } => (b'l', &target[..]),
            };
            hasher.update([kind]);
            for text in [path, value] {
                hasher.update((text.len() as u64).to_le_bytes());
                hasher.update(text);
            }
        }
        hasher.finalize().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hexadecimal).collect()
    }

    fn check_native(&self, path: &[u8], executable: bool, head: &[u8]) -> Result<()> {
        let Some(wanted) = self.native else { return Ok(()) };
        let Some(found) = elf::foreign(path, executable, head, wanted) else { return Ok(()) };
        Err(Error::Configuration(format!(
            "{} in {} is native code for {found}, but the function runs on {wanted}; install its packages for {wanted}, \
             or leave the file out",
            shown(OsStr::from_bytes(path)),
            shown(&self.source)
        )))
    }

    /// Removes what stands at `path`, with all that is below it.
    pub(super) fn vacate(&mut self, path: &[u8]) -> Result<()> {
        let Some(node) = self.nodes.get(path) else { return Ok(()) };
        let mut doomed = vec![path.to_vec()];
        if matches!(node, Node::Directory) {
            doomed.extend(self.below(path));
        }
        for path in doomed.iter().rev() {
            let directory = matches!(self.nodes.remove(path), Some(Node::Directory));
            let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let (parent, name) = self.parent(path)?;
            unlinkat(parent, name, flags).map_err(|error| unwritten(path, error))?;
        }
        self.parent = None;
        Ok(())
    }

    /// The directory that holds `path`, and the last part of `path`. A symbolic link on the way is an error.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(BorrowedFd<'_>, &'a OsStr)> {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
            return Ok((self.root.as_fd(), OsStr::from_bytes(path)));
        };
        let (parent, name) = (&path[..slash], OsStr::from_bytes(&path[slash + 1..]));
        let fd = match self.parent.take() {
            Some((last, fd)) if last == parent => fd,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                openat2(&self.root, parent, flags, Mode::empty(), within).map_err(|error| unwritten(parent, error))?
            }
        };
        Ok((self.parent.insert((parent.to_vec(), fd)).1.as_fd(), name))
    }
}

fn hexadecimal(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0')
}

fn unwritten(path: &[u8], error: impl Into<io::Error>) -> Error {
    let subject = format!("{} (COLDFRAME_STATE_DIR sets another place)", shown(OsStr::from_bytes(path)));
    Error::kernel("writing a snapshot of the code", subject, error)
}

/// A path for messages: quoted, with nothing in it that a terminal would obey.
pub(super) fn shown(path: impl AsRef<OsStr>) -> String {
    format!("{:?}", path.as_ref().to_string_lossy())
}

/// An entry of a directory of the host, as [`walk`] comes to it.
pub(super) struct Found<'a> {
    /// Where it is, relative to where the walk began.
    pub(super) path: &'a [u8],
    /// The directory that holds it.
    pub(super) parent: BorrowedFd<'a>,
    /// Its name there.
    pub(super) name: &'a CStr,
    /// What it is; a symbolic link is not followed.
    pub(super) stat: Stat,
}

/// How a directory of the host is read.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Device and inode of a directory that is left out: the one with the store itself.
    pub(super) without: Option<(u64, u64)>,
    /// Pass over what vanishes, what the caller may not read, and what is no file, directory or link, and follow no link
    /// to where it begins, which has been resolved before. The caller's own packages are read so; in a function's code
    /// the same is an error, and a link that the caller names is followed.
    pub(super) lenient: bool,
}

impl Reading {
    /// The error, or `None` where it is to be passed over.
    fn failure(self, source: &Path, path: &[u8], errno: Errno) -> Result<()> {
        let file = source.join(OsStr::from_bytes(path));
        match errno {
            Errno::NOENT | Errno::ACCESS | Errno::PERM if self.lenient && !path.is_empty() => Ok(()),
            // The last three: a link, a directory or a socket took its place.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NXIO => Err(replaced(&file)),
            _ => Err(unreadable(&file, errno)),
        }
    }
}

fn replaced(file: &Path) -> Error {
    let file = shown(file);
    Error::Configuration(format!(
        "{file} vanished or was replaced while it was read; try again when nothing writes there"
    ))
}

/// The error of a file that the caller's process may not read, or that the disk does not give.
pub(super) fn unreadable(file: &Path, error: impl Into<io::Error>) -> Error {
    let error: io::Error = error.into();
    Error::Configuration(format!(
        "{} cannot be read ({error}); make it readable for the user of this process, or leave it out",
        shown(file)
    ))
}

struct Level {
    directory: OwnedFd,
    names: std::vec::IntoIter<CString>,
    /// Length of the directory's own path, in bytes.
    length: usize,
}

impl Level {
    fn open(directory: OwnedFd, length: usize) -> Result<Self, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        names.sort_unstable();
        Ok(Self { directory, names: names.into_iter(), length })
    }
}

/// Visits everything below the directory `source`, a directory before what is in it; `visit` says whether to go into it.
///
/// Every step is relative to a directory that is open and follows no link, so that whoever swaps a directory for a link
/// meanwhile cannot lead the walk out of `source`.
pub(super) fn walk(source: &Path, reading: Reading, visit: &mut dyn FnMut(&Found<'_>) -> Result<bool>) -> Result<()> {
    let flags = READ | OFlags::DIRECTORY;
    let links = if reading.lenient { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    let root = openat2(CWD, source, flags, Mode::empty(), links)
        .and_then(|fd| Level::open(fd, 0))
        .map_err(|errno| unreadable(source, errno))?;
    let (mut levels, mut path) = (vec![root], Vec::new());
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else { return Ok(()) };
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        path.truncate(level.length);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.to_bytes());
        if depth > DEEPEST || path.len() > LONGEST_PATH {
            return Err(Error::Configuration(format!(
                "{} is too deep; a tree may have {DEEPEST} levels and paths of {LONGEST_PATH} bytes",
                shown(source.join(OsStr::from_bytes(&path)))
            )));
        }
        let stat = match statat(&level.directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => {
                reading.failure(source, &path, errno)?;
                continue;
            }
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory && reading.without == Some((stat.st_dev, stat.st_ino)) {
            continue;
        }
        let found = Found { path: &path, parent: level.directory.as_fd(), name: &name, stat };
        if !visit(&found)? || !directory {
            continue;
        }
        match openat(found.parent, &name, flags | OFlags::NOFOLLOW, Mode::empty())
            .and_then(|fd| Level::open(fd, path.len()))
        {
            Ok(level) => levels.push(level),
            Err(errno) => reading.failure(source, &path, errno)?,
        }
    }
}

/// Copies what is below the directory `source` to `tree`.
pub(super) fn copy(tree: &mut Tree, source: &Path, reading: Reading) -> Result<()> {
    walk(source, reading, &mut |found| {
        let name = || source.join(OsStr::from_bytes(found.path));
        let copied = match FileType::from_raw_mode(found.stat.st_mode) {
            FileType::Directory => return tree.directory(found.path).map(|()| true),
            FileType::RegularFile => open_file(found).map(|file| copy_file(tree, found.path, file, &name())),
            FileType::Symlink => {
                readlinkat(found.parent, found.name, Vec::new()).map(|target| tree.link(found.path, target.as_bytes()))
            }
            _ if reading.lenient => return Ok(false),
            kind => {
                return Err(Error::Configuration(format!(
                    "{} is a {}; code and layers may hold files, directories and symbolic links only, so leave it out",
                    shown(name()),
                    described(kind)
                )));
            }
        };
        match copied {
            Ok(result) => result?,
            Err(errno) => reading.failure(source, found.path, errno)?,
        }
        Ok(false)
    })
}

fn open_file(found: &Found<'_>) -> Result<File, Errno> {
    openat(found.parent, found.name, READ | OFlags::NOFOLLOW, Mode::empty()).map(File::from)
}

/// Opens the file that somebody named; here a link is followed.
pub(super) fn open_named(name: &Path) -> Result<File> {
    openat(CWD, name, READ, Mode::empty()).map(File::from).map_err(|errno| unreadable(name, errno))
}

/// Opens a file whose path has been resolved before.
pub(super) fn open_resolved(path: &Path) -> Result<File> {
    openat2(CWD, path, READ, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .map(File::from)
        .map_err(|errno| unreadable(path, errno))
}

/// Copies an open file of the host to `path` of the tree; `name` is the host's, for messages.
pub(super) fn copy_file(tree: &mut Tree, path: &[u8], mut file: File, name: &Path) -> Result<()> {
    let stat = fstat(&file).map_err(|errno| unreadable(name, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(replaced(name));
    }
    tree.file(path, Attributes::from(&stat), &mut file, &|error| unreadable(name, error))
}

fn described(kind: FileType) -> &'static str {
    match kind {
        FileType::Socket => "socket",
        FileType::Fifo => "FIFO",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests;
