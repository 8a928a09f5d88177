//! Unpacks the layers of an image, which an attacker may have made, over one another.
//!
//! Nothing is unpacked by the kernel's idea of a path: where an entry goes is found in what the tree is known to hold, so
//! that a symbolic link leads to another place of the image and never out of it. The tree follows none when it writes.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::Timespec;
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType, Header};

use super::manifest::Layer;
use super::source::{Source, mismatch};
use super::{hexadecimal, invalid};
use crate::error::{Error, Result};
use crate::store::tree::{Attributes, DEEPEST, LONGEST_PATH, Room, Tree, shown, unreadable};

/// Entries of all layers together.
const ENTRIES: usize = 1_000_000;
/// Bytes of the paths of all layers together, with something for each that it takes to remember it.
const NAMES: usize = 192 << 20;
const EACH: usize = 32;
/// Bytes of paths that are looked up to find where entries go, of all layers together: links that lead to and fro, each through
/// a hundred directories, cost a hundred thousand times their size.
const WALK: usize = 8 << 30;
/// Longest header that goes before an entry: names and attributes.
const LONGEST_HEADER: u64 = 1 << 20;
/// Longest part of a path, in bytes: the kernel's limit.
const LONGEST_NAME: usize = 255;
/// Links in a path at most: the kernel's limit.
const LINKS: usize = 40;
/// What stands in front of the name of a file that a layer takes away.
const WHITEOUT: &[u8] = b".wh.";
/// In front of what is no file of the image at all.
const META: &[u8] = b".wh..wh.";
/// Takes away everything that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the layers of an image may still have.
pub(super) struct Left {
    /// Bytes of their archives.
    pub(super) room: Room,
    entries: usize,
    /// Of what is remembered of them.
    names: usize,
    walk: usize,
}

impl Left {
    pub(super) fn new(room: Room) -> Self {
        Self { room, entries: ENTRIES, names: NAMES, walk: WALK }
    }
}

/// Unpacks a layer over what the tree has, and makes sure that it is the one that the image means.
pub(super) fn unpack(tree: &mut Tree, source: &Source, layer: &Layer, left: &mut Left) -> Result<()> {
    let (file, _) = source.file(&layer.name)?;
    let counted = Counted { inner: file, hasher: Sha256::new(), room: Room::ENDLESS };
    let mut packed = BufReader::with_capacity(1 << 16, counted);
    let head = packed.fill_buf().map_err(|e| unreadable(&source.path, e))?;
    let content = if head.starts_with(&[0x1f, 0x8b]) {
        lay(tree, source, layer, left, &mut MultiGzDecoder::new(&mut packed))?
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let why =
            format!("its layer {:?} is compressed with zstd; save it with gzip, or without compression", layer.name);
        return Err(invalid(&source.path, &why));
    } else {
        lay(tree, source, layer, left, &mut packed)?
    };
    drain(&mut packed).map_err(|e| unreadable(&source.path, e))?;
    let file = format!("sha256:{}", hexadecimal(&packed.into_inner().hasher.finalize()));
    if let Some(digest) = layer.digest.as_ref().filter(|&digest| *digest != file) {
        return Err(mismatch(&source.path, &layer.name, digest, &file));
    }
    if layer.content == content {
        return Ok(());
    }
    Err(mismatch(&source.path, &layer.name, &format!("{} when it is unpacked", layer.content), &content))
}

/// Lays an archive over the tree: the digest of the archive.
fn lay(tree: &mut Tree, source: &Source, layer: &Layer, left: &mut Left, unpacked: &mut dyn Read) -> Result<String> {
    let mut archive = Archive::new(Counted { inner: unpacked, hasher: Sha256::new(), room: left.room });
    let (touched, hidden) = (HashSet::new(), HashSet::new());
    let mut over = Over { tree, path: &source.path, layer: &layer.name, touched, hidden, left };
    let entered = over.all(&mut archive);
    let mut counted = archive.into_inner();
    // What follows the end of an archive belongs to the file all the same.
    let drained = entered.and_then(|()| drain(&mut counted).map_err(|e| over.broken(&e)));
    left.room = counted.room;
    if left.room.left == 0 {
        return Err(left.room.used_up(layer.name.as_bytes(), &source.path));
    }
    drained.map(|_| format!("sha256:{}", hexadecimal(&counted.hasher.finalize())))
}

fn drain(from: &mut impl Read) -> io::Result<u64> {
    io::copy(from, &mut io::sink())
}

/// What is read is counted, as long as there is room, and goes into a digest.
struct Counted<R> {
    inner: R,
    hasher: Sha256,
    room: Room,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.room.take(read as u64).is_none() {
            self.room.left = 0;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// A layer while it is laid over the tree.
struct Over<'a> {
    tree: &'a mut Tree,
    path: &'a Path,
    layer: &'a str,
    /// What this layer has written, and the directories above it: it takes away only what lower ones have.
    touched: HashSet<Vec<u8>>,
    /// What it has taken away: once is enough.
    hidden: HashSet<(Vec<u8>, bool)>,
    left: &'a mut Left,
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    modified: Option<i64>,
    size: Option<u64>,
}

impl Over<'_> {
    fn all(&mut self, archive: &mut Archive<Counted<&mut dyn Read>>) -> Result<()> {
        let mut extended = Extended::default();
        // Raw: the headers in front of entries are read below, with a bound.
        let entries = archive.entries().map_err(|e| self.broken(&e))?.raw(true);
        for entry in entries {
            let mut entry = entry.map_err(|e| self.broken(&e))?;
            self.left.entries = self.left.entries.checked_sub(1).ok_or_else(|| self.too_many())?;
            let (kind, size) = (entry.header().entry_type(), entry.size());
            if matches!(
                kind,
                EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
            ) {
                if size > LONGEST_HEADER {
                    return Err(self.refused(b"a header", "is too long"));
                }
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(|e| self.broken(&e))?;
                let text = || Some(bytes.iter().copied().take_while(|&byte| byte != 0).collect());
                match kind {
                    EntryType::GNULongName => extended.name = text(),
                    EntryType::GNULongLink => extended.target = text(),
                    EntryType::XHeader => self.attributes(&bytes, &mut extended)?,
                    // Of all that follow: comments, as archives of repositories have them.
                    _ => {}
                }
                continue;
            }
            let header = entry.header().clone();
            self.enter(&header, size, std::mem::take(&mut extended), &mut entry)?;
        }
        Ok(())
    }

    /// Lays one entry over the tree.
    fn enter(&mut self, header: &Header, size: u64, extended: Extended, content: &mut dyn Read) -> Result<()> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = extended.target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        if extended.size.is_some_and(|said| said != size) {
            return Err(self.refused(&name, "has two sizes"));
        }
        let kind = match header.entry_type() {
            // As archives before 1988 have directories.
            EntryType::Regular if name.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let Some(path) = self.place(&name)? else { return Ok(()) };
        let (directory, last) = split(&path);
        if path.split(|&byte| byte == b'/').any(|part| part.starts_with(META)) {
            return if last == OPAQUE { self.take_away(&directory, false) } else { Ok(()) };
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(self.refused(&name, "takes away nothing that could be there"));
            }
            return self.take_away(&joined(&directory, hidden), true);
        }
        self.make_way(&name, &directory)?;
        match kind {
            EntryType::Directory => self.tree.directory(&path)?,
            EntryType::Regular | EntryType::Continuous => {
                let executable = header.mode().is_ok_and(|mode| mode & 0o111 != 0);
                let seconds = extended.modified.unwrap_or_else(|| header.mtime().unwrap_or_default() as i64);
                // Beyond what file systems keep, they keep what they can.
                let modified = Timespec { tv_sec: seconds.clamp(0, 1 << 33), tv_nsec: 0 };
                let (archive, layer) = (self.path, self.layer);
                self.tree.file(&path, Attributes { executable, modified }, content, &|e| {
                    invalid(archive, &format!("its layer {layer:?} is broken: {e}; copy it anew"))
                })?;
            }
            EntryType::Symlink => {
                let target = target.filter(|target| !target.is_empty() && target.len() <= LONGEST_PATH);
                let target = target.ok_or_else(|| self.refused(&name, "is a link to nothing, or too long"))?;
                self.tree.link(&path, &target)?;
            }
            EntryType::Link => {
                let to = self.place(&target.unwrap_or_default())?;
                let to = to.filter(|to| *to != path && (self.tree.has_file(to) || self.tree.target(to).is_some()));
                let to = to.ok_or_else(|| self.refused(&name, "is another name of a file that is not there"))?;
                self.tree.hard_link(&path, &to)?;
            }
            // Nobody could open them; what stood in their place is gone.
            EntryType::Char | EntryType::Block | EntryType::Fifo => self.tree.vacate(&path)?,
            EntryType::GNUSparse => return Err(self.refused(&name, "is sparse; save the image anew")),
            other => {
                return Err(self.refused(&name, &format!("is of a type that images have not ({:?})", other.as_byte())));
            }
        }
        self.touch(&path)
    }

    /// Where an entry of this name goes: links on its way are followed, each to a place in the image. `None` is the top.
    fn place(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let plain = |part: &&[u8]| !part.is_empty() && *part != b".";
        if name.contains(&0) || name.len() > LONGEST_PATH {
            return Err(self.refused(name, "has a name that is too long, or has a NUL character in it"));
        }
        if name.split(|&byte| byte == b'/').any(|part| part == b"..") {
            return Err(self.refused(name, "has `..` in its name; make the image anew"));
        }
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            path.split(|&byte| byte == b'/').filter(plain).map(<[u8]>::to_vec).rev().collect()
        };
        let (mut todo, mut at, mut links) = (parts(name), Vec::new(), 0);
        while let Some(part) = todo.pop() {
            let step = at.len() + part.len() + EACH;
            self.left.walk = self.left.walk.checked_sub(step).ok_or_else(|| self.refused(name, "leads to and fro"))?;
            if part == b".." {
                at = split(&at).0;
                continue;
            }
            let next = joined(&at, &part);
            let Some(target) = self.tree.target(&next).filter(|_| !todo.is_empty()) else {
                at = next;
                continue;
            };
            links += 1;
            if target.starts_with(b"/") {
                at.clear();
            }
            todo.extend(parts(target));
            if links > LINKS || todo.len() > LONGEST_PATH {
                return Err(self.refused(name, "leads through too many links"));
            }
        }
        let deep = at.split(|&byte| byte == b'/').count() > DEEPEST;
        if deep || at.len() > LONGEST_PATH || at.split(|&byte| byte == b'/').any(|part| part.len() > LONGEST_NAME) {
            return Err(self.refused(
                name,
                "is too deep or its name too long; the limits are 64 levels, 255 bytes a name and 4000 bytes a path",
            ));
        }
        Ok((!at.is_empty()).then_some(at))
    }

    /// Makes the directories that an entry is in and that no entry was for.
    fn make_way(&mut self, name: &[u8], directory: &[u8]) -> Result<()> {
        if self.tree.has_directory(directory) {
            return Ok(());
        }
        for end in
            directory.iter().enumerate().filter_map(|(at, &byte)| (byte == b'/').then_some(at)).chain([directory.len()])
        {
            let path = &directory[..end];
            if self.tree.has_file(path) {
                return Err(self.refused(name, "lies below a file"));
            }
            self.tree.directory(path)?;
        }
        Ok(())
    }

    /// Remembers that this layer has a path.
    fn touch(&mut self, path: &[u8]) -> Result<()> {
        let mut path = path;
        while !path.is_empty() && self.touched.insert(path.to_vec()) {
            self.left.names = self.left.names.checked_sub(path.len() + EACH).ok_or_else(|| self.too_many())?;
            path = &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
        }
        Ok(())
    }

    /// Takes away what lower layers have at or below a path.
    fn take_away(&mut self, path: &[u8], itself: bool) -> Result<()> {
        if !self.hidden.insert((path.to_vec(), itself)) {
            return Ok(());
        }
        self.left.names = self.left.names.checked_sub(path.len() + EACH).ok_or_else(|| self.too_many())?;
        let mut doomed = self.tree.below(path);
        doomed.extend(itself.then(|| path.to_vec()));
        // What is in a directory before the directory, which is not touched then either.
        doomed.sort_unstable_by(|one, other| other.cmp(one));
        doomed.retain(|path| !self.touched.contains(path));
        doomed.iter().try_for_each(|path| self.tree.vacate(path))
    }

    /// Reads a header of records such as `30 mtime=1321711775.123456789\n`.
    fn attributes(&self, mut bytes: &[u8], extended: &mut Extended) -> Result<()> {
        while !bytes.is_empty() {
            let record = (|| {
                let space = bytes.iter().take(10).position(|&byte| byte == b' ')?;
                let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
                let (record, rest) = bytes.split_at_checked(length)?;
                let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
                let equals = record.iter().position(|&byte| byte == b'=')?;
                Some((&record[..equals], &record[equals + 1..], rest))
            })();
            let Some((key, value, rest)) = record else {
                return Err(self.refused(b"a header", "makes no sense; make the image anew"));
            };
            bytes = rest;
            let number = |until: &[u8]| std::str::from_utf8(until).ok().and_then(|text| text.parse().ok());
            match key {
                b"path" => extended.name = Some(value.to_vec()),
                b"linkpath" => extended.target = Some(value.to_vec()),
                b"mtime" => extended.modified = value.split(|&byte| byte == b'.').next().and_then(number),
                b"size" => extended.size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.refused(b"a header", "is of a sparse file; save the image anew"));
                }
                // Owners, and attributes that give powers or that a snapshot does not keep.
                _ => {}
            }
        }
        Ok(())
    }

    fn too_many(&self) -> Error {
        invalid(
            self.path,
            &format!("it has more than {ENTRIES} files and directories, or too long paths; leave some out"),
        )
    }

    fn broken(&self, e: &io::Error) -> Error {
        invalid(self.path, &format!("its layer {:?} is broken: {e}; copy it anew", self.layer))
    }

    fn refused(&self, name: &[u8], why: &str) -> Error {
        let name = String::from_utf8_lossy(&name[..name.len().min(300)]).into_owned();
        invalid(self.path, &format!("in its layer {:?} the entry {} {why}", self.layer, shown(name)))
    }
}

/// The directory of a path, and its last part.
fn split(path: &[u8]) -> (Vec<u8>, &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path[..slash].to_vec(), &path[slash + 1..]),
        None => (Vec::new(), path),
    }
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
