//! Takes the steps of a program, one after another, and says where it had to stop.

use super::abi::{self, EINVAL, EPIPE, O_CLOEXEC};
use super::op::{Args, Code, Steps};
use super::record::{Kind, Record, Section};
use super::syscall::{self as sys, Answer, CStr};

/// What steps can refer to beside their arguments.
pub struct Context<'a> {
    /// The channel to the supervisor.
    pub channel: i32,
    /// Descriptors that came with the request.
    pub fds: &'a [i32],
}

/// The Landlock ruleset that is being made, by a program and the next.
const RULESET: i32 = 5;

impl<'a> Context<'a> {
    /// A context.
    pub fn new(channel: i32, fds: &'a [i32]) -> Self {
        Self { channel, fds }
    }
}

/// Runs `program`; where a step fails, reports it on the channel and ends the process.
pub fn run_or_exit(program: &[u8], section: Section, context: &mut Context<'_>) {
    if let Err((index, errno)) = run(program, context) {
        fail(context.channel, section, index, errno);
    }
}

/// Reports a failed step and ends the process.
pub fn fail(channel: i32, section: Section, index: u32, errno: i32) -> ! {
    report(channel, Record { kind: Kind::Failed as u32, section: section as u32, index, value: errno });
    sys::exit(126)
}

/// Sends a record to the supervisor. If that fails the supervisor is gone, and nobody is left to be told.
pub fn report(channel: i32, record: Record) {
    let _ = sys::send(channel, &record.to_bytes());
}

/// Runs `program`; where a step fails, tells which and why.
pub fn run(program: &[u8], context: &mut Context<'_>) -> Result<(), (u32, i32)> {
    let mut steps = Steps::new(program);
    let mut index = 0;
    while let Some(step) = steps.take() {
        let (code, args) = step.map_err(|()| (index, EINVAL))?;
        take(code, args, context).map_err(|errno| (index, errno))?;
        index += 1;
    }
    Ok(())
}

fn take(code: Code, mut args: Args<'_>, context: &mut Context<'_>) -> Answer {
    match code {
        Code::MakeDir => {
            let mode = number(&mut args)? as u32;
            sys::mkdir(string(&mut args)?, mode)
        }
        Code::MakeFile => {
            let mode = number(&mut args)? as u32;
            make_file(string(&mut args)?, mode, args.bytes())
        }
        Code::Symlink => sys::symlink(string(&mut args)?, string(&mut args)?),
        Code::Bind | Code::Grant => {
            let how = if code == Code::Grant { grant } else { bind };
            let attributes = number(&mut args)?;
            how(attributes, string(&mut args)?, string(&mut args)?)
        }
        Code::Offer => offer(context.channel, string(&mut args)?),
        Code::Attach => attach(args, context.fds),
        Code::Mount => {
            let flags = number(&mut args)?;
            let (source, target) = (string(&mut args)?, string(&mut args)?);
            sys::mount(source, target, string(&mut args)?, flags, string(&mut args)?)
        }
        Code::Unmount => sys::unmount(string(&mut args)?),
        Code::Pivot => {
            sys::chdir(string(&mut args)?)?;
            sys::pivot_here()
        }
        Code::Hostname => {
            sys::sethostname(string(&mut args)?)?;
            sys::setdomainname(string(&mut args)?)
        }
        Code::LoopbackUp => sys::loopback_up(),
        Code::WriteFile => write_file(string(&mut args)?, args.bytes()),
        Code::Rlimit => sys::setrlimit(number(&mut args)?, number(&mut args)?, number(&mut args)?),
        Code::Umask => sys::umask(number(&mut args)? as u32),
        Code::Setsid => sys::setsid(),
        Code::Chdir => sys::chdir(string(&mut args)?),
        Code::DropBounding => drop_bounding(),
        Code::DropCapabilities => {
            sys::prctl(abi::PR_CAP_AMBIENT, abi::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)?;
            sys::drop_capabilities()
        }
        Code::Securebits => sys::prctl(abi::PR_SET_SECUREBITS, number(&mut args)?, 0, 0, 0),
        Code::SetIds => {
            let (uid, gid, drop_groups) = (number(&mut args)?, number(&mut args)?, number(&mut args)?);
            if drop_groups != 0 {
                sys::setgroups_none()?;
            }
            sys::setresgid(gid as u32)?;
            sys::setresuid(uid as u32)
        }
        Code::NoNewPrivileges => sys::prctl(abi::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        Code::Undumpable => sys::prctl(abi::PR_SET_DUMPABLE, 0, 0, 0, 0),
        Code::LandlockBegin => {
            let (fs, net, scoped, size) =
                (number(&mut args)?, number(&mut args)?, number(&mut args)?, number(&mut args)?);
            let ruleset = sys::landlock_create(fs, net, scoped, size)? as i32;
            if ruleset == RULESET {
                return Ok(0);
            }
            sys::dup3(ruleset, RULESET, O_CLOEXEC)?;
            sys::close(ruleset)
        }
        Code::LandlockPath => {
            let access = number(&mut args)?;
            let fd = sys::open(string(&mut args)?, abi::O_PATH | O_CLOEXEC, 0)? as i32;
            sys::landlock_add_path(RULESET, access, fd)?;
            sys::close(fd)
        }
        Code::LandlockEnforce => {
            sys::landlock_restrict(RULESET)?;
            sys::close(RULESET)
        }
        Code::Seccomp => sys::seccomp(args.bytes()),
        Code::JoinCgroup => {
            let index = number(&mut args)? as usize;
            sys::write(*context.fds.get(index).ok_or(EINVAL)?, b"0")
        }
        Code::NewKeyring => match sys::new_session_keyring() {
            // A kernel without keyrings has none to protect.
            Err(abi::ENOSYS) => Ok(0),
            answer => answer,
        },
        Code::CgroupNamespace => sys::unshare(abi::CLONE_NEWCGROUP),
        Code::Redirect => sys::dup3(number(&mut args)? as i32, number(&mut args)? as i32, 0),
        Code::CloseFrom => sys::close_from(number(&mut args)? as u32),
        Code::ResetSignals => reset_signals(),
        Code::Sync => sync(context.channel),
        Code::Listen => listen(number(&mut args)? as u16, context.channel),
        Code::Place => {
            let fd = *context.fds.get(number(&mut args)? as usize).ok_or(EINVAL)?;
            sys::dup3(fd, number(&mut args)? as i32, 0)
        }
        Code::ExecFd => {
            let fd = number(&mut args)? as i32;
            sys::exec_fd(fd, string(&mut args)?)
        }
        Code::Exec => exec(args),
    }
}

fn number(args: &mut Args<'_>) -> Result<u64, i32> {
    args.number().ok_or(EINVAL)
}

fn string<'a>(args: &mut Args<'a>) -> Result<CStr<'a>, i32> {
    args.string().ok_or(EINVAL)
}

fn make_file(path: CStr<'_>, mode: u32, content: &[u8]) -> Answer {
    const CREATE: u32 = abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL | abi::O_NOFOLLOW | O_CLOEXEC;
    fill(sys::open(path, CREATE, mode)? as i32, content)
}

fn write_file(path: CStr<'_>, content: &[u8]) -> Answer {
    fill(sys::open(path, abi::O_WRONLY | O_CLOEXEC, 0)? as i32, content)
}

fn fill(fd: i32, content: &[u8]) -> Answer {
    let answer = if content.is_empty() { Ok(0) } else { sys::write(fd, content) };
    let _ = sys::close(fd);
    answer
}

/// Not by `open_tree(2)`: its copy counts as a mount namespace, of which an environment may make none.
fn bind(attributes: u64, source: CStr<'_>, target: CStr<'_>) -> Answer {
    let none = CStr::new(b"\0").ok_or(EINVAL)?;
    sys::mount(source, target, none, abi::MS_BIND | abi::MS_REC, none)?;
    sys::mount_setattr(target, attributes)
}

/// Whoever may rename something in a path of the host could put a link there between the look at it and the mount: what
/// is bound is what was opened, without following one.
fn grant(attributes: u64, source: CStr<'_>, target: CStr<'_>) -> Answer {
    let fd = sys::open_resolved(source)? as i32;
    let (mut name, digits) = (*b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0", fd.checked_ilog10().unwrap_or(0) as usize + 1);
    let mut rest = fd;
    for place in name.iter_mut().skip(b"/proc/self/fd/".len()).take(digits).rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let bound = bind(attributes, CStr::new(&name).ok_or(EINVAL)?, target);
    let _ = sys::close(fd);
    bound
}

/// A copy is in no mount namespace, so that whoever gets it can attach it to their own.
fn offer(channel: i32, source: CStr<'_>) -> Answer {
    let fd = sys::open_resolved(source)? as i32;
    let tree = sys::copy_tree(fd)? as i32;
    let sent = sys::send_with(channel, &[0], tree);
    let _ = (sys::close(tree), sys::close(fd));
    sent
}

fn attach(mut args: Args<'_>, fds: &[i32]) -> Answer {
    let (index, attributes) = (number(&mut args)? as usize, number(&mut args)?);
    let target = string(&mut args)?;
    sys::attach_tree(*fds.get(index).ok_or(EINVAL)?, target)?;
    sys::mount_setattr(target, attributes)
}

fn drop_bounding() -> Answer {
    let mut capability = 0;
    // The kernel answers EINVAL for the first capability that it does not know.
    while capability < 64 {
        match sys::prctl(abi::PR_CAPBSET_DROP, capability, 0, 0, 0) {
            Ok(_) => capability += 1,
            Err(EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(0)
}

fn reset_signals() -> Answer {
    let mut signal = 1;
    while signal <= 64 {
        // SIGKILL, SIGSTOP and the two that the C library keeps cannot be set, and need not be.
        let _ = sys::signal(signal, sys::SIG_DFL);
        signal += 1;
    }
    sys::sigmask(0)
}

/// Tells the supervisor that this process exists, and waits for its word.
fn sync(channel: i32) -> Answer {
    let hello = Record { kind: Kind::Hello as u32, section: Section::Init as u32, index: 0, value: 0 };
    sys::send(channel, &hello.to_bytes())?;
    let mut word = [0; 1];
    match sys::read(channel, &mut word)? {
        0 => Err(EPIPE),
        n => Ok(n),
    }
}

/// Hands a listening socket to the supervisor, and keeps none.
fn listen(port: u16, channel: i32) -> Answer {
    let socket = sys::listen_on_loopback(port)? as i32;
    let record = Record { kind: Kind::Listening as u32, section: Section::Init as u32, index: 0, value: 0 };
    let sent = sys::send_with(channel, &record.to_bytes(), socket);
    let _ = sys::close(socket);
    sent
}

fn exec(mut args: Args<'_>) -> Answer {
    const MOST: usize = 1024;
    let (argc, envc) = (number(&mut args)? as usize, number(&mut args)? as usize);
    if argc >= MOST || envc >= MOST {
        return Err(EINVAL);
    }
    let path = string(&mut args)?;
    let mut argv = [core::ptr::null(); MOST];
    let mut envp = [core::ptr::null(); MOST];
    for slot in &mut argv[..argc] {
        *slot = string(&mut args)?.as_ptr();
    }
    for slot in &mut envp[..envc] {
        *slot = string(&mut args)?.as_ptr();
    }
    sys::exec(path, &argv[..=argc], &envp[..=envc])
}
