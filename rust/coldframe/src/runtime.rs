//! What runs a handler.

use std::path::PathBuf;

/// What runs a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// `python3`, as a shell would find it on `PATH`.
    #[default]
    Python,
    /// The `CPython` at this path, 3.9 or later.
    At(PathBuf),
    /// A `bootstrap` in the code or a layer that asks Lambda's Runtime API for events, or a container image.
    Provided,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The files of the Python runtime, by their paths in it.
        pub(crate) const FILES: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!("../../../python/coldframe/_runtime/", $name)))),*];
    };
}

files![
    "__init__.py",
    "api.py",
    "bootstrap.py",
    "context.py",
    "environment.py",
    "errors.py",
    "forking.py",
    "handler.py",
    "hooks.py",
    "inside.py",
    "logs.py",
    "marshalling.py",
    "output.py",
    "randomness.py",
    "rehearsal.py",
    "snapshot.py",
    "stage/rehearsed.py",
    "wire.py",
    "zygote.py",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn below(directory: &Path, prefix: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = format!("{prefix}{}", path.file_name().expect("a name").display());
            if path.is_dir() {
                found.extend(below(&path, &format!("{name}/")));
            } else if path.extension().is_some_and(|extension| extension == "py") {
                found.insert(name);
            }
        }
        found
    }

    #[test]
    fn every_file_of_the_runtime_is_in_the_library() {
        let there = below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/coldframe/_runtime"), "");
        let here = FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(here, there);
    }
}
