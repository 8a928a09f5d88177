//! The owner of all environments of a process: makes, reuses, freezes, evicts and destroys them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::environment::{Cause, Environment, Reply, State as EnvironmentState};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::house::House;
use crate::invocation::Ticket;
use crate::nursery::Nursery;
use crate::process::readable;
use crate::spec::Spec;
use crate::state::UIDS;
use crate::supervisor::Supervisor;
use crate::wire::Kind;

/// How long initialisation may take (Lambda's ten seconds).
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// What an owner may decide.
#[derive(Clone, Debug)]
pub struct Options {
    /// Invocations in flight at once.
    pub max_concurrency: usize,
    /// Memory in use, in MiB; `None`: 80% of what the caller may use.
    pub max_memory_mb: Option<u64>,
    /// After which an idle environment is destroyed.
    pub idle_timeout: Duration,
    /// Whether idle environments are frozen.
    pub freeze: bool,
    /// How long after an answer.
    pub freeze_after: Duration,
    /// Whether the caller's other processes may be moved aside in its cgroup.
    pub take: bool,
}

/// The owner. Everything ends with it.
#[derive(Debug)]
pub struct Core {
    options: Options,
    house: House,
    doors: usize,
    nursery: Nursery,
    supervisor: Arc<Supervisor>,
    max_memory: u64,
    pool: Mutex<Pool>,
    room: Condvar,
    next: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Pool {
    in_flight: usize,
    /// Environments that are being made.
    making: usize,
    functions: HashMap<u64, Share>,
    slots: Vec<u32>,
}

/// What one function has of the pool.
#[derive(Debug, Default)]
struct Share {
    in_flight: u64,
    /// The last one used is the first one used again: the rest may go.
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    environment: Arc<Environment>,
    since: Instant,
}

/// An environment to serve with, and how long it took to make and initialise it if it is new.
pub struct Served {
    /// The environment.
    pub environment: Arc<Environment>,
    /// How long it took.
    pub init: Option<Duration>,
}

/// What came of making an environment.
pub enum Made {
    /// It is initialised.
    Ready(Served),
    /// Its function could not be initialised: what the runtime said, or how it ended.
    Failed(Arc<Environment>, Reply, Duration),
}

impl Core {
    /// Looks at the host, collects what dead owners left, and starts the supervisor.
    pub fn new(options: Options) -> Result<Arc<Self>> {
        let house = House::new(options.take)?;
        let groups = &house.groups;
        let probe = groups.create("probe", None)?;
        let doors = probe.doors()?.len();
        let _ = probe.remove();
        let max_memory = options.max_memory_mb.map_or_else(|| groups.memory_available() / 5 * 4, |mb| mb << 20);
        let slots = house.zygote_user().map(|first| (1..UIDS).rev().map(|n| first + n).collect());
        let core = Arc::new(Self {
            doors,
            nursery: Nursery::new()?,
            supervisor: Arc::new(Supervisor::new()?),
            max_memory,
            pool: Mutex::new(Pool { slots: slots.unwrap_or_default(), ..Pool::default() }),
            room: Condvar::new(),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            options,
            house,
        });
        core.supervisor.start(&core)?;
        Ok(core)
    }

    /// Checks and reads a function.
    pub fn function(&self, spec: Spec) -> Result<Arc<Function>> {
        self.open()?;
        let function = Function::new(spec, &self.house.facts, &self.house.store, self.doors)?;
        self.lock().functions.insert(function.id, Share::default());
        Ok(Arc::new(function))
    }

    /// The supervisor.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Admits an invocation. `wait`: waits for room instead of refusing.
    pub fn admit(
        self: &Arc<Self>,
        function: &Arc<Function>,
        wait: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Permit> {
        let mut pool = self.lock();
        loop {
            self.open()?;
            let reserved = function.spec.reserved_concurrency;
            let of_function = pool.functions.get(&function.id).ok_or(Error::Closed("this function"))?.in_flight;
            let full = if pool.in_flight >= self.options.max_concurrency {
                Some(format!("{} invocations are in flight, which is max_concurrency", pool.in_flight))
            } else {
                reserved.filter(|&most| of_function >= most).map(|most| {
                    format!(
                        "{:?} has {of_function} invocations in flight and reserved_concurrency={most}",
                        function.spec.name
                    )
                })
            };
            let Some(why) = full else { break };
            if !wait {
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
        if let Some(share) = pool.functions.get_mut(&function.id) {
            share.in_flight += 1;
        }
        Ok(Permit { core: Arc::clone(self), function: function.id })
    }

    /// An idle environment of the function, if there is one.
    pub fn reuse(&self, function: &Function) -> Option<Arc<Environment>> {
        let mut pool = self.lock();
        let idle = &mut pool.functions.get_mut(&function.id)?.idle;
        loop {
            let environment = idle.pop()?.environment;
            if environment.usable() {
                environment.set_state(EnvironmentState::Busy);
                return Some(environment);
            }
        }
    }

    /// A new environment, initialised. With `wait`, waits for memory or descriptors that others may give back.
    pub fn make(
        self: &Arc<Self>,
        function: &Arc<Function>,
        ticket: &Ticket,
        wait: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Made> {
        let begun = Instant::now();
        let environment = loop {
            self.open()?;
            match self.create(function) {
                Ok(environment) => break environment,
                Err(Error::Throttled(_)) if wait && self.lock().in_flight > 1 => {
                    drop(self.wait_for_room(self.lock()));
                    if interrupted() {
                        return Err(Error::Cancelled);
                    }
                }
                Err(e) => return Err(e),
            }
        };
        if !ticket.hold(&environment) {
            environment.kill(Cause::Cancelled);
            return Err(Error::Cancelled);
        }
        let limit = Instant::now() + INIT_TIMEOUT;
        let deadline = self.supervisor.keep(&environment, limit);
        let reply = environment.ask(
            Kind::Init,
            &[&function.init],
            crate::spec::MAX_PAYLOAD,
            limit + Duration::from_secs(5),
            interrupted,
        );
        if !self.supervisor.met(&deadline) {
            environment.kill(Cause::Timeout);
        }
        let init = begun.elapsed();
        let reply = reply.and_then(|reply| match reply {
            Reply::Answer(Kind::Ready, _) => environment.limit_cpu().map(|()| reply),
            reply => Ok(reply),
        });
        match reply.inspect_err(|_| environment.kill(Cause::Retired))? {
            Reply::Answer(Kind::Ready, _) if environment.usable() => {
                environment.usage();
                environment.set_state(EnvironmentState::Busy);
                Ok(Made::Ready(Served { environment, init: Some(init) }))
            }
            Reply::Interrupted => {
                environment.kill(Cause::Cancelled);
                Err(Error::Cancelled)
            }
            reply => {
                environment.kill(Cause::Retired);
                if environment.cause() == Cause::Cancelled {
                    return Err(Error::Cancelled);
                }
                match environment.setup_failure() {
                    Some(e) => Err(e),
                    None => Ok(Made::Failed(environment, reply, init)),
                }
            }
        }
    }

    fn create(&self, function: &Arc<Function>) -> Result<Arc<Environment>> {
        self.make_memory_room()?;
        let (slot, _making) = self.begin()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let made = self.fork(function, number, slot).and_then(|environment| {
            let environment = Arc::new(environment);
            if let Err(e) = self.supervisor.watch(&environment) {
                // Its host user may be given to another only when it is no more.
                environment.kill(Cause::Retired);
                ends(&environment);
                environment.remove_cgroup();
                return Err(e);
            }
            // Closed meanwhile: `close` waits for us, and then for its burial.
            if self.is_closed() {
                environment.kill(Cause::Retired);
            }
            Ok(environment)
        });
        made.map_err(|e| {
            self.release_slot(slot);
            // Descriptors and processes are room, too.
            match &e {
                Error::Kernel { source, .. } if [24, 23, 11, 12].contains(&source.raw_os_error().unwrap_or(0)) => {
                    let evicted = self.evict_one();
                    Error::Throttled(format!(
                        "{e}; {} (ulimit -n and -u bound how many environments there can be)",
                        if evicted { "an idle environment was given up, try again" } else { "no environment is idle" }
                    ))
                }
                _ => e,
            }
        })
    }

    /// A host user for a new environment, and the right to make it. Counted under the lock that `close` takes after it has
    /// closed: it waits for those that began before, and later ones are refused.
    fn begin(&self) -> Result<(u32, Making<'_>)> {
        let mut pool = self.lock();
        self.open()?;
        let slot = if self.house.facts.root {
            let slot = pool.slots.pop();
            slot.ok_or_else(|| Error::Throttled(format!("{} environments are alive; close some", UIDS - 1)))?
        } else {
            0
        };
        pool.making += 1;
        Ok((slot, Making(self)))
    }

    fn fork(&self, function: &Arc<Function>, number: u64, slot: u32) -> Result<Environment> {
        let owner = self.house.zygote_user();
        for attempt in 0.. {
            let zygote = self.nursery.zygote(&self.house, function)?;
            let cgroup = self.house.groups.create(&format!("e{number}-{attempt}"), owner)?;
            match Environment::create(&zygote, function, cgroup, number, slot) {
                // A zygote that was killed is replaced, once.
                Err(_) if attempt == 0 && zygote.ends_within(Duration::from_millis(200)) => {}
                result => return result,
            }
        }
        unreachable!("the loop returns at its second turn")
    }

    /// Takes an environment back after an invocation.
    pub fn give_back(&self, environment: &Arc<Environment>) {
        if self.closed.load(Ordering::Acquire) || !environment.function().spec.reuse || !environment.usable() {
            environment.kill(Cause::Retired);
            return;
        }
        environment.set_state(EnvironmentState::Ready);
        let now = Instant::now();
        if self.options.freeze && self.options.freeze_after.is_zero() && environment.freeze().is_err() {
            environment.kill(Cause::Retired);
            return;
        }
        let function = environment.function().id;
        let idle = Idle { environment: Arc::clone(environment), since: now };
        match self.lock().functions.get_mut(&function) {
            Some(share) => share.idle.push(idle),
            // The function was closed meanwhile.
            None => return environment.kill(Cause::Retired),
        }
        if self.options.freeze && !self.options.freeze_after.is_zero() {
            self.supervisor.look(now + self.options.freeze_after);
        } else {
            self.supervisor.look(now + self.options.idle_timeout);
        }
    }

    /// Freezes and destroys what has been idle for long enough; tells when to look again.
    pub fn retire_idle(&self, now: Instant) -> Option<Instant> {
        let mut pool = self.lock();
        let mut next: Option<Instant> = None;
        let mut expired = Vec::new();
        for share in pool.functions.values_mut() {
            share.idle.retain(|idle| {
                let end = idle.since + self.options.idle_timeout;
                if end <= now {
                    expired.push(Arc::clone(&idle.environment));
                    return false;
                }
                let freeze = idle.since + self.options.freeze_after;
                let mut due = end;
                if self.options.freeze && idle.environment.state() == EnvironmentState::Ready {
                    if freeze <= now {
                        let _ = idle.environment.freeze();
                    } else {
                        due = freeze.min(end);
                    }
                }
                next = Some(next.map_or(due, |next| next.min(due)));
                true
            });
        }
        drop(pool);
        // Without the lock: each takes some writes to its cgroup.
        for environment in expired {
            environment.kill(Cause::Retired);
        }
        next
    }

    /// Makes room for one more environment, at the cost of idle ones.
    fn make_memory_room(&self) -> Result<()> {
        loop {
            let used = self.house.groups.memory_used().unwrap_or(0);
            if used <= self.max_memory {
                return Ok(());
            }
            if !self.evict_one() && !self.see_one_off() {
                return Err(Error::Throttled(format!(
                    "environments use {} MiB of memory and max_memory_mb is {}; try again later, or raise it",
                    used >> 20,
                    self.max_memory >> 20
                )));
            }
        }
    }

    /// Waits for the end of an environment that has been killed and still holds memory; false if there is none.
    fn see_one_off(&self) -> bool {
        let dying = self.supervisor.living().into_iter().find(|environment| !environment.usable());
        dying.is_some_and(|environment| ends(&environment))
    }

    /// Destroys the environment that has been idle longest and waits until its memory is back; false if none is idle.
    fn evict_one(&self) -> bool {
        let mut pool = self.lock();
        let oldest = pool
            .functions
            .values_mut()
            .filter(|share| !share.idle.is_empty())
            .min_by_key(|share| share.idle[0].since)
            .map(|share| share.idle.remove(0).environment);
        drop(pool);
        let Some(environment) = oldest else { return false };
        environment.kill(Cause::Retired);
        ends(&environment)
    }

    /// Forgets an environment that has died.
    pub fn forget_environment(&self, environment: &Arc<Environment>) {
        let mut pool = self.lock();
        if let Some(share) = pool.functions.get_mut(&environment.function().id) {
            share.idle.retain(|idle| !Arc::ptr_eq(&idle.environment, environment));
        }
        drop(pool);
        self.room.notify_all();
    }

    /// The host user can be given to another environment.
    pub fn release_slot(&self, slot: u32) {
        if slot != 0 {
            // Not at the end: an id rests for as long as possible before it is used again.
            self.lock().slots.insert(0, slot);
        }
    }

    /// Destroys a function's environments; it cannot be invoked any more.
    pub fn close_function(&self, function: &Function) {
        let share = self.lock().functions.remove(&function.id);
        for idle in share.into_iter().flat_map(|share| share.idle) {
            idle.environment.kill(Cause::Retired);
        }
        for environment in self.supervisor.living() {
            if environment.function().id == function.id {
                environment.kill(Cause::Retired);
            }
        }
    }

    /// Every environment that lives.
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        self.supervisor.living()
    }

    /// Destroys everything. False when something would not die within ten seconds; what is left of it is collected at
    /// the next start.
    pub fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return true;
        }
        self.room.notify_all();
        for environment in self.supervisor.living() {
            environment.kill(Cause::Retired);
        }
        // Closed from its own thread, when that held the last reference: nobody is left to bury but the next start.
        let clean = !self.supervisor.is_this_thread()
            && self.wait_for_the_making()
            && self.supervisor.wait_for_burials(Duration::from_secs(10));
        self.lock().functions.clear();
        self.nursery.end();
        self.supervisor.stop();
        // What is left keeps its entry in our directory, by which the next start finds it.
        let clean = self.house.groups.remove() && clean;
        if clean {
            self.house.state.remove();
        }
        clean
    }

    /// Waits until no environment is being made any more; false when that takes too long.
    fn wait_for_the_making(&self) -> bool {
        let waited = self.room.wait_timeout_while(self.lock(), Duration::from_secs(10), |pool| pool.making > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed("this host")) } else { Ok(()) }
    }

    fn wait_for_room<'a>(&self, pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        // Bounded, so that an interruption is noticed; whoever waits looks again.
        self.room.wait_timeout(pool, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An environment that is being made.
struct Making<'a>(&'a Core);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.lock().making -= 1;
        self.0.room.notify_all();
    }
}

/// Waits for the end of an environment that has been killed; false if that takes longer than it may.
fn ends(environment: &Environment) -> bool {
    readable(environment.pidfd(), Duration::from_secs(1))
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
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
        drop(pool);
        self.core.room.notify_one();
    }
}
