//! Where an image's files are: a layout directory, or an archive as `docker save` writes them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Take};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use tar::{Archive, EntryType};

use super::{digest_of, invalid};
use crate::error::{Error, Result};
use crate::store::tree::{open_named, unreadable};

/// Files in an archive at most: a manifest, a configuration and some layers each have one or a few.
const FILES: usize = 10_000;
/// The longest of an image's JSON files, in bytes.
const JSON: u64 = 4 << 20;

/// The files of an image, by names such as `blobs/sha256/…`.
pub(super) struct Source {
    pub(super) path: PathBuf,
    kind: Kind,
}

enum Kind {
    Layout(OwnedFd),
    /// Where each file lies in the archive, and how long it is; links by the name that they lead to.
    Archive(File, HashMap<String, Place>),
}

enum Place {
    File(u64, u64),
    Link(String),
}

impl Source {
    /// Opens the directory or archive that somebody named.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let kind = if path.is_dir() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| unreadable(path, e))?;
            Kind::Layout(directory)
        } else {
            let file = open_named(path)?;
            let places = places(path, &file)?;
            Kind::Archive(file, places)
        };
        Ok(Self { path: path.to_path_buf(), kind })
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Layout(directory) => within(directory, name).is_ok(),
            Kind::Archive(_, places) => places.contains_key(name),
        }
    }

    /// A file from its beginning to its end, and its length.
    pub(super) fn file(&self, name: &str) -> Result<(BufReader<Take<File>>, u64)> {
        let missing = |why: &str| Err(invalid(&self.path, &format!("its file {name:?} {why}")));
        let (file, length) = match &self.kind {
            Kind::Layout(directory) => match within(directory, name) {
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return missing("is missing; copy the image anew"),
                Err(e) => return missing(&format!("cannot be read ({e}); a layout has files and directories alone")),
            },
            Kind::Archive(file, places) => {
                let mut place = places.get(name);
                // Older versions of Docker keep a layer that an image has twice as a link.
                if let Some(Place::Link(target)) = place {
                    place = places.get(target);
                }
                let Some(Place::File(start, length)) = place else {
                    return missing("is missing; save the image anew");
                };
                let failed = |e: io::Error| unreadable(&self.path, e);
                let mut file = file.try_clone().map_err(failed)?;
                file.seek(SeekFrom::Start(*start)).map_err(failed)?;
                (file, *length)
            }
        };
        Ok((BufReader::with_capacity(1 << 16, file.take(length)), length))
    }

    /// The content of a short file. With a digest it has to be that of the content.
    pub(super) fn json(&self, name: &str, digest: Option<&str>) -> Result<(serde_json::Value, String)> {
        let (file, length) = self.file(name)?;
        if length > JSON {
            return Err(invalid(&self.path, &format!("its file {name:?} has {length} bytes and may have {JSON}")));
        }
        let mut bytes = Vec::new();
        file.take(JSON).read_to_end(&mut bytes).map_err(|e| unreadable(&self.path, e))?;
        let found = digest_of(&bytes);
        if let Some(digest) = digest.filter(|&digest| digest != found) {
            return Err(mismatch(&self.path, name, digest, &found));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|e| invalid(&self.path, &format!("its file {name:?} is no JSON ({e}); copy the image anew")))?;
        Ok((value, found))
    }
}

/// The error of a file that is not what its digest says.
pub(super) fn mismatch(path: &Path, name: &str, digest: &str, found: &str) -> Error {
    invalid(path, &format!("its file {name:?} should have the digest {digest} and has {found}; copy the image anew"))
}

/// Opens a regular file below a directory; a symbolic link on the way is an error.
fn within(directory: &OwnedFd, name: &str) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(directory, name, flags, Mode::empty(), beneath)?;
    let stat = fstat(&file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file.into(), stat.st_size as u64))
}

/// The files of an archive. Only what it says about itself is read.
fn places(path: &Path, file: &File) -> Result<HashMap<String, Place>> {
    let broken = |e: io::Error| invalid(path, &format!("it is not a sound .tar archive: {e}; save the image anew"));
    let length = file.metadata().map_err(broken)?.len();
    let mut places = HashMap::new();
    let mut archive = Archive::new(file);
    for entry in archive.entries_with_seek().map_err(broken)?.raw(true) {
        let entry = entry.map_err(broken)?;
        let (start, size) = (entry.raw_file_position(), entry.size());
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        // No image has names that are too long for a header, or not of letters and digits.
        let Ok(name) = String::from_utf8(entry.path_bytes().into_owned()) else { continue };
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let place = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Place::File(start, size),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                // As `docker save` writes them: to the neighbour of a directory beside.
                let target = String::from_utf8_lossy(&target).into_owned();
                Place::Link(target.strip_prefix("../").unwrap_or(&target).to_owned())
            }
            _ => continue,
        };
        if places.insert(name.clone(), place).is_some() {
            return Err(invalid(path, &format!("it has the file {name:?} twice; save the image anew")));
        }
        if places.len() > FILES {
            return Err(invalid(path, &format!("it has more than {FILES} files; save one image alone")));
        }
    }
    Ok(places)
}
