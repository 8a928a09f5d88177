//! What is made ahead of need, and how much of it.
//!
//! For a zygote there are seats, and parked environments of no function yet: they serve whichever function of it comes first.
//! For a function that has needed environments again and again there are some that are its own already, locked down and told
//! what it is; all they lack is the import of the handler, which is the first of the function's code to run.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Core;
use super::make::INIT_TIMEOUT;
use crate::environment::{Cause, Environment, State};
use crate::error::Result;
use crate::function::Function;
use crate::seat::Seat;
use crate::stock::{Change, Demand, Most};
use crate::zygote::Zygote;

/// What a parked environment takes of the machine's memory, with all that the kernel keeps for it.
const PARKED_BYTES: u64 = 3 << 20;
/// When to look again after a zygote that somebody was looking for.
const AGAIN: Duration = Duration::from_millis(10);
/// The part of the memory that may be parked: one in so many.
const PART: u64 = 20;

/// What is made ahead for one function.
#[derive(Debug, Default)]
pub struct Ahead {
    /// How often it needed an environment when it had had one before.
    demand: Demand,
    parked: Vec<Arc<Environment>>,
}

impl Ahead {
    /// Forgets an environment that has died.
    pub fn forget(&mut self, number: u64) {
        self.parked.retain(|environment| environment.number() != number);
    }
}

impl Core {
    /// Notes that the function needs an environment once more, and gives one that was made for it, if there is one.
    pub(super) fn parked_for(&self, function: &Function) -> Option<Arc<Environment>> {
        let now = Instant::now();
        let mut pool = self.lock();
        let ahead = &mut pool.functions.get_mut(&function.id)?.ahead;
        ahead.demand.note(now);
        loop {
            // The last one parked is the one whose memory is most likely still in a cache.
            let environment = ahead.parked.pop()?;
            if environment.unpark() {
                environment.zygote().stock.touch(now);
                return Some(environment);
            }
            environment.kill(Cause::Retired);
        }
    }

    /// Brings what is made ahead to what recent demand asks for; tells when to look again.
    pub fn restock(&self) -> Option<Instant> {
        let functions = self.in_demand();
        let looks = functions.iter().filter_map(|function| self.restock_function(function));
        let next = looks.min();
        let zygotes = self.nursery.all();
        let looks = zygotes.iter().filter_map(|zygote| self.restock_zygote(zygote));
        [next, looks.min()].into_iter().flatten().min()
    }

    /// Functions for which something was made ahead, or should be.
    fn in_demand(&self) -> Vec<Arc<Function>> {
        let pool = self.lock();
        let demanded =
            pool.functions.values().filter(|share| !(share.ahead.demand.is_none() && share.ahead.parked.is_empty()));
        demanded.filter_map(|share| share.function.upgrade()).collect()
    }

    fn restock_function(&self, function: &Arc<Function>) -> Option<Instant> {
        if function.spec.snapstart {
            // What is made ahead of its base is its own already.
            return None;
        }
        let Ok(zygote) = self.nursery.resident(function) else { return Some(Instant::now() + AGAIN) };
        // Refused: it is closed.
        while let Ok(_making) = self.begin() {
            let most = zygote.as_ref().map_or(0, |zygote| self.most_for(function, zygote));
            let mut pool = self.lock();
            let ahead = &mut pool.functions.get_mut(&function.id)?.ahead;
            let wanted = ahead.demand.level(Instant::now()).min(most);
            let stale =
                |one: &Arc<Environment>| !zygote.as_ref().is_some_and(|zygote| Arc::ptr_eq(one.zygote(), zygote));
            let surplus = ahead.parked.iter().position(stale).or_else(|| wanted.lt(&ahead.parked.len()).then_some(0));
            if let Some(surplus) = surplus {
                let environment = ahead.parked.remove(surplus);
                drop(pool);
                environment.kill(Cause::Retired);
                continue;
            }
            let enough = ahead.parked.len() >= wanted;
            drop(pool);
            // Whoever needs what cannot be made will try to make it, and be told why.
            if enough || zygote.as_ref().is_none_or(|zygote| self.park_for(function, zygote).is_err()) {
                break;
            }
        }
        self.lock().functions.get(&function.id)?.ahead.demand.falls(Instant::now())
    }

    fn park_for(&self, function: &Arc<Function>, zygote: &Arc<Zygote>) -> Result<()> {
        let seat = self.parked_seat(zygote)?;
        let environment =
            Environment::create(seat, zygote, function, self.next_number(), State::Parked, &self.house.api);
        let environment = self.admit_environment(environment.map_err(|lost| self.give_up(*lost))?)?;
        environment.describe(Instant::now() + INIT_TIMEOUT).inspect_err(|_| environment.kill(Cause::Retired))?;
        let mut pool = self.lock();
        // One that has died by now was forgotten before it was here.
        if let Some(share) = pool.functions.get_mut(&function.id).filter(|_| environment.waits()) {
            share.ahead.parked.push(environment);
        }
        Ok(())
    }

    /// A process of the zygote that has rehearsed.
    fn parked_seat(&self, zygote: &Arc<Zygote>) -> Result<Seat> {
        let (parked, free) = zygote.stock.take();
        match parked {
            Some(seat) if seat.alive() => return Ok(seat),
            Some(seat) => self.end_seat(&seat),
            None => {}
        }
        let free = self.free_seat(zygote, free)?;
        free.park(zygote).map_err(|lost| self.give_up(*lost))
    }

    fn restock_zygote(&self, zygote: &Arc<Zygote>) -> Option<Instant> {
        if !zygote.serves() {
            // Refused: `close` gives it up.
            let _making = self.begin().ok()?;
            for seat in zygote.stock.drain() {
                self.end_seat(&seat);
            }
            return None;
        }
        // Refused: it is closed.
        while let Ok(_making) = self.begin() {
            let Some(change) = zygote.stock.change(Instant::now(), self.most_of(zygote)) else { break };
            // Whoever needs what cannot be made will try to make it, and be told why.
            if self.carry_out(zygote, change).is_err() {
                break;
            }
        }
        zygote.stock.next_look(Instant::now())
    }

    fn carry_out(&self, zygote: &Arc<Zygote>, change: Change) -> Result<()> {
        match change {
            Change::End(seat) => self.end_seat(&seat),
            Change::Seat => zygote.stock.add_seat(self.make_seat(zygote)?),
            Change::Park(free) => {
                let free = self.free_seat(zygote, free)?;
                zygote.stock.add_parked(free.park(zygote).map_err(|lost| self.give_up(*lost))?);
            }
        }
        Ok(())
    }

    /// What may be made ahead for a function: all that is parked takes a small part of the memory, and a part of what a zygote
    /// may have parked stays for functions that come for the first time.
    fn most_for(&self, function: &Function, zygote: &Arc<Zygote>) -> usize {
        const COMMON: usize = 4;
        let parked = self.parked_for_functions();
        let own = parked.iter().filter(|one| one.function().id == function.id).count();
        let others = parked.iter().filter(|one| Arc::ptr_eq(one.zygote(), zygote)).count().saturating_sub(own);
        let most = self.bounds().parked;
        (most - most / COMMON).saturating_sub(others).min(self.memory_for(own))
    }

    /// The same for a zygote, when its functions have theirs.
    fn most_of(&self, zygote: &Arc<Zygote>) -> Most {
        let taken = self.parked_for_functions().iter().filter(|one| Arc::ptr_eq(one.zygote(), zygote)).count();
        let Most { parked, seats, .. } = self.bounds();
        Most { parked: parked.saturating_sub(taken).min(self.memory_for(zygote.stock.parked())), seats, taken }
    }

    fn bounds(&self) -> Most {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there is memory for beside all that is parked but these. When memory is short none is added: those that are
    /// there need no more.
    fn memory_for(&self, own: usize) -> usize {
        if self.memory_in_use() + PARKED_BYTES > self.max_memory {
            return own;
        }
        let all = (self.max_memory / PART / PARKED_BYTES) as usize;
        all.saturating_sub(self.parked().saturating_sub(own))
    }

    /// Those that wait for the functions they were made for.
    fn parked_for_functions(&self) -> Vec<Arc<Environment>> {
        let pool = self.lock();
        let mut parked: Vec<_> = pool.functions.values().flat_map(|share| &share.ahead.parked).cloned().collect();
        drop(pool);
        // Without the lock, which every invocation takes: each is asked.
        parked.retain(|one| one.waits());
        parked
    }

    /// Environments that are parked.
    pub fn parked(&self) -> usize {
        let of_zygotes: usize = self.nursery.all().iter().map(|zygote| zygote.stock.parked()).sum();
        of_zygotes + self.parked_for_functions().len()
    }

    /// Waits until there is all that recent demand asks for, and nothing is being made; false if that takes longer.
    pub fn wait_for_stock(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.is_stocked() {
            if Instant::now() > deadline || self.is_closed() {
                return false;
            }
            drop(self.wait_for_room(self.lock()));
        }
        true
    }

    fn is_stocked(&self) -> bool {
        let now = Instant::now();
        let functions = self.in_demand().iter().all(|function| {
            let Ok(zygote) = self.nursery.resident(function) else { return false };
            let most = zygote.map_or(0, |zygote| self.most_for(function, &zygote));
            let mut pool = self.lock();
            let ahead = pool.functions.get_mut(&function.id).map(|share| &mut share.ahead);
            ahead.is_none_or(|ahead| ahead.parked.len() >= ahead.demand.level(now).min(most))
        });
        functions && self.nursery.all().iter().all(|zygote| zygote.stock.is_full(now, self.most_of(zygote)))
    }

    /// Bounds what is made ahead for one zygote or function, for comparisons.
    pub fn make_ahead_at_most(&self, most: Most) {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner) = most;
        self.house.groups.keep_at_most(most.seats);
        self.keeper.wake_at(Instant::now());
    }

    /// Ends what is parked; false if nothing is.
    pub(super) fn give_up_parked(&self) -> bool {
        let seats: Vec<Seat> = self.nursery.all().iter().flat_map(|zygote| zygote.stock.give_up_parked()).collect();
        let parked: Vec<_> =
            self.lock().functions.values_mut().flat_map(|share| std::mem::take(&mut share.ahead.parked)).collect();
        for environment in &parked {
            environment.kill(Cause::Retired);
        }
        for seat in &seats {
            self.end_seat(seat);
        }
        // All of them are on their way before the first is waited for.
        for environment in &parked {
            environment.ends();
        }
        !(seats.is_empty() && parked.is_empty())
    }

    /// Ends the seats that are free; false if there is none.
    pub(super) fn give_up_seats(&self) -> bool {
        let seats: Vec<Seat> = self.nursery.all().iter().flat_map(|zygote| zygote.stock.drain()).collect();
        for seat in &seats {
            self.end_seat(seat);
        }
        !seats.is_empty()
    }
}
