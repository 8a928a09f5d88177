//! Who may begin: invocations in flight, up to the host's limit and the function's own.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Core, Pool};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::function::Function;

/// For how long an invocation that finds no room waits for what has answered already, and goes on.
const FINISHING: Duration = Duration::from_secs(1);

impl Core {
    /// Admits an invocation. `wait`: waits for room instead of refusing.
    pub fn admit(
        self: &Arc<Self>,
        function: &Arc<Function>,
        wait: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Permit> {
        let (mut pool, begun) = (self.lock(), Instant::now());
        loop {
            self.open()?;
            let reserved = function.spec.reserved_concurrency;
            let share = pool.functions.get(&function.id).ok_or(Error::Closed("this function"))?;
            // What has answered and goes on is one that runs.
            let (of_function, all) = (share.in_flight + share.finishing as u64, pool.in_flight + pool.finishing);
            let full = if all >= self.options.max_concurrency {
                Some(format!("{all} invocations are in flight, which is max_concurrency"))
            } else {
                reserved.filter(|&most| of_function >= most).map(|most| {
                    format!(
                        "{:?} has {of_function} invocations in flight and reserved_concurrency={most}",
                        function.spec.name
                    )
                })
            };
            let Some(why) = full else { break };
            let soon = pool.finishing > 0 && begun.elapsed() < FINISHING;
            if !wait && !soon {
                return Err(Error::Throttled(format!("{why}; try again later, wait with map(), or raise the limit")));
            }
            drop(self.wait_for_room(pool));
            // Asked without the lock: it may run code of the caller.
            if interrupted() {
                return Err(Error::Cancelled);
            }
            pool = self.lock();
        }
        pool.in_flight += 1;
        pool.begun += 1;
        if let Some(share) = pool.functions.get_mut(&function.id) {
            share.in_flight += 1;
        }
        Ok(Permit { core: Arc::clone(self), function: function.id })
    }

    /// Notes that an environment is not done with an event whose answer was given, or is now.
    pub(crate) fn finishing(&self, environment: &Environment, change: isize) {
        let mut pool = self.lock();
        pool.finishing = pool.finishing.saturating_add_signed(change);
        if let Some(share) = pool.functions.get_mut(&environment.function().id) {
            share.finishing = share.finishing.saturating_add_signed(change);
        }
        drop(pool);
        self.room.notify_all();
    }

    /// Invocations of a function that are in flight: those that were admitted and have not ended.
    pub fn in_flight(&self, function: &Function) -> u64 {
        self.lock().functions.get(&function.id).map_or(0, |share| share.in_flight)
    }

    /// The invocations in flight, and all that ever were.
    pub fn invocations(&self) -> (usize, u64) {
        let pool = self.lock();
        (pool.in_flight, pool.begun)
    }

    pub(super) fn wait_for_room<'a>(&self, mut pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        pool.waiting += 1;
        // Bounded, so that an interruption is noticed; whoever waits looks again.
        let waited = self.room.wait_timeout(pool, Duration::from_millis(50));
        let mut pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        pool.waiting -= 1;
        pool
    }
}

/// The right to one invocation in flight.
#[derive(Debug)]
pub struct Permit {
    core: Arc<Core>,
    function: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut pool = self.core.lock();
        pool.in_flight -= 1;
        if let Some(share) = pool.functions.get_mut(&self.function) {
            share.in_flight -= 1;
        }
        let awaited = pool.waiting > 0;
        drop(pool);
        if awaited {
            self.core.room.notify_one();
        }
    }
}
