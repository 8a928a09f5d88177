//! The owner of all environments of a process: makes, reuses, freezes, evicts and destroys them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::environment::{self, Cause, Environment, Reply, State as EnvironmentState};
use crate::error::{Error, Result};
use crate::eviction::Worth;
use crate::function::Function;
use crate::house::House;
use crate::idle::Idle;
use crate::invocation::Ticket;
use crate::keeper::{self, Keeper};
use crate::nursery::Nursery;
use crate::phases::Said;
use crate::process::{self, readable};
use crate::random;
use crate::seat::{Free, Seat};
use crate::spec::Spec;
use crate::state::UIDS;
use crate::stock::{Change, Most};
use crate::supervisor::Supervisor;
use crate::wire::Kind;
use crate::zygote::Zygote;

/// How long initialisation may take (Lambda's ten seconds).
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytecode that is kept for a function at most.
const MOST_BYTECODE: usize = 1 << 20;
/// What a parked environment takes of the machine's memory, with all that the kernel keeps for it.
const PARKED_BYTES: u64 = 3 << 20;
/// Evictions that are kept until somebody asks for them.
const EVICTIONS: usize = 1000;
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
    nursery: Nursery,
    supervisor: Arc<Supervisor>,
    keeper: Arc<Keeper>,
    /// What may be made ahead for one zygote, whatever the demand.
    most: Mutex<Most>,
    max_memory: u64,
    pool: Mutex<Pool>,
    evictions: Mutex<VecDeque<Eviction>>,
    /// Whether there are any: asked after every invocation.
    evicted: AtomicBool,
    room: Condvar,
    next: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Pool {
    in_flight: usize,
    /// Who waits for an invocation to end.
    waiting: usize,
    /// Environments that are being made.
    making: usize,
    functions: HashMap<u64, Share>,
    idle: Idle<Arc<Environment>>,
    /// Host users, the one that has rested longest first.
    slots: VecDeque<u32>,
}

/// What one function has of the pool.
#[derive(Debug, Default)]
struct Share {
    in_flight: u64,
    alive: HashMap<u64, Arc<Environment>>,
}

/// An environment that had to make room, and why it was this one.
#[derive(Clone, Debug)]
pub struct Eviction {
    /// The environment's name.
    pub environment: String,
    /// Its function's.
    pub function: String,
    /// What was lacking, and how the one to go was chosen.
    pub reason: String,
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
        let available = || house.groups.memory_available() / 5 * 4;
        let max_memory = options.max_memory_mb.map_or_else(available, |mb| mb << 20);
        let slots = house.zygote_user().map(|first| (1..UIDS).map(|n| first + n).collect());
        let core = Arc::new(Self {
            nursery: Nursery::new()?,
            supervisor: Arc::new(Supervisor::new()?),
            keeper: Arc::new(Keeper::new()?),
            most: Mutex::default(),
            max_memory,
            pool: Mutex::new(Pool { slots: slots.unwrap_or_default(), ..Pool::default() }),
            evictions: Mutex::default(),
            evicted: AtomicBool::new(false),
            room: Condvar::new(),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            options,
            house,
        });
        core.supervisor.start(&core)?;
        core.keeper.start(&core)?;
        Ok(core)
    }

    /// Checks and reads a function.
    pub fn function(&self, spec: Spec) -> Result<Arc<Function>> {
        self.open()?;
        let function = Function::new(spec, &self.house.facts, &self.house.store)?;
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
        loop {
            let environment = pool.idle.take(function.id)?;
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
        match self.try_make(function, ticket, wait, interrupted)? {
            // A zygote that was killed is replaced, once: no code of a function can do that to it.
            Made::Failed(environment, Reply::Ended(_), _) if environment.lost_its_zygote() => {
                self.try_make(function, ticket, wait, interrupted)
            }
            made => Ok(made),
        }
    }

    fn try_make(
        self: &Arc<Self>,
        function: &Arc<Function>,
        ticket: &Ticket,
        wait: bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Made> {
        let (begun, born) = (Instant::now(), process::monotonic_ns());
        let (environment, begun_with_zygote) = loop {
            self.open()?;
            match self.create(function) {
                Ok(created) => break created,
                Err(Error::Throttled(_)) if wait && self.lock().in_flight > 1 => {
                    drop(self.wait_for_room(self.lock()));
                    if interrupted() {
                        return Err(Error::Cancelled);
                    }
                }
                Err(e) => return Err(e),
            }
        };
        self.keeper.wake_at(Instant::now() + keeper::DELAY);
        if !ticket.hold(&environment) {
            environment.kill(Cause::Cancelled);
            return Err(Error::Cancelled);
        }
        let limit = Instant::now() + INIT_TIMEOUT;
        let deadline = self.supervisor.keep(&environment, limit);
        let reply = environment.ask(
            Kind::Init,
            random::number(),
            &[&function.init, b"\0", function.bytecode.get().map_or(&[], Vec::as_slice)],
            crate::spec::MAX_PAYLOAD,
            limit + Duration::from_secs(5),
            true,
            interrupted,
        );
        let ready = process::monotonic_ns();
        if !self.supervisor.met(&deadline) {
            environment.kill(Cause::Timeout);
        }
        if let Ok(Reply::Answer(kind, body)) = &reply {
            let said = Said::split(body).filter(|_| *kind == Kind::Ready);
            environment.note(|phases| phases.initialised(born, ready, said.map(|(said, _)| said)));
            if let Some((_, bytecode)) = said.filter(|(_, bytecode)| (1..=MOST_BYTECODE).contains(&bytecode.len())) {
                let _ = function.bytecode.set(bytecode.to_vec());
            }
        }
        let init = begun.elapsed();
        function.note_init(begun_with_zygote.elapsed());
        match reply.inspect_err(|_| environment.kill(Cause::Retired))? {
            Reply::Answer(Kind::Ready, _) if environment.usable() => {
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

    /// Makes one; tells when that began, with a zygote there.
    fn create(&self, function: &Arc<Function>) -> Result<(Arc<Environment>, Instant)> {
        self.make_memory_room()?;
        let _making = self.begin()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (environment, begun) = self.occupy(function, number).map_err(|e| self.throttled(e))?;
        let environment = Arc::new(environment);
        let known = self.lock().functions.get_mut(&function.id).map(|share| {
            share.alive.insert(number, Arc::clone(&environment));
        });
        if let Err(e) = self.supervisor.watch(&environment) {
            self.forget_environment(&environment);
            environment.kill(Cause::Retired);
            // Its host user may be given to another only when it is no more.
            if ends(&environment) && environment.remove_cgroup() {
                self.release_slot(environment.slot());
            }
            return Err(self.throttled(e));
        }
        // Closed meanwhile, or its function was: `close` waits for us, and then for its burial.
        if known.is_none() || self.is_closed() {
            environment.kill(Cause::Retired);
        }
        Ok((environment, begun))
    }

    /// Descriptors and processes are room, too.
    fn throttled(&self, e: Error) -> Error {
        match &e {
            Error::Kernel { source, .. } if [24, 23, 11, 12].contains(&source.raw_os_error().unwrap_or(0)) => {
                let evicted = self.evict_one(&e.to_string());
                Error::Throttled(format!(
                    "{e}; {} (ulimit -n and -u bound how many environments there can be)",
                    if evicted { "an idle environment was given up, try again" } else { "no environment is idle" }
                ))
            }
            _ => e,
        }
    }

    /// The right to make or end something. Counted under the lock that `close` takes after it has closed: it waits for those that
    /// began before, and later ones are refused.
    fn begin(&self) -> Result<Making<'_>> {
        let mut pool = self.lock();
        self.open()?;
        pool.making += 1;
        Ok(Making(self))
    }

    fn occupy(&self, function: &Arc<Function>, number: u64) -> Result<(Environment, Instant)> {
        for attempt in 0.. {
            self.open()?;
            let zygote = self.nursery.zygote(&self.house, function)?;
            let begun = Instant::now();
            let made = self.seat(&zygote).and_then(|seat| {
                Environment::create(seat, &zygote, function, number).map_err(|lost| self.give_up(*lost))
            });
            match made {
                // A zygote that was killed is replaced, once.
                Err(_) if attempt == 0 && !zygote.alive() => {}
                result => return result.map(|environment| (environment, begun)),
            }
        }
        unreachable!("the loop returns at its second turn")
    }

    /// A process of the zygote in a seat: one that is parked, or else a new one.
    fn seat(&self, zygote: &Arc<Zygote>) -> Result<Seat> {
        loop {
            let (parked, free) = zygote.stock.take(Instant::now());
            if let Some(seat) = parked {
                if seat.alive() {
                    return Ok(seat);
                }
                self.end_seat(&seat);
                continue;
            }
            let free = free.map_or_else(|| self.make_seat(zygote), Ok)?;
            return free.enter(zygote).map_err(|lost| self.give_up(*lost));
        }
    }

    fn make_seat(&self, zygote: &Arc<Zygote>) -> Result<Free> {
        let slot = if self.house.facts.root {
            let slot = self.lock().slots.pop_front();
            slot.ok_or_else(|| Error::Throttled(format!("{} environments are alive; close some", UIDS - 1)))?
        } else {
            0
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cgroup = self.house.groups.create(&format!("e{number}"), self.house.zygote_user());
        cgroup.and_then(|cgroup| Free::make(zygote, cgroup, slot)).inspect_err(|_| self.release_slot(slot))
    }

    /// Ends a seat of which nothing came; why.
    fn give_up(&self, (seat, e): (Seat, Error)) -> Error {
        self.end_seat(&seat);
        e
    }

    /// Ends a seat that no environment has. One that will not die keeps its user, and is left to the next start.
    fn end_seat(&self, seat: &Seat) {
        if seat.end() {
            self.release_slot(seat.slot);
        }
    }

    /// Brings every zygote's stock to what recent demand asks for; tells when to look again.
    pub fn restock(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for zygote in self.nursery.all() {
            if !zygote.serves() {
                // Refused: `close` gives it up.
                let Ok(_making) = self.begin() else { break };
                for seat in zygote.stock.drain() {
                    self.end_seat(&seat);
                }
                continue;
            }
            // Refused: it is closed.
            while let Ok(_making) = self.begin() {
                let Some(change) = zygote.stock.change(Instant::now(), self.most_for(&zygote)) else { break };
                // Whoever needs what cannot be made will try to make it, and be told why.
                if self.carry_out(&zygote, change).is_err() {
                    break;
                }
            }
            let look = zygote.stock.next_look(Instant::now());
            next = [next, look].into_iter().flatten().min();
        }
        next
    }

    fn carry_out(&self, zygote: &Arc<Zygote>, change: Change) -> Result<()> {
        match change {
            Change::End(seat) => self.end_seat(&seat),
            Change::Seat => zygote.stock.add_seat(self.make_seat(zygote)?),
            Change::Park(free) => {
                let free = free.map_or_else(|| self.make_seat(zygote), Ok)?;
                let seat = free.park(zygote).map_err(|lost| self.give_up(*lost))?;
                zygote.stock.add_parked(seat);
            }
        }
        Ok(())
    }

    /// What may be made ahead for this zygote: all that is parked takes a small part of the memory.
    fn most_for(&self, zygote: &Arc<Zygote>) -> Most {
        const PART: u64 = 20;
        let all = (self.max_memory / PART / PARKED_BYTES) as usize;
        let others = self.parked().saturating_sub(zygote.stock.parked());
        let most = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        Most { parked: all.saturating_sub(others).min(most.parked), seats: most.seats }
    }

    /// Environments that are parked.
    pub fn parked(&self) -> usize {
        self.nursery.all().iter().map(|zygote| zygote.stock.parked()).sum()
    }

    /// Bounds what is made ahead for one zygote, for comparisons.
    pub fn make_ahead_at_most(&self, most: Most) {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner) = most;
        self.keeper.wake_at(Instant::now());
    }

    /// Takes an environment back after an invocation.
    pub fn give_back(&self, environment: &Arc<Environment>) {
        if self.closed.load(Ordering::Acquire) || !environment.function().spec.reuse || !environment.usable() {
            // By another thread: the caller has its answer, and an end takes as long as one.
            self.supervisor.condemn(environment);
            return;
        }
        environment.set_state(EnvironmentState::Ready);
        let now = Instant::now();
        // In a burst the supervisor does it, when the burst is over.
        let after = self.freeze_after(environment.answered(now));
        if self.options.freeze && after.is_zero() && environment.freeze().is_err() {
            environment.kill(Cause::Retired);
            return;
        }
        let function = environment.function();
        let freeze = (self.options.freeze && !after.is_zero()).then(|| now + after);
        let worth = Worth { uses: environment.used(), cost: function.init_cost(), memory: environment.memory_held() };
        let mut pool = self.lock();
        if !pool.functions.contains_key(&function.id) {
            // It was closed meanwhile.
            drop(pool);
            return environment.kill(Cause::Retired);
        }
        let stay = pool.idle.add(Arc::clone(environment), function.id, now, freeze, worth);
        environment.set_stay(stay);
        drop(pool);
        self.supervisor.look(freeze.unwrap_or(now + self.options.idle_timeout));
    }

    /// How long after an answer an environment is frozen.
    fn freeze_after(&self, burst: bool) -> Duration {
        if burst { self.options.freeze_after.max(environment::BURST_OVER) } else { self.options.freeze_after }
    }

    /// Freezes and destroys what has been idle for long enough; tells when to look again.
    pub fn retire_idle(&self, now: Instant) -> Option<Instant> {
        let mut pool = self.lock();
        let expired = pool.idle.expire(now, self.options.idle_timeout);
        // Under the lock: none of them can be given an event meanwhile.
        for environment in pool.idle.to_freeze(now) {
            let _ = environment.freeze();
        }
        let next = pool.idle.next(self.options.idle_timeout);
        drop(pool);
        // Without the lock: each takes some writes to its cgroup.
        for environment in expired {
            environment.kill(Cause::Retired);
        }
        next
    }

    /// Makes room for one more environment, at the cost of idle ones.
    fn make_memory_room(&self) -> Result<()> {
        let _making = self.begin()?;
        loop {
            let used = self.house.groups.memory_used().unwrap_or(0);
            if used <= self.max_memory {
                return Ok(());
            }
            let full =
                format!("environments use {} MiB of memory and max_memory_mb is {}", used >> 20, self.max_memory >> 20);
            if !self.give_up_stock() && !self.evict_one(&full) && !self.see_one_off() {
                return Err(Error::Throttled(format!("{full}; try again later, or raise it")));
            }
        }
    }

    /// Ends what is parked; false if nothing is.
    fn give_up_stock(&self) -> bool {
        let stock: Vec<Seat> = self.nursery.all().iter().flat_map(|zygote| zygote.stock.drain()).collect();
        for seat in &stock {
            self.end_seat(seat);
        }
        !stock.is_empty()
    }

    /// Waits for the end of an environment that has been killed and still holds memory; false if there is none.
    fn see_one_off(&self) -> bool {
        let dying = self.supervisor.one_of_the_living(|environment| !environment.usable());
        dying.is_some_and(|environment| ends(&environment))
    }

    /// Destroys the idle environment that is worth least and waits until its memory is back; false if none is idle.
    fn evict_one(&self, lacking: &str) -> bool {
        let Some((environment, reason)) = self.lock().idle.evict() else { return false };
        let mut evictions = self.evictions.lock().unwrap_or_else(PoisonError::into_inner);
        if evictions.len() == EVICTIONS {
            evictions.pop_front();
        }
        evictions.push_back(Eviction {
            environment: environment.id().to_owned(),
            function: environment.function().spec.name.clone(),
            reason: format!("{lacking}; {reason}"),
        });
        self.evicted.store(true, Ordering::Release);
        drop(evictions);
        environment.kill(Cause::Retired);
        ends(&environment)
    }

    /// The evictions since this was last asked, the latest thousand of them at most.
    pub fn evictions(&self) -> Vec<Eviction> {
        if !self.evicted.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.evictions.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    /// Forgets an environment that has died.
    pub fn forget_environment(&self, environment: &Arc<Environment>) {
        let mut pool = self.lock();
        if let Some(share) = pool.functions.get_mut(&environment.function().id) {
            share.alive.remove(&environment.number());
        }
        pool.idle.remove(environment.stay());
        drop(pool);
        self.room.notify_all();
    }

    /// The host user can be given to another environment.
    pub fn release_slot(&self, slot: u32) {
        if slot != 0 {
            // Not at the end: an id rests for as long as possible before it is used again.
            self.lock().slots.push_back(slot);
        }
    }

    /// Destroys a function's environments; it cannot be invoked any more.
    pub fn close_function(&self, function: &Function) {
        let mut pool = self.lock();
        let share = pool.functions.remove(&function.id);
        pool.idle.forget(function.id);
        drop(pool);
        for environment in share.into_iter().flat_map(|share| share.alive.into_values()) {
            environment.kill(Cause::Retired);
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
        // Before anybody is waited for: whoever is making something in a zygote that does not answer is released by its end.
        self.nursery.kill();
        // Closed from its own thread, when that held the last reference: nobody is left to bury but the next start.
        let clean = !self.supervisor.is_this_thread()
            && self.wait_for_the_making()
            && self.supervisor.wait_for_burials(Duration::from_secs(10));
        self.lock().functions.clear();
        self.give_up_stock();
        // One that was being launched until now.
        self.nursery.end();
        self.keeper.stop();
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

    fn wait_for_room<'a>(&self, mut pool: MutexGuard<'a, Pool>) -> MutexGuard<'a, Pool> {
        pool.waiting += 1;
        // Bounded, so that an interruption is noticed; whoever waits looks again.
        let waited = self.room.wait_timeout(pool, Duration::from_millis(50));
        let mut pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        pool.waiting -= 1;
        pool
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
        let awaited = pool.waiting > 0;
        drop(pool);
        if awaited {
            self.core.room.notify_one();
        }
    }
}
