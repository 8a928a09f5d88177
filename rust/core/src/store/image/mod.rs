//! Container images: a layout directory as OCI has it, or an archive as `docker save` writes it, made one tree of files.
//!
//! Everything is read once and checked against its digest while it is. Owners, devices and set-user-id bits do not come
//! along; what is left is a snapshot like that of any code, which is mounted read-only as the root of environments.

mod layer;
mod manifest;
mod source;
mod user;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use self::layer::Left;
use self::manifest::Manifest;
use self::source::Source;
use super::tree::{Attributes, Room, Tree, shown};
use super::{Hold, Snapshot, Store, lock};
use crate::error::{Error, Result};
use crate::plan::rootfs::HOSTS;
use crate::plan::{COVER, MERGE, MNT, STORE, User};
use crate::spec::{Architecture, Sizes};

/// Where an environment mounts something of its own.
const PLACES: [&str; 8] = ["/proc", "/dev", "/tmp", "/etc", MNT, STORE, COVER, MERGE];
/// What the plan of an environment takes to be there.
const EXPECTED: [&str; 2] = ["/usr", "/.empty"];

/// An image, unpacked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its files.
    pub root: Snapshot,
    /// How it wants to be run.
    pub settings: Arc<Settings>,
    /// Who its processes are.
    pub user: User,
}

/// By what they are, not by where their settings lie in memory.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        (&self.root.key, self.user) == (&other.root.key, other.user)
    }
}

impl Eq for Image {}

impl Hash for Image {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.root.key, self.user).hash(state);
    }
}

/// How an image wants to be run, as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The program that is started, and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments that follow; without an entry point, the program and its arguments.
    pub cmd: Vec<String>,
    /// Where it is started; empty is the top.
    pub working_dir: String,
    /// Its variables.
    pub env: Vec<(String, String)>,
    /// Its user, as a name or number, perhaps with a group; empty leaves the choice to others.
    pub user: String,
}

impl Settings {
    /// Where it is started.
    pub fn directory(&self) -> &str {
        if self.working_dir.is_empty() { "/" } else { &self.working_dir }
    }
}

/// Images that are unpacked, by the digest of their configuration: it has the digests of all of their files in it.
pub(super) type Known = HashMap<String, (String, PathBuf, std::sync::Weak<Hold>)>;

/// Whether this path is an image rather than a directory of code: a layout says so in a file, an archive by its name.
pub fn is_image(path: &Path) -> bool {
    let archive = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
    (archive && path.is_file()) || path.join("oci-layout").is_file()
}

impl Store {
    /// Unpacks an image for this architecture, unless it is unpacked already.
    pub fn image(&self, path: &Path, architecture: Architecture, sizes: &Sizes) -> Result<Image> {
        let source = Source::open(path)?;
        let manifest = Manifest::read(&source, architecture)?;
        let root = match self.known(&manifest.digest) {
            Some(root) => root,
            None => self.unpack(&source, &manifest, sizes)?,
        };
        let user = user::find(&root.path, &manifest.settings.user).map_err(|why| invalid(path, &why))?;
        Ok(Image { root, settings: Arc::new(manifest.settings), user })
    }

    fn known(&self, digest: &str) -> Option<Snapshot> {
        let known = lock(&self.images);
        let (key, path, hold) = known.get(digest)?;
        Some(Snapshot { key: key.clone(), path: path.clone(), hold: hold.upgrade()? })
    }

    fn unpack(&self, source: &Source, manifest: &Manifest, sizes: &Sizes) -> Result<Snapshot> {
        // Native code for other machines is not run for lying there.
        let root = self.make(None, &mut { Room::ENDLESS }, |tree| {
            tree.reads(&source.path);
            let mut left = Left::new(Room::of_mb(sizes.image_mb, "Hardening(max_image_mb=...)"));
            for layer in &manifest.layers {
                layer::unpack(tree, source, layer, &mut left)?;
            }
            furnish(tree)
        })?;
        let mut known = lock(&self.images);
        known.retain(|_, (_, _, hold)| hold.strong_count() > 0);
        known.insert(manifest.digest.clone(), (root.key.clone(), root.path.clone(), Arc::downgrade(&root.hold)));
        Ok(root)
    }
}

/// Makes the places that an environment's own file systems go to, and writes the names of its own loopback. At the top
/// there is no link on the way to them.
fn furnish(tree: &mut Tree) -> Result<()> {
    for place in PLACES {
        tree.directory(place.trim_start_matches('/').as_bytes())?;
    }
    for place in EXPECTED {
        let path = place.trim_start_matches('/').as_bytes();
        // A link may lead to one; what leads nowhere was of no use.
        let mut target = tree.target(path).map(<[u8]>::to_vec);
        target = target.map(|target| target.strip_prefix(b"/").unwrap_or(&target).to_vec());
        if !tree.has_directory(target.as_deref().unwrap_or(path)) {
            tree.directory(path)?;
        }
    }
    let plain = Attributes { executable: false, modified: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 } };
    let failed = |e: std::io::Error| Error::kernel("writing", "a file of an image", e);
    tree.file(b".nothing", plain, &mut &b""[..], &failed)?;
    tree.file(b"etc/hosts", plain, &mut HOSTS.as_bytes(), &failed)?;
    // The host's goes there where an environment has the host's network.
    tree.file(b"etc/resolv.conf", plain, &mut &b""[..], &failed)
}

/// The error of an image that cannot be used.
fn invalid(path: &Path, why: &str) -> Error {
    Error::Configuration(format!("{} is not an image that can be run: {why}", shown(path)))
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(bytes)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails may panic")]
mod tests;
