//! How an environment is made when it is needed.

use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Core;
use super::base::Based;
use super::news::Turn;
use crate::environment::{Cause, Environment, Event, HEAD_START, Reply, State};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::invocation::Ticket;
use crate::keeper;
use crate::phases::Said;
use crate::platform::Phase;
use crate::process;
use crate::report::Initialisation;
use crate::seat::{Free, Seat, Special};
use crate::state::UIDS;
use crate::trouble::Trouble;
use crate::wire::Kind;
use crate::zygote::Zygote;

/// How long initialisation may take (Lambda's ten seconds).
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytecode that is kept for a function at most.
const MOST_BYTECODE: usize = 1 << 20;

/// An environment to serve with.
pub struct Served {
    /// The environment.
    pub environment: Arc<Environment>,
    /// When it was ready, if it had the event by then.
    pub begun: Option<Instant>,
    /// How it was initialised, if it is new; what it printed is still to be taken from it.
    pub initialisations: Vec<Initialisation>,
}

/// What came of making an environment.
pub enum Made {
    /// It is initialised.
    Ready(Served),
    /// Its function could not be initialised: what the runtime said, or how it ended.
    Failed(Arc<Environment>, Reply, Duration),
}

/// What an environment is needed for.
pub struct Need<'a> {
    /// What it is to serve first; it may be on its way to it already when it is ready.
    pub event: Option<&'a Event<'a>>,
    /// Until when it has to be ready; `None`: within the time of an initialisation.
    pub deadline: Option<Instant>,
    /// By which it can be cancelled.
    pub ticket: &'a Ticket,
    /// Whether to wait for memory or descriptors that others may give back.
    pub wait: bool,
    /// Asked whenever a signal came: whether to give up.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Core {
    /// A new environment, initialised.
    pub fn make(&self, function: &Arc<Function>, need: &Need<'_>) -> Result<Made> {
        match self.try_make(function, need)? {
            // A zygote that was killed is replaced, once: no code of a function can do that to it. A handler that had its event
            // along has not begun, or the environment would have said that it is ready.
            Made::Failed(environment, Reply::Ended(_), _) if environment.lost_its_zygote() => {
                self.try_make(function, need)
            }
            made => Ok(made),
        }
    }

    fn try_make(&self, function: &Arc<Function>, need: &Need<'_>) -> Result<Made> {
        let &Need { event, deadline, ticket, wait, interrupted } = need;
        let base = match function.spec.snapstart.then(|| self.base(function, need)).transpose()? {
            Some(Based::Failed(environment, reply, took)) => return Ok(Made::Failed(environment, reply, took)),
            Some(Based::Ready(base)) => (Some(base), None),
            Some(Based::Made(base, initialised)) => (Some(base), Some(initialised)),
            None => (None, None),
        };
        let (base, initialised) = base;
        let (begun, born) = (Instant::now(), process::monotonic_ns());
        let (environment, begun_with_zygote) = loop {
            self.open()?;
            match self.create(function, base.as_ref()) {
                Ok(created) => break created,
                Err(Error::Throttled(_)) if wait && self.lock().in_flight > 1 => {
                    drop(self.wait_for_room(self.lock()));
                    if ticket.is_cancelled() || interrupted() {
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
        let now = Instant::now();
        environment.will_have(event);
        let early = event.filter(|_| environment.has_event());
        let longest = early.map_or(INIT_TIMEOUT, |event| INIT_TIMEOUT.min(HEAD_START + event.timeout));
        // What has a deadline is tried again within an invocation.
        let phase = if deadline.is_some() { Phase::Invoke } else { Phase::Init };
        let limit = deadline.unwrap_or(now + longest);
        let deadline = self.supervisor.keep(&environment, limit);
        let quota = early.map(|_| self.supervisor.settle(&environment, now + HEAD_START));
        let reply = environment.initialise(event, phase, limit + Duration::from_secs(5), interrupted);
        if let Some(quota) = quota {
            self.supervisor.met(&quota);
        }
        let (now, seen) = (Instant::now(), process::monotonic_ns());
        if !self.supervisor.met(&deadline) {
            environment.kill(Cause::Timeout);
        }
        let mut ready = seen;
        if let Ok(Reply::Answer(kind, body)) = &reply {
            let said = Said::split(body).filter(|_| *kind == Kind::Ready);
            // One that has its event does not wait until it is seen to be ready.
            if let Some((said, _)) = said.filter(|_| environment.has_event()) {
                ready = said.ready.clamp(born, seen);
            }
            environment.note(|phases| phases.initialised(born, ready, said.map(|(said, _)| said)));
            if let Some((_, bytecode)) = said.filter(|(_, bytecode)| (1..=MOST_BYTECODE).contains(&bytecode.len())) {
                let _ = function.bytecode.set(bytecode.to_vec());
            }
        }
        let ready = now.checked_sub(Duration::from_nanos(seen - ready)).unwrap_or(begun);
        let init = ready.duration_since(begun);
        function.note_init(ready.duration_since(begun_with_zygote));
        match reply.inspect_err(|_| environment.kill(Cause::Retired))? {
            // One that has its event may have ended over it already.
            Reply::Answer(Kind::Ready, _)
                if environment.usable() || environment.has_event() && environment.cause() == Cause::None =>
            {
                environment.set_state(State::Busy);
                self.note_life(&environment, Turn::Made(init));
                let begun = environment.has_event().then_some(ready);
                begun.inspect(|&ready| environment.went_on(ready));
                let phase = if need.deadline.is_some() { Phase::Invoke } else { Phase::Init };
                let initialisation = Initialisation {
                    phase,
                    restore: base.is_some(),
                    took: init,
                    failure: None,
                    output: String::new(),
                    dropped: 0,
                };
                let initialisations = initialised.into_iter().chain([initialisation]).collect();
                Ok(Made::Ready(Served { environment, begun, initialisations }))
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

    /// Makes one, or takes one that was made ahead; tells when that began, with a zygote there.
    fn create(&self, function: &Arc<Function>, base: Option<&Arc<Zygote>>) -> Result<(Arc<Environment>, Instant)> {
        self.make_memory_room()?;
        let _making = self.begin()?;
        // A first one tells nothing of a second.
        let again = base.is_none() && !function.init_cost().is_zero();
        if let Some(parked) = again.then(|| self.parked_for(function)).flatten() {
            return Ok((parked, Instant::now()));
        }
        let (environment, begun) = self.occupy(function, base, again).map_err(|e| self.throttled(e))?;
        Ok((self.admit_environment(environment)?, begun))
    }

    /// Has a new environment watched until it is buried.
    pub(super) fn admit_environment(&self, environment: Environment) -> Result<Arc<Environment>> {
        let environment = Arc::new(environment);
        let known = self.lock().functions.get_mut(&environment.function().id).map(|share| {
            share.alive.insert(environment.number(), Arc::clone(&environment));
        });
        if let Err(e) = self.supervisor.watch(&environment) {
            self.forget_environment(&environment);
            environment.kill(Cause::Retired);
            // Its host user may be given to another only when it is no more.
            if environment.ends() && environment.remove_cgroup() {
                self.release_slot(environment.slot());
            }
            return Err(self.throttled(e));
        }
        // Closed meanwhile, or its function was: `close` waits for us, and then for its burial.
        if known.is_none() || self.open().is_err() {
            environment.kill(Cause::Retired);
        }
        Ok(environment)
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
    pub(super) fn begin(&self) -> Result<Making<'_>> {
        let mut pool = self.lock();
        self.open()?;
        pool.making += 1;
        Ok(Making(self))
    }

    /// An environment of a process that is parked, or else of a new one. `again`: the function's own demand was noted.
    fn occupy(
        &self,
        function: &Arc<Function>,
        base: Option<&Arc<Zygote>>,
        again: bool,
    ) -> Result<(Environment, Instant)> {
        for attempt in 0.. {
            self.open()?;
            let zygote =
                base.map_or_else(|| self.nursery.zygote(&self.house, function), |base| Ok(Arc::clone(base)))?;
            let begun = Instant::now();
            if again {
                zygote.stock.touch(begun);
            } else {
                zygote.stock.note(begun);
            }
            let made = self.seat(&zygote).and_then(|seat| {
                let number = self.next_number();
                Environment::create(seat, &zygote, function, number, State::Init, &self.house.api)
                    .map_err(|lost| self.give_up(*lost))
            });
            match made {
                // A zygote that was killed is replaced, once.
                Err(_) if attempt == 0 && base.is_none() && !zygote.alive() => {}
                result => return result.map(|environment| (environment, begun)),
            }
        }
        unreachable!("the loop returns at its second turn")
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A process of the zygote in a seat: one that is parked, or else a new one.
    fn seat(&self, zygote: &Arc<Zygote>) -> Result<Seat> {
        loop {
            let (parked, free) = zygote.stock.take();
            if let Some(seat) = parked {
                if seat.alive() {
                    return Ok(seat);
                }
                self.end_seat(&seat);
                continue;
            }
            let free = self.free_seat(zygote, free)?;
            return free.enter(zygote).map_err(|lost| self.give_up(*lost));
        }
    }

    /// A free seat: this one of the stock, if its init lives, or else a new one.
    pub(super) fn free_seat(&self, zygote: &Arc<Zygote>, stocked: Option<Free>) -> Result<Free> {
        match stocked {
            Some(free) if free.alive() => Ok(free),
            Some(free) => {
                self.end_seat(&free.give_up());
                self.make_seat(zygote)
            }
            None => self.make_seat(zygote),
        }
    }

    pub(super) fn make_seat(&self, zygote: &Arc<Zygote>) -> Result<Free> {
        self.make_seat_with(zygote, None)
    }

    pub(super) fn make_seat_with(&self, zygote: &Zygote, special: Option<&Special<'_>>) -> Result<Free> {
        let slot = if self.house.facts.root {
            let slot = self.lock().slots.pop_front();
            slot.ok_or_else(|| Error::Throttled(format!("{} environments are alive; close some", UIDS - 1)))?
        } else {
            0
        };
        let number = self.next_number();
        // Who forks puts its children there.
        let owner = zygote.base().map_or_else(|| self.house.zygote_user(), |base| Some(base.environment.slot()));
        let cgroup = self.house.groups.lease(&format!("e{number}"), owner);
        cgroup.and_then(|cgroup| Free::make(zygote, cgroup, slot, special)).inspect_err(|_| self.release_slot(slot))
    }

    /// Ends a seat of which nothing came; why.
    pub(super) fn give_up(&self, (seat, e): (Seat, Error)) -> Error {
        self.end_seat(&seat);
        e
    }

    /// Ends a seat that no environment has. One that will not die keeps its user, and is left to the next start.
    pub(super) fn end_seat(&self, seat: &Seat) {
        if seat.end() {
            self.release_slot(seat.slot);
        } else {
            let what = "an environment that no function had";
            let init = seat.pid.as_raw_nonzero().get();
            let init = (!process::readable(seat.pidfd.as_fd(), Duration::ZERO)).then_some(init);
            self.tell_stuck(self.next_number(), || Trouble::held(what.to_owned(), init, &seat.cgroup));
        }
    }

    /// Waits until no environment is being made any more; false when that takes too long.
    pub(super) fn wait_for_the_making(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.room.wait_timeout_while(self.lock(), left, |pool| pool.making > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// An environment that is being made.
pub(super) struct Making<'a>(&'a Core);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.lock().making -= 1;
        self.0.room.notify_all();
    }
}
