//! How a caller waits for an answer: awake for a moment, where answers tend to come within one.
//!
//! A caller that sleeps is woken, and most often on another CPU: in a virtual machine that takes longer than a short
//! handler runs. One that offers its CPU instead runs on as soon as the handler is done.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the wait may cost: as much as being woken on another CPU.
const MOMENT: Duration = Duration::from_micros(100);
/// How many invocations at most are waited for asleep after one that took longer.
const MOST: u32 = 256;

/// What the answers of one environment have taught.
#[derive(Debug, Default)]
pub struct Patience {
    /// Invocations to be waited for asleep.
    asleep: AtomicU32,
    /// How many it was the last time.
    penalty: AtomicU32,
}

impl Patience {
    /// Whether the answer to a new question is to be watched for.
    pub fn is_worth_it(&self) -> bool {
        // Only its caller asks an environment anything: nobody else counts here at the same time.
        let asleep = self.asleep.load(Ordering::Relaxed);
        self.asleep.store(asleep.saturating_sub(1), Ordering::Relaxed);
        asleep == 0
    }

    /// Looks again and again for a moment, giving way to all that wants to run. `None`: it is time to sleep.
    pub fn watch<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        loop {
            std::thread::yield_now();
            let found = look();
            // Longer than that: the handler is, or somebody else has taken the CPU that was offered.
            let late = begun.elapsed() > MOMENT;
            if late || found.is_some() {
                self.learn(late);
                return found;
            }
        }
    }

    fn learn(&self, late: bool) {
        let penalty = if late { (self.penalty.load(Ordering::Relaxed) * 2).clamp(1, MOST) } else { 0 };
        self.penalty.store(penalty, Ordering::Relaxed);
        self.asleep.store(penalty, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_soon_is_watched_and_who_does_not_is_waited_for_asleep() {
        let patience = Patience::default();
        let watched = |late| {
            let worth = patience.is_worth_it();
            if worth {
                patience.learn(late);
            }
            worth
        };
        assert!(watched(false) && watched(true));
        assert!(!watched(false), "asleep once");
        assert!(watched(true));
        assert!(!watched(false) && !watched(false), "asleep twice");
        assert!(watched(false) && watched(false), "forgiven");
    }

    #[test]
    fn a_watch_ends_with_what_it_found_or_with_its_moment() {
        assert_eq!(Patience::default().watch(|| Some(1)), Some(1));
        let patience = Patience::default();
        assert_eq!(patience.watch(|| None::<()>), None);
        assert!(!patience.is_worth_it(), "that was late");
    }
}
