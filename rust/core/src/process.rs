//! Processes of our own making: how init is started and how its end is seen.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

/// New namespaces, as clone(2) names them.
pub mod namespace {
    use coldframe_sys::child::abi;

    /// Mounts.
    pub const MOUNT: u64 = abi::CLONE_NEWNS;
    /// The view of the cgroup tree.
    pub const CGROUP: u64 = abi::CLONE_NEWCGROUP;
    /// Host name.
    pub const UTS: u64 = abi::CLONE_NEWUTS;
    /// System V and POSIX message queues, semaphores, shared memory.
    pub const IPC: u64 = abi::CLONE_NEWIPC;
    /// Users and capabilities.
    pub const USER: u64 = abi::CLONE_NEWUSER;
    /// Process ids.
    pub const PID: u64 = abi::CLONE_NEWPID;
    /// Network.
    pub const NETWORK: u64 = abi::CLONE_NEWNET;
}

/// A pair of connected sockets that keep packets apart; both are closed on exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A file in memory that nobody can change any more.
pub fn sealed(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernel 6.3 wants to be told that the file is meant to be executed; older ones do not know the flag.
    let fd = memfd_create(name, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(name, flags))?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // Reopened for reading, from its beginning, by a descriptor that could not write even without the seals.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(File::open(path)?.into())
}

/// The init program. It may be run but not read, which makes its processes undumpable from their first instruction on:
/// user code may already run beside an init that has not locked itself down yet.
pub fn init_program() -> io::Result<OwnedFd> {
    let fd = sealed("coldframe-init", coldframe_sys::INIT)?;
    rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(0o111))?;
    Ok(fd)
}

/// Waits until `fd` is readable; false when that takes longer than given.
pub fn readable(fd: BorrowedFd<'_>, within: Duration) -> bool {
    readable_while(fd, within, &Lifelines::default())
}

/// The same for as long as these hold.
pub fn readable_while(fd: BorrowedFd<'_>, within: Duration, lifelines: &Lifelines<'_>) -> bool {
    let deadline = Instant::now() + within;
    let mut fds = vec![PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    fds.extend(lifelines.watched());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) => return !fds[0].revents().is_empty(),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// What tells that a process lives: pidfds, and sockets whose other ends nobody else has. A process that ends closes its
/// sockets first, so these also tell of an init before the kernel has ended what is below it.
#[derive(Clone, Debug, Default)]
pub struct Lifelines<'a> {
    /// Readable at the end.
    pub pidfds: Vec<BorrowedFd<'a>>,
    /// Hung up at the end.
    pub sockets: Vec<BorrowedFd<'a>>,
}

impl<'a> Lifelines<'a> {
    /// Whether all of them hold.
    pub fn hold(&self) -> bool {
        let mut fds: Vec<PollFd<'_>> = self.watched().collect();
        loop {
            match poll(&mut fds, Some(&timespec(Duration::ZERO))) {
                Err(Errno::INTR) => {}
                result => return result == Ok(0),
            }
        }
    }

    fn watched(&self) -> impl Iterator<Item = PollFd<'a>> {
        // A hang-up is told without being asked for.
        let sockets = self.sockets.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
        self.pidfds.iter().map(|&fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).chain(sockets)
    }
}

/// A length of time as the kernel takes it.
pub fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// The clock that environments share with the host, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A pidfd of this very process.
pub fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// Kills; a process that is gone already is as good as killed.
pub fn kill(pidfd: BorrowedFd<'_>) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// What an ordinary user's id, or its group's, is called in the user namespace of a zygote: the same, unless it is root in a
/// user namespace of its own. To map 0 once more, for an environment, takes a capability that a zygote has given up
/// (`CAP_SETFCAP`, kernel 5.12).
pub fn name_within(id: u32) -> u32 {
    if id == 0 { crate::plan::USER_ID } else { id }
}

/// The lines of the id maps of such a user namespace.
pub fn own_map(uid: u32, gid: u32) -> (String, String) {
    let line = |id| format!("{} {id} 1", name_within(id));
    (line(uid), line(gid))
}

/// Waits for the end of a child made by `spawn`, which sends no SIGCHLD and is only seen by those who ask for it.
pub fn reap(pidfd: BorrowedFd<'_>) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    // __WALL is implied for pidfds of children without a signal only from 4.7 on with __WCLONE; rustix has no name for it.
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(coldframe_sys::child::abi::__WALL as u32);
    let _ = waitid(WaitId::PidFd(pidfd), options);
}
