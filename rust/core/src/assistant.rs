//! A process of ours in namespaces of its own that does one thing for the supervisor, and ends with it.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use coldframe_sys::child::record::Record;
use coldframe_sys::program::{self, Step};
use coldframe_sys::spawn::{Spawn, spawn};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::process::{self, init_program, own_pidfd, packet_pair, reap, sealed};
use crate::zygote::receive;

/// It is killed when this is dropped.
#[derive(Debug)]
pub struct Assistant {
    channel: OwnedFd,
    pidfd: OwnedFd,
}

impl Assistant {
    /// Starts one that takes these steps. `map`: the lines for the id maps of a new user namespace, if it is to write them.
    pub fn start(namespaces: u64, steps: &[Step], map: Option<(&str, &str)>) -> io::Result<Self> {
        let (channel, theirs) = packet_pair()?;
        let program = sealed("coldframe-assistant", &program::encode_init(steps, &[], &[]))?;
        let (supervisor, executable) = (own_pidfd()?, init_program()?);
        let pidfd = spawn(&Spawn {
            namespaces,
            cgroup: None,
            executable: executable.as_fd(),
            fds: &[theirs.as_fd(), program.as_fd(), supervisor.as_fd()],
            map,
        })?;
        Ok(Self { channel, pidfd })
    }

    /// What it says next, within a time.
    pub fn says(&self, within: Duration) -> io::Result<[u8; Record::LEN]> {
        let mut said = [0; Record::LEN];
        receive(self.channel.as_fd(), &mut said, within).map(|_| said)
    }

    /// The descriptor that it sends next, or else what it says.
    pub fn sends(&self, within: Duration) -> io::Result<Result<OwnedFd, [u8; Record::LEN]>> {
        if !process::readable(self.channel.as_fd(), within) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (mut ancillary, mut said) = (RecvAncillaryBuffer::new(&mut space), [0; Record::LEN]);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(&self.channel, &mut [IoSliceMut::new(&mut said)], &mut ancillary, flags)?;
        let sent = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(sent.ok_or(said))
    }

    /// Its process id.
    pub fn pid(&self) -> io::Result<u32> {
        let known = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.pidfd.as_raw_fd()))?;
        let pid = known.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        pid.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Assistant {
    fn drop(&mut self) {
        process::kill(self.pidfd.as_fd());
        reap(self.pidfd.as_fd());
    }
}
