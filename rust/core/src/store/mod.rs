//! Snapshots of code: read once, kept by their content, mounted read-only into environments.
//!
//! Links in a snapshot are kept as they are and mean something inside a sandbox only: nothing on the host may follow
//! them. A snapshot says nothing of who owned its files and what their modes were; every user can read all of it.

mod archive;
mod elf;
pub mod image;
mod tree;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, accessat, openat, openat2};
use sha2::{Digest, Sha256};

use self::tree::{Found, Reading, Room, Tree, shown};
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::spec::{Architecture, Sizes};

/// How many layers a function may have, as in Lambda.
const LAYERS: usize = 5;

/// The private place of all snapshots of this process.
#[derive(Debug)]
pub struct Store {
    shelf: Arc<Shelf>,
    /// Copies made by [`Store::grant`], by source and state. They stay: a path does not tell when it is no longer used.
    granted: Mutex<HashMap<(PathBuf, [u8; 32]), Snapshot>>,
    /// Images that are in use.
    images: Mutex<image::Known>,
}

/// A tree of files that does not change. Its directory is deleted with the last clone of the last snapshot of the same
/// content.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The content's address: SHA-256 in hexadecimal of every name, type, x-bit, byte and link target.
    pub key: String,
    /// The snapshot's directory.
    pub path: PathBuf,
    hold: Arc<Hold>,
}

/// What may still come of a function's code and layers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    room: Room,
    zip_mb: u64,
}

impl Limits {
    /// As the function's owner has set them.
    pub fn new(sizes: &Sizes) -> Self {
        Self { room: Room::of_mb(sizes.code_mb, "Hardening(max_code_mb=...)"), zip_mb: sizes.zip_mb }
    }
}

impl Store {
    /// A store in the directory `root`, which exists, is readable by all (0755) and lies in a directory that is private
    /// to this process (0700).
    pub fn new(root: PathBuf) -> Self {
        let shelf = Shelf { root, holds: Mutex::default(), made: AtomicU64::new(0) };
        Self { shelf: Arc::new(shelf), granted: Mutex::default(), images: Mutex::default() }
    }

    /// The state directory that it lies in, with all owners' stores.
    pub fn place(&self) -> &Path {
        self.shelf.root.ancestors().nth(3).unwrap_or(&self.shelf.root)
    }

    /// Takes a function's code: a directory, a `.py` file or a `.zip` file. Native code for another architecture is an
    /// error.
    pub fn code(&self, source: &Path, architecture: Architecture, limits: &mut Limits) -> Result<Snapshot> {
        let origin = Origin::of(source, "code is a directory, a `.py` file or a `.zip` file", true)?;
        let zip_mb = limits.zip_mb;
        self.make(Some(architecture), &mut limits.room, |tree| self.read(tree, source, origin, zip_mb))
    }

    /// Lays up to five layers over one another, the first at the bottom; each is a directory or a `.zip` file. Without
    /// any the result is `None`.
    pub fn layers(
        &self,
        sources: &[PathBuf],
        architecture: Architecture,
        limits: &mut Limits,
    ) -> Result<Option<Snapshot>> {
        if sources.is_empty() {
            return Ok(None);
        }
        if sources.len() > LAYERS {
            return Err(Error::Configuration(format!(
                "Cannot reference more than {LAYERS} layers. {} were given; merge some of them",
                sources.len()
            )));
        }
        let zip_mb = limits.zip_mb;
        let snapshot = self.make(Some(architecture), &mut limits.room, |tree| {
            sources.iter().try_for_each(|source| {
                let origin = Origin::of(source, "a layer is a directory or a `.zip` file", false)?;
                self.read(tree, source, origin, zip_mb)
            })
        })?;
        Ok(Some(snapshot))
    }

    /// A path at which every user can read all that this process can read of `source`, which is a directory or file:
    /// `source` itself where it is open to everybody, otherwise a copy that lives as long as the store. The modes of the
    /// directories above `source` do not matter. A symbolic link in its path is not followed.
    pub fn grant(&self, source: &Path) -> Result<PathBuf> {
        if self.looks_open(source)? {
            return Ok(source.to_path_buf());
        }
        let (open, state) = self.survey(source)?;
        if open {
            return Ok(source.to_path_buf());
        }
        let file = source.is_file().then(|| source.file_name()).flatten();
        let within = |snapshot: &Snapshot| file.map_or(snapshot.path.clone(), |name| snapshot.path.join(name));
        let id = (source.to_path_buf(), state);
        if let Some(snapshot) = lock(&self.granted).get(&id) {
            return Ok(within(snapshot));
        }
        let snapshot = self.make(None, &mut { Room::ENDLESS }, |tree| match file {
            Some(name) => tree::copy_file(tree, name.as_bytes(), tree::open_resolved(source)?, source),
            None => tree::copy(tree, source, self.reading(true)),
        })?;
        let path = within(&snapshot);
        lock(&self.granted).insert(id, snapshot);
        Ok(path)
    }

    /// Whether the upper levels of `source` are open to everybody. What closes an installation, an installer's umask,
    /// closes it from the top, and an interpreter has fifty thousand files: all of them are looked at only if need be.
    pub fn looks_open(&self, source: &Path) -> Result<bool> {
        const LEVELS: usize = 4;
        let metadata = fs::metadata(source).map_err(|error| tree::unreadable(source, error))?;
        let mut open = is_open(metadata.mode(), metadata.is_dir());
        if open && metadata.is_dir() {
            tree::walk(source, self.reading(true), &mut |found| {
                open = open && (is_open_entry(found) || !is_readable(found));
                Ok(open && found.path.split(|&byte| byte == b'/').count() < LEVELS)
            })?;
        }
        Ok(open)
    }

    /// Whether everything in `source` is open to everybody, and a digest of its state that changes when a file does.
    fn survey(&self, source: &Path) -> Result<(bool, [u8; 32])> {
        let metadata = fs::metadata(source).map_err(|error| tree::unreadable(source, error))?;
        let mut open = is_open(metadata.mode(), metadata.is_dir());
        let mut state = Sha256::new_with_prefix(metadata.ctime().to_le_bytes());
        state.update(metadata.ctime_nsec().to_le_bytes());
        if metadata.is_dir() {
            tree::walk(source, self.reading(true), &mut |found| {
                let stat = &found.stat;
                state.update(found.path);
                // The change time covers content, mode and the renaming of another file to this name.
                for number in [stat.st_ino, stat.st_size as u64, stat.st_ctime as u64, stat.st_ctime_nsec] {
                    state.update(number.to_le_bytes());
                }
                open = open && (is_open_entry(found) || !is_readable(found));
                Ok(true)
            })?;
        }
        Ok((open, state.finalize().into()))
    }

    fn reading(&self, lenient: bool) -> Reading {
        // With the others' beside it: no function is given another's code for the state directory's lying in its own.
        let owners = self.shelf.root.ancestors().nth(2).filter(|path| path.ends_with("owners"));
        let ours = fs::metadata(owners.unwrap_or(&self.shelf.root));
        let without = ours.ok().map(|store| (store.dev(), store.ino()));
        Reading { without, lenient }
    }

    fn read(&self, tree: &mut Tree, source: &Path, origin: Origin, zip_mb: u64) -> Result<()> {
        tree.reads(source);
        match origin {
            Origin::Directory => tree::copy(tree, source, self.reading(false)),
            Origin::Archive => archive::unpack(tree, source, zip_mb),
            Origin::Script => {
                let name = source.file_name().unwrap_or_default();
                tree::copy_file(tree, name.as_bytes(), tree::open_named(source)?, source)
            }
        }
    }

    /// Makes a snapshot of what `fill` writes, or finds the one of the same content.
    fn make(
        &self,
        native: Option<Architecture>,
        room: &mut Room,
        fill: impl FnOnce(&mut Tree) -> Result<()>,
    ) -> Result<Snapshot> {
        let draft = self.shelf.draft()?;
        let mut tree = Tree::new(&draft.0, native, *room)?;
        fill(&mut tree)?;
        *room = tree.room();
        self.shelf.keep(&draft, tree.key())
    }
}

/// What a source of code is.
#[derive(Clone, Copy)]
enum Origin {
    Directory,
    Script,
    Archive,
}

impl Origin {
    fn of(source: &Path, accepted: &str, scripts: bool) -> Result<Self> {
        if source.as_os_str().is_empty() {
            return Err(Error::Configuration(format!("the path is empty; {accepted}")));
        }
        let metadata = match fs::metadata(source) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(tree::unreadable(source, error));
            }
            Err(error) => {
                return Err(Error::Configuration(format!("there is no {} ({error}); {accepted}", shown(source))));
            }
        };
        match source.extension() {
            _ if metadata.is_dir() => Ok(Self::Directory),
            Some(zip) if metadata.is_file() && zip.eq_ignore_ascii_case("zip") => Ok(Self::Archive),
            Some(py) if metadata.is_file() && scripts && py == "py" => Ok(Self::Script),
            _ => Err(Error::Configuration(format!("{} is nothing of that kind: {accepted}", shown(source)))),
        }
    }
}

/// Opens a regular file or directory of a snapshot. Links lead to places in the snapshot, as they do inside.
pub fn inside(root: &Path, path: impl rustix::path::Arg, flags: OFlags) -> Option<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // Not blocking, should it be a FIFO; what is not opened to be read takes no such flag.
    let calm = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    openat2(&root, path, flags | calm | OFlags::CLOEXEC, Mode::empty(), how).ok()
}

/// Whether everybody can read a file, or list and enter a directory; and execute it where anybody can.
fn is_open(mode: u32, directory: bool) -> bool {
    let needed = if directory || mode & 0o111 != 0 { 0o5 } else { 0o4 };
    mode & needed == needed
}

fn is_open_entry(found: &Found<'_>) -> bool {
    match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::Directory => is_open(found.stat.st_mode, true),
        FileType::RegularFile => is_open(found.stat.st_mode, false),
        _ => true, // a link has no mode of its own, and the rest is nobody's to read
    }
}

/// Whether this process can read an entry: what it cannot read it does not grant either.
fn is_readable(found: &Found<'_>) -> bool {
    accessat(found.parent, found.name, Access::READ_OK, AtFlags::EACCESS).is_ok()
}

/// The directory of all snapshots, and which of them are in use.
#[derive(Debug)]
struct Shelf {
    root: PathBuf,
    /// An entry stands for a directory that exists, even when its last snapshot is gone: whoever holds the lock and finds
    /// it like that either takes the directory over or removes both.
    holds: Mutex<HashMap<String, Weak<Hold>>>,
    made: AtomicU64,
}

impl Shelf {
    /// A fresh directory of a temporary name.
    fn draft(&self) -> Result<Draft> {
        let path = self.temporary();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::kernel("making a snapshot", shown(&path), error))?;
        Ok(Draft(path))
    }

    fn temporary(&self) -> PathBuf {
        self.root.join(format!(".{}-{}", std::process::id(), self.made.fetch_add(1, Ordering::Relaxed)))
    }

    /// Puts a finished draft in its place, unless its content is there already.
    fn keep(self: &Arc<Self>, draft: &Draft, key: String) -> Result<Snapshot> {
        let path = self.root.join(&key);
        let mut holds = lock(&self.holds);
        if let Some(hold) = holds.get(&key).and_then(Weak::upgrade) {
            return Ok(Snapshot { key, path, hold });
        }
        if !holds.contains_key(&key) {
            fs::rename(&draft.0, &path).map_err(|error| Error::kernel("making a snapshot", shown(&path), error))?;
        }
        let hold = Arc::new(Hold { shelf: Arc::clone(self), key: key.clone(), owner: Owner::default() });
        holds.insert(key.clone(), Arc::downgrade(&hold));
        Ok(Snapshot { key, path, hold })
    }
}

/// A directory that is removed, unless it has been renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What all snapshots of one content share; the last one removes the directory.
#[derive(Debug)]
struct Hold {
    shelf: Arc<Shelf>,
    key: String,
    owner: Owner,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.owner.is_here() {
            return;
        }
        let mut holds = lock(&self.shelf.holds);
        if holds.get(&self.key).is_none_or(|hold| hold.strong_count() > 0) {
            return;
        }
        // Out of the way under the lock, because that is quick, and removed without it.
        let doomed = Draft(self.shelf.temporary());
        match fs::rename(self.shelf.root.join(&self.key), &doomed.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {}
            _ => drop(holds.remove(&self.key)),
        }
        drop(holds);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod testing;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests;
