//! The static init as a program: started with the descriptors of a seat's init, it takes its steps, says that it has, and
//! ends when its supervisor hangs up. Needs neither root nor namespaces, so that it runs under an emulator, too.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coldframe_sys::child::record::{Kind, Record, Section};
use coldframe_sys::program::{Step, encode_init};

/// An init and our end of its channel.
struct Init {
    process: Child,
    channel: UnixStream,
    _alive: io::PipeWriter,
    folder: PathBuf,
}

impl Init {
    fn start(name: &str, steps: impl FnOnce(&str) -> Vec<Step>) -> Self {
        let folder = std::env::temp_dir().join(format!("coldframe-init-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let executable = folder.join("init");
        fs::write(&executable, coldframe_sys::INIT).expect("the program");
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).expect("it can be executed");
        let program = folder.join("program");
        fs::write(&program, encode_init(&steps(folder.to_str().expect("text")), &[], &[])).expect("its steps");
        let program: OwnedFd = File::open(program).expect("its steps").into();
        let (channel, theirs) = UnixStream::pair().expect("sockets");
        channel.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
        // What stands for a pidfd of the supervisor: readable when that has ended.
        let (supervisor, alive) = io::pipe().expect("a pipe");

        let mut command = command(&executable);
        let sources = [theirs.as_raw_fd(), program.as_raw_fd(), supervisor.as_fd().as_raw_fd()];
        // SAFETY: the closure makes system calls alone.
        unsafe {
            command.pre_exec(move || {
                let high = sources.map(|fd| libc::fcntl(fd, libc::F_DUPFD, 64));
                for (number, fd) in (3..).zip(high) {
                    if libc::dup2(fd, number) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let process = command.stdin(Stdio::null()).spawn().expect("init starts");
        Self { process, channel, _alive: alive, folder }
    }

    /// The next record; `None` at the end.
    fn record(&mut self) -> Option<Record> {
        let mut bytes = [0; Record::LEN];
        self.channel.read_exact(&mut bytes).ok()?;
        Record::from_bytes(&bytes)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Through the emulator that cargo was told to run tests with, if it was.
fn command(executable: &std::path::Path) -> Command {
    let runner = std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER");
    match runner.ok().filter(|_| cfg!(target_arch = "aarch64")) {
        None => Command::new(executable),
        Some(line) => {
            let mut words = line.split_ascii_whitespace();
            let mut command = Command::new(words.next().expect("a runner has a name"));
            command.args(words).arg(executable);
            command
        }
    }
}

fn path(folder: &str, name: &str) -> String {
    format!("{folder}/{name}")
}

#[test]
fn it_takes_its_steps_and_ends_with_its_supervisor() {
    let mut init = Init::start("steps", |folder| {
        vec![
            Step::Umask { mask: 0o027 },
            Step::MakeDir { path: path(folder, "made"), mode: 0o777 },
            Step::Chdir { path: path(folder, "made") },
            Step::MakeFile { path: "file".into(), mode: 0o666, content: b"content".to_vec() },
            Step::WriteFile { path: "file".into(), content: "C".into() },
            Step::Symlink { target: "file".into(), path: "link".into() },
            Step::Rlimit { resource: 4, limit: 1 },
            Step::NoNewPrivileges,
            Step::Redirect { from: 0, to: 40 },
        ]
    });
    let seated = Record { kind: Kind::Seated as u32, section: 0, index: 0, value: 0 };
    assert_eq!(init.record(), Some(seated));
    let made = init.folder.join("made");
    assert_eq!(fs::metadata(&made).expect("it is there").permissions().mode() & 0o777, 0o750);
    assert_eq!(fs::metadata(made.join("file")).expect("it is there").permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(made.join("link")).expect("the link leads there"), b"Content");

    init.channel.shutdown(std::net::Shutdown::Both).expect("hung up");
    assert!(init.process.wait().expect("it ends").success());
}

#[test]
fn a_step_that_fails_is_told_with_its_place_and_its_errno() {
    for (name, step, errno) in [
        ("no", Step::Chdir { path: "/is/not/there".into() }, libc::ENOENT),
        ("link", Step::MakeFile { path: "/proc/self/cwd".into(), mode: 0o600, content: vec![] }, libc::EEXIST),
        ("closed", Step::Redirect { from: 63, to: 41 }, libc::EBADF),
    ] {
        let mut init = Init::start(name, |_| vec![Step::Umask { mask: 0 }, step]);
        let failed = Record { kind: Kind::Failed as u32, section: Section::Init as u32, index: 1, value: errno };
        assert_eq!(init.record(), Some(failed), "{name}");
        assert_eq!(init.process.wait().expect("it ends").code(), Some(126), "{name}");
    }
}
