//! What an environment needs of the kernel and not of an interpreter: its cgroups, its namespaces with a user of its own,
//! an init, and the ends of its wires. A *seat* is made ahead of need; a process comes into it from the zygote.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use coldframe_sys::child::record::{Kind, Record, Section};
use coldframe_sys::child::serve;
use coldframe_sys::program;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::plan::User;
use crate::plan::environment::{Birth, Sections};
use crate::plan::restored::Births;
use crate::process::{self, Lifelines};
use crate::snapstart::fitness::{self, Known};
use crate::zygote::{Zygote, failure};

/// How long the kernel may take to make one.
const MAKING: Duration = Duration::from_secs(10);

/// A seat, whether somebody is in it or not.
#[derive(Debug)]
pub struct Seat {
    /// The host's process id of its init.
    pub pid: Pid,
    /// The same, for as long as it is held.
    pub pidfd: OwnedFd,
    /// Where questions go and answers come from.
    pub control: Arc<OwnedFd>,
    /// Where its init reports.
    pub channel: OwnedFd,
    /// What is printed in it.
    pub output: OwnedFd,
    /// Readable when its memory runs out, where the kernel does not end it by itself.
    pub alarm: Option<OwnedFd>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// The host user that it has, as root; 0 otherwise.
    pub slot: u32,
    /// Where its own programs will ask for Lambda's APIs.
    pub listener: Option<OwnedFd>,
}

/// A seat of which nothing came, to be ended, and why.
pub type Lost = Box<(Seat, Error)>;

/// A seat that is free.
#[derive(Debug)]
pub struct Free {
    seat: Seat,
    control: OwnedFd,
    channel: OwnedFd,
    output: OwnedFd,
    birthplace: Option<OwnedFd>,
    doors: Vec<OwnedFd>,
    /// Below a base: the namespaces, the user namespace first.
    namespaces: Vec<OwnedFd>,
}

/// What the seat of a base has beyond others'.
#[derive(Debug)]
pub struct Special<'a> {
    /// What its init does, and how it locks itself down.
    pub births: &'a Births,
    /// What the inits of seats below do, encoded.
    pub below: BorrowedFd<'a>,
    /// The host users that environments below may be.
    pub users: Range<u32>,
}

impl Free {
    /// Has the zygote's init make one, and sees it through.
    pub fn make(zygote: &Zygote, cgroup: Cgroup, slot: u32, special: Option<&Special<'_>>) -> Result<Self> {
        let kept = cgroup.clone();
        Self::try_make(zygote, cgroup, slot, special).inspect_err(|_| {
            kept.kill();
            let _ = kept.remove_within(Duration::from_secs(1));
        })
    }

    fn try_make(zygote: &Zygote, cgroup: Cgroup, slot: u32, special: Option<&Special<'_>>) -> Result<Self> {
        let failed = |e: io::Error| Error::kernel("making", "an environment", e);
        let (control, far_control) = process::packet_pair().map_err(failed)?;
        let (channel, far_channel) = process::packet_pair().map_err(failed)?;
        let birth = zygote.birth();
        // Kernels before 6.16 cannot; there the filter, which lets no socket linger, is what keeps a close from blocking. A
        // launcher, which is no code of the function's, hands connections out.
        if !birth.listens {
            let _ = coldframe_sys::host::refuse_descriptors(control.as_fd());
        }
        let (output, far_output) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        rustix::io::ioctl_fionbio(&output, true).map_err(|e| failed(e.into()))?;
        // Credentials of what comes from the channel: the only word about a process id that is to be believed.
        rustix::net::sockopt::set_socket_passcred(&channel, true).map_err(|e| failed(e.into()))?;
        let alarm = cgroup.memory_alarm()?;
        let (birthplace, doors) = (cgroup.birthplace()?, cgroup.doors()?);
        let mut sections = birth.sections();
        if let Some(special) = special {
            (sections[0], sections[1]) = (&special.births.seat, &special.births.init);
        }
        let hear = |kind, lifelines: &Lifelines<'_>| hear(channel.as_fd(), kind, sections, lifelines);
        let program = special
            .map(|_| process::sealed("coldframe-program", &program::encode_init(sections[0], &[], sections[1])))
            .transpose()
            .map_err(failed)?;
        let fds = [Some(far_channel.as_fd()), program.as_ref().map(AsFd::as_fd), special.map(|special| special.below)];
        let fds: Vec<_> = fds.into_iter().flatten().collect();
        zygote.make_seat(birth.namespaces, &fds).map_err(|e| Error::kernel("asking", "a zygote's init", e))?;
        // Our own copies of the far ends keep the channel from hanging up.
        let mut lifelines = zygote.lifelines();
        let Heard { sender: pid, .. } = hear(Kind::Hello, &lifelines)?;
        let pidfd =
            pidfd_open(pid, PidfdFlags::empty()).map_err(|e| Error::kernel("opening", "an environment's pidfd", e))?;
        match (zygote.base(), special) {
            (Some(base), _) => base.tracer.map_users(pid.as_raw_nonzero().get(), slot, birth.user)?,
            (None, Some(special)) => map_users(pid, slot, birth.user, &special.users)?,
            (None, None) if slot != 0 => map_users(pid, slot, birth.user, &(0..0))?,
            (None, None) => {}
        }
        send(&channel, b"!", SendFlags::NOSIGNAL).map_err(|e| failed(e.into()))?;
        lifelines.pidfds.push(pidfd.as_fd());
        let listening = birth.listens.then(|| hear(Kind::Listening, &lifelines)).transpose()?;
        hear(Kind::Seated, &lifelines)?;
        let namespaces = zygote.base().map_or_else(|| Ok(Vec::new()), |_| open_namespaces(pid, birth.joined))?;
        let listener = listening.and_then(|heard| heard.descriptor);
        let control = Arc::new(control);
        let seat = Seat { pid, pidfd, control, channel, output, alarm, cgroup, slot, listener };
        Ok(Self { seat, control: far_control, channel: far_channel, output: far_output, birthplace, doors, namespaces })
    }

    /// Sends a child of the zygote into it.
    pub fn enter(self, zygote: &Zygote) -> Result<Seat, Lost> {
        self.fork(zygote, 0)
    }

    /// The same ahead of need: returns when the environment has rehearsed and waits for a function.
    pub fn park(self, zygote: &Zygote) -> Result<Seat, Lost> {
        let seat = self.fork(zygote, serve::PARK)?;
        match hear(seat.channel.as_fd(), Kind::Parked, zygote.birth().sections(), &zygote.lifelines()) {
            Ok(_) => Ok(seat),
            Err(e) => Err(Box::new((seat, e))),
        }
    }

    fn fork(self, zygote: &Zygote, flags: u64) -> Result<Seat, Lost> {
        let birth = zygote.birth();
        let mut fds = vec![self.control.as_fd(), self.channel.as_fd(), self.output.as_fd(), self.seat.pidfd.as_fd()];
        fds.push(self.birthplace.as_ref().map_or(self.control.as_fd(), AsFd::as_fd));
        fds.extend(self.doors.iter().chain(&self.namespaces).map(AsFd::as_fd));
        let flags = flags | birth.joined | into_cgroup(self.birthplace.as_ref());
        let request = program::encode_request(flags, &birth.park_program);
        let born = zygote
            .fork(&request, &fds)
            .map_err(|e| Error::kernel("asking", "a zygote", e))
            .and_then(|()| hear(self.seat.channel.as_fd(), Kind::Born, birth.sections(), &zygote.lifelines()));
        match born {
            Ok(_) => Ok(self.seat),
            Err(e) => Err(Box::new((self.seat, e))),
        }
    }

    /// Which files its process is to have open.
    pub fn known(&self) -> Result<Known> {
        Ok(Known { control: fitness::identity(&self.control)?, output: fitness::identity(&self.output)? })
    }

    /// Whether its init lives: nothing tells of the end of one that waits.
    pub fn alive(&self) -> bool {
        !process::readable(self.seat.pidfd.as_fd(), Duration::ZERO)
    }

    /// The seat, of which only the end is wanted.
    pub fn give_up(self) -> Seat {
        self.seat
    }
}

impl Seat {
    /// Whether its init lives, and whoever is in it.
    pub fn alive(&self) -> bool {
        Lifelines { pidfds: vec![self.pidfd.as_fd()], sockets: vec![self.control.as_fd()] }.hold()
    }

    /// Ends it, with whoever is in it; false if it would not.
    pub fn end(&self) -> bool {
        self.cgroup.kill();
        process::kill(self.pidfd.as_fd());
        process::readable(self.pidfd.as_fd(), Duration::from_secs(2))
            && self.cgroup.remove_within(Duration::from_secs(2)).is_ok()
    }
}

fn into_cgroup(birthplace: Option<&OwnedFd>) -> u64 {
    if birthplace.is_some() { serve::INTO_CGROUP } else { 0 }
}

/// A word from a channel.
struct Heard {
    /// The host's process id of who sent it.
    sender: Pid,
    /// What came along.
    descriptor: Option<OwnedFd>,
}

/// Waits, for as long as those live who are to speak, for the next word, which should be of this kind.
fn hear(channel: BorrowedFd<'_>, kind: Kind, birth: Sections<'_>, lifelines: &Lifelines<'_>) -> Result<Heard> {
    let failed = |e: io::ErrorKind| Error::kernel("making", "an environment", io::Error::from(e));
    let ended = || {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof);
        Error::kernel("making", "an environment: its init or its zygote ended", source)
    };
    if !process::readable_while(channel, MAKING, lifelines) {
        return Err(if lifelines.hold() { failed(io::ErrorKind::TimedOut) } else { ended() });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; Record::LEN];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(channel, &mut [io::IoSliceMut::new(&mut bytes)], &mut ancillary, flags)
        .map_err(|e| Error::kernel("making", "an environment", e))?;
    let (mut sender, mut descriptor) = (None, None);
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptor = descriptors.next(),
            _ => {}
        }
    }
    if got.bytes == 0 {
        return Err(ended());
    }
    if let Some(e) = failure_of(&bytes[..got.bytes], birth, &[]) {
        return Err(e);
    }
    let record = Record::from_bytes(&bytes[..got.bytes]).filter(|record| record.kind == kind as u32);
    let known = record.zip(sender).filter(|_| (kind == Kind::Listening) == descriptor.is_some());
    known.map(|(_, sender)| Heard { sender, descriptor }).ok_or_else(|| failed(io::ErrorKind::InvalidData))
}

/// The step that a record reports as failed, if it does. `assign` is how the environment becomes its function's.
pub fn step_failure(record: &[u8], birth: &Birth, assign: &[program::Step]) -> Option<Error> {
    failure_of(record, birth.sections(), assign)
}

fn failure_of(record: &[u8], [seat, init, enter, park]: Sections<'_>, assign: &[program::Step]) -> Option<Error> {
    [
        (Section::Init, seat),
        (Section::Last, init),
        (Section::Enter, enter),
        (Section::Park, park),
        (Section::Assign, assign),
    ]
    .into_iter()
    .find_map(|(section, steps)| failure(record, section, steps))
}

/// Opens the namespaces of these flags that a process is in, the user namespace first.
fn open_namespaces(pid: Pid, flags: u64) -> Result<Vec<OwnedFd>> {
    use crate::process::namespace::{IPC, MOUNT, NETWORK, PID, USER, UTS};
    let all = [(USER, "user"), (PID, "pid"), (IPC, "ipc"), (UTS, "uts"), (NETWORK, "net"), (MOUNT, "mnt")];
    let open = |(_, name)| {
        let path = format!("/proc/{}/ns/{name}", pid.as_raw_nonzero());
        let file = fs::File::open(&path);
        file.map(OwnedFd::from).map_err(|e| Error::kernel("opening", path, e))
    };
    all.into_iter().filter(|(flag, _)| flags & flag != 0).map(open).collect()
}

/// Gives the environment's only user a host user of its own, and to whoever is below it these.
fn map_users(pid: Pid, slot: u32, user: User, below: &Range<u32>) -> Result<()> {
    let pid = pid.as_raw_nonzero();
    let others = [below.start..slot.clamp(below.start, below.end), slot.saturating_add(1).max(below.start)..below.end];
    let line = |range: &Range<u32>| format!("\n{0} {0} {1}", range.start, range.len());
    let others: Vec<String> = others.iter().filter(|range| !range.is_empty()).map(line).collect();
    let others = others.concat();
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{} {slot} 1{others}", user.uid)),
        ("gid_map", format!("{} {slot} 1{others}", user.gid)),
    ] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, content).map_err(|e| Error::kernel("writing", path, e))?;
    }
    Ok(())
}
