//! The process that takes a base over and sees to its forks; see `coldframe_sys::child::trace`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coldframe_sys::child::record::{Kind, Record, Section};
use coldframe_sys::child::trace;
use coldframe_sys::program::{self, Step};
use coldframe_sys::spawn::{Spawn, spawn};
use rustix::net::sockopt::Timeout;
use rustix::net::{SendFlags, send};

use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::plan::User;
use crate::process;
use crate::zygote::receive;

/// How long one of its steps may take: it waits for a process that may be in the middle of something.
const STEP: Duration = Duration::from_secs(10);
/// How long its end may take.
const END: Duration = Duration::from_secs(2);

/// What all tracers of a process share.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
    supervisor: OwnedFd,
}

impl Program {
    /// Puts the program into a sealed file.
    pub fn new() -> Result<Self> {
        let make = || -> io::Result<Self> {
            let file = process::sealed("coldframe-trace", coldframe_sys::TRACE)?;
            Ok(Self { file, supervisor: process::own_pidfd()? })
        };
        make().map_err(|e| Error::kernel("making", "the tracer's program", e))
    }
}

/// A tracer that runs.
#[derive(Debug)]
pub struct Tracer {
    channel: OwnedFd,
    /// Where id maps are asked for, by one at a time.
    maps: Mutex<OwnedFd>,
    pidfd: OwnedFd,
    owner: Owner,
}

impl Tracer {
    fn start(program: &Program, init: BorrowedFd<'_>) -> Result<Self> {
        let failed = |e: io::Error| Error::kernel("starting", "a tracer", e);
        let (channel, far_channel) = process::packet_pair().map_err(failed)?;
        let (maps, far_maps) = process::packet_pair().map_err(failed)?;
        for socket in [&channel, &maps] {
            rustix::net::sockopt::set_socket_timeout(socket, Timeout::Send, Some(STEP))
                .map_err(|e| failed(e.into()))?;
        }
        let pidfd = spawn(&Spawn {
            namespaces: 0,
            cgroup: None,
            executable: program.file.as_fd(),
            fds: &[far_channel.as_fd(), program.supervisor.as_fd(), far_maps.as_fd(), init],
            map: None,
        })
        .map_err(failed)?;
        Ok(Self { channel, maps: Mutex::new(maps), pidfd, owner: Owner::default() })
    }

    /// Whether tracers can do what they have to on this host.
    pub fn probe(program: &Program) -> Result<()> {
        let tracer = Self::start(program, program.supervisor.as_fd())?;
        tracer.order(trace::PROBE, 0)?;
        match tracer.hear(Kind::Stopped)? {
            0 => Ok(()),
            errno => {
                let source = io::Error::from_raw_os_error(errno);
                Err(Error::kernel("suspending the system call filter", "a process that is traced", source))
            }
        }
    }

    /// Stops a process, has it looked at, and takes it over. `init` is the init of its pid namespace.
    pub fn take(program: &Program, pid: i32, init: BorrowedFd<'_>, fit: impl FnOnce() -> Result<()>) -> Result<Self> {
        let tracer = Self::start(program, init)?;
        tracer.order(trace::STOP, pid)?;
        tracer.hear(Kind::Stopped)?;
        fit()?;
        tracer.order(trace::TAKE, pid)?;
        tracer.hear(Kind::Done)?;
        Ok(tracer)
    }

    /// Gives the only user of a seat below the base a host user of its own.
    pub fn map_users(&self, pid: i32, slot: u32, user: User) -> Result<()> {
        let steps = [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{} {slot} 1", user.uid)),
            ("gid_map", format!("{} {slot} 1", user.gid)),
        ]
        .map(|(file, content)| Step::WriteFile { path: format!("/proc/{pid}/{file}"), content });
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |e: io::Error| Error::kernel("mapping the users of", "an environment", e);
        send(&*maps, &program::encode(&steps), SendFlags::NOSIGNAL).map_err(|e| failed(e.into()))?;
        let record = answer(maps.as_fd()).map_err(failed)?;
        match steps.get(record.index as usize).filter(|_| record.kind != Kind::Done as u32) {
            None if record.kind == Kind::Done as u32 => Ok(()),
            step => {
                let source = io::Error::from_raw_os_error(record.value);
                Err(Error::kernel("writing", step.map_or("a user namespace".into(), Step::subject), source))
            }
        }
    }

    /// A descriptor that is readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Has it end, and with it whoever it traces.
    pub fn kill(&self) {
        if self.owner.is_here() {
            process::kill(self.pidfd.as_fd());
        }
    }

    fn order(&self, what: u32, pid: i32) -> Result<()> {
        let order = [what.to_le_bytes(), pid.to_le_bytes()].concat();
        let sent = send(&self.channel, &order, SendFlags::NOSIGNAL);
        sent.map(|_| ()).map_err(|e| Error::kernel("asking", "a tracer", e))
    }

    fn hear(&self, kind: Kind) -> Result<i32> {
        let record = answer(self.channel.as_fd()).map_err(|e| Error::kernel("waiting for", "a tracer", e))?;
        if record.kind == kind as u32 {
            return Ok(record.value);
        }
        let step = trace::STEPS.get(record.index as usize).filter(|_| record.section == Section::Take as u32);
        let source = io::Error::from_raw_os_error(record.value);
        Err(Error::kernel(step.copied().unwrap_or("tracing"), "an initialised process", source))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.kill();
        if self.owner.is_here() && process::readable(self.pidfd.as_fd(), END) {
            process::reap(self.pidfd.as_fd());
        }
    }
}

fn answer(socket: BorrowedFd<'_>) -> io::Result<Record> {
    let mut bytes = [0; Record::LEN];
    let len = receive(socket, &mut bytes, STEP)?;
    Record::from_bytes(&bytes[..len]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
