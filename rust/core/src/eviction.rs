//! Which idle environment goes when there is no room: the one that is worth least.
//!
//! The policy is greedy-dual-size-frequency, as `FaasCache` (ASPLOS 2021) has it for functions: an environment is worth how
//! often it was used, times what it takes to make again, for each MiB that it holds. To that comes a clock, which is at the
//! priority of whatever was evicted last: what nobody uses any more is overtaken by what comes later, however much it was
//! worth.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What is known of an environment when it becomes idle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth {
    /// Events that it has answered.
    pub uses: u64,
    /// How long it takes to make and initialise another one.
    pub cost: Duration,
    /// The memory that it holds, in bytes.
    pub memory: u64,
}

impl Worth {
    /// Milliseconds saved for each MiB held.
    fn value(&self) -> f64 {
        self.uses as f64 * self.cost.as_secs_f64() * 1e3 / self.memory_mb()
    }

    /// The memory in MiB. What no cgroup counts, or nobody could read, counts as one page.
    fn memory_mb(&self) -> f64 {
        self.memory.max(4096) as f64 / f64::from(1 << 20)
    }
}

/// Where an environment stands.
#[derive(Clone, Copy, Debug)]
pub struct Priority(f64);

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Priority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Priority {}

/// Those that could be evicted, by what they are worth; each step takes time logarithmic in their number. They are known
/// by numbers, of which the lower one goes first where two are worth the same.
#[derive(Debug, Default)]
pub struct Candidates {
    clock: f64,
    order: BTreeMap<(Priority, u64), Worth>,
}

impl Candidates {
    /// Adds one.
    pub fn add(&mut self, number: u64, worth: Worth) -> Priority {
        let priority = Priority(self.clock + worth.value());
        self.order.insert((priority, number), worth);
        priority
    }

    /// Takes one away that is used again, or has ended.
    pub fn remove(&mut self, number: u64, priority: Priority) {
        self.order.remove(&(priority, number));
    }

    /// Notes what one holds now: its new priority.
    pub fn weigh(&mut self, number: u64, before: Priority, memory: u64) -> Priority {
        let Some(worth) = self.order.remove(&(before, number)) else { return before };
        let lighter = Worth { memory, ..worth };
        let priority = Priority(before.0 - worth.value() + lighter.value());
        self.order.insert((priority, number), lighter);
        priority
    }

    /// Takes the one away that is to go.
    pub fn choose(&mut self) -> Option<(u64, Reason)> {
        let among = self.order.len();
        let ((priority, number), worth) = self.order.pop_first()?;
        self.clock = priority.0;
        Some((number, Reason { priority, worth, among }))
    }
}

/// Why an environment was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Reason {
    priority: Priority,
    worth: Worth,
    among: usize,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority: Priority(priority), worth, among } = self;
        let (value, ms) = (worth.value(), worth.cost.as_secs_f64() * 1e3);
        write!(
            f,
            "the lowest priority of {among} idle, {priority:.1}: {:.1} when it was last used, and {value:.1} for {} uses x \
             {ms:.1} ms to make it again / {:.1} MiB held",
            priority - value,
            worth.uses,
            worth.memory_mb(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(uses: u64, ms: u64, mb: u64) -> Worth {
        Worth { uses, cost: Duration::from_millis(ms), memory: mb << 20 }
    }

    fn order(candidates: &mut Candidates) -> Vec<u64> {
        std::iter::from_fn(|| candidates.choose()).map(|(number, _)| number).collect()
    }

    #[test]
    fn what_is_large_cheap_or_seldom_used_goes_first() {
        let mut candidates = Candidates::default();
        for (number, uses, ms, mb) in [(1, 1, 100, 10), (2, 1, 100, 100), (3, 1, 2, 10), (4, 50, 100, 10)] {
            candidates.add(number, worth(uses, ms, mb));
        }
        assert_eq!(order(&mut candidates), [3, 2, 1, 4]);
    }

    #[test]
    fn among_equals_the_one_that_has_been_idle_longest_goes() {
        let mut candidates = Candidates::default();
        for number in [7, 5, 6] {
            candidates.add(number, worth(1, 1, 2));
        }
        assert_eq!(order(&mut candidates), [5, 6, 7]);
    }

    #[test]
    fn what_nobody_uses_any_more_is_overtaken_in_the_end() {
        let mut candidates = Candidates::default();
        candidates.add(0, worth(30, 10, 1));
        let evicted = (1..1000).find(|&number| {
            candidates.add(number, worth(1, 10, 1));
            candidates.choose().is_some_and(|(gone, _)| gone == 0)
        });
        assert_eq!(evicted, Some(30), "each of the others was worth a thirtieth of it");
    }

    #[test]
    fn what_is_used_again_is_no_candidate() {
        let mut candidates = Candidates::default();
        let priority = candidates.add(1, worth(1, 1, 1));
        candidates.add(2, worth(2, 1, 1));
        candidates.remove(1, priority);
        assert_eq!(order(&mut candidates), [2]);
        assert!(candidates.choose().is_none());
    }

    #[test]
    fn what_has_become_lighter_keeps_the_clock_that_it_came_with() {
        let mut candidates = Candidates::default();
        candidates.add(1, worth(9, 1, 1));
        candidates.choose();
        let before = candidates.add(2, worth(4, 1, 4));
        let after = candidates.weigh(2, before, 1 << 20);
        assert_eq!((before.0.round(), after.0.round()), (10.0, 13.0));
        assert_eq!(candidates.choose().map(|(number, reason)| (number, reason.worth)), Some((2, worth(4, 1, 1))));
    }

    #[test]
    fn the_reason_has_the_numbers() {
        let mut candidates = Candidates::default();
        candidates.add(1, worth(1, 5, 5));
        candidates.choose();
        candidates.add(2, worth(3, 20, 2));
        candidates.add(3, worth(1, 500, 2));
        let (number, reason) = candidates.choose().expect("a candidate");
        assert_eq!(number, 2);
        assert_eq!(
            reason.to_string(),
            "the lowest priority of 2 idle, 31.0: 1.0 when it was last used, and 30.0 for 3 uses x 20.0 ms to make it again / \
             2.0 MiB held"
        );
        let unknown = Worth { memory: 0, ..worth(1, 1, 1) };
        assert!(unknown.value().is_finite());
    }
}
