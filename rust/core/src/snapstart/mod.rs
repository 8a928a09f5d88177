//! Restoring an initialised function (Lambda's `SnapStart`): an environment is initialised once, and new ones are forks of it.
//!
//! The initialised process is a *base*. To the rest of the core it looks like a zygote: there are seats below it, it forks into
//! them on request, and what is made ahead of it is parked in its stock. But it has run user code, so that it does none of this by
//! itself: the *tracer* has taken it over, and it never runs a word of its own again.

pub mod fitness;
pub mod tracer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use self::tracer::{Program, Tracer};
use crate::environment::{Cause, Environment};
use crate::error::{Error, Result};
use crate::host::Facts;
use crate::zygote::Zygote;

/// The process that children are forked from, and who sees to it.
#[derive(Debug)]
pub struct Base {
    /// The environment that was initialised.
    pub environment: Arc<Environment>,
    /// Its tracer.
    pub tracer: Tracer,
}

impl Base {
    /// Has both end, without waiting for that.
    pub fn kill(&self) {
        self.environment.kill(Cause::Retired);
        self.tracer.kill();
    }
}

/// The bases of a host, by their functions.
#[derive(Debug)]
pub struct Bases {
    /// The tracer's program, for all of them.
    pub program: Program,
    places: Mutex<HashMap<u64, Arc<Place>>>,
    capable: OnceLock<Result<(), String>>,
}

/// Where one function's base is.
#[derive(Debug, Default)]
pub struct Place {
    base: Mutex<Option<Arc<Zygote>>>,
    /// Who makes one.
    maker: Mutex<Option<ThreadId>>,
}

impl Place {
    /// Notes that this thread makes one, until what is returned is dropped.
    pub fn making(&self) -> Making<'_> {
        *self.maker() = Some(thread::current().id());
        Making(self)
    }

    /// Whether it is this very thread that makes one: a signal handler of Python's came in between, and waiting would be for ever.
    pub fn is_made_here(&self) -> bool {
        *self.maker() == Some(thread::current().id())
    }

    fn maker(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.maker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its base; nothing while somebody makes one.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Option<Arc<Zygote>>>> {
        match self.base.try_lock() {
            Ok(place) => Some(place),
            Err(std::sync::TryLockError::Poisoned(place)) => Some(place.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A base is being made.
pub struct Making<'a>(&'a Place);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        *self.0.maker() = None;
    }
}

impl Bases {
    /// None yet.
    pub fn new() -> Result<Self> {
        Ok(Self { program: Program::new()?, places: Mutex::default(), capable: OnceLock::new() })
    }

    /// Whether this host can do it; why not, and what would help, is the error.
    pub fn check(&self, facts: &Facts) -> Result<()> {
        let refused = |why: &str| {
            Err(Error::HostCapability(format!(
                "snapstart=True: {why}; leave it out (or give environments ahead of need with Host.prewarm)"
            )))
        };
        if !facts.root {
            return refused(
                "to suspend the system call filter of a process that is traced takes root outside of every user namespace",
            );
        }
        let capable = self.capable.get_or_init(|| Tracer::probe(&self.program).map_err(|e| e.to_string()));
        capable.as_ref().map_or_else(|why| refused(why), |()| Ok(()))
    }

    /// Where this function's is, or is to be.
    pub fn place(&self, function: u64) -> Arc<Place> {
        Arc::clone(self.lock().entry(function).or_default())
    }

    /// Ends a function's: it has no use for it any more. One that is being made is ended by who makes it.
    pub fn forget(&self, function: u64) {
        let place = self.lock().remove(&function);
        if let Some(base) = place.and_then(|place| place.try_lock()?.take()) {
            base.retire();
            base.kill();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
