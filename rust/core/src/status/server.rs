//! The socket: few clients at a time, each with an answer of its own and a moment to read it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, send,
    shutdown, socket_with,
};

use crate::process::timespec;

/// What the socket is called in the owner's directory.
pub const SOCKET: &str = "status";
/// How many are answered at a time; as many more may wait for it.
const CLIENTS: usize = 8;
/// How long nobody is asked in after there was no room for anybody: no descriptor was free.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens for other programs of this user.
#[derive(Debug)]
pub struct Server {
    /// Gone in a fork of the process: what is asked there would be answered by nobody.
    listener: Mutex<Option<Arc<OwnedFd>>>,
    since: SystemTime,
}

impl Server {
    /// Listens in a directory, which is to be this user's alone.
    pub fn new(directory: &Path) -> io::Result<Self> {
        // By a descriptor, since the kernel takes no more than 107 bytes of a path.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&listener, CLIENTS as i32)?;
        Ok(Self { listener: Mutex::new(Some(Arc::new(listener))), since: SystemTime::now() })
    }

    /// Since when it does.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The socket on which it listens, unless this is a fork.
    pub fn listener(&self) -> Option<Arc<OwnedFd>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers nobody any more: who asks from now on is refused by the kernel, and a thread that answers ends.
    pub fn stop(&self) {
        if let Some(listener) = self.listener() {
            // It fails only for a socket that was never one.
            let _ = shutdown(&listener, Shutdown::Both);
        }
    }

    /// In a fork: the socket is the parent's.
    pub fn let_go(&self) {
        // Whoever had the lock when the process was forked has it here for ever.
        let _ = self.listener.try_lock().map(|mut listener| listener.take());
    }
}

/// Somebody who is being answered.
struct Client {
    socket: OwnedFd,
    answer: Arc<[u8]>,
    sent: usize,
    until: Instant,
}

impl Client {
    /// Sends what it takes now; false when there is nothing more to be done for it.
    fn go_on(&mut self) -> bool {
        match send(&self.socket, &self.answer[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => self.sent += sent,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        self.sent < self.answer.len()
    }
}

/// Answers everybody who asks, until nobody does; false when the socket has been shut.
pub fn serve(listener: &OwnedFd, look: impl Fn() -> Option<Vec<u8>>) -> bool {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let free = CLIENTS - clients.len();
        let wanted = if free > 0 { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(listener, wanted)];
        fds.extend(clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::OUT)));
        let end = clients.iter().map(|client| client.until).min();
        let wait = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
        let _ = poll(&mut fds, Some(&timespec(wait)));
        let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        if seen[0].intersects(PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        let now = Instant::now();
        let mut ready = seen[1..].iter().map(|seen| !seen.is_empty());
        clients.retain_mut(|client| if ready.next() == Some(true) { client.go_on() } else { client.until > now });
        if seen[0].contains(PollFlags::IN) {
            let knocking: Vec<OwnedFd> = std::iter::from_fn(|| take(listener)).take(free).collect();
            if knocking.is_empty() {
                // They go on knocking, also when they have gone: without a pause this would be a loop without an end.
                std::thread::sleep(PAUSE);
                continue;
            }
            let admitted: Vec<OwnedFd> = knocking.into_iter().filter(|socket| may_ask(socket.as_fd())).collect();
            let Some(answer) = (!admitted.is_empty()).then(&look).flatten().map(Arc::<[u8]>::from) else { continue };
            let until = Instant::now() + PATIENCE;
            clients.extend(admitted.into_iter().map(|socket| Client {
                socket,
                answer: Arc::clone(&answer),
                sent: 0,
                until,
            }));
        } else if clients.is_empty() {
            return true;
        }
    }
}

/// Takes everybody in who waits, and sees them off without an answer.
pub fn turn_away(listener: &OwnedFd) {
    std::iter::from_fn(|| take(listener)).take(2 * CLIENTS).for_each(drop);
}

fn take(listener: &OwnedFd) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()
}

/// Whether a client is what it should be: a process beside this one. Environments live in pid namespaces below. None of them
/// sees the socket, unless somebody mounts it into one, and where hosts are an ordinary user's, they are that user.
fn may_ask(socket: BorrowedFd<'_>) -> bool {
    match coldframe_sys::host::peer(socket) {
        Ok(Some(pid)) => fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| lives_beside(&status)),
        // In a namespace that is none below this one.
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Whether this process, by its `/proc/PID/status`, has an id in this pid namespace alone, and in none below it.
fn lives_beside(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// A server in a directory of its own, whose name is longer than the address of a socket may be.
    fn server(name: &str) -> (Server, PathBuf) {
        let long = "x".repeat(120);
        let directory = std::env::temp_dir().join(format!("coldframe-status-{name}-{}-{long}", std::process::id()));
        fs::create_dir(&directory).expect("a directory");
        (Server::new(&directory).expect("a socket"), directory)
    }

    fn connect(directory: &Path) -> UnixStream {
        let place = fs::File::open(directory).expect("the directory");
        let client = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd())).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        client
    }

    fn read(mut client: UnixStream) -> Vec<u8> {
        let mut said = Vec::new();
        client.read_to_end(&mut said).expect("an answer, or none");
        said
    }

    #[test]
    fn everybody_who_asks_is_answered_and_then_the_thread_may_go() {
        let (server, directory) = server("answers");
        let mode = fs::metadata(directory.join(SOCKET)).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let listener = server.listener().expect("it listens");
        assert!(serve(&listener, || unreachable!("nobody asks")));
        let clients: Vec<UnixStream> = (0..3).map(|_| connect(&directory)).collect();
        assert!(serve(&listener, || Some(b"{}".to_vec())));
        assert!(clients.into_iter().all(|client| read(client) == b"{}"));
        let client = connect(&directory);
        assert!(serve(&listener, || None), "the host is gone");
        assert!(read(client).is_empty());
        fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn who_does_not_read_holds_a_place_for_a_moment_and_nobody_else() {
        let (server, directory) = server("slow");
        let listener = server.listener().expect("it listens");
        let large = vec![b'x'; 16 << 20];
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let slow: Vec<UnixStream> = (0..CLIENTS - 1).map(|_| connect(&directory)).collect();
            let quick = connect(&directory);
            let reader = scope.spawn(move || (read(quick).len(), Instant::now()));
            // More than are answered at a time: they wait until others have had their time.
            let late = connect(&directory);
            let other = scope.spawn(move || (read(late).len(), Instant::now()));
            assert!(serve(&listener, || Some(large.clone())));
            let (len, at) = reader.join().expect("read");
            assert!(len == large.len() && at - begun < PATIENCE, "{:?}", at - begun);
            assert_eq!(other.join().expect("read").0, large.len());
            assert!(slow.into_iter().all(|client| read(client).len() < large.len()), "they were seen off");
        });
        assert!(begun.elapsed() < 3 * PATIENCE, "{:?}", begun.elapsed());
        fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn whoever_goes_away_or_is_turned_away_costs_nothing() {
        let (server, directory) = server("rude");
        let listener = server.listener().expect("it listens");
        let clients: Vec<UnixStream> = (0..CLIENTS).map(|_| connect(&directory)).collect();
        drop(clients);
        let begun = Instant::now();
        assert!(serve(&listener, || Some(vec![b'x'; 16 << 20])));
        let waiting = connect(&directory);
        turn_away(&listener);
        assert!(read(waiting).is_empty());
        assert!(begun.elapsed() < PATIENCE);
        fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn a_server_that_is_stopped_refuses_and_its_thread_ends() {
        let (server, directory) = server("stops");
        let listener = server.listener().expect("it listens");
        let held = connect(&directory);
        std::thread::scope(|scope| {
            let (said, asked) = std::sync::mpsc::channel();
            let listener = &listener;
            let thread = scope.spawn(move || {
                serve(listener, || {
                    let _ = said.send(());
                    Some(vec![b'x'; 16 << 20])
                })
            });
            let _ = asked.recv_timeout(Duration::from_secs(10));
            server.stop();
            assert!(!thread.join().expect("no panic"));
        });
        let place = fs::File::open(&directory).expect("the directory");
        let path = format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd());
        assert_eq!(UnixStream::connect(&path).expect_err("stopped").kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        server.let_go();
        assert!(server.listener().is_none());
        fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn nobody_in_a_namespace_below_may_ask() {
        assert!(lives_beside("Name:\tpython3\nNSpid:\t812\nNSpgid:\t812\n"));
        assert!(!lives_beside("Name:\tpython3\nNSpid:\t812\t3\t2\nNSpgid:\t812\n"));
        assert!(!lives_beside("Name:\tpython3\n"));
        let (mine, other) = UnixStream::pair().expect("a pair");
        assert!(may_ask(mine.as_fd()), "this process");
        drop(other);
    }
}
