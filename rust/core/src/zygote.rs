//! A zygote: an interpreter that has started, imported installed packages, and forks on request.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Read as _, Seek as _, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coldframe_sys::child::record::{Kind, Record, Section};
use coldframe_sys::program;
use coldframe_sys::spawn::{Spawn, spawn};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::owner::Owner;
use crate::plan::{self, environment::Birth};
use crate::process::{self, Lifelines};
use crate::snapstart::Base;
use crate::stock::Stock;

/// How much of what a zygote printed last is looked at, in bytes.
const OUTPUT: i64 = 16 << 10;
/// How long an interpreter and its packages may take to start.
const START: Duration = Duration::from_secs(60);
/// How long the end of all that was forked from one may take.
const END: Duration = Duration::from_secs(10);

/// The descriptors that all zygotes of a process share.
#[derive(Debug)]
pub struct Programs {
    init: OwnedFd,
    seat: OwnedFd,
    library: OwnedFd,
    supervisor: OwnedFd,
}

impl Programs {
    /// Puts the two programs of the far side into sealed files.
    pub fn new() -> Result<Self> {
        let make = || -> io::Result<Self> {
            Ok(Self {
                init: process::init_program()?,
                // Readable: the kernel lets nobody but root join the namespaces of a process whose program is not.
                seat: process::sealed("coldframe-init", coldframe_sys::INIT)?,
                library: process::sealed("coldframe-serve", coldframe_sys::SERVE)?,
                supervisor: process::own_pidfd()?,
            })
        };
        make().map_err(|e| Error::kernel("making", "the programs of the far side", e))
    }
}

/// A zygote that serves.
#[derive(Debug)]
pub struct Zygote {
    control: OwnedFd,
    channel: OwnedFd,
    pidfd: OwnedFd,
    kept: Kept,
    birth: Birth,
    /// What has been made ahead for it.
    pub stock: Stock,
    forks: AtomicU64,
    owner: Owner,
    retired: AtomicBool,
    ended: AtomicBool,
}

/// What else of it there is to be ended.
#[derive(Debug)]
enum Kept {
    /// Its own cgroup.
    Cgroup(Cgroup),
    /// It is no interpreter of ours, but a function that was initialised.
    Base(Base),
}

/// What came of starting one.
#[derive(Debug)]
pub enum Launch {
    /// It serves.
    Serving(Arc<Zygote>),
    /// It cannot preload these modules, for these reasons.
    Refused(BTreeMap<String, String>),
}

impl Zygote {
    /// Starts one and waits until it serves.
    pub fn launch(
        plan: &plan::zygote::Zygote<'_>,
        birth: Birth,
        programs: &Programs,
        cgroup: Cgroup,
        ids: (u32, u32),
    ) -> Result<Launch> {
        let failed = |e: io::Error| Error::kernel("starting", "a zygote", e);
        let (channel, far_channel) = process::packet_pair().map_err(failed)?;
        let (control, far_control) = process::packet_pair().map_err(failed)?;
        // A zygote that has been stopped reads nothing.
        for socket in [&control, &channel] {
            rustix::net::sockopt::set_socket_timeout(socket, Timeout::Send, Some(Duration::from_secs(10)))
                .map_err(|e| failed(e.into()))?;
        }
        let output = memfd_create("coldframe-zygote-output", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let steps = plan.steps();
        let encoded = program::encode_init(&steps[0], &steps[1], &steps[2]);
        let init_program = process::sealed("coldframe-program", &encoded).map_err(failed)?;
        let encoded = program::encode_init(&birth.seat, &[], &birth.init);
        let seat_program = process::sealed("coldframe-program", &encoded).map_err(failed)?;
        let map = process::own_map(ids.0, ids.1);
        let birthplace = cgroup.birthplace()?;
        let pidfd = spawn(&Spawn {
            namespaces: plan.namespaces(),
            cgroup: birthplace.as_ref().map(AsFd::as_fd),
            executable: programs.init.as_fd(),
            fds: &[
                far_channel.as_fd(),
                init_program.as_fd(),
                programs.supervisor.as_fd(),
                far_control.as_fd(),
                programs.seat.as_fd(),
                seat_program.as_fd(),
                programs.library.as_fd(),
                output.as_fd(),
            ],
            map: plan.user.is_none().then_some((map.0.as_str(), map.1.as_str())),
        })
        .map_err(failed)?;
        drop((far_channel, far_control));
        Self::new([control, channel, pidfd], Kept::Cgroup(cgroup), birth).wait(&steps, output)
    }

    /// One that is an initialised function, which serves already.
    pub fn of_base(base: Base, birth: Birth) -> Result<Arc<Self>> {
        let descriptors = base.environment.descriptors()?;
        rustix::net::sockopt::set_socket_timeout(&descriptors[0], Timeout::Send, Some(Duration::from_secs(10)))
            .map_err(|e| Error::kernel("starting", "a base", e))?;
        Ok(Arc::new(Self::new(descriptors, Kept::Base(base), birth)))
    }

    /// By its control socket, its init's channel and that one's pidfd.
    fn new([control, channel, pidfd]: [OwnedFd; 3], kept: Kept, birth: Birth) -> Self {
        Self {
            control,
            channel,
            pidfd,
            kept,
            birth,
            stock: Stock::default(),
            forks: AtomicU64::new(0),
            owner: Owner::default(),
            retired: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// The function that was initialised, if it is one.
    pub fn base(&self) -> Option<&Base> {
        match &self.kept {
            Kept::Base(base) => Some(base),
            Kept::Cgroup(_) => None,
        }
    }

    fn wait(self, steps: &[Vec<program::Step>; 3], output: OwnedFd) -> Result<Launch> {
        let mut buffer = vec![0; crate::wire::PACKET];
        let got = receive(self.control.as_fd(), &mut buffer, START)
            .and_then(|len| serde_json::from_slice::<serde_json::Value>(&buffer[..len]).map_err(io::Error::other));
        let Ok(ready) = got else {
            return Err(self.autopsy(steps, output, got.err()));
        };
        if ready["ready"].as_bool() == Some(true) {
            return Ok(Launch::Serving(Arc::new(self)));
        }
        let refused = ready["refused"].as_object().into_iter().flatten();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Launch::Refused(refused.map(|(name, why)| (name.clone(), text(why))).collect()))
    }

    /// Why a zygote did not come to serve: a step that failed, or what its interpreter printed.
    fn autopsy(&self, steps: &[Vec<program::Step>; 3], output: OwnedFd, error: Option<io::Error>) -> Error {
        let mut record = [0; 64];
        while let Ok(len) = receive(self.channel.as_fd(), &mut record, Duration::from_millis(200)) {
            let sections = [Section::Init, Section::Child, Section::Last];
            if let Some(e) =
                sections.iter().zip(steps).find_map(|(&section, steps)| failure(&record[..len], section, steps))
            {
                return e;
            }
        }
        let mut bytes = Vec::new();
        let mut file = File::from(output);
        let end = file.seek(SeekFrom::End(-OUTPUT)).or_else(|_| file.seek(SeekFrom::Start(0)));
        let _ = end.and_then(|_| file.take(OUTPUT as u64).read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes);
        let from = text.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        // Killed, most often: the next invocation starts another.
        if text.is_empty() {
            let source = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
            return Error::kernel("starting", "a zygote, which ended, or said nothing, before it served", source);
        }
        let why = &text[from..];
        Error::HostCapability(format!("the interpreter could not be started in its sandbox: {why}"))
    }

    /// Asks for a child, in a seat.
    pub fn fork(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.control, request, fds)?;
        self.forks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Asks its init for a seat in these new namespaces.
    pub fn make_seat(&self, flags: u64, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.channel, &flags.to_le_bytes(), fds)
    }

    /// How its environments come into being.
    pub fn birth(&self) -> &Birth {
        &self.birth
    }

    /// How often it has forked.
    pub fn forks(&self) -> u64 {
        self.forks.load(Ordering::Relaxed)
    }

    /// Another takes its place: it ends with its last environment.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether it is asked for environments.
    pub fn serves(&self) -> bool {
        !self.retired.load(Ordering::Acquire) && self.alive()
    }

    /// Whether it can still be asked. What dies because of its end dies later than this is known.
    pub fn alive(&self) -> bool {
        self.lifelines().hold()
    }

    /// What tells that it and its init live.
    pub fn lifelines(&self) -> Lifelines<'_> {
        let tracer = self.base().map(|base| base.tracer.pidfd());
        let pidfds = tracer.into_iter().chain([self.pidfd.as_fd()]).collect();
        Lifelines { pidfds, sockets: vec![self.channel.as_fd(), self.control.as_fd()] }
    }

    /// Waits for its end, for as long as given: an init that is killed ends after everything below it.
    pub fn ends_within(&self, time: Duration) -> bool {
        process::readable(self.pidfd.as_fd(), time)
    }
}

impl Zygote {
    /// Ends it, and with it every environment that was forked from it, and waits for that until then.
    pub fn end(&self, deadline: Instant) {
        self.kill();
        if !self.owner.is_here() || self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        // One that will not die is left to the next start.
        if self.ends_within(deadline.saturating_duration_since(Instant::now()))
            && let Kept::Cgroup(cgroup) = &self.kept
        {
            process::reap(self.pidfd.as_fd());
            let _ = cgroup.remove_within(Duration::from_secs(2));
        }
    }

    /// Has it end, without waiting for that.
    pub fn kill(&self) {
        if self.owner.is_here() && !self.ended.load(Ordering::Acquire) {
            match &self.kept {
                Kept::Cgroup(cgroup) => {
                    let _ = cgroup.kill();
                }
                Kept::Base(base) => base.kill(),
            }
            process::kill(self.pidfd.as_fd());
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.end(Instant::now() + END);
    }
}

/// Sends one packet, with descriptors.
pub fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !(fds.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The error of a failed step, if `record` reports one of this section.
pub fn failure(record: &[u8], section: Section, steps: &[program::Step]) -> Option<Error> {
    let record = Record::from_bytes(record)?;
    if record.kind != Kind::Failed as u32 || record.section != section as u32 {
        return None;
    }
    let source = io::Error::from_raw_os_error(record.value);
    let Some(step) = steps.get(record.index as usize) else {
        let step = match section {
            Section::Enter => "forking a process into the namespaces of",
            Section::Park => "arranging the descriptors of",
            Section::Assign => "giving a function to",
            _ => "starting",
        };
        return Some(Error::kernel(step, "an environment's init or process", source));
    };
    Some(Error::kernel(step.name(), step.subject(), source))
}

/// Receives one packet within a time.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], within: Duration) -> io::Result<usize> {
    let deadline = Instant::now() + within;
    loop {
        if !process::readable(fd, deadline.saturating_duration_since(Instant::now())) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        return match recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, len)) => Ok(len.min(buffer.len())),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(e) => Err(e.into()),
        };
    }
}
