//! What is idle: which of a function's environments is used next, what is to be frozen, retired or evicted, and when.
//! Nothing here takes longer than the logarithm of how many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::eviction::{Candidates, Priority, Reason, Worth};

/// All that is idle. Each stay has a number; later ones have higher ones.
#[derive(Debug)]
pub struct Idle<T> {
    last: u64,
    stays: BTreeMap<u64, Stay<T>>,
    /// By function, the latest last: that one is used again first, so that the others may go.
    functions: HashMap<u64, Vec<u64>>,
    /// Those that are still to be frozen.
    thawed: BTreeSet<(Instant, u64)>,
    /// The last one that was named as one to give its pages back.
    rested: u64,
    candidates: Candidates,
}

#[derive(Debug)]
struct Stay<T> {
    who: T,
    function: u64,
    since: Instant,
    freeze: Option<Instant>,
    priority: Priority,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self {
            last: 0,
            stays: BTreeMap::new(),
            functions: HashMap::new(),
            thawed: BTreeSet::new(),
            rested: 0,
            candidates: Candidates::default(),
        }
    }
}

impl<T> Idle<T> {
    /// Adds one of this function, to be frozen at a time if there is one; the number of its stay, which is never 0.
    pub fn add(&mut self, who: T, function: u64, since: Instant, freeze: Option<Instant>, worth: Worth) -> u64 {
        self.last += 1;
        let number = self.last;
        let priority = self.candidates.add(number, worth);
        self.functions.entry(function).or_default().push(number);
        self.thawed.extend(freeze.map(|at| (at, number)));
        self.stays.insert(number, Stay { who, function, since, freeze, priority });
        number
    }

    /// Takes the one of this function that became idle last.
    pub fn take(&mut self, function: u64) -> Option<T> {
        let number = *self.functions.get(&function)?.last()?;
        self.remove(number)
    }

    /// Takes all of a function.
    pub fn take_all(&mut self, function: u64) -> Vec<T> {
        std::iter::from_fn(|| self.take(function)).collect()
    }

    /// Takes the one that is worth least.
    pub fn evict(&mut self) -> Option<(T, Reason)> {
        let (number, reason) = self.candidates.choose()?;
        self.remove(number).zip(Some(reason))
    }

    /// Takes those that have been idle for as long as this.
    pub fn expire(&mut self, now: Instant, idle: Duration) -> Vec<T> {
        std::iter::from_fn(|| {
            let (&number, stay) = self.stays.first_key_value()?;
            (stay.since + idle <= now).then(|| self.remove(number)).flatten()
        })
        .collect()
    }

    /// Those that are to be frozen now. They stay, and are not named again.
    pub fn to_freeze(&mut self, now: Instant) -> Vec<&T> {
        let mut due = Vec::new();
        while let Some(&(at, number)) = self.thawed.first().filter(|(at, _)| *at <= now) {
            self.thawed.remove(&(at, number));
            due.push(number);
        }
        due.iter().filter_map(|number| self.stays.get(number)).map(|stay| &stay.who).collect()
    }

    /// Those that have been idle for as long as this. They stay, and are not named again.
    pub fn rested(&mut self, now: Instant, idle: Duration) -> Vec<&T> {
        let later = self.stays.range(self.rested + 1..);
        let due = later.take_while(|(_, stay)| stay.since + idle <= now);
        due.inspect(|&(&number, _)| self.rested = number).map(|(_, stay)| &stay.who).collect()
    }

    /// When one is next to be frozen, or will have been idle for as long as `end`, or for as long as `rest` if there is
    /// such a time.
    pub fn next(&self, end: Duration, rest: Option<Duration>) -> Option<Instant> {
        let end = self.stays.first_key_value().map(|(_, stay)| stay.since + end);
        let later = self.stays.range(self.rested + 1..).next();
        let rest = later.zip(rest).map(|((_, stay), rest)| stay.since + rest);
        let freeze = self.thawed.first().map(|(at, _)| *at);
        [end, rest, freeze].into_iter().flatten().min()
    }

    /// Notes what one holds that has given pages back, if its stay has not ended.
    pub fn weigh(&mut self, number: u64, memory: u64) {
        if let Some(stay) = self.stays.get_mut(&number) {
            stay.priority = self.candidates.weigh(number, stay.priority, memory);
        }
    }

    /// Ends a stay, if it has not ended yet.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let stay = self.stays.remove(&number)?;
        if let Some(numbers) = self.functions.get_mut(&stay.function) {
            // Most often the last one.
            if numbers.last() == Some(&number) {
                numbers.pop();
            } else if let Ok(place) = numbers.binary_search(&number) {
                numbers.remove(place);
            }
        }
        if let Some(at) = stay.freeze {
            self.thawed.remove(&(at, number));
        }
        self.candidates.remove(number, stay.priority);
        Some(stay.who)
    }

    /// Forgets a function, of which nothing is idle any more.
    pub fn forget(&mut self, function: u64) -> Vec<T> {
        let all = self.take_all(function);
        self.functions.remove(&function);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn worth(uses: u64) -> Worth {
        Worth { uses, cost: Duration::from_millis(1), memory: 1 << 20 }
    }

    #[test]
    fn the_latest_of_a_function_is_taken_first() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        for (who, function) in [("a", 1), ("b", 2), ("c", 1)] {
            idle.add(who, function, now, None, worth(1));
        }
        assert_eq!(idle.take(1), Some("c"));
        assert_eq!(idle.take_all(1), ["a"]);
        assert_eq!((idle.take(1), idle.take(2)), (None, Some("b")));
        assert_eq!(idle.next(SECOND, Some(SECOND)), None);
    }

    #[test]
    fn the_oldest_expire() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        for second in 0..4 {
            idle.add(second, u64::from(second % 2), now + SECOND * second, None, worth(1));
        }
        assert_eq!(idle.next(SECOND * 10, None), Some(now + SECOND * 10));
        assert_eq!(idle.expire(now + SECOND * 11, SECOND * 10), [0, 1]);
        assert_eq!(idle.take(0), Some(2));
        assert_eq!(idle.next(SECOND * 10, None), Some(now + SECOND * 13));
    }

    #[test]
    fn what_is_due_is_frozen_once_and_stays() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        idle.add("late", 1, now, Some(now + SECOND * 2), worth(1));
        idle.add("early", 1, now, Some(now + SECOND), worth(1));
        assert_eq!(idle.next(SECOND * 9, None), Some(now + SECOND));
        assert_eq!(idle.to_freeze(now + SECOND), [&"early"]);
        assert!(idle.to_freeze(now + SECOND).is_empty());
        assert_eq!(idle.take_all(1), ["early", "late"]);
        assert!(idle.to_freeze(now + SECOND * 9).is_empty(), "what is in use is not to be frozen");
    }

    #[test]
    fn the_one_that_is_worth_least_is_evicted() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        for (who, uses) in [("a", 9), ("b", 1), ("c", 5)] {
            idle.add(who, 1, now, None, worth(uses));
        }
        assert_eq!(idle.evict().map(|(who, _)| who), Some("b"));
        assert_eq!(idle.take_all(1), ["c", "a"]);
        assert!(idle.evict().is_none());
    }

    #[test]
    fn whoever_has_rested_is_named_once_in_every_stay() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        for second in 0..3 {
            idle.add(second, 1, now + SECOND * second, None, worth(1));
        }
        assert_eq!(idle.next(SECOND * 60, Some(SECOND * 9)), Some(now + SECOND * 9));
        assert_eq!(idle.rested(now + SECOND * 10, SECOND * 9), [&0, &1]);
        assert!(idle.rested(now + SECOND * 10, SECOND * 9).is_empty());
        assert_eq!(idle.next(SECOND * 60, Some(SECOND * 9)), Some(now + SECOND * 11));
        assert_eq!(idle.take_all(1), [2, 1, 0]);
        idle.add(0, 1, now + SECOND * 20, None, worth(1));
        assert_eq!(idle.rested(now + SECOND * 29, SECOND * 9), [&0], "another stay");
    }

    #[test]
    fn whoever_holds_less_is_worth_more() {
        let (now, mut idle) = (Instant::now(), Idle::default());
        let numbers: Vec<u64> = ["a", "b"].into_iter().map(|who| idle.add(who, 1, now, None, worth(1))).collect();
        idle.weigh(numbers[0], 1 << 19);
        idle.weigh(99, 1);
        assert_eq!(idle.evict().map(|(who, _)| who), Some("b"));
        assert_eq!(idle.take(1), Some("a"));
        assert!(idle.evict().is_none());
    }

    #[test]
    fn a_stay_ends_once() {
        let mut idle = Idle::default();
        let number = idle.add("a", 1, Instant::now(), None, worth(1));
        assert_eq!((idle.remove(number), idle.remove(number), idle.remove(0)), (Some("a"), None, None));
    }
}
