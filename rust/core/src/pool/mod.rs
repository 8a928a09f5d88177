//! The owner of all environments of a process: makes, reuses, freezes, evicts and destroys them.

pub mod ahead;
pub mod base;
pub mod life;
pub mod make;
pub mod room;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::ahead::Ahead;
use self::life::{Life, Turn};
use self::room::Eviction;
use crate::environment::{self, Cause, Environment, State as EnvironmentState};
use crate::error::{Error, Result};
use crate::eviction::Worth;
use crate::function::Function;
use crate::house::House;
use crate::idle::Idle;
use crate::keeper::Keeper;
use crate::nursery::Nursery;
use crate::posture::Wall;
use crate::process;
use crate::reclaim::{Due, Reclaim};
use crate::snapstart::Bases;
use crate::spec::Spec;
use crate::state::UIDS;
use crate::status::Server;
use crate::stock::Most;
use crate::supervisor::Supervisor;
use crate::trouble::{Trouble, Troubles};
use crate::untold::Untold;

/// For how long an invocation that finds no room waits for what has answered already, and goes on.
const FINISHING: Duration = Duration::from_secs(1);
/// How long the end of all that a host has may take.
const CLOSING: Duration = Duration::from_secs(10);

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
    troubles: Troubles,
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
            troubles: Troubles::default(),
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

    /// An idle environment of the function, if there is one; one that has answered and is about to be idle is waited for: not
    /// much longer than another would take to make, which costs memory, too.
    pub fn reuse(&self, function: &Function) -> Option<Arc<Environment>> {
        const SOON: Duration = Duration::from_millis(250);
        const LATE: Duration = Duration::from_secs(1);
        let begun = Instant::now();
        let mut pool = self.lock();
        loop {
            let Some(environment) = pool.idle.take(function.id) else {
                let finishing = pool.functions.get(&function.id).is_some_and(|share| share.finishing > 0);
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

    /// Takes an environment back after an invocation.
    pub fn give_back(&self, environment: &Arc<Environment>) {
        if self.closed.load(Ordering::Acquire) || !environment.function().spec.reuse || !environment.usable() {
            environment.set_state(EnvironmentState::Ready);
            // By another thread: the caller has its answer, and an end takes as long as one.
            self.supervisor.condemn(environment);
            return;
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
        // Under the lock: none of them can be given an event meanwhile.
        for environment in pool.idle.to_freeze(now) {
            let _ = environment.freeze();
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
        for environment in expired {
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

    /// Destroys a function's environments; it cannot be invoked any more.
    pub fn close_function(&self, function: &Function) {
        let mut pool = self.lock();
        let share = pool.functions.remove(&function.id);
        pool.idle.forget(function.id);
        drop(pool);
        self.bases.forget(function.id);
        for environment in share.into_iter().flat_map(|share| share.alive.into_values()) {
            environment.kill(Cause::Retired);
        }
        if function.spec.snapstart {
            // What was made ahead of the base.
            self.keeper.wake_at(Instant::now());
        }
    }

    /// Whether a function can have environments: neither it nor its host is closed.
    pub fn serves(&self, function: &Function) -> bool {
        !self.is_closed() && self.lock().functions.contains_key(&function.id)
    }

    /// Invocations of a function that are in flight: those that were admitted and have not ended.
    pub fn in_flight(&self, function: &Function) -> u64 {
        self.lock().functions.get(&function.id).map_or(0, |share| share.in_flight)
    }

    /// Every environment that lives.
    pub fn environments(&self) -> Vec<Arc<Environment>> {
        let mut living = self.supervisor.living();
        // Those are nobody's yet.
        living.retain(|environment| environment.state() != EnvironmentState::Parked);
        living
    }

    /// The invocations in flight, and all that ever were.
    pub fn invocations(&self) -> (usize, u64) {
        let pool = self.lock();
        (pool.in_flight, pool.begun)
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

    /// Destroys everything. False when something would not die within ten seconds; what is left of it is collected at
    /// the next start.
    pub fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return true;
        }
        let deadline = Instant::now() + CLOSING;
        self.status().inspect(|status| status.stop());
        self.room.notify_all();
        let living = self.supervisor.living();
        for environment in &living {
            environment.retire();
        }
        // Those whose extensions are to be told have a moment, all of them the same.
        see_off_extensions(&living, deadline);
        // In one step where there is one; some may have to be helped.
        let killed = self.house.groups.kill();
        for environment in living.iter().filter(|environment| !killed || environment.may_be_throttled()) {
            environment.kill(Cause::Retired);
        }
        // Before anybody is waited for: whoever is making something in a zygote that does not answer is released by its end.
        self.nursery.kill(deadline);
        // Closed from its own thread, when that held the last reference: nobody is left to bury but the next start.
        let clean = !self.supervisor.is_this_thread()
            && self.wait_for_the_making(deadline)
            && self.supervisor.wait_for_burials(deadline.saturating_duration_since(Instant::now()));
        self.lock().functions.clear();
        self.give_up_parked();
        self.give_up_seats();
        // One that was being launched until now.
        self.nursery.end(deadline);
        self.keeper.stop();
        self.supervisor.stop();
        self.house.groups.keep_at_most(0);
        if clean {
            return self.house.clear();
        }
        // As much of it as there is nobody in; who is left is found by the next start, in our directory.
        self.house.groups.remove();
        false
    }

    /// The same, with an error that says what is left.
    pub fn end(&self) -> Result<()> {
        if self.close() {
            return Ok(());
        }
        let (cgroups, processes) = self.left();
        let cgroups: Vec<String> = cgroups.iter().map(|path| path.display().to_string()).collect();
        let subject = format!(
            "the host: an environment would not die within ten seconds; left are the processes {processes:?} and the \
             cgroups [{}]; the next host collects them when they can be ended",
            cgroups.join(", ")
        );
        Err(Error::kernel("closing", subject, std::io::Error::from(std::io::ErrorKind::TimedOut)))
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Closed("this host"));
        }
        self.defect.get().map_or(Ok(()), |said| {
            Err(Error::Defect(format!("{said}; this host has ended its environments and does nothing more, close it")))
        })
    }

    /// One of the host's own threads has panicked: what it did is done no more, so that nothing may go on. Every environment is
    /// ended, and whoever calls is told.
    pub fn fail(&self, defect: &Error) {
        let said = if let Error::Defect(said) = defect { said.clone() } else { defect.to_string() };
        if self.defect.set(said).is_ok() {
            self.troubles.add(Trouble::Defect(defect.to_string()));
        }
        for environment in self.supervisor.living() {
            environment.kill(Cause::Retired);
        }
        self.room.notify_all();
    }

    /// Notes what went wrong beside the invocations.
    pub(crate) fn note(&self, trouble: Trouble) {
        self.troubles.add(trouble);
    }

    /// What went wrong beside the invocations since this was last asked.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.troubles.take()
    }

    /// Tells, once, that an environment cannot be ended.
    pub fn report_stuck(&self, environment: &Environment) {
        self.tell_stuck(environment.number(), || Trouble::stuck(environment));
    }

    /// The same of anything with a number of its own.
    pub(crate) fn tell_stuck(&self, number: u64, trouble: impl FnOnce() -> Trouble) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if let std::collections::btree_map::Entry::Vacant(entry) = stuck.entry(number) {
            let trouble = trouble();
            if let Trouble::Stuck { cgroups, .. } = &trouble {
                entry.insert(cgroups.clone());
            }
            self.troubles.add(trouble);
            self.house.state.note_stuck(stuck.values().flatten());
        }
    }

    /// It could be ended after all.
    pub fn forget_stuck(&self, environment: &Environment) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if stuck.remove(&environment.number()).is_some() {
            self.house.state.note_stuck(stuck.values().flatten());
        }
    }

    /// What a host that could not be closed leaves: cgroups, the processes in them, and inits that have not ended.
    pub fn left(&self) -> (Vec<PathBuf>, Vec<i32>) {
        let (cgroups, mut processes) = self.house.groups.left();
        processes.extend(self.supervisor.living().iter().map(|environment| environment.pid()));
        processes.sort_unstable();
        processes.dedup();
        (cgroups, processes)
    }

    /// In a forked copy of the process: nothing of it is this process's, and nobody is to think that its owner lives as long as
    /// this does.
    pub fn disown(&self) {
        self.house.state.let_go();
        self.status().inspect(|status| status.let_go());
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

/// Has those end whose extensions are to be told, and waits for that.
fn see_off_extensions(living: &[Arc<Environment>], deadline: Instant) {
    for environment in living.iter().filter(|environment| environment.has_extensions()) {
        environment.kill(Cause::Retired);
    }
    for environment in living.iter().filter(|environment| environment.is_leaving()) {
        process::readable(environment.pidfd(), deadline.saturating_duration_since(Instant::now()));
    }
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
