//! pid 1: starts what it was told to start, reaps, and ends when its child or its supervisor has ended. With it the
//! kernel ends every process of its pid namespace, whatever they have done to survive.

use super::record::{Kind, Record, Section};
use super::run::{Context, fail, report, run_or_exit};
use super::syscall as sys;

/// The channel to the supervisor.
pub const CHANNEL: i32 = 3;
/// The program: three lengths (u32), then three sequences of steps.
pub const PROGRAM: i32 = 4;
/// A pidfd of the supervisor: readable when it has ended.
pub const SUPERVISOR: i32 = 5;
/// Where it keeps the descriptor of its signals.
const SIGNALS: i32 = 6;
/// The process id that the first child of a pid 1 gets.
const CHILD: i32 = 2;

const EINVAL: i32 = 22;
const ROOM: usize = 128 * 1024;

struct Buffer(core::cell::UnsafeCell<[u8; ROOM]>);
// SAFETY: the programs that use it have one thread.
unsafe impl Sync for Buffer {}
static BUFFER: Buffer = Buffer(core::cell::UnsafeCell::new([0; ROOM]));

/// The program `init`, from its start to its end.
pub fn main() -> ! {
    // SAFETY: called once, at the start of a program with one thread; nothing else takes the buffer.
    let buffer = unsafe { &mut *BUFFER.0.get() };
    let [first, second, last] = load(buffer);
    let mut context = Context::new(CHANNEL, &[]);
    let _ = sys::sigmask(!0);
    let _ = sys::signal(sys::SIGCHLD, sys::SIG_DFL);
    // Above every descriptor that it may have been given.
    let signals = match sys::signalfd(1 << (sys::SIGCHLD - 1)).and_then(|fd| sys::dup_above(fd as i32, 64)) {
        Ok(fd) => fd as i32,
        Err(errno) => fail(CHANNEL, Section::Init, 0, errno),
    };
    run_or_exit(first, Section::Init, &mut context);
    if !second.is_empty() {
        match sys::fork(0) {
            Ok(0) => {
                run_or_exit(second, Section::Child, &mut context);
                sys::exit(125)
            }
            Ok(_) => {}
            Err(errno) => fail(CHANNEL, Section::Init, u32::MAX, errno),
        }
    }
    // Whatever else it was given was for its child.
    let signals = match sys::dup3(signals, SIGNALS, 0o2_000_000).and_then(|_| sys::close_from(SIGNALS as u32 + 1)) {
        Ok(_) => SIGNALS,
        Err(errno) => fail(CHANNEL, Section::Init, u32::MAX, errno),
    };
    let _ = sys::close(PROGRAM);
    run_or_exit(last, Section::Last, &mut context);
    watch(signals)
}

/// Reads the program and tells its three parts.
fn load(buffer: &mut [u8; ROOM]) -> [&[u8]; 3] {
    let mut len = 0;
    loop {
        match sys::read_at(PROGRAM, &mut buffer[len..], len) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(errno) => fail(CHANNEL, Section::Init, 0, errno),
        }
    }
    parts(&buffer[..len]).unwrap_or_else(|| fail(CHANNEL, Section::Init, 0, EINVAL))
}

fn parts(program: &[u8]) -> Option<[&[u8]; 3]> {
    let (lengths, mut rest) = program.split_first_chunk::<12>()?;
    let mut parts: [&[u8]; 3] = [&[]; 3];
    for (part, length) in parts.iter_mut().zip(lengths.chunks_exact(4)) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        *part = rest.get(..length)?;
        rest = &rest[length..];
    }
    Some(parts)
}

fn watch(signals: i32) -> ! {
    const POLLIN: i16 = 1;
    let watched = |fd, events| sys::PollFd { fd, events, revents: 0 };
    loop {
        // First: it may have ended before its signal was blocked.
        while let Ok(Some((pid, status))) = sys::reap() {
            if pid == CHILD {
                report(CHANNEL, Record { kind: Kind::Exited as u32, section: 0, index: 0, value: status });
                sys::exit(0);
            }
        }
        // The channel is only watched for its hang-up, which poll reports unasked.
        let mut fds = [watched(CHANNEL, 0), watched(SUPERVISOR, POLLIN), watched(signals, POLLIN)];
        if sys::poll(&mut fds).is_ok() {
            if fds[0].revents != 0 || fds[1].revents != 0 {
                sys::exit(0);
            }
            let mut information = [0; 128];
            let _ = sys::read(signals, &mut information);
        }
    }
}
