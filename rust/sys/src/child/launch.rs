//! The launcher: the first process of an environment whose runtime is a program of its owner's. It has been locked down
//! as every environment is, starts what the supervisor describes, and tells how each ended.
//!
//! What it starts is the same user and could end it, which ends the environment; it could neither look into it nor speak
//! in its name, since the launcher is undumpable and its socket is closed on exec.

use super::abi::{EAGAIN, EINTR, EINVAL, POLLIN, SIGCHLD};
use super::fork::fork_filtered;
use super::record::{Kind, Record, Section};
use super::run::{Context, report, run};
use super::serve::{self, ENVIRONMENT_CONTROL, ZYGOTE_CONTROL};
use super::syscall::{self as sys};

/// A request begins with its verb and a number that its owner knows the process by, both u32.
pub const HEADER: usize = 8;
/// Starts a process: steps follow, the last of which replaces it. Descriptors that come along can be placed by them.
pub const START: u32 = 1;
/// Sends a signal to one: its number follows (u32).
pub const SIGNAL: u32 = 2;
/// Connects to a port of the environment's own loopback, which follows (u32), and hands the connection out.
pub const CONNECT: u32 = 3;

/// Processes that it can look after at a time: a runtime, ten extensions, and room.
const MOST: usize = 16;

/// What the zygote says when it serves, as the one with an interpreter does.
const READY: &[u8] = b"{\"ready\":true}";

/// The program `zygote`: serves requests for environments, each of which goes on as a launcher.
pub fn zygote() -> ! {
    if sys::send(ZYGOTE_CONTROL, READY).is_err() {
        sys::exit(1);
    }
    match serve::serve(ZYGOTE_CONTROL, 0) {
        parked @ 0.. => {
            serve::assign(parked != 0);
            launch()
        }
        _ => sys::exit(0),
    }
}

struct Processes([Option<(u32, i32)>; MOST]);

impl Processes {
    fn pid(&self, id: u32) -> Option<i32> {
        self.0.iter().flatten().find(|(known, _)| *known == id).map(|(_, pid)| *pid)
    }

    /// Forgets the process of this id, and tells by which number it was known.
    fn remove(&mut self, pid: i32) -> Option<u32> {
        let slot = self.0.iter_mut().find(|slot| slot.is_some_and(|(_, known)| known == pid))?;
        slot.take().map(|(id, _)| id)
    }
}

fn launch() -> ! {
    let _ = sys::sigmask(!0);
    let _ = sys::signal(SIGCHLD, sys::SIG_DFL);
    let Ok(signals) = sys::signalfd(1 << (SIGCHLD - 1)) else { sys::exit(1) };
    let mut processes = Processes([None; MOST]);
    loop {
        // First: one may have ended before its signal was looked for.
        while let Ok(Some((pid, status))) = sys::reap() {
            if let Some(id) = processes.remove(pid) {
                tell(Kind::Ended, id, status);
            }
        }
        let watched = |fd| sys::PollFd { fd, events: POLLIN, revents: 0 };
        let mut fds = [watched(ENVIRONMENT_CONTROL), watched(signals as i32)];
        if sys::poll(&mut fds).is_err() {
            continue;
        }
        if fds[1].revents != 0 {
            let mut information = [0; 128];
            let _ = sys::read(signals as i32, &mut information);
        }
        if fds[0].revents != 0 {
            hear(&mut processes);
        }
    }
}

fn tell(kind: Kind, id: u32, value: i32) {
    report(ENVIRONMENT_CONTROL, Record { kind: kind as u32, section: Section::Launch as u32, index: id, value });
}

/// Takes one request. Those that make no sense are told of, too.
fn hear(processes: &mut Processes) {
    // SAFETY: a launcher has one thread; `serve` and `assign` have returned, and so has any earlier call of this.
    let buffer = unsafe { serve::buffer() };
    let mut fds = [-1; 16];
    let (len, count) = match sys::receive(ENVIRONMENT_CONTROL, buffer, &mut fds) {
        // The supervisor has gone; the init will see to the rest.
        Ok((0, _)) => sys::exit(0),
        Ok(got) => got,
        Err(EINTR | EAGAIN) => return,
        Err(errno) => return tell(Kind::Failed, u32::MAX, errno),
    };
    let word = |at: usize| buffer.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    if let Some((verb, id)) = word(0).zip(word(4)).filter(|_| len >= HEADER) {
        let done = match (verb, word(HEADER)) {
            (START, _) => start(processes, id, &buffer[HEADER..len], &fds[..count]),
            (SIGNAL, Some(signal)) => processes.pid(id).map_or(Ok(()), |pid| sys::kill(pid, signal).map(|_| ())),
            (CONNECT, Some(port)) => connect(id, port as u16),
            _ => Err(EINVAL),
        };
        if let Err(errno) = done {
            tell(Kind::Failed, id, errno);
        }
    }
    for &fd in &fds[..count] {
        let _ = sys::close(fd);
    }
}

fn start(processes: &mut Processes, id: u32, program: &[u8], fds: &[i32]) -> Result<(), i32> {
    let slot = processes.0.iter_mut().find(|slot| slot.is_none()).ok_or(EAGAIN)?;
    match fork_filtered()? {
        0 => {
            let errno =
                run(program, &mut Context::new(ENVIRONMENT_CONTROL, fds)).err().map_or(EINVAL, |(_, errno)| errno);
            tell(Kind::Failed, id, errno);
            sys::exit(126)
        }
        pid => {
            *slot = Some((id, pid as i32));
            tell(Kind::Started, id, pid as i32);
            Ok(())
        }
    }
}

/// Nobody outside can connect into this network. The connection may still be on its way when it is handed out.
fn connect(id: u32, port: u16) -> Result<(), i32> {
    let socket = sys::connect_to_loopback(port)? as i32;
    let record = Record { kind: Kind::Connected as u32, section: Section::Launch as u32, index: id, value: 0 };
    let sent = sys::send_with(ENVIRONMENT_CONTROL, &record.to_bytes(), socket);
    let _ = sys::close(socket);
    sent.map(|_| ())
}
