//! The root file system of a zygote, which its environments inherit: a tmpfs with an allow-list of the host's
//! directories bound into it, each at its own path, and nothing else.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use coldframe_sys::program::Step;

use super::{
    COVER, GROUP_ID, MERGE, MNT, NODEV, NOEXEC, NOSUID, RDONLY, READ_ONLY, RECURSIVE_PRIVATE, REMOUNT_BIND, RUNTIME,
    STORE, USER_ID, USER_NAME,
};
use crate::posture::{Posture, Wall};

/// A directory or file of the host, and where it appears inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// On the host, with no symbolic link in it.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
}

/// Names of an environment's own loopback interface.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n127.0.0.1 sandbox.localdomain sandbox\n";
/// Where an environment mounts something of its own over what its zygote has there.
pub const HIDING: [&str; 2] = ["/tmp", "/dev/shm"];
/// Where such directories are to be found as well.
const ALIASES: &str = "/.grants";

/// Those of the granted directories that an environment's own mounts hide: where else they are, and where they belong.
pub fn aliases(directories: &[PathBuf]) -> Vec<Grant> {
    let hidden = directories.iter().filter(|path| HIDING.iter().any(|top| path.starts_with(top)));
    hidden
        .enumerate()
        .map(|(number, target)| Grant { source: format!("{ALIASES}/{number}").into(), target: target.clone() })
        .collect()
}

/// The place of the environment's own, or of the host's kernel and services, that a directory would show or hide if it
/// were granted: where it lies in such a place, is one, or holds one.
pub fn misplaced(directory: &Path) -> Option<&'static str> {
    const WHOLE: [&str; 5] = ["/proc", "/sys", "/dev", "/var/task", "/var/runtime"];
    const THEMSELVES: [&str; 5] = ["/etc", "/home", "/run", "/tmp", "/dev/shm"];
    let holds = |place: &&str| Path::new(place).starts_with(directory);
    let within = |place: &&str| directory.starts_with(place) && !directory.starts_with("/dev/shm");
    WHOLE.into_iter().find(|place| holds(place) || within(place)).or_else(|| THEMSELVES.into_iter().find(holds))
}

/// What a root file system is made of.
#[derive(Clone, Debug)]
pub struct Root {
    /// An empty directory of ours on the host, over which the new root is mounted while it is being made.
    pub scaffold: PathBuf,
    /// The code store.
    pub store: PathBuf,
    /// The runtime's files.
    pub runtime: PathBuf,
    /// Top-level links of the host, such as `bin` to `usr/bin`.
    pub links: Vec<(String, String)>,
    /// Directories: `/usr`, what is not a link to it, the interpreter's prefixes.
    pub grants: Vec<Grant>,
    /// Files and directories of `/etc`.
    pub etc: Vec<Grant>,
    /// Directories below a grant that are not granted.
    pub hidden: Vec<PathBuf>,
    /// Whether `/dev` is ours.
    pub own_devices: bool,
    /// The tree of an image, in the place of all that comes of the host; it has the places where something is mounted.
    pub image: Option<PathBuf>,
}

impl Root {
    /// Looks at the host for what every root has; `grants` come on top.
    pub fn of_host(
        scaffold: PathBuf,
        store: PathBuf,
        runtime: PathBuf,
        extra: Vec<Grant>,
        network: bool,
        posture: &Posture,
    ) -> Self {
        let mut links = Vec::new();
        let mut grants = vec![same(Path::new("/usr"))];
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match std::fs::read_link(&path) {
                Ok(target) => links.push((target.display().to_string(), format!("/{name}"))),
                Err(_) if path.is_dir() => grants.push(same(&path)),
                Err(_) => {}
            }
        }
        grants.extend(extra);
        if !posture.has(Wall::Root) {
            grants.extend(the_rest(&grants));
        }
        let mut etc = vec![
            "/etc/ld.so.cache",
            "/etc/ssl/certs",
            "/etc/pki",
            "/etc/ca-certificates",
            "/etc/localtime",
            "/etc/alternatives",
        ];
        if network {
            etc.push("/etc/resolv.conf");
        }
        let etc = etc
            .into_iter()
            .filter_map(|path| Some(Grant { source: Path::new(path).canonicalize().ok()?, target: path.into() }))
            .collect();
        let (grants, own_devices) = (outermost(&grants), posture.has(Wall::Devices));
        Self { scaffold, store, runtime, links, grants, etc, hidden: Vec::new(), own_devices, image: None }
    }

    /// That of an image, whose snapshot lies in the store under this key.
    pub fn of_image(scaffold: PathBuf, store: PathBuf, key: &str, network: bool, posture: &Posture) -> Self {
        let (image, own_devices) = (Some(store.join(key)), posture.has(Wall::Devices));
        let (links, grants, hidden) = (Vec::new(), Vec::new(), Vec::new());
        let resolver = Path::new("/etc/resolv.conf");
        let etc = resolver.canonicalize().ok().filter(|_| network);
        let etc = etc.map(|source| Grant { source, target: resolver.to_path_buf() }).into_iter().collect();
        Self { scaffold, store, runtime: PathBuf::new(), links, grants, etc, hidden, own_devices, image }
    }

    /// The same, with something empty over those of `hidden` that a grant would show.
    #[must_use]
    pub fn without(mut self, hidden: Vec<PathBuf>) -> Self {
        self.hidden = hidden;
        self.hidden.retain(|path| self.grants.iter().any(|grant| path.starts_with(&grant.target)));
        self
    }

    /// The same, with the settings of the host's JDKs. Debian keeps them in `/etc`,
    /// links to them from below `/usr`, and no JVM starts without. They are the distribution's and for everyone to read;
    /// what an administrator has closed to others in there is closed to an environment's user as well.
    #[must_use]
    pub fn with_jdks(mut self) -> Self {
        let all = std::fs::read_dir("/etc").into_iter().flatten().flatten();
        let of_a_jdk = |entry: &DirEntry| {
            let name = entry.file_name();
            let known = name == "java" || name.to_str().is_some_and(|name| name.starts_with("java-"));
            known && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        self.etc.extend(all.filter(of_a_jdk).map(|entry| same(&entry.path())));
        self
    }

    /// The steps that make it and move into it.
    pub fn steps(&self) -> Vec<Step> {
        let mut made =
            Made { root: self.scaffold.display().to_string(), directories: BTreeSet::new(), steps: Vec::new() };
        made.steps.push(mount("none", "/", "", RECURSIVE_PRIVATE, ""));
        if let Some(image) = &self.image {
            self.image_steps(image, &mut made);
            return made.steps;
        }
        made.steps.push(mount("root", &made.root.clone(), "tmpfs", NOSUID | NODEV, "size=4m,nr_inodes=4096,mode=0755"));
        for directory in ["/tmp", "/proc", "/dev/shm", "/var/task", "/opt", MNT, STORE, MERGE, "/.empty"] {
            made.directory(directory);
        }
        made.steps.push(Step::MakeDir { path: made.at(COVER), mode: 0 });
        made.file("/.nothing", "");
        for (target, path) in &self.links {
            made.link(target, path);
        }
        for grant in &self.grants {
            made.directory(&grant.target.display().to_string());
            made.bind(grant, READ_ONLY);
        }
        let mut targets: Vec<PathBuf> = self.grants.iter().map(|grant| grant.target.clone()).collect();
        targets.sort();
        for alias in aliases(&targets) {
            made.directory(&alias.source.display().to_string());
            let source =
                self.grants.iter().find(|grant| grant.target == alias.target).map(|grant| grant.source.clone());
            made.bind(&Grant { source: source.unwrap_or(alias.target), target: alias.source }, READ_ONLY);
        }
        for path in &self.hidden {
            let path = made.at(&path.display().to_string());
            made.steps.push(mount(
                "none",
                &path,
                "tmpfs",
                RDONLY | NOSUID | NODEV | NOEXEC,
                "size=4k,nr_inodes=2,mode=0555",
            ));
        }
        if !self.grants.iter().any(|grant| grant.target == Path::new("/etc")) {
            made.etc(&self.etc);
        }
        if self.own_devices {
            made.devices();
        } else {
            made.bind(&same(Path::new("/dev")), NOSUID | NOEXEC);
        }
        made.directory(RUNTIME);
        made.bind(&Grant { source: self.runtime.clone(), target: RUNTIME.into() }, READ_ONLY);
        self.last_mounts(&mut made);
        // Only in a root of ours is there such a place.
        made.steps.push(Step::Chdir { path: RUNTIME.into() });
        made.steps.push(Step::Chdir { path: "/".into() });
        made.steps.push(mount("none", "/", "", REMOUNT_BIND | RDONLY | NOSUID | NODEV, ""));
        made.steps
    }
}

impl Root {
    /// The image as it is, with devices of ours: it is a mount already, and read-only.
    fn image_steps(&self, image: &Path, made: &mut Made) {
        made.bind(&Grant { source: image.to_path_buf(), target: "/".into() }, READ_ONLY);
        if self.own_devices {
            let dev = made.at("/dev");
            made.steps.push(mount("dev", &dev, "tmpfs", NOSUID | NOEXEC, "size=64k,nr_inodes=64,mode=0755"));
            made.directories.insert("/dev".into());
            made.directory("/dev/shm");
            made.devices();
            made.steps.push(mount("none", &dev, "", REMOUNT_BIND | RDONLY | NOSUID | NOEXEC, ""));
        } else {
            made.bind(&same(Path::new("/dev")), NOSUID | NOEXEC);
        }
        for grant in &self.etc {
            made.bind(grant, READ_ONLY | NOEXEC);
        }
        self.last_mounts(made);
        // Only in a root of ours is there such a place.
        made.steps.push(Step::Chdir { path: COVER.into() });
        made.steps.push(Step::Chdir { path: "/".into() });
    }

    /// What every root has, and the way into it.
    fn last_mounts(&self, made: &mut Made) {
        made.bind(&Grant { source: self.store.clone(), target: STORE.into() }, READ_ONLY);
        // Not read-only: an ordinary user's environments write their own id maps here before they have a /proc of their
        // own. The kernel lets a user namespace mount one only while a whole one is visible.
        made.steps.push(mount("proc", &made.at("/proc"), "proc", NOSUID | NODEV | NOEXEC, ""));
        made.steps.push(Step::Pivot { path: made.root.clone() });
    }
}

/// The top of the host's tree where nothing of ours, and nothing granted, has its place: for a test, never for use.
fn the_rest(grants: &[Grant]) -> Vec<Grant> {
    const OURS: [&str; 5] = ["dev", "opt", "proc", "tmp", "var"];
    let all = std::fs::read_dir("/").into_iter().flatten().flatten();
    let free = |path: &Path| !grants.iter().any(|grant| grant.target.starts_with(path));
    let kept = all.filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && !OURS.iter().any(|ours| entry.file_name() == *ours)
            && free(&entry.path())
    });
    kept.map(|entry| same(&entry.path())).collect()
}

fn same(path: &Path) -> Grant {
    Grant { source: path.to_path_buf(), target: path.to_path_buf() }
}

/// Drops what lies below another grant that shows the same thing there.
fn outermost(grants: &[Grant]) -> Vec<Grant> {
    let covered = |grant: &Grant| {
        grants.iter().any(|other| {
            grant.target != other.target
                && grant.target.strip_prefix(&other.target).ok() == grant.source.strip_prefix(&other.source).ok()
                && grant.target.starts_with(&other.target)
        })
    };
    let mut kept: Vec<Grant> = grants.iter().filter(|grant| !covered(grant)).cloned().collect();
    // Outer ones first: what is bound later lies on top.
    kept.sort_by_key(|grant| grant.target.components().count());
    kept.dedup();
    kept
}

pub(crate) fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Step {
    Step::Mount { source: source.into(), target: target.into(), kind: kind.into(), flags, data: data.into() }
}

struct Made {
    root: String,
    directories: BTreeSet<String>,
    steps: Vec<Step>,
}

impl Made {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// Makes a directory and those above it, each once.
    fn directory(&mut self, path: &str) {
        let mut whole = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            whole = format!("{whole}/{part}");
            if self.directories.insert(whole.clone()) {
                self.steps.push(Step::MakeDir { path: self.at(&whole), mode: 0o755 });
            }
        }
    }

    fn parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn file(&mut self, path: &str, content: &str) {
        self.parent(path);
        self.steps.push(Step::MakeFile { path: self.at(path), mode: 0o644, content: content.into() });
    }

    fn link(&mut self, target: &str, path: &str) {
        self.parent(path);
        self.steps.push(Step::Symlink { target: target.into(), path: self.at(path) });
    }

    fn bind(&mut self, grant: &Grant, attributes: u64) {
        self.steps.push(Step::Grant {
            source: grant.source.display().to_string(),
            target: self.at(&grant.target.display().to_string()),
            attributes,
        });
    }

    fn etc(&mut self, grants: &[Grant]) {
        self.file(
            "/etc/passwd",
            &format!("root:x:0:0:root:/:/sbin/nologin\n{USER_NAME}:x:{USER_ID}:{GROUP_ID}::/tmp:/sbin/nologin\n"),
        );
        self.file("/etc/group", &format!("root:x:0:\n{USER_NAME}:x:{GROUP_ID}:\n"));
        self.file("/etc/hosts", HOSTS);
        self.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        for grant in grants {
            let target = grant.target.display().to_string();
            if grant.source.is_dir() {
                self.directory(&target);
            } else {
                self.file(&target, "");
            }
            self.bind(grant, READ_ONLY | NOEXEC);
        }
    }

    fn devices(&mut self) {
        for name in ["null", "zero", "full", "random", "urandom"] {
            let path = format!("/dev/{name}");
            self.file(&path, "");
            // Read-only stops nobody from writing to a device, but from changing the host's file: its times, for one.
            self.bind(&Grant { source: path.clone().into(), target: path.into() }, RDONLY | NOSUID | NOEXEC);
        }
        for (target, name) in [
            ("/proc/self/fd", "fd"),
            ("/proc/self/fd/0", "stdin"),
            ("/proc/self/fd/1", "stdout"),
            ("/proc/self/fd/2", "stderr"),
        ] {
            self.link(target, &format!("/dev/{name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            scaffold: "/scaffold".into(),
            store: "/state/store".into(),
            runtime: "/pkg/_runtime".into(),
            links: vec![("usr/bin".into(), "/bin".into())],
            grants: outermost(&[same(Path::new("/usr")), same(Path::new("/home/u/venv")), same(Path::new("/usr/lib"))]),
            etc: vec![],
            hidden: vec![],
            own_devices: true,
            image: None,
        }
    }

    #[test]
    fn everything_of_the_host_is_read_only_and_the_root_is_closed_last() {
        let steps = root().steps();
        for step in &steps {
            assert!(!matches!(step, Step::Bind { .. }), "no link on the host is followed: {step:?}");
            if let Step::Grant { source, attributes, .. } = step {
                let all = if source.starts_with("/dev/") { RDONLY | NOSUID | NOEXEC } else { READ_ONLY };
                assert!(attributes & all == all, "{step:?}");
            }
        }
        assert!(
            matches!(steps.last(), Some(Step::Mount { target, flags, .. }) if target == "/" && flags & RDONLY != 0)
        );
        assert!(matches!(&steps[0], Step::Mount { flags, .. } if *flags == RECURSIVE_PRIVATE));
    }

    #[test]
    fn no_directory_is_granted_that_would_show_the_kernel_or_hide_what_is_ours() {
        for place in
            ["/", "/proc", "/proc/self", "/sys/fs", "/dev", "/dev/pts", "/dev/shm", "/etc", "/var", "/run", "/tmp"]
        {
            assert!(misplaced(Path::new(place)).is_some(), "{place}");
        }
        for place in ["/usr", "/opt/python", "/tmp/venv", "/dev/shm/venv", "/home/u/venv", "/etc/profiles/u", "/run/sw"]
        {
            assert_eq!(misplaced(Path::new(place)), None, "{place}");
        }
    }

    #[test]
    fn parents_of_a_grant_are_made_in_our_own_tmpfs() {
        let steps = root().steps();
        let made = |path: &str| steps.iter().position(|s| matches!(s, Step::MakeDir { path: p, .. } if p == path));
        assert!(made("/scaffold/home").expect("made") < made("/scaffold/home/u/venv").expect("made"));
        let bound =
            steps.iter().filter(|s| matches!(s, Step::Grant { target, .. } if target == "/scaffold/usr/lib")).count();
        assert_eq!(bound, 0, "what an outer grant shows is not bound again");
    }
}
