//! The tracer of a base: takes the initialised process of a function over, and sees its children off.
//!
//! It is a process of its own, so that what ptrace(2) tells never reaches the embedding program's waits, and trusted: it runs
//! outside of every sandbox as the root that the caller is. What it does to the base is in `take`; from then on it only lets
//! those go on whose stops are part of a fork, and lets those go that have locked themselves down. Whatever else stops ends all
//! of them, and so does its own end (`PTRACE_O_EXITKILL`).
//!
//! A second process of it joins the base's user namespace, and writes the id maps of the seats below: only there is that allowed.

use super::abi::{self, EINVAL, O_CLOEXEC, POLLIN, SIGCHLD, SIGTRAP};
use super::fork::{fork_into, touches};
use super::record::{Kind, Record, Section};
use super::registers::{self, Registers};
use super::run::{Context, fail, report, run};
use super::syscall::{self as sys, Answer, CStr, call, raw};

/// The channel to the supervisor.
pub const CHANNEL: i32 = 3;
/// A pidfd of the supervisor.
pub const SUPERVISOR: i32 = 4;
/// Where id maps are asked for.
pub const MAPS: i32 = 5;
/// A pidfd of the base's init.
pub const INIT: i32 = 6;

/// An order has this many bytes: what (u32), and the base's process id (i32).
pub const ORDER: usize = 8;
/// Tell whether this host can do it; no process is touched.
pub const PROBE: u32 = 1;
/// Stop this process.
pub const STOP: u32 = 2;
/// It is fit: take it over.
pub const TAKE: u32 = 3;

/// What taking over consists of, as a failed record tells it by its index.
pub const STEPS: [&str; 8] = [
    "making the process that maps ids",
    "attaching to",
    "stopping",
    "opening the memory of",
    "looking for restartable sequences in",
    "mapping memory in",
    "filling the memory of",
    "starting the fork server in",
];

/// Stack of what runs in the base.
const STACK: usize = 64 * 1024;
/// Multiples of it are addresses of pages, on every kernel.
const PAGE: usize = 64 * 1024;
/// Bytes of an instruction for a system call, at most.
const INSTRUCTION: usize = 4;
/// Its forks themselves say that their children are to be traced: to be told of each would be a stop more.
const TRACED: usize = abi::PTRACE_O_TRACESYSGOOD | abi::PTRACE_O_EXITKILL;
struct Room(core::cell::UnsafeCell<[u8; registers::ROOM]>);
// SAFETY: the program that uses it has one thread.
unsafe impl Sync for Room {}
static VECTORS: Room = Room(core::cell::UnsafeCell::new([0; registers::ROOM]));

/// How a stop at a system call is told from a trap.
const SYSTEM_CALL: i32 = SIGTRAP | 0x80;

/// The program `trace`, from its start to its end. `graft`: the program for the base, as a file.
pub fn main(graft: &[u8]) -> ! {
    let _ = sys::sigmask(!0);
    let Ok(signals) = sys::signalfd(1 << (SIGCHLD - 1)) else { sys::exit(125) };
    match order() {
        (PROBE, _) => answer(Kind::Stopped, probe().err().unwrap_or(0)),
        (STOP, base) => {
            let taken = map().map_err(|errno| (0, errno)).and_then(|()| take(base, graft));
            let taken = taken.unwrap_or_else(|(index, errno)| fail(CHANNEL, Section::Take, index, errno));
            // It needs none for whom it traces already, nor for their children.
            let _ = sys::drop_capabilities();
            answer(Kind::Done, 0);
            watch(&taken, signals as i32)
        }
        _ => {}
    }
    sys::exit(0)
}

fn answer(kind: Kind, value: i32) {
    report(CHANNEL, Record { kind: kind as u32, section: Section::Take as u32, index: 0, value });
}

/// What the supervisor wants; without one this process ends.
fn order() -> (u32, i32) {
    let mut bytes = [0; ORDER];
    match sys::read(CHANNEL, &mut bytes) {
        Ok(ORDER) => {
            let order = u64::from_le_bytes(bytes);
            (order as u32, (order >> 32) as i32)
        }
        _ => sys::exit(0),
    }
}

/// Whether seccomp filters can be suspended in a process that is traced.
fn probe() -> Answer {
    let pid = fork_into(0, None)?;
    if pid == 0 {
        // Until its tracer's end.
        loop {
            let _ = sys::poll(&mut []);
        }
    }
    // Where that is refused nobody else would end it.
    let answer = ptrace(abi::PTRACE_SEIZE, pid as i32, 0, TRACED | abi::PTRACE_O_SUSPEND_SECCOMP);
    if answer.is_err() {
        let _ = sys::kill(pid as i32, abi::SIGKILL as u32);
    }
    answer
}

/// Starts the process that writes id maps: it runs programs, and answers each with a record.
fn map() -> Result<(), i32> {
    if fork_into(0, None)? != 0 {
        sys::close(MAPS)?;
        sys::close(INIT)?;
        return Ok(());
    }
    let _ = sys::prctl(abi::PR_SET_PDEATHSIG, abi::SIGKILL, 0, 0, 0);
    let _ = sys::close(CHANNEL);
    if let Err(errno) = sys::setns(INIT, abi::CLONE_NEWUSER) {
        fail(MAPS, Section::Map, u32::MAX, errno);
    }
    let mut program = [0; 1024];
    loop {
        let watched = |fd| sys::PollFd { fd, events: POLLIN, revents: 0 };
        let mut fds = [watched(MAPS), watched(SUPERVISOR)];
        let _ = sys::poll(&mut fds);
        if fds[1].revents != 0 {
            sys::exit(0);
        }
        let len = match sys::read(MAPS, &mut program) {
            Ok(len) if len > 0 => len,
            _ => sys::exit(0),
        };
        let (kind, index, value) = match run(&program[..len], &mut Context::new(MAPS, &[])) {
            Ok(()) => (Kind::Done, 0, 0),
            Err((index, errno)) => (Kind::Failed, index, errno),
        };
        report(MAPS, Record { kind: kind as u32, section: Section::Map as u32, index, value });
    }
}

/// A base that has been taken over.
struct Base {
    pid: i32,
    /// How it was when it was stopped: how its children go on.
    registers: Registers,
    mask: u64,
    /// Where what was put into it begins, and how long that is.
    own: [usize; 2],
}

/// Stops the process, waits until it has been found fit, and has it serve forks instead of what it was doing.
///
/// It has run user code until it stops. What it has set up by then that could divert it later is made harmless before it goes on:
/// signals are blocked, no sequence is restartable. Where it does not do what it is told in between, nothing can have happened
/// yet, since its filter still holds: every system call is looked at before it is made.
fn take(pid: i32, graft: &[u8]) -> Result<Base, (u32, i32)> {
    let step = |index| move |errno| (index, errno);
    ptrace(abi::PTRACE_SEIZE, pid, 0, abi::PTRACE_O_EXITKILL).map_err(step(1))?;
    let (registers, mask) = stop(pid).map_err(step(2))?;
    answer(Kind::Stopped, 0);
    if order() != (TAKE, pid) {
        sys::exit(0);
    }
    let image = Image::parse(graft).ok_or((6, EINVAL))?;
    let own = image.range();
    let memory = open_memory(pid).map_err(step(3))?;
    let rseq = end_sequences(pid, memory, own).map_err(step(4))?;
    ptrace(abi::PTRACE_SETOPTIONS, pid, 0, TRACED).map_err(step(5))?;
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_FIXED_NOREPLACE;
    let all = abi::PROT_READ | abi::PROT_WRITE | abi::PROT_EXEC;
    let mapped = inject(pid, memory, &registers, abi::call::MMAP, [own[0], own[1], all, flags, usize::MAX, 0]);
    if mapped.map_err(step(5))? != own[0] {
        return Err((5, EINVAL));
    }
    image.write(memory).map_err(step(6))?;
    let _ = sys::close(memory);
    let mut begin = registers.clone();
    let [area, len, signature] = rseq;
    begin.start(image.entry, own[0] + own[1], [area, len, signature, own[0], own[1]]);
    begin.put(pid).map_err(step(7))?;
    // From here on it runs nothing but that.
    ptrace(abi::PTRACE_SETOPTIONS, pid, 0, TRACED | abi::PTRACE_O_SUSPEND_SECCOMP).map_err(step(7))?;
    ptrace(abi::PTRACE_CONT, pid, 0, 0).map_err(step(7))?;
    Ok(Base { pid, registers, mask, own })
}

/// Stops it, blocks its signals, and tells how it was, as if it had not been interrupted.
fn stop(pid: i32) -> Result<(Registers, u64), i32> {
    ptrace(abi::PTRACE_INTERRUPT, pid, 0, 0)?;
    loop {
        let (signal, event) = next_stop(pid)?;
        if event == abi::PTRACE_EVENT_STOP {
            break;
        }
        // One that was on its way: it is for the process as it was.
        ptrace(abi::PTRACE_CONT, pid, 0, signal as usize)?;
    }
    let mut mask: u64 = 0;
    ptrace(abi::PTRACE_GETSIGMASK, pid, size_of_val(&mask), &raw mut mask as usize)?;
    let all: u64 = !0;
    ptrace(abi::PTRACE_SETSIGMASK, pid, size_of_val(&all), &raw const all as usize)?;
    // SAFETY: a process with one thread, which does this once.
    let room = unsafe { &mut *VECTORS.0.get() };
    let mut registers = Registers::of(pid)?.with_vectors(pid, room)?;
    registers.settle();
    Ok((registers, mask))
}

/// Has the kernel restart no sequence of it; tells what its children are to have.
fn end_sequences(pid: i32, memory: i32, own: [usize; 2]) -> Result<[usize; 3], i32> {
    /// Where in the area `rseq_cs` is: the sequence that it is in.
    const SEQUENCE: usize = 8;
    // `struct ptrace_rseq_configuration`: where, how long (u32), signature (u32), flags.
    let mut configuration: [u64; 3] = [0; 3];
    let size = size_of_val(&configuration);
    ptrace(abi::PTRACE_GET_RSEQ_CONFIGURATION, pid, size, configuration.as_mut_ptr() as usize)?;
    let [area, numbers, _] = configuration;
    let (area, len, signature) = (area as usize, numbers as u32 as usize, (numbers >> 32) as usize);
    if area == 0 {
        return Ok([0; 3]);
    }
    // The kernel writes there whenever the base goes on.
    if touches(area, len, own[0], own[1]) {
        return Err(EINVAL);
    }
    sys::write_at(memory, &[0; 8], area.checked_add(SEQUENCE).ok_or(EINVAL)?)?;
    Ok([area, len, signature])
}

/// Has a process that stands still make one system call, which its own filter has to allow.
fn inject(pid: i32, memory: i32, now: &Registers, number: usize, args: [usize; 6]) -> Answer {
    let mut saved = [0; INSTRUCTION];
    let place = now.place();
    if sys::read_at(memory, &mut saved, place)? != INSTRUCTION {
        return Err(EINVAL);
    }
    sys::write_at(memory, &registers::SYSTEM_CALL, place)?;
    let mut asked = now.clone();
    asked.ask(number, args);
    asked.put(pid)?;
    let answer = make_call(pid, number, args);
    sys::write_at(memory, &saved, place)?;
    answer
}

/// Sees a process through the system call that it stands in front of, and looks at it before it is made.
fn make_call(pid: i32, number: usize, args: [usize; 6]) -> Answer {
    ptrace(abi::PTRACE_SYSCALL, pid, 0, 0)?;
    if next_stop(pid)? != (SYSTEM_CALL, 0) || !Registers::of(pid)?.asks(number, args) {
        return Err(abi::EIO);
    }
    ptrace(abi::PTRACE_SYSCALL, pid, 0, 0)?;
    if next_stop(pid)? != (SYSTEM_CALL, 0) {
        return Err(abi::EIO);
    }
    Registers::of(pid)?.answer()
}

/// Waits until it stops: by which signal, and at which event. Its end is an error.
fn next_stop(pid: i32) -> Result<(i32, i32), i32> {
    let status = sys::wait_for(pid)?;
    if status & 0xff == 0x7f { Ok((status >> 8 & 0xff, status >> 16)) } else { Err(abi::ESRCH) }
}

/// Sees to whoever stops until the base or the supervisor ends.
fn watch(base: &Base, signals: i32) -> ! {
    let watched = |fd| sys::PollFd { fd, events: POLLIN, revents: 0 };
    loop {
        while let Ok(Some((pid, status))) = sys::reap() {
            if status & 0xff == 0x7f {
                handle(base, pid, status >> 8 & 0xff, status >> 16);
            } else if pid == base.pid {
                sys::exit(0);
            }
        }
        let mut fds = [watched(CHANNEL), watched(SUPERVISOR), watched(signals)];
        if sys::poll(&mut fds).is_ok() {
            // Nothing is said to it any more but by hanging up.
            if fds[0].revents != 0 || fds[1].revents != 0 {
                sys::exit(0);
            }
            let mut information = [0; 128];
            let _ = sys::read(signals, &mut information);
        }
    }
}

fn handle(base: &Base, pid: i32, signal: i32, event: i32) {
    /// Those that a process brings about itself: of what runs here none does.
    const OWN: [i32; 6] = [4, SIGTRAP, 7, 8, 11, 31];
    let result = match event {
        0 if signal == SIGTRAP && pid != base.pid => release(base, pid),
        0 if OWN.contains(&signal) => sys::exit(124),
        // A child's first stop, or a signal, which is lost.
        _ => ptrace(abi::PTRACE_CONT, pid, 0, 0),
    };
    // It was killed meanwhile, or something is wrong that must not go on.
    if result.is_err_and(|errno| errno != abi::ESRCH) {
        sys::exit(124);
    }
}

/// Lets a child go that has locked itself down: it goes on where the base was stopped.
fn release(base: &Base, pid: i32) -> Answer {
    let mut now = Registers::of(pid)?;
    let [begin, len] = base.own;
    if !(begin..begin + len).contains(&now.place()) {
        return Err(EINVAL);
    }
    now.skip_trap();
    now.ask(abi::call::MUNMAP, [begin, len, 0, 0, 0, 0]);
    now.put(pid)?;
    make_call(pid, abi::call::MUNMAP, [begin, len, 0, 0, 0, 0])?;
    base.registers.put(pid)?;
    ptrace(abi::PTRACE_SETSIGMASK, pid, size_of_val(&base.mask), &raw const base.mask as usize)?;
    // With this its filter is in force again, and cannot be suspended any more.
    ptrace(abi::PTRACE_DETACH, pid, 0, 0)
}

/// ptrace(2) as the kernel has it.
pub(super) fn ptrace(request: usize, pid: i32, address: usize, data: usize) -> Answer {
    call!(abi::call::PTRACE, request, pid, address, data)
}

fn open_memory(pid: i32) -> Result<i32, i32> {
    let mut path = *b"/proc/\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = [0; 10];
    let (mut rest, mut first) = (u32::try_from(pid).map_err(|_| EINVAL)?, digits.len());
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut end = 6;
    for &byte in digits[first..].iter().chain(b"/mem\0") {
        path[end] = byte;
        end += 1;
    }
    sys::open(CStr::new(&path[..end]).ok_or(EINVAL)?, abi::O_RDWR | O_CLOEXEC, 0).map(|fd| fd as i32)
}

/// A program as a linker has left it: what of it is to be where.
struct Image<'a> {
    file: &'a [u8],
    entry: usize,
    headers: &'a [u8],
}

impl<'a> Image<'a> {
    const HEADER: usize = 56;

    fn parse(file: &'a [u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk::<8>()?) as usize);
        let count = u16::from_le_bytes(*file.get(56..)?.first_chunk::<2>()?) as usize;
        let headers = file.get(number(32)?..)?.get(..count * Self::HEADER)?;
        Some(Self { file, entry: number(24)?, headers })
    }

    /// Its loaded parts: where in the file, where in memory, how long there and here.
    fn parts(&self) -> impl Iterator<Item = [usize; 4]> {
        const LOAD: u64 = 1;
        self.headers.chunks_exact(Self::HEADER).filter_map(|header| {
            let mut words = [0; 7];
            for (word, bytes) in words.iter_mut().zip(header.chunks_exact(8)) {
                *word = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
            }
            // The type has the lower half of the first.
            let [kind, offset, address, _, filed, held, _] = words;
            let part = [offset as usize, address as usize, filed as usize, held as usize];
            (kind & 0xffff_ffff == LOAD).then_some(part)
        })
    }

    /// Where it is to be, with its stack above it: begin and length.
    fn range(&self) -> [usize; 2] {
        let begin = self.parts().map(|[_, address, _, _]| address).min().unwrap_or(0) & !(PAGE - 1);
        let end = self.parts().map(|[_, address, _, held]| address + held).max().unwrap_or(0);
        [begin, end.next_multiple_of(PAGE) + STACK - begin]
    }

    fn write(&self, memory: i32) -> Result<(), i32> {
        for [offset, address, filed, _] in self.parts() {
            let mut bytes = self.file.get(offset..offset + filed).ok_or(EINVAL)?;
            let mut place = address;
            while !bytes.is_empty() {
                let written = sys::write_at(memory, bytes, place)?;
                (bytes, place) = (bytes.get(written.max(1)..).ok_or(EINVAL)?, place + written);
            }
        }
        Ok(())
    }
}
