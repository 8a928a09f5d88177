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

/// Lambda's limit of a function's code and of its layers, unzipped, in bytes.
pub(super) const UNZIPPED_BYTES: u64 = 262_144_000;
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

/// Unpacks the archive `source` to `tree`. `left`: how many unzipped bytes may still come, for all archives together.
pub(super) fn unpack(tree: &mut Tree, source: &Path, left: &mut u64) -> Result<()> {
    let file = open_named(source)?;
    let length = match file.metadata() {
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
        let entry = opened.map_err(|error| step.failure(source, &io::Error::other(error)))?;
        let executable = entry.external_attributes() >> 16 & 0o111 != 0;
        let attributes = Attributes { executable, modified: modified(&entry) };
        let mut content = Metered { content: entry, left: &mut *left };
        if step.kind == Kind::File {
            tree.file(&step.path, attributes, &mut content, &|error| step.failure(source, &error))?;
        } else {
            links.push((&step.path, step.target(source, content)?));
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
        if error.kind() != io::ErrorKind::FileTooLarge {
            return refused(source, &self.name, &format!("is broken ({error}); make the archive anew"));
        }
        Error::Configuration(format!(
            "Unzipped size must be smaller than {UNZIPPED_BYTES} bytes; entry {:?} of {} goes past that, so leave out what \
             the function does not need, or pass directories",
            self.name,
            shown(source)
        ))
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

/// Content that is counted while it comes, whatever the archive says of its size.
struct Metered<'a, R> {
    content: R,
    left: &'a mut u64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        *self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests {
    use std::fs;
    use std::io::{Cursor, Write};
    use std::os::unix::fs::MetadataExt;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::testing::Scratch;
    use super::*;
    use crate::store::Snapshot;

    type Bytes = Vec<u8>;

    fn options(mode: u32) -> SimpleFileOptions {
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(mode)
    }

    /// An archive of files; a name that ends with `/` is a directory, one with `->` in it a link.
    fn archive(names: &[&str]) -> Bytes {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            if let Some((link, target)) = name.split_once("->") {
                writer.add_symlink(link, target, options(0o777)).unwrap();
            } else if name.ends_with('/') {
                writer.add_directory(*name, options(0o755)).unwrap();
            } else {
                writer.start_file(*name, options(0o644)).unwrap();
                writer.write_all(b"content").unwrap();
            }
        }
        writer.finish().unwrap().into_inner()
    }

    /// The same archive with other bytes for these, which have the same length, wherever they are.
    fn replaced(mut bytes: Bytes, from: &str, to: &str) -> Bytes {
        assert_eq!(from.len(), to.len());
        for at in 0..=bytes.len() - from.len() {
            if bytes[at..].starts_with(from.as_bytes()) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        bytes
    }

    /// The same archive with other bytes at this place of the last header of the central directory.
    fn patched(mut bytes: Bytes, at: usize, value: &[u8]) -> Bytes {
        let header = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        bytes[header + at..header + at + value.len()].copy_from_slice(value);
        bytes
    }

    fn with_mode(bytes: Bytes, mode: u32) -> Bytes {
        patched(bytes, 38, &(mode << 16).to_le_bytes())
    }

    fn unpacked(scratch: &Scratch, bytes: &[u8]) -> Result<Snapshot> {
        scratch.code(&scratch.write("code.zip", bytes))
    }

    /// The message with which an archive is refused, and nothing of it is left.
    fn refusal(bytes: &[u8]) -> String {
        let scratch = Scratch::new();
        let error = unpacked(&scratch, bytes).expect_err("a hostile archive was unpacked");
        assert!(matches!(error, Error::Configuration(_)), "{error:?}");
        assert!(scratch.stored().is_empty());
        let message = error.to_string();
        assert!(message.contains("code.zip"), "{message}");
        message
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], why: &str) {
        let message = refusal(bytes);
        assert!(message.contains(why), "{message}");
    }

    #[test]
    fn a_sound_archive_is_unpacked() {
        let scratch = Scratch::new();
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let date = DateTime::from_date_and_time(2024, 2, 29, 12, 30, 58).unwrap();
        let deflated = SimpleFileOptions::default().last_modified_time(date).unix_permissions(0o4711);
        writer.start_file("deep/er/tool", deflated).unwrap();
        writer.write_all(&vec![7; 100_000]).unwrap();
        writer.start_file("app.py", options(0o600)).unwrap();
        writer.add_directory("deep/", options(0o700)).unwrap();
        writer.start_file("./a//b/./na\u{ef}ve\\name", options(0o644)).unwrap();
        writer.add_symlink("deep/link", "../app.py", options(0o777)).unwrap();
        let snapshot = unpacked(&scratch, &writer.finish().unwrap().into_inner()).unwrap();
        let tool = fs::metadata(snapshot.path.join("deep/er/tool")).unwrap();
        assert_eq!((tool.mode() & 0o7777, tool.len(), tool.mtime()), (0o755, 100_000, 1_709_209_858));
        assert_eq!(fs::metadata(snapshot.path.join("app.py")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(fs::metadata(snapshot.path.join("deep")).unwrap().mode() & 0o7777, 0o755);
        assert!(snapshot.path.join("a/b/na\u{ef}ve\\name").is_file());
        assert_eq!(fs::read_link(snapshot.path.join("deep/link")).unwrap(), Path::new("../app.py"));
    }

    #[test]
    fn an_empty_archive_and_the_top_directory_are_sound() {
        let scratch = Scratch::new();
        assert!(unpacked(&scratch, &archive(&[])).is_ok());
        let snapshot = unpacked(&scratch, &archive(&["./", "./app.py"])).unwrap();
        assert!(snapshot.path.join("app.py").is_file());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for (name, why) in [
            ("../x", "`..`"),
            ("d/../../x", "`..`"),
            ("d/..", "`..`"),
            ("../", "`..`"),
            ("/etc/x", "absolute"),
            ("//", "absolute"),
            ("..\\x", "`..`"),
            ("d\\..\\x", "`..`"),
            ("\\x", "absolute"),
            ("\\\\host\\x", "absolute"),
            ("C:\\x", "absolute"),
            ("x\0y", "control"),
            ("x\ny", "control"),
            ("x\u{1b}[2J", "control"),
            (".", "empty"),
        ] {
            // Under a harmless name first, in case the writer would mend it.
            let harmless: String = name.chars().map(|c| if c.is_ascii() { 'z' } else { c }).collect();
            let (harmless, name) = match name.strip_suffix('/') {
                Some(_) => (harmless[1..].to_owned() + "/", name),
                None => (harmless, name),
            };
            assert_refused(&replaced(archive(&[&harmless]), &harmless, name), why);
        }
    }

    #[test]
    fn names_have_limits() {
        assert_refused(&archive(&[&"n".repeat(256)]), "too long");
        assert_refused(&archive(&[&["n".repeat(200), "d/".repeat(64)].join("/")]), "too deep");
        assert_refused(&archive(&[&["n".repeat(240).as_str(); 17].join("/")]), "too long");
        let scratch = Scratch::new();
        assert!(unpacked(&scratch, &archive(&[&("d/".repeat(63) + &"n".repeat(255))])).is_ok());
    }

    #[test]
    fn clashing_entries_are_refused() {
        assert_refused(&archive(&["a/b", "a//b"]), "another entry");
        assert_refused(&archive(&["a/b", "./a/./b"]), "another entry");
        assert_refused(&archive(&["a", "a/"]), "another entry");
        assert_refused(&archive(&["a/", "a"]), "another entry");
        assert_refused(&archive(&["a/b", "a"]), "another entry");
        assert_refused(&archive(&["a", "a/b"]), "below a file or link");
        assert_refused(&archive(&["a/", ".//a/"]), "another entry");
        let message = refusal(&replaced(archive(&["one", "two", "eno"]), "eno", "one"));
        assert!(message.contains("\"one\" is there twice"), "{message}");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        for names in [["a->b", "a/x"], ["a/x", "a->b"], ["a->b", "a/"], ["a->.", "./a"], ["a->.", "./a->."]] {
            refusal(&archive(&names));
        }
    }

    #[test]
    fn links_stay_inside() {
        for link in ["a->/etc", "a->..", "a->../x", "d/a->../../x", "d/a->x/../../../d", "a->", "d/a->.././../d"] {
            assert_refused(&archive(&[link]), "link out of the archive");
        }
        assert_refused(&archive(&[&format!("a->{}", "x/".repeat(3000))]), "link out of the archive");
        assert_refused(&replaced(archive(&["a->qqqq"]), "qqqq", "q\0qq"), "broken"); // and so is the checksum
        assert!(!stays_inside(b"a", b"q\0q"));
        let scratch = Scratch::new();
        let sound = archive(&["d/e/a->../../x", "d/b->..", "x->d/e/..", "dangling->nowhere/./at//all/"]);
        let snapshot = unpacked(&scratch, &sound).unwrap();
        assert_eq!(fs::read_link(snapshot.path.join("d/b")).unwrap(), Path::new(".."));
    }

    #[test]
    fn odd_types_are_refused() {
        for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000, 0o170_000] {
            assert_refused(&with_mode(archive(&["x"]), kind | 0o644), "device, FIFO or socket");
        }
        assert_refused(&with_mode(archive(&["x"]), 0o040_755), "contradicts");
        assert_refused(&with_mode(archive(&["x/"]), 0o100_644), "contradicts");
        assert_refused(&with_mode(archive(&["x/"]), 0o120_777), "contradicts");
        // Made on a system without such modes: still no device.
        let foreign = patched(archive(&["x"]), 5, &[0]);
        assert_refused(&with_mode(foreign, 0o060_644), "device, FIFO or socket");
    }

    #[test]
    fn encryption_and_odd_compression_are_refused() {
        assert_refused(&patched(archive(&["x"]), 8, &[1]), "encrypted");
        for (method, name) in [(12_u16, "Bzip2"), (93, "Zstd"), (14, "Lzma"), (9, "Deflate64"), (77, "77")] {
            assert_refused(&patched(archive(&["x"]), 10, &method.to_le_bytes()), name);
        }
    }

    #[test]
    fn broken_archives_are_refused() {
        assert_refused(b"", "not a sound .zip archive");
        assert_refused(b"no archive at all, but long enough to look like one", "not a sound .zip archive");
        let sound = archive(&["app.py", "d/x"]);
        for length in 0..sound.len() {
            refusal(&sound[..length]);
        }
        assert_refused(&[&b"#!/bin/sh\n"[..], &sound].concat(), "not a sound .zip archive");
        let corrupt = replaced(archive(&["app.py"]), "content", "CONTENT");
        assert_refused(&corrupt, "\"app.py\" is broken");
    }

    /// Whatever byte is wrong, there is a snapshot or an error, and never a panic.
    #[test]
    fn a_wrong_byte_is_survived() {
        let scratch = Scratch::new();
        let sound = archive(&["a/x.so", "b/", "l->a/x.so"]);
        for at in 0..sound.len() {
            for value in [0, 0x2f, 0xff, sound[at] ^ 1] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                drop(unpacked(&scratch, &bytes));
            }
        }
        assert!(scratch.stored().is_empty());
    }

    fn unpack_within(bytes: &[u8], mut left: u64) -> Result<u64> {
        let scratch = Scratch::new();
        let source = scratch.write("code.zip", bytes);
        let mut tree = Tree::new(&scratch.directory("tree"), None).unwrap();
        unpack(&mut tree, &source, &mut left).map(|()| left)
    }

    fn bomb() -> Bytes {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("bomb", SimpleFileOptions::default()).unwrap();
        writer.write_all(&vec![0; 1_000_000]).unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn unzipped_bytes_are_counted() {
        assert_eq!(unpack_within(&archive(&["a", "b"]), 14).unwrap(), 0);
        assert_eq!(unpack_within(&archive(&["a", "l->a"]), 8).unwrap(), 0);
        for (bytes, left) in [(archive(&["a", "b"]), 13), (archive(&["l->target"]), 3), (bomb(), 999_999)] {
            let message = unpack_within(&bytes, left).unwrap_err().to_string();
            assert!(message.starts_with("Unzipped size must be smaller than 262144000 bytes"), "{message}");
        }
    }

    #[test]
    fn sizes_in_headers_are_not_trusted() {
        // It says 10 bytes and has a million.
        assert_refused(&patched(bomb(), 24, &10_u32.to_le_bytes()), "\"bomb\" is broken");
        // It says 4 GiB and has seven.
        let bytes = patched(archive(&["a"]), 24, &[0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(unpack_within(&bytes, 7).unwrap(), 0);
        assert_refused(&patched(archive(&["a"]), 20, &[0, 0, 0, 0x7f]), "overlap");
    }

    #[test]
    fn entries_are_counted() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..=ENTRIES {
            writer.start_file(format!("{number}"), options(0o644)).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        assert_refused(&bytes, "more than 100000 files");
        // Few entries that imply many directories.
        let names: Vec<_> = (0..2000).map(|number| format!("{number}{}x", "/d".repeat(60))).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_refused(&archive(&names), "more than 100000 files");
        // A directory that is larger than what is read of it.
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for number in 0..DIRECTORY_BYTES / 60_000 + 10 {
            writer.start_file(format!("{number}{}", "n".repeat(60_000)), options(0o644)).unwrap();
        }
        assert_refused(&writer.finish().unwrap().into_inner(), "more than 100000 files");
    }

    #[test]
    fn dates_are_seconds() {
        for (date, expected) in [
            ((1980, 1, 1, 0, 0, 0), 315_532_800),
            ((2000, 2, 29, 23, 59, 58), 951_868_798),
            ((2000, 3, 1, 0, 0, 0), 951_868_800),
            ((2107, 12, 31, 23, 59, 58), 4_354_819_198),
        ] {
            let (year, month, day, hour, minute, second) = date;
            let date = DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap();
            assert_eq!(seconds(date), expected);
        }
    }
}
