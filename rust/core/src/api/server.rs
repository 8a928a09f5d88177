//! The thread that serves all sessions of a host.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use super::session::{Session, Shared};
use super::{About, News, connection};
use crate::defect;

/// For how long the thread may take to end: it does nothing that lasts.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many threads ask environments for connections (telemetry alone wants any), and how long one stays without work.
const ASKING: usize = 32;
const ASKING_FOR: Duration = Duration::from_secs(1);

/// The server of one host. It has no thread until the first session.
#[derive(Default)]
pub struct Server {
    thread: Mutex<Thread>,
}

#[derive(Default)]
enum Thread {
    #[default]
    None,
    Running(Running),
    Stopped,
}

struct Running {
    handle: Handle,
    stop: Arc<Notify>,
    gone: Receiver<()>,
    sessions: Arc<Mutex<Vec<Weak<Shared>>>>,
}

impl Server {
    /// One without a thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the API on a socket that listens inside an environment.
    pub fn serve(&self, listener: OwnedFd, about: About) -> io::Result<Arc<Session>> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*thread, Thread::None) {
            *thread = Thread::Running(Running::start()?);
        }
        let Thread::Running(running) = &*thread else {
            return Err(io::Error::other("the server has been stopped"));
        };
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let entered = running.handle.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(entered);
        let session = Session::new(about, &running.handle, |shared| connection::accept(listener, shared))?;
        let mut sessions = lock(&running.sessions);
        sessions.retain(|other| other.strong_count() > 0);
        sessions.push(Arc::downgrade(session.shared()));
        Ok(session)
    }

    /// Ends the thread, and with it every session.
    pub fn stop(&self) {
        let thread =
            std::mem::replace(&mut *self.thread.lock().unwrap_or_else(PoisonError::into_inner), Thread::Stopped);
        if let Thread::Running(running) = thread {
            running.stop.notify_one();
            let _ = running.gone.recv_timeout(PATIENCE);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("coldframe-reach")
            .max_blocking_threads(ASKING)
            .thread_keep_alive(ASKING_FOR)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, sessions) = (Arc::new(Notify::new()), Arc::<Mutex<Vec<Weak<Shared>>>>::default());
        let (going, gone) = sync_channel(1);
        let (until, served) = (Arc::clone(&stop), Arc::clone(&sessions));
        std::thread::Builder::new().name("coldframe-api".into()).spawn(move || {
            // The embedding program's signals are for its own threads.
            let _ = coldframe_sys::host::block_signals();
            let ended = defect::contain(|| {
                runtime.block_on(until.notified());
                // What asks an environment for a connection ends with its own deadline.
                runtime.shutdown_background();
            });
            if let Err(defect) = ended {
                for shared in lock(&served).drain(..).filter_map(|shared| shared.upgrade()) {
                    shared.change(|state| state.news.push_back(News::Defect(defect.to_string())));
                }
            }
            let _ = going.send(());
        })?;
        Ok(Self { handle, stop, gone, sessions })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
