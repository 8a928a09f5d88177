//! The fork server of a zygote: sends a child into a seat for every request, with no word of Python in between.
//!
//! A *seat* is what an environment needs of the kernel and not of an interpreter: cgroups, namespaces and an init, made
//! ahead by the zygote's init (see `super::init`). Only who owns a user namespace may enter it without a capability: the
//! zygote does, since its init, which is the same user, made it.

use super::abi::{CLONE_INTO_CGROUP, EINTR, EINVAL, O_CLOEXEC, O_RDWR, SIGCHLD};
use super::fork::{Thread, share};
use super::record::{Kind, Record, Section};
use super::run::{Context, fail, report, run_or_exit};
use super::syscall::{self as sys, CStr};

/// A request begins with this many bytes: the namespaces to join (u64), with [`INTO_CGROUP`] if there is a version 2 cgroup
/// to be born in. The program that a new environment runs before it has a function follows.
pub const HEADER: usize = 8;
/// Set beside the namespace flags when the cgroup descriptor is one.
pub const INTO_CGROUP: u64 = CLONE_INTO_CGROUP;
/// Set beside them when the environment is made ahead of need: it rehearses, and says when it is done.
pub const PARK: u64 = 1;
/// Set beside them when the seat's namespaces come one by one, behind all other descriptors, the user namespace first. To join
/// them by a pidfd the kernel asks Landlock, which lets nobody in force of it near a process that is not.
pub const APART: u64 = 2;
/// Descriptors of every request, in order; those that version 1 cgroups are joined by follow.
pub const CONTROL: usize = 0;
/// The channel of the records.
pub const CHANNEL: usize = 1;
/// Where standard output and error go.
pub const OUTPUT: usize = 2;
/// A pidfd of the seat's init.
pub const SEAT: usize = 3;
/// A directory of the version 2 cgroup tree, or any other descriptor if there is none.
pub const CGROUP: usize = 4;

/// The zygote's own descriptors, from its start on.
pub const ZYGOTE_CONTROL: i32 = 6;
/// The init program, for seats.
pub const ZYGOTE_INIT: i32 = 7;
/// What the init of a seat is to do.
pub const ZYGOTE_PROGRAM: i32 = 8;
/// The library that holds this code.
pub const ZYGOTE_LIBRARY: i32 = 9;

/// Descriptors of an environment.
pub const ENVIRONMENT_CONTROL: i32 = 3;
/// Where it reports until it has a function.
pub const ENVIRONMENT_CHANNEL: i32 = 4;

/// The process id, in the seat, of the one that only makes another: out of the way, so that the other gets the first.
const USHER: i32 = 300;

/// The longest request, and the longest program that makes an environment a function's.
pub const ROOM: usize = 64 * 1024;

struct Buffer(core::cell::UnsafeCell<[u8; ROOM]>);
// SAFETY: a zygote has one thread (it is refused otherwise), and so has a child that has just been forked from it.
unsafe impl Sync for Buffer {}
static BUFFER: Buffer = Buffer(core::cell::UnsafeCell::new([0; ROOM]));

/// Where packets are received.
///
/// # Safety
/// Nobody else has it: the process has one thread, and whoever had it before has let go of it.
pub(super) unsafe fn buffer() -> &'static mut [u8; ROOM] {
    // SAFETY: the caller vouches for it.
    unsafe { &mut *BUFFER.0.get() }
}

/// Serves requests on `control` until the supervisor hangs up (-1). In a child, which is in its seat then: 1 if it is to be
/// parked, 0 if its function is on the way already.
/// `rseq_offset`: see [`Thread::current`].
pub fn serve(control: i32, rseq_offset: isize) -> i32 {
    // Children that end are of no interest to the zygote: the kernel reaps them.
    let _ = sys::signal(SIGCHLD, sys::SIG_IGN);
    let parked = serve_as(control, &Thread::current(rseq_offset));
    if parked >= 0 {
        let _ = sys::signal(SIGCHLD, sys::SIG_DFL);
    }
    parked
}

/// The same, in this thread, which leaves signals alone.
pub(super) fn serve_as(control: i32, thread: &Thread) -> i32 {
    // SAFETY: see `Buffer`; serve is called once and has let go of it when it returns.
    let buffer = unsafe { buffer() };
    loop {
        // Those that were only to make others, where the kernel does not do it.
        while let Ok(Some(_)) = sys::reap() {}
        let mut fds = [-1; 16];
        let (len, count) = match sys::receive(control, buffer, &mut fds) {
            Ok((0, _)) => return -1,
            Ok(got) => got,
            Err(EINTR) => continue,
            Err(_) => return -1,
        };
        if let Some(mut request) = Request::parse(&buffer[..len], &fds[..count], thread)
            && request.fork()
        {
            request.settle();
            return i32::from(request.flags & PARK != 0);
        }
        for &fd in &fds[..count] {
            let _ = sys::close(fd);
        }
    }
}

/// Waits to be given a function, and locks the process down as that function's environment. `parked`: says so first.
pub fn assign(parked: bool) {
    // SAFETY: see `Buffer`; `serve` has returned in this process.
    let buffer = unsafe { buffer() };
    let mut fds = [-1; 16];
    if parked {
        report(ENVIRONMENT_CHANNEL, Record { kind: Kind::Parked as u32, section: 0, index: 0, value: 0 });
    }
    let (len, count) = loop {
        match sys::receive(ENVIRONMENT_CONTROL, buffer, &mut fds) {
            // Nobody will ever give this environment a function.
            Ok((0, _)) => sys::exit(0),
            Ok(got) => break got,
            Err(EINTR) => {}
            Err(errno) => fail(ENVIRONMENT_CHANNEL, Section::Assign, u32::MAX, errno),
        }
    };
    // Capabilities, Landlock and the filter are a thread's own: another one would keep what this one gives up.
    if let Err(errno) = sys::alone() {
        fail(ENVIRONMENT_CHANNEL, Section::Assign, u32::MAX, errno);
    }
    // What came along is attached, and then nobody's.
    run_or_exit(&buffer[..len], Section::Assign, &mut Context::new(ENVIRONMENT_CHANNEL, &fds[..count]));
    for &fd in fds[..count].iter().chain(&[ENVIRONMENT_CHANNEL]) {
        let _ = sys::close(fd);
    }
}

struct Request<'a> {
    flags: u64,
    park: &'a [u8],
    fds: &'a [i32],
    thread: &'a Thread,
    /// Where the way into the seat ended, if it did: the place of the step, and the errno.
    failed: Option<(u32, i32)>,
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8], fds: &'a [i32], thread: &'a Thread) -> Option<Self> {
        let (flags, park) = bytes.split_first_chunk::<HEADER>()?;
        let request = Self { flags: u64::from_le_bytes(*flags), park, fds, thread, failed: None };
        (fds.len() > CGROUP + request.namespaces()).then_some(request)
    }

    /// How many descriptors are namespaces.
    fn namespaces(&self) -> usize {
        let flags = self.flags & !(INTO_CGROUP | PARK | APART);
        if self.flags & APART == 0 { 0 } else { flags.count_ones() as usize }
    }

    /// The descriptors by which version 1 cgroups are joined.
    fn doors(&self) -> &'a [i32] {
        &self.fds[CGROUP + 1..self.fds.len() - self.namespaces()]
    }

    fn join_namespaces(&self) -> Result<(), i32> {
        if self.flags & APART == 0 {
            sys::setns(self.fds[SEAT], self.flags & !(INTO_CGROUP | PARK))?;
        }
        for &namespace in &self.fds[self.fds.len() - self.namespaces()..] {
            sys::setns(namespace, 0)?;
        }
        Ok(())
    }

    /// Forks into the seat; true in the child there.
    ///
    /// The zygote's memory is copied once, by the last of three: the first joins namespaces, which the zygote itself may
    /// not; the second is in the seat's pid namespace and joins version 1 cgroups, and its child the seat's init inherits
    /// when it has ended. Both share the zygote's memory, and end while that waits.
    fn fork(&mut self) -> bool {
        match share(enter, self, 0) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(errno) => self.failed = Some((u32::MAX, errno)),
        }
        if let Some((index, errno)) = self.failed {
            let kind = Kind::Failed as u32;
            report(self.fds[CHANNEL], Record { kind, section: Section::Enter as u32, index, value: errno });
        }
        false
    }

    /// Gives the environment's process its place among the processes, and its descriptors; the program closes all others.
    fn settle(&self) {
        let channel = self.fds[CHANNEL];
        if let Err(errno) = self.settle_down() {
            fail(channel, Section::Park, u32::MAX, errno);
        }
        // Who shares the zygote's memory and is in our cgroups must be gone before anybody could freeze it with us.
        while sys::parent() != 1 {
            sys::give_way();
        }
        let kind = Kind::Born as u32;
        report(ENVIRONMENT_CHANNEL, Record { kind, section: 0, index: 0, value: 0 });
        run_or_exit(self.park, Section::Park, &mut Context::new(ENVIRONMENT_CHANNEL, &[]));
    }

    fn settle_down(&self) -> Result<(), i32> {
        let null = sys::open(CStr::new(b"/dev/null\0").ok_or(EINVAL)?, O_RDWR, 0)? as i32;
        let (control, channel, output) = (self.fds[CONTROL], self.fds[CHANNEL], self.fds[OUTPUT]);
        // High first: a source may have the very number that another is to get.
        let [null, control, channel, output] = [
            sys::dup_above(null, 64)? as i32,
            sys::dup_above(control, 64)? as i32,
            sys::dup_above(channel, 64)? as i32,
            sys::dup_above(output, 64)? as i32,
        ];
        sys::dup3(null, 0, 0)?;
        sys::dup3(output, 1, 0)?;
        sys::dup3(output, 2, 0)?;
        sys::dup3(control, ENVIRONMENT_CONTROL, O_CLOEXEC)?;
        sys::dup3(channel, ENVIRONMENT_CHANNEL, O_CLOEXEC)?;
        Ok(())
    }
}

/// In a process that shares the zygote's memory: joins the seat's namespaces. A step that fails is noted for the zygote;
/// their places are those of the doors, then of the namespaces, then of the fork.
///
/// It joins no cgroup: nobody there waits for its end, and whoever freezes the environment soon would stop the zygote too.
extern "C" fn enter(request: &mut Request<'_>) {
    let index = request.doors().len() as u32;
    if let Err(errno) = request.join_namespaces() {
        request.give_up(index, errno);
    }
    match share(be_born, request, USHER) {
        Ok(0) => {}
        Ok(_) => sys::exit(0),
        Err(errno) => request.give_up(index + 1, errno),
    }
}

/// In the seat's pid namespace: joins the seat's version 1 cgroups, and makes the one process that is to stay there.
extern "C" fn be_born(request: &mut Request<'_>) {
    let doors = request.doors();
    for (index, &door) in doors.iter().enumerate() {
        if let Err(errno) = sys::write(door, b"0") {
            request.give_up(index as u32, errno);
        }
    }
    let cgroup = if request.flags & INTO_CGROUP == 0 { None } else { Some(request.fds[CGROUP]) };
    match request.thread.fork(cgroup) {
        Ok(0) => {}
        Ok(_) => sys::exit(0),
        Err(errno) => request.give_up(doors.len() as u32 + 1, errno),
    }
}

impl Request<'_> {
    /// Ends a process that shares the zygote's memory; the zygote goes on and tells.
    fn give_up(&mut self, index: u32, errno: i32) -> ! {
        self.failed = Some((index, errno));
        sys::exit(0)
    }
}
