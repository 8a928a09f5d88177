//! What other owners of this user's have on this host: who lives, and what the dead have left, to be told or collected.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{base, failed, is_private};
use crate::error::Result;
use crate::{cgroup, process};

/// The list of what a living owner could not end.
pub(super) const STUCK: &str = "stuck";
/// How many bytes of a list are read: thousands of cgroups.
const LIST: u64 = 1 << 20;
/// How long a start waits at most for the end of what the dead have left; the rest is for the next one.
const COLLECTING: Duration = Duration::from_secs(2);
/// How long it waits for one cgroup: the killed are gone in moments.
const MOMENT: Duration = Duration::from_millis(100);
/// The same for whoever has asked for nothing else.
const THOROUGHLY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// The directories of owners, living or dead; hidden ones are of those that have not got theirs yet.
fn owned(owners: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(owners).into_iter().flatten().flatten();
    let ours = |name: &str| name.strip_prefix('.').unwrap_or(name).starts_with("coldframe-");
    entries.filter(|entry| ours(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

/// Those whose owners are dead, with their locks.
fn dead(owners: &Path) -> Vec<(PathBuf, Option<File>)> {
    let mut found = Vec::new();
    for path in owned(owners) {
        match File::options().write(true).open(path.join("lock")) {
            Ok(lock) if lock.try_lock().is_ok() => found.push((path, Some(lock))),
            // Killed before it had made its lock: empty. One that lives will make another directory.
            Err(e) if e.kind() == io::ErrorKind::NotFound && is_hidden(&path) => drop(fs::remove_dir(&path)),
            // Its removal was begun.
            Err(e) if e.kind() == io::ErrorKind::NotFound => found.push((path, None)),
            _ => {}
        }
    }
    found
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Somebody who has environments, or had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, with its process id.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// The owners that live, of this user or of whomever `COLDFRAME_STATE_DIR` names; none where nobody ever had any.
pub fn owners() -> Result<Vec<Owner>> {
    let owners = base(crate::caller::is_root())?.join("owners");
    match fs::read_dir(&owners) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("looking at", &owners, e)),
        _ => {}
    }
    let mut found: Vec<Owner> = owned(&owners)
        .into_iter()
        .filter(|directory| !is_hidden(directory) && lives(directory))
        .filter_map(|directory| Some(Owner { name: directory.file_name()?.to_string_lossy().into_owned(), directory }))
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Whether somebody holds an owner's lock. Shared, and let go at once: another that looks is told the same.
fn lives(directory: &Path) -> bool {
    // Somebody else's directory may have anything in it by that name.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(directory.join("lock"), flags, Mode::empty()).map(File::from);
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// What is left of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its name, with the process id that it had.
    pub owner: String,
    /// Whether it lives: then it could not end what is left, and goes on trying.
    pub alive: bool,
    /// Its directory.
    pub directory: PathBuf,
    /// Cgroups that are still there.
    pub cgroups: Vec<PathBuf>,
    /// Processes in them, by their ids on this host.
    pub processes: Vec<i32>,
}

/// What dead owners have left, and what living ones could not end. Nothing is collected, nor made.
pub fn leftovers() -> Vec<Leftover> {
    let Ok(base) = base(crate::caller::is_root()) else { return Vec::new() };
    owned(&base.join("owners")).into_iter().filter_map(leftover).collect()
}

fn leftover(directory: PathBuf) -> Option<Leftover> {
    let owner = directory.file_name()?.to_string_lossy().trim_start_matches('.').to_owned();
    let alive = lives(&directory);
    let listed = read_list(&directory.join(if alive { STUCK } else { "cgroups" }));
    let cgroups: Vec<PathBuf> = listed.lines().map(PathBuf::from).filter(|path| path.exists()).collect();
    if alive && cgroups.is_empty() {
        return None;
    }
    let processes = cgroup::processes_below(cgroups.iter().cloned()).into_iter().map(|(pid, _)| pid).collect();
    Some(Leftover { owner, alive, directory, cgroups, processes })
}

/// Reads a list of paths. In somebody else's directory there may be anything by its name: a pipe, or what has no end.
fn read_list(path: &Path) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut text = String::new();
    let _ = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(io::Error::from)
        .and_then(|file| if file.metadata()?.is_file() { file.take(LIST).read_to_string(&mut text) } else { Ok(0) });
    text
}

/// What became of a dead owner's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// What there was.
    pub leftover: Leftover,
    /// Why some of it is still there, a text for each reason; nothing when it is gone.
    pub failures: Vec<String>,
}

/// Removes what dead owners left, as every host does when it starts, and tells what became of it.
pub fn gc() -> Result<Vec<Collected>> {
    let base = base(crate::caller::is_root())?;
    let owners = base.join("owners");
    if !owners.try_exists().map_err(|e| failed("looking at", &owners, e))? {
        return Ok(Vec::new());
    }
    // Whoever else could write to it could have us kill what is not theirs.
    is_private(&base).and_then(|()| is_private(&owners))?;
    Ok(collect(&owners, THOROUGHLY))
}

/// Removes what dead owners left, as far as that takes no time worth mentioning.
pub(super) fn collect_in_passing(owners: &Path) -> Vec<Collected> {
    collect(owners, (COLLECTING, MOMENT))
}

/// Removes what dead owners left, all in a time and each cgroup in another; what cannot be removed now is there the next time.
fn collect(owners: &Path, (within, each): (Duration, Duration)) -> Vec<Collected> {
    let deadline = Instant::now() + within;
    let mut all = Vec::new();
    for (path, _lock) in dead(owners) {
        let listed = read_list(&path.join("cgroups"));
        let name = path.file_name().unwrap_or_default();
        // Only what carries the dead owner's own name is touched, whatever the list says.
        let groups: Vec<PathBuf> = listed
            .lines()
            .map(PathBuf::from)
            .filter(|group| group.file_name() == Some(name) && group.exists())
            .collect();
        let processes = cgroup::processes_below(groups.iter().cloned()).into_iter().map(|(pid, _)| pid).collect();
        let owner = name.to_string_lossy().trim_start_matches('.').to_owned();
        // Each of them, whatever becomes of the others.
        let ended = groups.iter().filter_map(|group| Some((group, end_cgroup(group, deadline, each).err()?)));
        let mut failures: Vec<String> = ended.map(|(group, why)| still_there(group, &why)).collect();
        if failures.is_empty()
            && let Err(why) = fs::remove_dir_all(&path)
        {
            failures.push(format!("{}: {why}", path.display()));
        }
        let leftover = Leftover { owner, alive: false, directory: path, cgroups: groups, processes };
        all.push(Collected { leftover, failures });
    }
    all
}

/// Why a cgroup could not be removed.
fn still_there(group: &Path, why: &io::Error) -> String {
    let inside = cgroup::processes_below([group.to_path_buf()]);
    let held: Vec<String> = inside.iter().map(|(pid, at)| format!("process {pid} is in {}", at.display())).collect();
    let held = if held.is_empty() { String::new() } else { format!(", {}", held.join(", ")) };
    format!("{}: {why}{held}", group.display())
}

/// Kills what is in a cgroup and below it, and removes both, within `each` or the deadline.
fn end_cgroup(path: &Path, deadline: Instant, each: Duration) -> io::Result<()> {
    let write = |path: PathBuf, text: &str| {
        File::options().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let one_by_one = write(path.join("cgroup.kill"), "1").is_err();
    if one_by_one {
        kill_each(path);
    }
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        // What the version 1 freezer stopped takes no signal until it goes on.
        let _ = write(entry.path().join("freezer.state"), "THAWED");
        // What is left of it is what keeps this one.
        let _ = end_cgroup(&entry.path(), deadline, each);
    }
    // What takes longer is left for the next time.
    let deadline = deadline.min(Instant::now() + each);
    loop {
        match fs::remove_dir(path) {
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && Instant::now() < deadline => {
                if one_by_one {
                    kill_each(path); // those that were forked meanwhile
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result,
        }
    }
}

/// Kills the processes of a version 1 cgroup, where the kernel has no order for all of them. Mostly they are dying with their
/// inits, and this is for what these cannot end: they may have been stopped.
fn kill_each(path: &Path) {
    let processes = || fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for line in processes().lines() {
        let Some(pid) = line.parse().ok().and_then(Pid::from_raw) else { continue };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Still there, now that the number cannot become another's.
        if processes().lines().any(|again| again == line) {
            process::kill(pidfd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{claim, private};
    use super::*;

    #[test]
    fn what_the_dead_left_is_collected_at_every_stage_of_its_making_and_removal() {
        let owners = std::env::temp_dir().join(format!("coldframe-owners-{}", std::process::id()));
        private(&owners).expect("a directory");
        let (name, path, lock) = claim(&owners).expect("an owner");
        let (_, locked, living) = claim(&owners).expect("another");
        drop(lock);
        let (unlocked, born) = (owners.join("coldframe-1-half-removed"), owners.join(".coldframe-1-half-made"));
        let (named, others) = (owners.join(".coldframe-1-empty"), owners.join("notes"));
        for directory in [&unlocked, &born, &named, &others] {
            fs::create_dir(directory).expect("a directory");
        }
        fs::write(born.join("lock"), "").expect("a lock that nobody holds");
        fs::create_dir(unlocked.join("store")).expect("what was not removed yet");
        assert!(lives(&locked) && !lives(&path) && !lives(&unlocked));
        let mut told: Vec<PathBuf> = collect(&owners, (COLLECTING, MOMENT))
            .into_iter()
            .map(|one| (one.failures.is_empty(), one.leftover.directory))
            .map(|(gone, directory)| if gone { directory } else { panic!("{} is left", directory.display()) })
            .collect();
        told.sort();
        let mut dead = [path.clone(), unlocked.clone(), born.clone()];
        dead.sort();
        assert_eq!(told, dead, "of what was empty there is nothing to tell");
        assert!([path, unlocked, born, named].iter().all(|gone| !gone.exists()), "{name} is dead, and so are they");
        assert!(locked.exists() && others.exists());
        drop(living);
        collect(&owners, (COLLECTING, MOMENT));
        assert!(!locked.exists());
        fs::remove_dir_all(&owners).expect("removed");
    }

    #[test]
    fn a_list_is_a_file_and_has_an_end() {
        let folder = std::env::temp_dir().join(format!("coldframe-lists-{}", std::process::id()));
        private(&folder).expect("a directory");
        let (file, pipe, link) = (folder.join("file"), folder.join("pipe"), folder.join("link"));
        fs::write(&file, "/a\n/b").expect("a file");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
        assert_eq!(read_list(&file), "/a\n/b");
        assert!([pipe, link, folder.join("none")].iter().all(|path| read_list(path).is_empty()));
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_cannot_be_collected_stays_with_the_reason() {
        let owners = std::env::temp_dir().join(format!("coldframe-stays-{}", std::process::id()));
        private(&owners).expect("a directory");
        let (name, path, lock) = claim(&owners).expect("an owner");
        drop(lock);
        // No cgroup, but as hard to remove as one with a process in it; and one of somebody else, that is only listed.
        let (held, others) = (owners.join("tree").join(&name), owners.join("tree").join("coldframe-1-other"));
        for directory in [&held, &others] {
            fs::create_dir_all(directory.join("below")).expect("a directory");
            fs::write(directory.join("below").join("file"), "").expect("a file");
        }
        fs::write(path.join("cgroups"), format!("{}\n{}", held.display(), others.display())).expect("a list");
        for _ in 0..2 {
            let all = collect(&owners, (MOMENT, MOMENT));
            let [one] = &all[..] else { panic!("{all:?}") };
            assert_eq!((&one.leftover.owner, &one.leftover.cgroups), (&name, &vec![held.clone()]));
            let [failure] = &one.failures[..] else { panic!("{one:?}") };
            assert!(failure.starts_with(&held.display().to_string()) && failure.contains("not empty"), "{failure}");
            assert!(path.exists(), "so that it is found again");
        }
        fs::remove_dir_all(&held).expect("removed");
        assert!(collect(&owners, (MOMENT, MOMENT)).iter().all(|one| one.failures.is_empty()));
        assert!(!path.exists() && others.exists());
        fs::remove_dir_all(&owners).expect("removed");
    }
}
