//! What has happened and is told when somebody asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much is kept: the latest.
const MOST: usize = 1000;

/// What has not been told yet.
#[derive(Debug)]
pub struct Untold<T> {
    kept: Mutex<VecDeque<T>>,
    /// Whether there is anything: asked after every invocation.
    any: AtomicBool,
}

impl<T> Default for Untold<T> {
    fn default() -> Self {
        Self { kept: Mutex::default(), any: AtomicBool::new(false) }
    }
}

impl<T> Untold<T> {
    /// Adds something.
    pub fn add(&self, item: T) {
        let mut kept = self.lock();
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(item);
        self.any.store(true, Ordering::Release);
    }

    /// All since this was last asked, the latest thousand at most.
    pub fn take(&self) -> Vec<T> {
        if !self.any.load(Ordering::Acquire) || !self.any.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.lock()).into()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_once_and_the_oldest_is_forgotten_first() {
        let untold = Untold::default();
        assert!(untold.take().is_empty());
        (0..=MOST).for_each(|n| untold.add(n));
        assert_eq!(untold.take(), (1..=MOST).collect::<Vec<_>>());
        assert!(untold.take().is_empty());
    }
}
