//! Room for environments: memory, at the cost of those that are idle.

use super::Core;
use crate::environment::Cause;
use crate::error::{Error, Result};

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

impl Core {
    /// Makes room for one more environment, at the cost of idle ones.
    pub(super) fn make_memory_room(&self) -> Result<()> {
        let _making = self.begin()?;
        loop {
            let used = self.memory_in_use();
            if used <= self.max_memory {
                return Ok(());
            }
            let full =
                format!("environments use {} MiB of memory and max_memory_mb is {}", used >> 20, self.max_memory >> 20);
            // Free seats hold next to nothing, and one of them is about to be needed.
            let given = self.give_up_parked() || self.evict_one(&full) || self.give_up_seats() || self.see_one_off();
            if !given {
                return Err(Error::Throttled(format!("{full}; try again later, or raise it")));
            }
        }
    }

    /// What all environments together may hold, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.max_memory
    }

    /// What all environments hold, in bytes.
    pub(super) fn memory_in_use(&self) -> u64 {
        self.house.groups.memory_used().unwrap_or(0)
    }

    /// Waits for the end of an environment that has been killed and still holds memory; false if there is none.
    fn see_one_off(&self) -> bool {
        let dying = self.supervisor.one_of_the_living(|environment| !environment.usable());
        dying.is_some_and(|environment| environment.ends())
    }

    /// Destroys the idle environment that is worth least and waits until its memory is back; false if none is idle.
    pub(super) fn evict_one(&self, lacking: &str) -> bool {
        let Some((environment, reason)) = self.lock().idle.evict() else { return false };
        self.evictions.add(Eviction {
            environment: environment.id().to_owned(),
            function: environment.function().spec.name.clone(),
            reason: format!("{lacking}; {reason}"),
        });
        environment.kill(Cause::Retired);
        environment.ends()
    }
}
