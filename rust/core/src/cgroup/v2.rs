//! Settings of the version 2 tree.

use std::path::Path;

use super::{Quota, write};
use crate::error::Result;

pub(super) fn limit_memory(path: &Path, bytes: u64) -> Result<()> {
    write(&path.join("memory.max"), &bytes.to_string())?;
    // One process killed for memory is all of them killed (kernel 4.19).
    write(&path.join("memory.oom.group"), "1")?;
    let swap = path.join("memory.swap.max");
    if swap.exists() { write(&swap, "0") } else { Ok(()) }
}

pub(super) fn weigh_cpu(path: &Path, vcpus: f64) -> Result<()> {
    let weight = (100.0 * vcpus).clamp(1.0, 10_000.0) as u64;
    write(&path.join("cpu.weight"), &weight.to_string())
}

pub(super) fn limit_cpu(path: &Path, quota: Option<Quota>) -> Result<()> {
    let Some(Quota { quota_us, period_us }) = quota else { return write(&path.join("cpu.max"), "max") };
    // Kernel 5.14; without it there are no bursts.
    let _ = write(&path.join("cpu.max.burst"), &quota_us.to_string());
    write(&path.join("cpu.max"), &format!("{quota_us} {period_us}"))
}
