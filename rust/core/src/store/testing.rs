use std::os::unix::fs::PermissionsExt;

use super::*;

/// Lambda's.
pub(super) fn limits() -> Limits {
    Limits::new(&Sizes::default())
}

/// A directory of one test, with a store in it.
pub(super) struct Scratch {
    path: PathBuf,
    pub(super) store: Store,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coldframe-store-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("private/store")).unwrap();
        Self { store: Store::new(path.join("private/store")), path }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file, with its directories.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.chmod(name, 0o644);
        path
    }

    pub(super) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn code(&self, source: &Path) -> Result<Snapshot> {
        self.store.code(source, Architecture::X86_64, &mut limits())
    }

    /// Names of what is in the store.
    pub(super) fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.store.shelf.root).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
