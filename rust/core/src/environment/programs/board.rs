//! Who hears what a launcher says: whoever waits for its environment, or for a connection into it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::launcher::{self, Word};
use crate::process;

/// Numbers of connections begin here: those below are processes.
const CONNECTIONS: u32 = 1 << 16;
/// How long a connection into an environment may take.
const CONNECTING: Duration = Duration::from_secs(1);

/// The words of one launcher.
#[derive(Debug)]
pub struct Board {
    control: Arc<OwnedFd>,
    /// Held by whoever listens.
    listening: Mutex<()>,
    kept: Mutex<Kept>,
    came: Condvar,
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct Kept {
    /// Those that nobody has looked at yet.
    words: VecDeque<Word>,
    connections: HashMap<u32, io::Result<OwnedFd>>,
    awaited: Vec<u32>,
    /// Processes that have been started and have not ended.
    living: BTreeSet<u32>,
}

impl Board {
    /// That of the launcher at the other end.
    pub fn new(control: Arc<OwnedFd>) -> Self {
        let next = AtomicU32::new(CONNECTIONS);
        Self { control, listening: Mutex::default(), kept: Mutex::default(), came: Condvar::new(), next }
    }

    /// The right to listen, which one has at a time.
    pub fn listen(&self) -> MutexGuard<'_, ()> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next word about a process. Only for whoever listens.
    pub fn word(&self) -> io::Result<Option<Word>> {
        loop {
            let word = self.lock().words.pop_front();
            if let Some(word) = word {
                if let Word::Ended(id, _) = word {
                    self.lock().living.remove(&id);
                }
                return Ok(Some(word));
            }
            match launcher::hear(self.control.as_fd())? {
                None => return Ok(None),
                Some(word) => self.keep(word),
            }
        }
    }

    fn keep(&self, word: Word) {
        let mut kept = self.lock();
        let (id, connection) = match word {
            Word::Connected(id, socket) => (id, Ok(socket)),
            Word::Failed(id, errno) if id >= CONNECTIONS => (id, Err(io::Error::from_raw_os_error(errno))),
            word => return kept.words.push_back(word),
        };
        // One that nobody waits for any more is closed.
        if kept.awaited.contains(&id) {
            kept.connections.insert(id, connection);
            self.came.notify_all();
        }
    }

    /// Has a process started, which is given this descriptor.
    pub fn start(&self, id: u32, steps: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.lock().living.insert(id);
        launcher::start(self.control.as_fd(), id, steps, descriptor)
    }

    /// The processes that live, as far as has been heard.
    pub fn living(&self) -> Vec<u32> {
        self.lock().living.iter().copied().collect()
    }

    /// Whether this one does.
    pub fn lives(&self, id: u32) -> bool {
        self.lock().living.contains(&id)
    }

    /// A socket that is connected with a port inside, or on its way there.
    pub fn connect(&self, port: u16) -> io::Result<OwnedFd> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) | CONNECTIONS;
        self.lock().awaited.push(id);
        let connection = launcher::connect(self.control.as_fd(), id, port).and_then(|()| self.await_connection(id));
        let mut kept = self.lock();
        kept.awaited.retain(|&awaited| awaited != id);
        kept.connections.remove(&id);
        connection
    }

    fn await_connection(&self, id: u32) -> io::Result<OwnedFd> {
        const TURN: Duration = Duration::from_millis(10);
        let until = Instant::now() + CONNECTING;
        while Instant::now() < until {
            // Nobody else may be listening.
            if let Ok(_listening) = self.listening.try_lock()
                && process::readable(self.control.as_fd(), TURN)
                && let Some(word) = launcher::hear(self.control.as_fd())?
            {
                self.keep(word);
            }
            let kept = self.lock();
            let waited = self.came.wait_timeout_while(kept, TURN, |kept| !kept.connections.contains_key(&id));
            let mut kept = waited.unwrap_or_else(PoisonError::into_inner).0;
            if let Some(connection) = kept.connections.remove(&id) {
                return connection;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
