//! Settings of version 1 hierarchies.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};

use super::{Quota, write};
use crate::error::{Error, Result};

pub(super) fn limit_memory(path: &Path, bytes: u64) -> Result<()> {
    let swap = path.join("memory.memsw.limit_in_bytes");
    // The sum of memory and swap may never be below memory: raised first when the limit grows, last when it shrinks. A
    // cgroup has no limit when it is made, so it only ever shrinks here.
    write(&path.join("memory.limit_in_bytes"), &bytes.to_string())?;
    if swap.exists() {
        write(&swap, &bytes.to_string())?;
    }
    Ok(())
}

/// Keeps the kernel from swapping what is below when the machine is short of memory: the limit on the sum of memory and
/// swap does not, since swapping leaves the sum as it is. Cgroups made below inherit it.
pub(super) fn forbid_swap(path: &Path) -> Result<()> {
    write(&path.join("memory.swappiness"), "0")
}

/// What sockets of TCP and UDP may hold in their buffers.
const SOCKETS: u64 = 16 << 20;

/// Caps what version 1 counts apart from memory, and does not count at all where it has no cap: without it, those who write
/// into connections of their own loopback take memory that no limit sees, up to what all of the host's sockets may have.
/// Who reaches it waits for room and is not killed.
pub(super) fn limit_sockets(path: &Path) -> Result<()> {
    let file = path.join("memory.kmem.tcp.limit_in_bytes");
    if file.exists() { write(&file, &SOCKETS.to_string()) } else { Ok(()) }
}

pub(super) fn weigh_cpu(path: &Path, vcpus: f64) -> Result<()> {
    let shares = (1024.0 * vcpus).clamp(2.0, 262_144.0) as u64;
    write(&path.join("cpu.shares"), &shares.to_string())
}

pub(super) fn limit_cpu(path: &Path, quota: Option<Quota>) -> Result<()> {
    let Some(Quota { quota_us, period_us }) = quota else { return write(&path.join("cpu.cfs_quota_us"), "-1") };
    write(&path.join("cpu.cfs_period_us"), &period_us.to_string())?;
    // Kernel 5.14; without it there are no bursts.
    let _ = write(&path.join("cpu.cfs_burst_us"), &quota_us.to_string());
    write(&path.join("cpu.cfs_quota_us"), &quota_us.to_string())
}

pub(super) fn memory_alarm(path: &Path) -> Result<OwnedFd> {
    let subject = || path.display().to_string();
    let step = "watching a cgroup's memory";
    let alarm =
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| Error::kernel(step, subject(), e))?;
    let control = File::open(path.join("memory.oom_control")).map_err(|e| Error::kernel(step, subject(), e))?;
    write(&path.join("cgroup.event_control"), &format!("{} {}", alarm.as_raw_fd(), control.as_raw_fd()))?;
    Ok(alarm)
}
