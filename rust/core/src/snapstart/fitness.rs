//! Whether an initialised process can be forked, seen from outside: it has run user code, and is asked nothing.
//!
//! A fork copies one thread and shares whatever is shared: memory that is mapped for others, the offset of an open file, a pipe.
//! Environments have none of that in common.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};

/// A file, whatever its name: its device and its number.
pub type Identity = (u64, u64);

/// Which file a descriptor is of.
pub fn identity(fd: impl AsFd) -> Result<Identity> {
    let stat = rustix::fs::fstat(fd).map_err(|e| Error::kernel("looking at", "a descriptor", e))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What an environment's process is to have open, beside device nodes that keep nothing.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Where questions come from.
    pub control: Identity,
    /// Where output goes.
    pub output: Identity,
}

/// The only process of a cgroup, or why there is none.
pub fn only_process(cgroup: &Cgroup) -> Result<i32, String> {
    match cgroup.inside()[..] {
        [(pid, _)] => Ok(pid),
        [] => Err("it has ended".into()),
        ref all => Err(format!("it left {} other processes running", all.len() - 1)),
    }
}

/// Why this process, which stands still, cannot be forked; nothing if it can.
pub fn unfit(pid: i32, known: &Known) -> Option<String> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let look = || -> std::io::Result<Option<String>> {
        let threads = fs::read_dir(process.join("task"))?.count();
        if threads != 1 {
            return Ok(Some(format!("it has {threads} threads; a copy would have one of them")));
        }
        if let Some(mapping) = shared(&fs::read_to_string(process.join("smaps"))?) {
            return Ok(Some(format!("it has shared memory mapped ({mapping}); environments have none in common")));
        }
        descriptors(&process.join("fd"), known)
    };
    look().unwrap_or_else(|e| Some(format!("it cannot be looked at: {e}")))
}

/// The first mapping that is shared and may be written.
fn shared(smaps: &str) -> Option<String> {
    let mut mapping = "";
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let has = |wanted: &str| flags.split_ascii_whitespace().any(|flag| flag == wanted);
            if has("sh") && has("mw") {
                return Some(mapping.split_ascii_whitespace().skip(5).collect::<Vec<_>>().join(" "));
            }
        } else if line.split_ascii_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            mapping = line;
        }
    }
    None
}

fn descriptors(folder: &Path, known: &Known) -> std::io::Result<Option<String>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let file = fs::metadata(&path)?;
        let identity = (file.dev(), file.ino());
        let fits = match number.as_str() {
            "3" => identity == known.control,
            "1" | "2" if identity == known.output => true,
            _ => file.file_type().is_char_device() && is_plain_device(file.rdev()),
        };
        if !fits {
            let what = fs::read_link(&path)?;
            return Ok(Some(format!(
                "it has descriptor {number} open ({}); a copy would share it with others: close it before the snapshot",
                what.display()
            )));
        }
    }
    Ok(None)
}

/// `null`, `zero`, `full`, `random` and `urandom`: whatever is done to one that is open is nobody else's business.
fn is_plain_device(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    major == 1 && [3, 5, 7, 8, 9].contains(&minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_others_could_write_is_found_by_what_the_kernel_says_of_it() {
        let mapping = |permissions: &str, flags: &str| {
            format!("7f00-7f10 {permissions} 00000000 00:01 7 /dev/shm/a b\nSize: 4 kB\nVmFlags: {flags}\n")
        };
        let private = mapping("rw-p", "rd wr mr mw me ac");
        assert_eq!(shared(&private), None);
        assert_eq!(shared(&(private + &mapping("r--s", "rd sh mr mw me ms"))), Some("/dev/shm/a b".into()));
        assert_eq!(shared(&mapping("r--s", "rd sh mr me ms")), None);
    }
}
