//! The owner of all environments of a process: makes, reuses, freezes, evicts and destroys them.

pub mod admission;
pub mod ahead;
pub mod base;
pub mod ending;
pub mod make;
pub mod news;
pub mod room;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::ahead::Ahead;
use self::news::{Life, Turn};
use self::room::Eviction;
use crate::environment::{self, Cause, Environment, State as EnvironmentState};
use crate::error::Result;
use crate::eviction::Worth;
use crate::function::Function;
use crate::house::House;
use crate::idle::Idle;
use crate::keeper::Keeper;
use crate::nursery::Nursery;
use crate::posture::Wall;
use crate::reclaim::{Due, Reclaim};
use crate::snapstart::Bases;
use crate::spec::Spec;
use crate::state::UIDS;
use crate::status::Server;
use crate::stock::Most;
use crate::supervisor::Supervisor;
use crate::trouble::Trouble;
use crate::untold::Untold;

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

impl Options {
    /// The same with spans that can be added to a time: nobody waits longer.
    #[must_use]
    pub fn bounded(self) -> Self {
        const LONGEST: Duration = Duration::from_secs(1_000_000_000);
        Self { idle_timeout: self.idle_timeout.min(LONGEST), freeze_after: self.freeze_after.min(LONGEST), ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_concurrency: 1000,
            max_memory_mb: None,
            idle_timeout: Duration::from_secs(600),
            freeze: true,
            freeze_after: Duration::ZERO,
            take: false,
        }
    }
}

/// The owner. Everything ends with it.
#[derive(Debug)]
pub struct Core {
    options: Options,
    house: House,
    nursery: Nursery,
    bases: Bases,
    supervisor: Arc<Supervisor>,
    keeper: Arc<Keeper>,
    reclaim: Reclaim,
    /// What may be made ahead for one zygote, whatever the demand.
    most: Mutex<Most>,
    max_memory: u64,
    pool: Mutex<Pool>,
    evictions: Untold<Eviction>,
    lives: Untold<Life>,
    troubles: Untold<Trouble>,
    /// What cannot be ended, by the environments' numbers.
    stuck: Mutex<BTreeMap<u64, Vec<PathBuf>>>,
    room: Condvar,
    next: AtomicU64,
    closed: AtomicBool,
    /// What a panic of one of the host's own threads had to say: it has an end.
    defect: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Pool {
    in_flight: usize,
    /// Invocations that were ever in flight.
    begun: u64,
    /// Environments whose answer was given and who are not done with its event, of all functions.
    finishing: usize,
    /// Who waits for an invocation to end, or for the stock.
    waiting: usize,
    /// Environments that are being made.
    making: usize,
    functions: HashMap<u64, Share>,
    /// What came of the end of the host, once it has come.
    ended: Option<bool>,
    idle: Idle<Arc<Environment>>,
    /// Host users, the one that has rested longest first.
    slots: VecDeque<u32>,
}

/// What one function has of the pool.
#[derive(Debug, Default)]
struct Share {
    function: Weak<Function>,
    in_flight: u64,
    alive: HashMap<u64, Arc<Environment>>,
    /// Environments whose answer was given and who are not done with its event.
    finishing: usize,
    ahead: Ahead,
}

impl Core {
    /// Looks at the host, collects what dead owners left, and starts the supervisor.
    pub fn new(options: Options) -> Result<Arc<Self>> {
        let house = House::new(options.take)?;
        let ready = || Ok((Nursery::new()?, Bases::new()?, Supervisor::new()?, Keeper::new()?));
        let (nursery, bases, supervisor, keeper) = ready().inspect_err(|_| {
            house.clear();
        })?;
        let available = || house.groups.memory_available() / 5 * 4;
        let max_memory = options.max_memory_mb.map_or_else(available, |mb| mb << 20);
        let apart = house.facts.posture.has(Wall::Users);
        let slots = house.zygote_user().map(|first| (1..UIDS).map(|n| first + if apart { n } else { 1 }).collect());
        let core = Arc::new(Self {
            nursery,
            bases,
            supervisor: Arc::new(supervisor),
            keeper: Arc::new(keeper),
            reclaim: Reclaim::default(),
            most: Mutex::default(),
            max_memory,
            pool: Mutex::new(Pool { slots: slots.unwrap_or_default(), ..Pool::default() }),
            evictions: Untold::default(),
            lives: Untold::default(),
            troubles: Untold::default(),
            stuck: Mutex::default(),
            defect: OnceLock::new(),
            room: Condvar::new(),
            next: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            options,
            house,
        });
        core.house.groups.keep_at_most(Most::default().seats);
        core.supervisor.start(&core)?;
        core.keeper.start(&core)?;
        Ok(core)
    }

    /// Checks and reads a function.
    pub fn function(&self, spec: Spec) -> Result<Arc<Function>> {
        self.open()?;
        if spec.snapstart {
            self.bases.check(&self.house.facts)?;
        }
        let function = Arc::new(Function::new(spec, &self.house.facts, &self.house.store)?);
        let share = Share { function: Arc::downgrade(&function), ..Share::default() };
        self.lock().functions.insert(function.id, share);
        Ok(function)
    }

    /// Puts the files of a runtime, by their paths in it, where they are as long as the host is, for [`Spec::runtime_dir`].
    pub fn place_runtime(&self, files: &[(&str, &[u8])]) -> Result<PathBuf> {
        self.house.state.place("runtime", files)
    }

    /// The supervisor.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// An idle environment of the function, if there is one; one that has answered and is about to be idle is waited for: not
    /// much longer than another would take to make, which costs memory, too.
    pub fn reuse(&self, function: &Function) -> Option<Arc<Environment>> {
        const SOON: Duration = Duration::from_millis(250);
        const LATE: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        let mut pool = self.lock();
        loop {
            let Some(environment) = pool.idle.take(function.id) else {
                let share = pool.functions.get(&function.id);
                // Where none is used again, none of them comes back.
                let finishing = function.spec.reuse && share.is_some_and(|share| share.finishing > 0);
                if !finishing || begun.elapsed() >= (2 * function.init_cost()).clamp(SOON, LATE) {
                    return None;
                }
                pool = self.wait_for_room(pool);
                continue;
            };
            if environment.usable() {
                environment.set_state(EnvironmentState::Busy);
                return Some(environment);
            }
        }
    }

    /// Takes an environment back after an invocation.
    pub fn give_back(&self, environment: &Arc<Environment>) {
        if environment.function().spec.reuse {
            self.keep(environment);
        } else {
            self.let_go(environment);
        }
    }

    /// Ends an environment that answers nothing more: by another thread, since the caller has its answer, and an end takes as
    /// long as one.
    fn let_go(&self, environment: &Arc<Environment>) {
        environment.set_state(EnvironmentState::Ready);
        self.supervisor.condemn(environment);
    }

    /// Keeps an environment for the next event.
    pub(crate) fn keep(&self, environment: &Arc<Environment>) {
        if self.closed.load(Ordering::Acquire) || !environment.usable() {
            return self.let_go(environment);
        }
        environment.set_state(EnvironmentState::Ready);
        let now = Instant::now();
        // In a burst the supervisor does it, when the burst is over.
        let after = self.freeze_after(environment.answered(now));
        // What does not stand still can use the processor between events.
        let restless = !(self.options.freeze && after.is_zero());
        if (restless || environment.unlimited_for() == Some(Duration::ZERO)) && environment.settle().is_err() {
            environment.kill(Cause::Retired);
            return;
        }
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
        let end = self.rest().map_or(self.options.idle_timeout, |rest| rest.min(self.options.idle_timeout));
        self.supervisor.look(freeze.unwrap_or(now + end));
    }

    /// How long after an answer an environment is frozen.
    fn freeze_after(&self, burst: bool) -> Duration {
        if burst { self.options.freeze_after.max(environment::BURST_OVER) } else { self.options.freeze_after }
    }

    /// Freezes and destroys what has been idle for long enough; tells when to look again.
    pub fn retire_idle(&self, now: Instant) -> Option<Instant> {
        let mut pool = self.lock();
        let expired = pool.idle.expire(now, self.options.idle_timeout);
        // Under the lock: none of them can be given an event meanwhile. What cannot be made to stand still goes.
        let to_freeze = pool.idle.to_freeze(now).into_iter();
        let doomed: Vec<_> = to_freeze.filter(|environment| environment.freeze().is_err()).cloned().collect();
        for environment in &doomed {
            pool.idle.remove(environment.stay());
        }
        let rest = self.rest();
        let due: Vec<Due> =
            rest.map_or_else(Vec::new, |rest| pool.idle.rested(now, rest).into_iter().map(Due::new).collect());
        let next = pool.idle.next(self.options.idle_timeout, rest);
        drop(pool);
        if !due.is_empty() {
            self.reclaim.add(due);
            self.keeper.wake_at(now);
        }
        // Without the lock: each takes some writes to its cgroup.
        for environment in expired.into_iter().chain(doomed) {
            environment.kill(Cause::Retired);
        }
        next
    }

    /// How long after an answer an environment gives memory back: only what is frozen does.
    fn rest(&self) -> Option<Duration> {
        self.options.freeze.then(|| self.options.freeze_after + self.reclaim.rest())
    }

    /// Who is to give memory back, and what came of it.
    pub fn reclaim(&self) -> &Reclaim {
        &self.reclaim
    }

    /// Swap that the host has free, in bytes.
    pub fn swap_free(&self) -> u64 {
        self.house.facts.swap_free()
    }

    /// Notes what an idle environment holds that has given memory back.
    pub fn weigh(&self, stay: u64, memory: u64) {
        self.lock().idle.weigh(stay, memory);
    }

    /// Forgets an environment that has died.
    pub fn forget_environment(&self, environment: &Arc<Environment>) {
        let mut pool = self.lock();
        if let Some(share) = pool.functions.get_mut(&environment.function().id) {
            share.alive.remove(&environment.number());
            share.ahead.forget(environment.number());
        }
        pool.idle.remove(environment.stay());
        drop(pool);
        self.room.notify_all();
        if !environment.was_made_ahead() {
            self.note_life(environment, Turn::Ended(environment.cause()));
        }
        if environment.lost_its_zygote() {
            // What else was made ahead of it is gone, too.
            self.keeper.wake_at(Instant::now());
        }
    }

    /// Lets go of what a dead environment had on this host; false if that is to be tried again.
    pub fn bury(&self, environment: &Environment) -> bool {
        if environment.is_being_reclaimed() {
            return false;
        }
        environment.leave_cgroup();
        let (cgroup, groups) = (environment.cgroup(), &self.house.groups);
        let wanted = environment.ended_well() && !self.is_closed() && groups.wants(cgroup);
        if wanted && !cgroup.is_empty() {
            return false;
        }
        let kept = wanted && groups.keep(cgroup, environment.is_settled());
        if !kept && !environment.remove_cgroup() {
            return false;
        }
        self.release_slot(environment.slot());
        true
    }

    /// The host user can be given to another environment.
    fn release_slot(&self, slot: u32) {
        if slot != 0 {
            // Not at the end: an id rests for as long as possible before it is used again.
            self.lock().slots.push_back(slot);
        }
    }

    /// Whether a function can have environments: neither it nor its host is closed.
    pub fn serves(&self, function: &Function) -> bool {
        !self.is_closed() && self.lock().functions.contains_key(&function.id)
    }

    /// Every environment that lives.
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        let mut living = self.supervisor.living();
        // Those are nobody's yet.
        living.retain(|environment| environment.state() != EnvironmentState::Parked);
        living
    }

    /// What it may do.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Who tells other programs what it does, where it could have a socket for them.
    pub fn status(&self) -> Option<&Server> {
        self.house.status.as_ref()
    }

    /// Memory that everything of it uses now, in bytes, where that is counted.
    pub fn memory_used(&self) -> Option<u64> {
        self.house.groups.memory_used()
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
