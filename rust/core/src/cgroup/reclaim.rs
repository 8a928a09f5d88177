//! Giving back the pages of a cgroup that stands still, as far as there is somewhere to put them: clean pages of files are
//! in their files; what has no file goes to swap, if the host has some.
//!
//! The cgroup's own file does it, `memory.reclaim` (version 2, kernel 5.19) or `memory.force_empty` (version 1).
//! `process_madvise` would need a list of the mappings of every process, misses what is in no mapping (files that were
//! read, `/tmp`), and asks for the right to trace, which as a guest in a container one does not have.
//!
//! Memory and swap together never exceed the cap. Version 1 counts the sum (`memory.memsw`), which is capped for good. Version 2
//! counts them apart, so the cap is split: whatever may be on swap is taken off `memory.max`.

use std::path::Path;

use rustix::io::Errno;

use super::{Cgroup, Controller, Place, read_field, read_number, write};
use crate::error::{Error, Result};

/// Less than this is not worth the effort, in bytes.
const LEAST: u64 = 1 << 19;
/// How much is asked for at a time, in bytes: some milliseconds, after which somebody may need the cgroup.
const STEP: u64 = 8 << 20;

/// What could go, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pages {
    /// Pages of files.
    file: u64,
    /// Pages that have none: the heap, and what is in a tmpfs.
    anonymous: u64,
}

impl Pages {
    fn of(path: &Path) -> Self {
        let field = |name| read_field(&path.join("memory.stat"), name).unwrap_or(0);
        Self {
            file: field("inactive_file") + field("active_file"),
            anonymous: field("inactive_anon") + field("active_anon"),
        }
    }
}

impl Cgroup {
    /// Has the kernel take back what it can as long as this is `idle`. `cap` is the limit of memory in bytes; what has no
    /// file goes as well if that is at most `swap` bytes. False if there is too little to be worth it, or nothing to do it with.
    pub fn reclaim(&self, cap: u64, swap: u64, idle: &dyn Fn() -> bool) -> Result<bool> {
        let Some(place) = self.places.get(&Controller::Memory) else { return Ok(false) };
        let pages = Pages::of(place.path());
        let swap = if pages.anonymous <= swap { pages.anonymous } else { 0 };
        match place {
            _ if pages.file + swap < LEAST => Ok(false),
            Place::V1(path) => empty(path, swap),
            Place::V2(path) => {
                let file = path.join("memory.reclaim");
                if !file.exists() {
                    return Ok(false);
                }
                take(&file, pages.file, idle)?;
                if swap > 0 && path.join("memory.swap.max").exists() {
                    swap_out(path, cap, swap, idle)?;
                }
                Ok(true)
            }
        }
    }
}

/// Version 1: everything in one go.
fn empty(path: &Path, swap: u64) -> Result<bool> {
    let willing = swap > 0 && path.join("memory.memsw.limit_in_bytes").exists();
    let swappiness = |value| if willing { write(&path.join("memory.swappiness"), value) } else { Ok(()) };
    swappiness("100")?;
    let emptied = write(&path.join("memory.force_empty"), "0");
    // Whatever came of that.
    swappiness("0").and(emptied).map(|()| true)
}

/// Version 2: what has no file, as far as there is room for it below the cap.
fn swap_out(path: &Path, cap: u64, swap: u64, idle: &dyn Fn() -> bool) -> Result<()> {
    let number = |name| read_number(&path.join(name)).unwrap_or(0);
    let swapped = number("memory.swap.current");
    // Not more than is left: the limit on memory would fall below what is in use.
    let most = (swapped + swap).min(cap.saturating_sub(number("memory.current")));
    split(path, cap, most)?;
    let taken = take(&path.join("memory.reclaim"), most.saturating_sub(swapped), idle);
    split(path, cap, number("memory.swap.current").min(most)).and(taken)
}

/// Splits the cap into what may be on swap and what may be in memory. Both at once cannot be had: what is over the limit
/// on memory for a moment has to have somewhere to go, or its owner is killed.
fn split(path: &Path, cap: u64, swap: u64) -> Result<()> {
    write(&path.join("memory.swap.max"), &swap.to_string())?;
    write(&path.join("memory.max"), &(cap - swap).to_string())
}

/// Asks for so many bytes. That the kernel finds less is no error.
fn take(file: &Path, bytes: u64, idle: &dyn Fn() -> bool) -> Result<()> {
    let mut left = bytes;
    while left > 0 && idle() {
        let step = left.min(STEP);
        match write(file, &step.to_string()) {
            Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => break,
            result => result?,
        }
        left -= step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A directory with these files, which says what is in them.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("coldframe-reclaim-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory");
            for (file, text) in files {
                fs::write(path.join(file), text).expect("a file");
            }
            Self(path)
        }

        fn read(&self, file: &str) -> String {
            fs::read_to_string(self.0.join(file)).expect("a file")
        }

        fn reclaim(&self, place: impl Fn(PathBuf) -> Place, swap: u64, idle: bool) -> Result<bool> {
            let places = [(Controller::Memory, place(self.0.clone()))].into();
            Cgroup {
                unified: None,
                places,
                freezer: None,
                accounts: None,
                freezes: false,
                gauges: std::sync::Arc::default(),
            }
            .reclaim(64 << 20, swap, &|| idle)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const STAT: (&str, &str) =
        ("memory.stat", "inactive_anon 6291456\nactive_anon 2097152\ninactive_file 4194304\nactive_file 1048576\n");

    #[test]
    fn what_may_be_on_swap_is_taken_off_the_cap() {
        let now = [("memory.current", "14680064\n"), ("memory.swap.current", "1048576\n")];
        let limits = [("memory.swap.max", ""), ("memory.max", ""), ("memory.reclaim", "")];
        let files = Files::new("split", &[&[STAT], &now[..], &limits[..]].concat());
        assert!(files.reclaim(Place::V2, 1 << 30, true).expect("reclaimed"));
        assert_eq!((files.read("memory.swap.max"), files.read("memory.max")), ("1048576".into(), "66060288".into()));
        assert_eq!(files.read("memory.reclaim"), "8388608", "the heap, after the files");
    }

    #[test]
    fn without_swap_only_pages_of_files_go() {
        for (name, free) in [("none", 0), ("little", 7 << 20)] {
            let files = Files::new(name, &[STAT, ("memory.swap.max", ""), ("memory.reclaim", "")]);
            assert!(files.reclaim(Place::V2, free, true).expect("reclaimed"));
            assert_eq!(
                (files.read("memory.reclaim"), files.read("memory.swap.max")),
                ("5242880".into(), String::new())
            );
        }
    }

    #[test]
    fn whoever_is_needed_again_is_left_alone() {
        let files = Files::new("needed", &[STAT, ("memory.reclaim", "")]);
        assert!(files.reclaim(Place::V2, 0, false).expect("not tried"));
        assert_eq!(files.read("memory.reclaim"), "");
    }

    #[test]
    fn version_1_swaps_for_as_long_as_it_takes() {
        let files = [STAT, ("memory.memsw.limit_in_bytes", ""), ("memory.swappiness", "")];
        let without_file = Files::new("v1", &files);
        assert!(without_file.reclaim(Place::V1, 1 << 30, true).is_err(), "what fails is told");
        // There is no truncating in cgroups: the 0 is written over the 1 of 100.
        assert_eq!(without_file.read("memory.swappiness"), "000");
        fs::write(without_file.0.join("memory.force_empty"), "").expect("a file");
        assert!(without_file.reclaim(Place::V1, 0, true).expect("reclaimed"));
        assert_eq!(without_file.read("memory.force_empty"), "0");
    }

    #[test]
    fn a_little_is_left_and_so_is_everything_where_nothing_does_it() {
        let files = Files::new("little-file", &[("memory.stat", "inactive_file 4096\nactive_file 4096\n")]);
        assert!(!files.reclaim(Place::V2, 1 << 30, true).expect("nothing to do"));
        let files = Files::new("old", &[STAT]);
        assert!(!files.reclaim(Place::V2, 1 << 30, true).expect("a kernel before 5.19"));
    }
}
