//! What is made ahead of need for one zygote, whichever function will need it: free seats, and parked environments. How much
//! follows the demand.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::seat::{Free, Seat};

/// Environments that are parked for one zygote at most.
const MOST: usize = 32;
/// Cold starts that come within this time cannot be waited for: each takes the stock down by one.
const BURST: Duration = Duration::from_millis(100);
/// For how long a burst is remembered.
const MEMORY: Duration = Duration::from_secs(10);
/// For how long one environment stays parked with no cold start at all.
const REST: Duration = Duration::from_secs(600);

/// The stock of one zygote.
#[derive(Debug, Default)]
pub struct Stock(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seats: Vec<Free>,
    parked: Vec<Seat>,
    demand: Demand,
}

/// Bounds of a stock.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Environments that may be parked.
    pub parked: usize,
    /// Seats that may be free.
    pub seats: usize,
    /// What functions of the zygote have parked for themselves.
    pub taken: usize,
}

impl Default for Most {
    fn default() -> Self {
        Self { parked: MOST, seats: MOST, taken: 0 }
    }
}

/// What the stock lacks, or has too much of.
#[derive(Debug)]
pub enum Change {
    /// Another seat.
    Seat,
    /// Another parked environment, in this seat if there is one.
    Park(Option<Free>),
    /// One less of this.
    End(Seat),
}

impl Stock {
    /// Notes that an environment is needed.
    pub fn note(&self, now: Instant) {
        self.lock().demand.note(now);
    }

    /// Notes that one was needed which was made ahead for its function.
    pub fn touch(&self, now: Instant) {
        self.lock().demand.touch(now);
    }

    /// Gives what there is for an environment: parked, or else a free seat.
    pub fn take(&self) -> (Option<Seat>, Option<Free>) {
        let mut inner = self.lock();
        // The last one parked is the one whose memory is most likely still in a cache.
        let parked = inner.parked.pop();
        let free = if parked.is_none() { inner.seats.pop() } else { None };
        (parked, free)
    }

    /// The next change that brings the stock to what recent demand asks for.
    pub fn change(&self, now: Instant, most: Most) -> Option<Change> {
        let mut inner = self.lock();
        let (parked, seats) = inner.wanted(now, most);
        if inner.parked.len() > parked {
            return inner.parked.pop().map(Change::End);
        }
        if inner.seats.len() > seats {
            return inner.seats.pop().map(|free| Change::End(free.give_up()));
        }
        if inner.parked.len() < parked {
            return Some(Change::Park(inner.seats.pop()));
        }
        (inner.seats.len() < seats).then_some(Change::Seat)
    }

    /// Adds a seat.
    pub fn add_seat(&self, seat: Free) {
        self.lock().seats.push(seat);
    }

    /// Adds a parked environment.
    pub fn add_parked(&self, seat: Seat) {
        self.lock().parked.push(seat);
    }

    /// Environments that are parked.
    pub fn parked(&self) -> usize {
        self.lock().parked.iter().filter(|seat| seat.alive()).count()
    }

    /// Whether there is all that recent demand asks for.
    pub fn is_full(&self, now: Instant, most: Most) -> bool {
        let mut inner = self.lock();
        let (parked, seats) = inner.wanted(now, most);
        inner.parked.len() >= parked && inner.seats.len() >= seats
    }

    /// What is parked.
    pub fn give_up_parked(&self) -> Vec<Seat> {
        std::mem::take(&mut self.lock().parked)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.parked.is_empty() && inner.seats.is_empty()
    }

    /// All of it.
    pub fn drain(&self) -> Vec<Seat> {
        let mut inner = self.lock();
        let mut all = std::mem::take(&mut inner.parked);
        all.extend(std::mem::take(&mut inner.seats).into_iter().map(Free::give_up));
        all
    }

    /// When demand will have fallen next, if it can fall.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        self.lock().demand.falls(now)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// How many environments should be parked, and how many seats free.
    fn wanted(&mut self, now: Instant, most: Most) -> (usize, usize) {
        let level = self.demand.level(now);
        let wanted = level.min(MOST.saturating_sub(most.taken));
        let parked = wanted.min(most.parked);
        // Where nothing may be parked, seats bear the whole of a burst.
        let seats = if level == 0 { 0 } else { (wanted - parked).max(1).min(most.seats) };
        (parked, seats)
    }
}

/// When environments were needed lately.
#[derive(Debug, Default)]
pub struct Demand {
    recent: VecDeque<Instant>,
    last: Option<Instant>,
}

impl Demand {
    const KEPT: usize = 256;

    /// Notes that one is needed.
    pub fn note(&mut self, now: Instant) {
        if self.recent.len() == Self::KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.last = Some(now);
    }

    /// Notes that one was needed for which there was another stock.
    pub fn touch(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether there has been none lately.
    pub fn is_none(&self) -> bool {
        self.last.is_none()
    }

    /// When it will have fallen next, if it can fall.
    pub fn falls(&self, now: Instant) -> Option<Instant> {
        let due = self.recent.back().map_or_else(|| self.last.map(|last| last + REST), |&last| Some(last + MEMORY));
        due.map(|due| due.max(now + Duration::from_secs(1)))
    }

    /// How many environments should wait: as many as the largest burst of late took, and one as long as there is some
    /// demand at all.
    pub fn level(&mut self, now: Instant) -> usize {
        while self.recent.front().is_some_and(|&first| first + MEMORY < now) {
            self.recent.pop_front();
        }
        if self.last.is_none_or(|last| last + REST < now) {
            self.last = None;
            return 0;
        }
        let mut first = 0;
        let burst = (0..self.recent.len()).map(|last| {
            while self.recent[first] + BURST < self.recent[last] {
                first += 1;
            }
            last - first + 1
        });
        burst.max().unwrap_or(1).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(demand: &mut Demand, starts: &[u64], at: u64) -> usize {
        let zero = Instant::now();
        for &ms in starts {
            demand.note(zero + Duration::from_millis(ms));
        }
        demand.level(zero + Duration::from_millis(at))
    }

    #[test]
    fn the_stock_is_as_large_as_the_largest_recent_burst() {
        assert_eq!(level(&mut Demand::default(), &[], 0), 0);
        assert_eq!(level(&mut Demand::default(), &[0], 1), 1);
        assert_eq!(level(&mut Demand::default(), &[0, 10, 20, 1000, 2000], 2000), 3);
        assert_eq!(level(&mut Demand::default(), &(0..1000).collect::<Vec<_>>(), 1000), MOST);
    }

    #[test]
    fn a_burst_is_forgotten_and_one_stays_until_nobody_comes() {
        assert_eq!(level(&mut Demand::default(), &[0, 1, 2, 3], 20_000), 1);
        assert_eq!(level(&mut Demand::default(), &[0, 1, 2, 3], 601_000), 0);
    }

    #[test]
    fn what_another_stock_serves_keeps_one_and_makes_no_burst() {
        let (zero, mut demand) = (Instant::now(), Demand::default());
        for ms in 0..5 {
            demand.touch(zero + Duration::from_millis(ms));
        }
        assert_eq!(demand.level(zero + Duration::from_secs(1)), 1);
        assert_eq!(demand.level(zero + Duration::from_secs(601)), 0);
    }
}
