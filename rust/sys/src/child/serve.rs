//! The fork server of a zygote: makes a new environment for every request, with no word of Python in between.

use super::record::Section;
use super::run::{Context, fail, run_or_exit};
use super::syscall::{self as sys, CStr};

/// A request begins with this many bytes: namespace flags (u64), length of the first program (u32), of the second (u32).
pub const HEADER: usize = 16;
/// Descriptors of every request, in order; those that version 1 cgroups are joined by follow.
pub const CONTROL: usize = 0;
/// The channel of the records.
pub const CHANNEL: usize = 1;
/// Where standard output and error go.
pub const OUTPUT: usize = 2;
/// A directory of the version 2 cgroup tree, or any other descriptor if there is none.
pub const CGROUP: usize = 3;
/// Set beside the namespace flags when the cgroup descriptor is one.
pub const INTO_CGROUP: u64 = sys::CLONE_INTO_CGROUP;

/// The zygote's own descriptors, from its start on.
pub const ZYGOTE_CONTROL: i32 = 6;
/// The init program.
pub const ZYGOTE_INIT: i32 = 7;
/// What the init program of an environment is to do.
pub const ZYGOTE_PROGRAM: i32 = 8;
/// The library that holds this code.
pub const ZYGOTE_LIBRARY: i32 = 9;
/// A pidfd of the supervisor.
pub const ZYGOTE_SUPERVISOR: i32 = 5;

/// Descriptors of an environment.
pub const ENVIRONMENT_CONTROL: i32 = 3;
const ENVIRONMENT_CHANNEL: i32 = 4;

const EINVAL: i32 = 22;
const EINTR: i32 = 4;
const ROOM: usize = 64 * 1024;

struct Buffer(core::cell::UnsafeCell<[u8; ROOM]>);
// SAFETY: a zygote has one thread (it is refused otherwise), and so has a child that has just been forked from it.
unsafe impl Sync for Buffer {}
static BUFFER: Buffer = Buffer(core::cell::UnsafeCell::new([0; ROOM]));

/// Serves requests on `control` until the supervisor hangs up (-1); 0 in a child.
pub fn serve(control: i32) -> i32 {
    // Children that end are of no interest to the zygote: the kernel reaps them.
    let _ = sys::signal(sys::SIGCHLD, sys::SIG_IGN);
    let tid = sys::tid_address();
    // SAFETY: see `Buffer`; serve is called once and takes it for as long as the process lives.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    loop {
        let mut fds = [-1; 16];
        let (len, count) = match sys::receive(control, buffer, &mut fds) {
            Ok((0, _)) => return -1,
            Ok(got) => got,
            Err(EINTR) => continue,
            Err(_) => return -1,
        };
        let request = Request::parse(&buffer[..len], &fds[..count]);
        if request.is_some_and(|request| request.fork(tid)) {
            become_environment(buffer);
            return 0;
        }
        for &fd in &fds[..count] {
            let _ = sys::close(fd);
        }
    }
}

struct Request<'a> {
    flags: u64,
    first: &'a [u8],
    park: &'a [u8],
    fds: &'a [i32],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8], fds: &'a [i32]) -> Option<Self> {
        let (flags, rest) = bytes.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<4>()?;
        let (park, rest) = rest.split_first_chunk::<4>()?;
        let (first, park) = (u32::from_le_bytes(*first) as usize, u32::from_le_bytes(*park) as usize);
        if fds.len() <= CGROUP {
            return None;
        }
        Some(Self {
            flags: u64::from_le_bytes(*flags),
            first: rest.get(..first)?,
            park: rest.get(first..first.checked_add(park)?)?,
            fds,
        })
    }

    /// Forks twice: into a process that becomes the init, and from it into the environment's own. True in the latter.
    fn fork(&self, tid: usize) -> bool {
        let channel = self.fds[CHANNEL];
        let cgroup = if self.flags & INTO_CGROUP == 0 { None } else { Some(self.fds[CGROUP]) };
        match sys::fork_into(self.flags & !INTO_CGROUP, cgroup, tid) {
            Ok(0) => {}
            Ok(_) => return false,
            Err(errno) => {
                let record = super::record::Record {
                    kind: super::record::Kind::Failed as u32,
                    section: Section::First as u32,
                    index: u32::MAX,
                    value: errno,
                };
                super::run::report(channel, record);
                return false;
            }
        }
        // pid 1 must see its child end, which the zygote's disposition would hide.
        let _ = sys::signal(sys::SIGCHLD, sys::SIG_DFL);
        let mut context = Context::new(channel, &self.fds[CGROUP + 1..]);
        run_or_exit(self.first, Section::First, &mut context);
        match sys::fork(tid) {
            Ok(0) => {
                self.settle();
                run_or_exit(self.park, Section::Park, &mut Context::new(ENVIRONMENT_CHANNEL, &[]));
                true
            }
            Ok(_) => self.become_init(),
            Err(errno) => fail(channel, Section::First, u32::MAX, errno),
        }
    }

    /// Gives the environment's process its descriptors, and no others.
    fn settle(&self) {
        const O_RDWR: u32 = 2;
        let channel = self.fds[CHANNEL];
        let result = (|| {
            let path = CStr::new(b"/dev/null\0").ok_or(EINVAL)?;
            let null = sys::open(path, O_RDWR, 0)? as i32;
            let (control, output) = (self.fds[CONTROL], self.fds[OUTPUT]);
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
            sys::dup3(control, ENVIRONMENT_CONTROL, CLOEXEC)?;
            sys::dup3(channel, ENVIRONMENT_CHANNEL, CLOEXEC)?;
            sys::close_from(ENVIRONMENT_CHANNEL as u32 + 1)
        })();
        if let Err(errno) = result {
            fail(channel, Section::Park, u32::MAX, errno);
        }
    }

    /// Replaces the first process by the static init, which keeps nothing of the zygote.
    fn become_init(&self) -> ! {
        let channel = self.fds[CHANNEL];
        let result = (|| {
            let [channel, supervisor, program, init] = [
                sys::dup_above(channel, 64)? as i32,
                sys::dup_above(ZYGOTE_SUPERVISOR, 64)? as i32,
                sys::dup_above(ZYGOTE_PROGRAM, 64)? as i32,
                sys::dup_above(ZYGOTE_INIT, 64)? as i32,
            ];
            sys::dup3(channel, super::init::CHANNEL, 0)?;
            sys::dup3(program, super::init::PROGRAM, 0)?;
            sys::dup3(supervisor, super::init::SUPERVISOR, 0)?;
            sys::dup3(init, 6, CLOEXEC)?;
            sys::close_from(7)?;
            sys::exec_fd(6, CStr::new(b"init\0").ok_or(EINVAL)?)
        })();
        fail(channel, Section::Init, u32::MAX, result.err().unwrap_or(EINVAL))
    }
}

const CLOEXEC: u32 = 0o2_000_000;

/// Waits to be given a function, and locks itself down as that function's environment.
fn become_environment(buffer: &mut [u8; ROOM]) {
    let mut fds = [-1; 16];
    let len = loop {
        match sys::receive(ENVIRONMENT_CONTROL, buffer, &mut fds) {
            // Nobody will ever give this environment a function.
            Ok((0, _)) => sys::exit(0),
            Ok((len, _)) => break len,
            Err(EINTR) => {}
            Err(errno) => fail(ENVIRONMENT_CHANNEL, Section::Assign, u32::MAX, errno),
        }
    };
    run_or_exit(&buffer[..len], Section::Assign, &mut Context::new(ENVIRONMENT_CHANNEL, &[]));
    let _ = sys::close(ENVIRONMENT_CHANNEL);
}
