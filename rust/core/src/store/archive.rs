//! Unpacks `.zip` archives that an attacker may have made.
//!
//! Only the central directory counts, no size in it is trusted, and whatever two programs could read in two ways is
//! refused: nothing is repaired.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::Timespec;
use zip::read::{ArchiveOffset, Config, ZipFile, ZipFileEntry};
use zip::{CompressionMethod, DateTime, ExtraField, ZipArchive};

use super::tree::{Attributes, DEEPEST, LONGEST_PATH, Tree, open_named, shown, unreadable};
use crate::error::{Error, Result};

/// How many files and directories an archive may have.
const ENTRIES: usize = 100_000;
/// How much is read of an archive's directory, in bytes: [`ENTRIES`] names of some 250 bytes each.
const DIRECTORY_BYTES: u64 = 32 << 20;
/// Longest part of a path, in bytes: the kernel's limit.
const LONGEST_NAME: usize = 255;
/// Longest target of a symbolic link, in bytes: the kernel's limit.
const LONGEST_TARGET: u64 = 4095;

const TYPE: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

/// Unpacks the archive `source`, which may have so many MiB, to `tree`.
pub(super) fn unpack(tree: &mut Tree, source: &Path, most_mb: u64) -> Result<()> {
    let file = open_named(source)?;
    let length = match file.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.len() > most_mb << 20 => {
            return Err(Error::Configuration(format!(
                "Zipped size must be smaller than {} bytes; {} has {}, so leave out what the function does not need, or allow more \
                 by Hardening(max_zip_mb=...)",
                most_mb << 20,
                shown(source),
                metadata.len()
            )));
        }
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return Err(broken(source, "it is not a file any more")),
        Err(error) => return Err(unreadable(source, error)),
    };
    let budget = Cell::new(DIRECTORY_BYTES);
    // No data in front of the archive: it is how one file is made to be two archives.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let opened = ZipArchive::with_config(config, BufReader::new(Budgeted { file: &file, budget: &budget }));
    let mut archive = match opened {
        Ok(archive) if archive.len() <= ENTRIES => archive,
        Err(error) if budget.get() > 0 => return Err(broken(source, &error.to_string())),
        _ => return Err(too_many(source)),
    };
    budget.set(u64::MAX);
    if archive.has_duplicate_names() {
        let twice = duplicate(&file, archive.central_directory_start()).unwrap_or_default();
        return Err(refused(source, &twice, "is there twice; make the archive anew"));
    }

    let metadata = archive.metadata();
    let mut plan = Plan { source, places: HashMap::new(), steps: Vec::new() };
    let mut packed = 0_u64;
    for index in 0..metadata.len() {
        let entry = metadata.entry(index).map_err(|error| broken(source, &error.to_string()))?;
        // Otherwise the same bytes could be unpacked 100,000 times, for hours and into nothing.
        packed = packed.saturating_add(entry.compressed_size());
        if packed > length {
            return Err(broken(source, "its entries overlap"));
        }
        let name = entry.name().map_err(|error| broken(source, &error.to_string()))?;
        plan.admit(index, &name, &entry)?;
    }

    plan.directories().into_iter().try_for_each(|path| tree.directory(path))?;
    // Links come last, so that nothing is written through them.
    let mut links = Vec::new();
    for step in &plan.steps {
        let opened = archive.by_index(step.index);
        let mut entry = opened.map_err(|error| step.failure(source, &io::Error::other(error)))?;
        let executable = entry.external_attributes() >> 16 & 0o111 != 0;
        let attributes = Attributes { executable, modified: modified(&entry) };
        if step.kind == Kind::File {
            tree.file(&step.path, attributes, &mut entry, &|error| step.failure(source, &error))?;
        } else {
            let target = step.target(source, entry)?;
            tree.count(&step.path, target.len())?;
            links.push((&step.path, target));
        }
    }
    links.iter().try_for_each(|(path, target)| tree.link(path, target))
}

/// What an entry may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Link,
}

/// What takes up a path. Only an implied directory may turn up again, as an entry of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Implied,
    Entry(Kind),
}

/// What an archive will be, known before anything of it is written.
struct Plan<'a> {
    source: &'a Path,
    places: HashMap<Vec<u8>, Place>,
    /// Its files and links.
    steps: Vec<Step>,
}

impl Plan<'_> {
    /// Takes an entry into the plan, or says why not.
    fn admit(&mut self, index: usize, name: &str, entry: &ZipFileEntry<'_>) -> Result<()> {
        let refuse = |why: &str| Err(refused(self.source, name, why));
        let mode = entry.external_attributes() >> 16;
        let kind = match (mode & TYPE, name.ends_with('/')) {
            (0 | TYPE_DIRECTORY, true) => Kind::Directory,
            (0 | TYPE_FILE, false) => Kind::File,
            (TYPE_LINK, false) => Kind::Link,
            (TYPE_DIRECTORY | TYPE_FILE | TYPE_LINK, _) => {
                return refuse("has a type that contradicts its name; make the archive anew");
            }
            _ => return refuse("is a device, FIFO or socket; leave it out"),
        };
        let path = match normalised(name, kind) {
            Ok(path) if path.is_empty() => return Ok(()),
            Ok(path) => path,
            Err(why) => return refuse(why),
        };
        if entry.encrypted() {
            return refuse("is encrypted; make the archive without a password");
        }
        let method = entry.compression();
        if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
            // `Debug` adds the number where the name is not known.
            return refuse(&format!("is compressed with {method} ({method:?}); use deflate, or store it"));
        }
        self.claim(name, &path, kind)?;
        if kind != Kind::Directory {
            self.steps.push(Step { index, name: name.to_owned(), path, kind });
        }
        Ok(())
    }

    /// Notes that `path` is taken, and the directories above it.
    fn claim(&mut self, name: &str, path: &[u8], kind: Kind) -> Result<()> {
        for end in path.iter().enumerate().filter_map(|(end, &byte)| (byte == b'/').then_some(end)) {
            match self.places.get(&path[..end]) {
                Some(Place::Implied | Place::Entry(Kind::Directory)) => {}
                Some(_) => return Err(refused(self.source, name, "lies below a file or link; make the archive anew")),
                None => drop(self.places.insert(path[..end].to_vec(), Place::Implied)),
            }
        }
        let before = self.places.insert(path.to_vec(), Place::Entry(kind));
        if !(before.is_none() || (before == Some(Place::Implied) && kind == Kind::Directory)) {
            return Err(refused(self.source, name, "has the path of another entry; make the archive anew"));
        }
        // Deep paths imply many directories.
        if self.places.len() > ENTRIES { Err(too_many(self.source)) } else { Ok(()) }
    }

    /// All directories, each after the one that it is in.
    fn directories(&self) -> Vec<&[u8]> {
        let directory = |place: &Place| matches!(place, Place::Implied | Place::Entry(Kind::Directory));
        let mut paths: Vec<_> =
            self.places.iter().filter(|(_, place)| directory(place)).map(|(path, _)| path.as_slice()).collect();
        paths.sort_unstable();
        paths
    }
}

/// A file or link that will be written.
struct Step {
    index: usize,
    name: String,
    path: Vec<u8>,
    kind: Kind,
}

impl Step {
    /// The target of a link.
    fn target(&self, source: &Path, content: impl Read) -> Result<Vec<u8>> {
        let mut target = Vec::new();
        let read = content.take(LONGEST_TARGET + 1).read_to_end(&mut target);
        read.map_err(|error| self.failure(source, &error))?;
        if stays_inside(&self.path, &target) {
            return Ok(target);
        }
        Err(refused(source, &self.name, "is a link out of the archive, or to nothing; leave it out"))
    }

    /// The error of content that cannot be read.
    fn failure(&self, source: &Path, error: &io::Error) -> Error {
        refused(source, &self.name, &format!("is broken ({error}); make the archive anew"))
    }
}

/// The path of an entry, without empty parts and `.`; empty for the top directory. An error says why it is refused.
fn normalised(name: &str, kind: Kind) -> Result<Vec<u8>, &'static str> {
    const ABSOLUTE: &str = "has an absolute name; make the archive with relative names";
    const UPWARD: &str = "has `..` in its name; make the archive with names below one directory";
    if name.chars().any(char::is_control) {
        return Err("has a control character in its name; rename it");
    }
    if name.starts_with('/') {
        return Err(ABSOLUTE);
    }
    if name.split('/').any(|part| part == "..") {
        return Err(UPWARD);
    }
    // A backslash is a letter here, but not everywhere: no name may climb or start at a root by either reading.
    if name.contains('\\') {
        if name.starts_with('\\') || name.as_bytes().get(1) == Some(&b':') {
            return Err(ABSOLUTE);
        }
        if name.split(['/', '\\']).any(|part| part == "..") {
            return Err(UPWARD);
        }
    }
    let parts: Vec<_> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let path = parts.join("/").into_bytes();
    let top = kind == Kind::Directory && name.starts_with('.');
    if path.is_empty() && !top {
        return Err("has an empty name; make the archive anew");
    }
    if parts.len() > DEEPEST || path.len() > LONGEST_PATH || parts.iter().any(|part| part.len() > LONGEST_NAME) {
        return Err(
            "is too deep or its name too long; the limits are 64 levels, 255 bytes a name and 4000 bytes a path",
        );
    }
    Ok(path)
}

/// Whether a link at `path` points to somewhere below the top, step by step and by its text alone.
fn stays_inside(path: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.len() as u64 > LONGEST_TARGET || target[0] == b'/' || target.contains(&0) {
        return false;
    }
    let mut depth = path.split(|&byte| byte == b'/').count() - 1;
    target.split(|&byte| byte == b'/').all(|part| match part {
        b"" | b"." => true,
        b".." => depth.checked_sub(1).map(|above| depth = above).is_some(),
        _ => {
            depth += 1;
            true
        }
    })
}

/// When an entry was last changed. Without the exact time of the extra field it is the local one, taken as UTC.
fn modified<R: Read>(entry: &ZipFile<'_, R>) -> Timespec {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time(),
        _ => None,
    });
    let seconds = exact.map(i64::from).or_else(|| entry.last_modified().map(seconds)).unwrap_or_default();
    Timespec { tv_sec: seconds, tv_nsec: 0 }
}

/// Seconds since 1970 of a date from 1980 to 2107.
fn seconds(date: DateTime) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let (month, year) = (i64::from(date.month()), i64::from(date.year()));
    let (month, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + i64::from(date.day());
    let from_march_of_year_0_to_1970 = 719_469;
    let hours = (days - from_march_of_year_0_to_1970) * 24 + i64::from(date.hour());
    (hours * 60 + i64::from(date.minute())) * 60 + i64::from(date.second())
}

/// The first name that an archive's directory holds twice; the `zip` crate only tells that there is one.
fn duplicate(mut file: &File, start: u64) -> Option<String> {
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut directory = BufReader::new(file.take(DIRECTORY_BYTES));
    let mut seen = HashSet::new();
    loop {
        let mut header = [0; 46];
        directory.read_exact(&mut header).ok()?;
        let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let mut rest = vec![0; length(28) + length(30) + length(32)];
        directory.read_exact(&mut rest).ok()?;
        rest.truncate(length(28));
        let name = String::from_utf8_lossy(&rest).into_owned();
        if seen.contains(&rest) {
            return Some(name);
        }
        seen.insert(rest);
    }
}

fn broken(source: &Path, why: &str) -> Error {
    Error::Configuration(format!("{} is not a sound .zip archive: {why}; make it anew", shown(source)))
}

fn too_many(source: &Path) -> Error {
    Error::Configuration(format!(
        "{} has more than {ENTRIES} files and directories; leave out what the function does not need",
        shown(source)
    ))
}

fn refused(source: &Path, name: &str, why: &str) -> Error {
    let name: String = name.chars().take(300).collect(); // it may have 65,535
    Error::Configuration(format!("{} cannot be unpacked: its entry {name:?} {why}", shown(source)))
}

/// An archive's file of which only so much may be read, so that a huge directory is not taken into memory.
struct Budgeted<'a> {
    file: &'a File,
    budget: &'a Cell<u64>,
}

impl Read for Budgeted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.budget.set(self.budget.get().saturating_sub(read as u64));
        if self.budget.get() == 0 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
}

impl Seek for Budgeted<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests;
