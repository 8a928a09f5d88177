//! The API of one environment, for whoever runs it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::state::State;
use super::{About, Event, Extension, News, Platform, Shutdown, Source, runtime};
use crate::defect;

/// Gives a socket that is connected with a port inside the environment, on its loopback device. It is called on a thread of
/// its own and may wait for the far side, but for a bounded time only.
pub type Connector = Box<dyn Fn(u16) -> io::Result<OwnedFd> + Send + Sync>;

/// What a session's tasks and its owner share.
pub struct Shared {
    pub about: About,
    state: Mutex<State>,
    /// Something has changed that a request may wait for.
    changed: Notify,
    /// Readable while there is news.
    signal: OwnedFd,
    pub connector: Mutex<Option<Arc<Connector>>>,
    /// Held by whoever asks it for a connection.
    pub connecting: Arc<Semaphore>,
    /// What runs beside the requests, until the session is closed.
    tasks: Mutex<Option<JoinSet<()>>>,
    handle: Handle,
}

/// The API of one environment.
pub struct Session {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Session {
    /// One whose connections are taken by the task that `serve` makes.
    pub(super) fn new<F>(about: About, handle: &Handle, serve: impl FnOnce(Arc<Shared>) -> F) -> io::Result<Arc<Self>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            about,
            state: Mutex::new(State::new()),
            changed: Notify::new(),
            signal: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            connector: Mutex::default(),
            connecting: Arc::new(Semaphore::new(1)),
            tasks: Mutex::new(Some(JoinSet::new())),
            handle: handle.clone(),
        });
        let (own, serving) = (Arc::clone(&shared), serve(Arc::clone(&shared)));
        let task = handle.spawn(async move { own.contain(serving).await }).abort_handle();
        Ok(Arc::new(Self { shared, task }))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A descriptor that is readable while there is news.
    pub fn signal(&self) -> BorrowedFd<'_> {
        self.shared.signal.as_fd()
    }

    /// The oldest of the news.
    pub fn news(&self) -> Option<News> {
        let news = {
            let mut state = self.shared.lock();
            let news = state.pop();
            // Somebody may be waiting for room.
            if matches!(news, Some(News::Chunk(_))) {
                self.shared.changed.notify_waiters();
            }
            news
        };
        // A document that the environment has made is looked into on the time of whoever called it.
        news.map(runtime::without_cause)
    }

    /// Processes are going to be started, from nothing: the external extensions of [`About::external`] first.
    pub fn start_init(&self) {
        self.shared.change(|state| state.start_init(&self.shared.about.external));
    }

    /// Gives the runtime an event, and tells the extensions. One at a time, and only after [`News::Ready`].
    pub fn invoke(&self, event: Event) {
        self.shared.change(|state| state.invoke(event));
    }

    /// The open invocation is over without an answer: one that still comes is refused, and nothing is told of it.
    pub fn expire(&self) {
        self.shared.change(State::expire);
    }

    /// Tells the extensions that want to know that the environment ends, and when: in milliseconds since the epoch.
    pub fn shutdown(&self, reason: Shutdown, deadline_ms: u64) {
        self.shared.change(|state| state.shut_down(reason, deadline_ms));
    }

    /// The process of an external extension has ended.
    pub fn extension_ended(&self, name: &str, how: &str) {
        self.shared.change(|state| state.extension_ended(name, how));
    }

    /// The extensions that have registered.
    pub fn registered(&self) -> Vec<Extension> {
        self.shared.lock().extensions()
    }

    /// A line of output, for those who subscribed to such.
    pub fn log(&self, source: Source, text: &str) {
        self.shared.lock().telemetry.log(source, text);
    }

    /// A record of the platform, for those who subscribed to such.
    pub fn platform(&self, record: &Platform) {
        self.shared.lock().telemetry.platform(record);
    }

    /// Has what waits for subscribers delivered now, rather than when its time is up. The environment runs meanwhile.
    pub fn flush(&self) {
        self.shared.change(|state| {
            state.flushing = true;
            state.telemetry.flush();
        });
    }

    /// The environment may be frozen from now on.
    pub fn rest(&self) {
        self.shared.change(|state| state.flushing = false);
    }

    /// Whether all of it has been, or was given up.
    pub fn is_delivered(&self) -> bool {
        self.shared.lock().telemetry.is_delivered()
    }

    /// How telemetry gets inside. Without it, what is subscribed to is not delivered.
    pub fn deliver(&self, connector: Connector) {
        *self.shared.connector.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(connector));
        self.shared.changed.notify_waiters();
    }

    /// Drops the listener and every connection, with everything that they hold.
    pub fn close(&self) {
        self.task.abort();
        *self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// The state. News that were added are signalled when it is given back.
    pub fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = state.news.is_empty();
        Locked { state, silent, signal: &self.signal }
    }

    /// Changes the state, and lets whatever waits look at it.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Does something on the server's thread. A panic in it is news, and nothing comes of it.
    pub async fn contain<T>(&self, task: impl Future<Output = T>) -> Option<T> {
        let mut task = pin!(task);
        let ended = poll_fn(|cx| match defect::contain(|| task.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(defect) => Poll::Ready(Err(defect)),
        });
        ended.await.map_err(|defect| self.change(|state| state.news.push_back(News::Defect(defect.to_string())))).ok()
    }

    /// Runs something beside the requests, unless the session is closed.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = &mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) {
            // Those that have ended are let go of; they have nothing to say.
            while tasks.try_join_next().is_some() {}
            let own = Arc::clone(self);
            tasks.spawn_on(async move { own.contain(task).await.unwrap_or_default() }, &self.handle);
        }
    }

    /// Waits until `look` finds what it looks for.
    pub async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // What happens from here on is not missed.
            changed.as_mut().enable();
            let found = look(&mut self.lock());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }
}

/// The state, while somebody has it.
pub struct Locked<'a> {
    state: MutexGuard<'a, State>,
    /// Whether there was no news before.
    silent: bool,
    signal: &'a OwnedFd,
}

impl std::ops::Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Neither can fail: the counter is one or zero, and only whoever holds the lock changes it.
        match (self.silent, self.state.news.is_empty()) {
            (true, false) => drop(rustix::io::write(self.signal, &1_u64.to_ne_bytes())),
            (false, true) => drop(rustix::io::read(self.signal, &mut [0_u8; 8])),
            _ => {}
        }
    }
}
