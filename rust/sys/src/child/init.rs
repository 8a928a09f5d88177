//! pid 1: runs what it was told to, reaps, and ends when the process that it watches or its supervisor has ended. With it
//! the kernel ends every process of its pid namespace, whatever they have done to survive.
//!
//! The init of a zygote starts the interpreter, and makes seats for its environments when the supervisor asks for one.
//! The init of a seat makes its half of what an environment is, and waits for the environment's process, which comes from
//! the zygote.

use super::abi::{EINVAL, O_CLOEXEC, POLLIN, SIGCHLD};
use super::fork::{fork_as, fork_into};
use super::record::{Kind, Record, Section};
use super::run::{Context, fail, report, run_or_exit};
use super::serve::{ZYGOTE_INIT, ZYGOTE_PROGRAM};
use super::syscall::{self as sys, CStr};

/// The channel to the supervisor.
pub const CHANNEL: i32 = 3;
/// The program: three lengths (u32), then three sequences of steps.
pub const PROGRAM: i32 = 4;
/// A pidfd of the supervisor: readable when it has ended.
pub const SUPERVISOR: i32 = 5;
/// Where it keeps the descriptor of its signals.
const SIGNALS: i32 = 6;
/// The process id of an environment.
const ENVIRONMENT: i32 = 2;
/// The process id of a zygote's interpreter. Not the same: OpenSSL, whichever copy of it, notices by a changed process id that
/// it was forked, and makes its random state a new one.
const INTERPRETER: i32 = 3;

/// The process id of a base: neither a zygote's nor an environment's, so that OpenSSL notices both times.
const BASE: i32 = 4;

/// A request for a seat: namespace flags (u64). The seat's channel comes with it, and for the seat of a base its init's program
/// and the one for the seats that it is to make itself.
pub const SEAT_REQUEST: usize = 8;

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
    let _ = sys::sigmask(!0);
    let _ = sys::signal(SIGCHLD, sys::SIG_DFL);
    // Above every descriptor that it may have been given.
    let signals = match sys::signalfd(1 << (SIGCHLD - 1)).and_then(|fd| sys::dup_above(fd as i32, 64)) {
        Ok(fd) => fd as i32,
        Err(errno) => fail(CHANNEL, Section::Init, u32::MAX, errno),
    };
    let mut context = Context::new(CHANNEL, &[]);
    run_or_exit(first, Section::Init, &mut context);
    let zygote = !second.is_empty();
    if zygote {
        match fork_as(INTERPRETER) {
            Ok(0) => {
                // Packages run in it: requests for seats are not for it to hear, nor records for it to send.
                for fd in [CHANNEL, PROGRAM, SUPERVISOR, ZYGOTE_INIT, ZYGOTE_PROGRAM] {
                    let _ = sys::close_on_exec(fd);
                }
                run_or_exit(second, Section::Child, &mut context);
                sys::exit(125)
            }
            Ok(_) => {}
            Err(errno) => fail(CHANNEL, Section::Init, u32::MAX, errno),
        }
        let _ = sys::reap_by_kernel();
    }
    // Who was given a program for seats makes seats.
    let base = !zygote && sys::close_on_exec(ZYGOTE_PROGRAM).is_ok();
    // Whatever else it was given was for its child, or is done with.
    let keep = if zygote || base { ZYGOTE_PROGRAM } else { SIGNALS };
    let settled = sys::dup3(signals, SIGNALS, O_CLOEXEC).and_then(|_| sys::close_from(keep as u32 + 1));
    if let Err(errno) = settled {
        fail(CHANNEL, Section::Init, u32::MAX, errno);
    }
    let _ = sys::close(PROGRAM);
    run_or_exit(last, Section::Last, &mut context);
    if zygote {
        // The inits of its seats are its children, too: to wait for any of them takes the kernel a look at all of them.
        watch(
            || {
                if !sys::lives(INTERPRETER) {
                    sys::exit(0)
                }
            },
            make_seat,
        )
    }
    if base {
        skip_to_base();
    }
    report(CHANNEL, Record { kind: Kind::Seated as u32, section: 0, index: 0, value: 0 });
    if base { watch(|| reap(BASE), make_seat) } else { watch(|| reap(ENVIRONMENT), || sys::exit(0)) }
}

/// Uses up the process ids in front of a base's: the kernel gives them out one after another.
fn skip_to_base() {
    for _ in ENVIRONMENT..BASE {
        match fork_into(0, None) {
            Ok(0) => sys::exit(0),
            Ok(_) => {}
            Err(errno) => fail(CHANNEL, Section::Init, u32::MAX, errno),
        }
    }
}

/// Reaps; ends when the environment's process has ended, and says how.
fn reap(environment: i32) {
    while let Ok(Some((pid, status))) = sys::reap() {
        if pid == environment {
            report(CHANNEL, Record { kind: Kind::Exited as u32, section: 0, index: 0, value: status });
            sys::exit(0);
        }
    }
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

/// The three parts of a program, if they are as long as they say.
pub(crate) fn parts(program: &[u8]) -> Option<[&[u8]; 3]> {
    let (lengths, mut rest) = program.split_first_chunk::<12>()?;
    let mut parts: [&[u8]; 3] = [&[]; 3];
    for (part, length) in parts.iter_mut().zip(lengths.chunks_exact(4)) {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        *part = rest.get(..length)?;
        rest = &rest[length..];
    }
    Some(parts)
}

/// Looks after its children until it has nothing left to do, or the supervisor has ended. `asked` is called when the
/// supervisor sends something.
fn watch(look_after: impl Fn(), asked: impl Fn()) -> ! {
    let watched = |fd| sys::PollFd { fd, events: POLLIN, revents: 0 };
    loop {
        // First: it may have ended before its signal was blocked.
        look_after();
        let mut fds = [watched(CHANNEL), watched(SUPERVISOR), watched(SIGNALS)];
        if sys::poll(&mut fds).is_ok() {
            if fds[0].revents & !POLLIN != 0 || fds[1].revents != 0 {
                sys::exit(0);
            }
            if fds[0].revents != 0 {
                asked();
            }
            let mut information = [0; 128];
            let _ = sys::read(SIGNALS, &mut information);
        }
    }
}

/// Takes a request for a seat and starts the init of one. It stays in the zygote's cgroups: an init that was frozen with
/// its environment would have to be woken with it, each time.
fn make_seat() {
    let mut request = [0; SEAT_REQUEST];
    let mut fds = [-1; 16];
    let Ok((len, count)) = sys::receive(CHANNEL, &mut request, &mut fds) else { return };
    if len == SEAT_REQUEST && (count == 1 || count == 3) {
        match fork_into(u64::from_le_bytes(request), None) {
            Ok(0) => become_init(&fds[..count]),
            Ok(_) => {}
            Err(errno) => {
                let (kind, section) = (Kind::Failed as u32, Section::Init as u32);
                report(fds[0], Record { kind, section, index: u32::MAX, value: errno });
            }
        }
    }
    for &fd in &fds[..count] {
        let _ = sys::close(fd);
    }
}

/// Replaces this process by the init of a seat, which keeps nothing of the zygote's.
fn become_init(fds: &[i32]) -> ! {
    let result = (|| {
        sys::dup3(fds[0], CHANNEL, 0)?;
        if let &[_, program, below] = fds {
            sys::dup3(program, PROGRAM, 0)?;
            sys::dup3(below, ZYGOTE_PROGRAM, 0)?;
            sys::close_from(ZYGOTE_PROGRAM as u32 + 1)?;
        } else {
            sys::dup3(ZYGOTE_PROGRAM, PROGRAM, 0)?;
            sys::close_from(ZYGOTE_PROGRAM as u32)?;
        }
        // Nobody yet in its user namespace, it would lose them all.
        sys::keep_capabilities()?;
        sys::exec_fd(ZYGOTE_INIT, CStr::new(b"init\0").ok_or(EINVAL)?)
    })();
    fail(CHANNEL, Section::Init, u32::MAX, result.err().unwrap_or(EINVAL))
}
