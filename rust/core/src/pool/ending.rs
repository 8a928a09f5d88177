//! The end of what a host has: of a function, of all of it, and of what does not want to end.

use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Core;
use crate::environment::{Cause, Environment};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::process;
use crate::trouble::Trouble;

/// How long the end of all that a host has may take.
const CLOSING: Duration = Duration::from_secs(10);

impl Core {
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

    /// Destroys everything. False when something would not die within ten seconds; what is left of it is collected at
    /// the next start.
    pub fn close(&self) -> bool {
        if self.closed.swap(true, Ordering::AcqRel) {
            return self.wait_for_the_end();
        }
        let ended = self.end_all(Instant::now() + CLOSING);
        self.lock().ended = Some(ended);
        self.room.notify_all();
        ended
    }

    /// Waits for somebody else who is closing it; whether everything has ended.
    fn wait_for_the_end(&self) -> bool {
        let waited = self.room.wait_timeout_while(self.lock(), 2 * CLOSING, |pool| pool.ended.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.ended == Some(true)
    }

    fn end_all(&self, deadline: Instant) -> bool {
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
        let why = if processes.is_empty() {
            "not everything of it could be removed"
        } else {
            "an environment would not die within ten seconds"
        };
        let subject = format!(
            "the host: {why}; left are the processes {processes:?} and the cgroups [{}]; the next host collects them when they \
             can be ended",
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

    /// What a host that could not be closed leaves: cgroups, the processes in them, and inits that have not ended.
    pub fn left(&self) -> (Vec<PathBuf>, Vec<i32>) {
        let (cgroups, mut processes) = self.house.groups.left();
        processes.extend(self.supervisor.living().iter().map(|environment| environment.pid()));
        processes.sort_unstable();
        processes.dedup();
        (cgroups, processes)
    }

    /// Notes what went wrong beside the invocations.
    pub(crate) fn note(&self, trouble: Trouble) {
        self.troubles.add(trouble);
    }

    /// Tells, once, that an environment cannot be ended.
    pub fn report_stuck(&self, environment: &Environment) {
        self.tell_stuck(environment.number(), || Trouble::stuck(environment));
    }

    /// The same of anything with a number of its own.
    pub(crate) fn tell_stuck(&self, number: u64, trouble: impl FnOnce() -> Trouble) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(entry) = stuck.entry(number) {
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

    /// In a forked copy of the process: nothing of it is this process's, and nobody is to think that its owner lives as long as
    /// this does.
    pub fn disown(&self) {
        self.house.state.let_go();
        self.status().inspect(|status| status.let_go());
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
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
