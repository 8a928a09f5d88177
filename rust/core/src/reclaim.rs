//! Environments that have stood still for a while give back what memory they can, off everybody's path: the supervisor's
//! clock says which ([`crate::idle`]), the keeper's thread has the kernel do it ([`crate::cgroup`]), once in every stay.
//! Nobody waits for it: an environment that is needed meanwhile is taken and thawed as ever.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::environment::Environment;
use crate::error::Error;
use crate::pool::Core;
use crate::untold::Untold;

/// How long an environment stands still before it gives memory back.
const REST: Duration = Duration::from_secs(30);
/// What comes back from swap in a second, a page at a time, in bytes (half of what an SSD was seen to do). An environment
/// that can be made again sooner than that stays in memory: a warm start is not to be slower than a cold one.
const FETCHED: f64 = 100e6;

/// Those that are to give memory back, and what came of it.
#[derive(Debug)]
pub struct Reclaim {
    rest_ms: AtomicU64,
    due: Mutex<VecDeque<Due>>,
    notes: Untold<Note>,
}

/// An environment, and the stay among the idle for which it is due.
#[derive(Debug)]
pub struct Due {
    environment: Weak<Environment>,
    stay: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Note {
    /// The environment's name.
    pub environment: String,
    /// Its function's.
    pub function: String,
    /// The kernel's answer.
    pub outcome: Result<Given, Error>,
}

/// What one has given back.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The memory that it held before, in bytes.
    pub before: u64,
    /// And afterwards.
    pub after: u64,
    /// How long that took.
    pub time: Duration,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (before, after, ms) = (mb(self.before), mb(self.after), self.time.as_secs_f64() * 1e3);
        write!(f, "{before:.1} MiB held before, {after:.1} MiB after {ms:.1} ms")
    }
}

impl Due {
    /// One that has just been found to be.
    pub fn new(environment: &Arc<Environment>) -> Self {
        Self { environment: Arc::downgrade(environment), stay: environment.stay() }
    }
}

impl Default for Reclaim {
    fn default() -> Self {
        let rest_ms = AtomicU64::new(REST.as_millis() as u64);
        Self { rest_ms, due: Mutex::default(), notes: Untold::default() }
    }
}

impl Reclaim {
    /// How long an environment stands still before it gives memory back.
    pub fn rest(&self) -> Duration {
        Duration::from_millis(self.rest_ms.load(Ordering::Relaxed))
    }

    /// Adds some that are due.
    pub fn add(&self, due: impl IntoIterator<Item = Due>) {
        lock(&self.due).extend(due);
    }

    /// The notes since this was last asked, the latest thousand of them at most.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.take()
    }
}

impl Core {
    /// Sets how long an environment stands still before it gives memory back, for comparisons.
    pub fn reclaim_after(&self, rest: Duration) {
        self.reclaim().rest_ms.store(rest.as_millis() as u64, Ordering::Relaxed);
        self.supervisor().look(Instant::now());
    }

    /// Has the next one that is due give memory back; false if none is.
    pub fn reclaim_next(&self) -> bool {
        let reclaim = self.reclaim();
        let Some(Due { environment, stay }) = lock(&reclaim.due).pop_front() else { return false };
        let Some(environment) = environment.upgrade().filter(|environment| environment.stay() == stay) else {
            return true;
        };
        let begun = Instant::now();
        let worth_it = environment.function().init_cost().as_secs_f64() * FETCHED;
        // Others need swap, too.
        let swap = (self.swap_free() / 2).min(worth_it as u64);
        let outcome = match environment.reclaim(swap) {
            Ok(None) => return true,
            Ok(Some((before, after))) => {
                self.weigh(stay, after);
                Ok(Given { before, after, time: begun.elapsed() })
            }
            Err(e) => Err(e),
        };
        let function = environment.function().spec.name.clone();
        reclaim.notes.add(Note { environment: environment.id().to_owned(), function, outcome });
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
