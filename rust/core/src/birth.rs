//! How an environment comes into being: a request to its zygote, a word with its first process, a user of its own.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use coldframe_sys::child::record::{Record, Section};
use coldframe_sys::child::serve;
use coldframe_sys::program;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::function::Function;
use crate::plan::{GROUP_ID, USER_ID};
use crate::process;
use crate::zygote::{Zygote, failure};

/// How long the kernel may take to make the processes of an environment.
const BIRTH: Duration = Duration::from_secs(10);

/// What there is of an environment when it has come into being.
pub struct Newborn {
    /// The host's process id of its init.
    pub pid: Pid,
    /// The same, for as long as it is held.
    pub pidfd: OwnedFd,
    /// Where questions go and answers come from.
    pub control: OwnedFd,
    /// Where its init reports.
    pub channel: OwnedFd,
    /// What it prints.
    pub output: OwnedFd,
    /// Readable when its memory runs out, where the kernel does not end it by itself.
    pub alarm: Option<OwnedFd>,
}

/// Asks the zygote for an environment, and sees it through until it locks itself down.
pub fn give(zygote: &Zygote, function: &Function, cgroup: &Cgroup, slot: u32) -> Result<Newborn> {
    let failed = |e: io::Error| Error::kernel("making", "an environment", e);
    let (control, far_control) = process::packet_pair().map_err(failed)?;
    let (channel, far_channel) = process::packet_pair().map_err(failed)?;
    // Kernels before 6.16 cannot; there the filter, which lets no socket linger, is what keeps a close from blocking.
    let _ = coldframe_sys::host::refuse_descriptors(control.as_fd());
    let (output, far_output) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    rustix::io::ioctl_fionbio(&output, true).map_err(|e| failed(e.into()))?;
    // Credentials of what comes from the channel: the only word about a process id that is to be believed.
    rustix::net::sockopt::set_socket_passcred(&channel, true).map_err(|e| failed(e.into()))?;
    cgroup.limit(function.spec.memory_mb, function.spec.max_processes)?;
    let alarm = cgroup.memory_alarm()?;
    let (birthplace, doors) = (cgroup.birthplace()?, cgroup.doors()?);
    let flags = function.birth.namespaces | if birthplace.is_some() { serve::INTO_CGROUP } else { 0 };
    let (first, park) = (program::encode(&function.birth.first), program::encode(&function.birth.park));
    let mut fds = vec![far_control.as_fd(), far_channel.as_fd(), far_output.as_fd()];
    fds.push(birthplace.as_ref().map_or(far_control.as_fd(), AsFd::as_fd));
    fds.extend(doors.iter().map(AsFd::as_fd));
    zygote
        .fork(&program::encode_request(flags, &first, &park), &fds)
        .map_err(|e| Error::kernel("asking", "a zygote", e))?;
    drop((far_control, far_channel, far_output));
    let pid = hello(channel.as_fd(), function)?;
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|e| Error::kernel("opening", "an environment's pidfd", e))?;
    if slot != 0 {
        map_users(pid, slot)?;
    }
    send(&channel, b"!", SendFlags::NOSIGNAL).map_err(|e| failed(e.into()))?;
    send(&control, &function.assign_program, SendFlags::NOSIGNAL).map_err(|e| failed(e.into()))?;
    Ok(Newborn { pid, pidfd, control, channel, output, alarm })
}

/// Waits for the first process to say hello: its host process id.
fn hello(channel: BorrowedFd<'_>, function: &Function) -> Result<Pid> {
    let failed = |e: io::Error| Error::kernel("making", "an environment", e);
    if !process::readable(channel, BIRTH) {
        return Err(failed(io::ErrorKind::TimedOut.into()));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut record = [0; Record::LEN];
    let got = recvmsg(channel, &mut [io::IoSliceMut::new(&mut record)], &mut ancillary, RecvFlags::DONTWAIT)
        .map_err(|e| failed(e.into()))?;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
        _ => None,
    });
    if got.bytes == 0 {
        return Err(Error::kernel(
            "making",
            "an environment: its zygote ended",
            io::Error::from(io::ErrorKind::UnexpectedEof),
        ));
    }
    if let Some(e) = step_failure(&record[..got.bytes], function) {
        return Err(e);
    }
    sender.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
}

/// The step that a record reports as failed, if it does.
pub fn step_failure(record: &[u8], function: &Function) -> Option<Error> {
    let sections = [
        (Section::First, &function.birth.first),
        (Section::Park, &function.birth.park),
        (Section::Assign, &function.assign),
    ];
    sections
        .into_iter()
        .find_map(|(section, steps)| failure(record, section, steps))
        .or_else(|| failure(record, Section::Init, &crate::plan::environment::init(crate::spec::Architecture::HOST)))
}

/// Gives the environment's only user a host user of its own.
fn map_users(pid: Pid, slot: u32) -> Result<()> {
    let pid = pid.as_raw_nonzero();
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{USER_ID} {slot} 1")),
        ("gid_map", format!("{GROUP_ID} {slot} 1")),
    ] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, content).map_err(|e| Error::kernel("writing", path, e))?;
    }
    Ok(())
}
