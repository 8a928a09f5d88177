//! How an environment ends whose extensions are to be told: its runtime first, then they, each within a time; and then it is
//! ended like any other.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::Programs;
use super::launcher::{self, RUNTIME};
use crate::api::Shutdown;
use crate::defect;
use crate::environment::{Cause, Environment, State};
use crate::process;

/// What an environment has with external extensions,
const WITH_EXTERNAL: Duration = Duration::from_secs(2);
/// and with internal ones alone.
const WITH_INTERNAL: Duration = Duration::from_millis(500);
/// How many tenths of that are the runtime's.
const OF_RUNTIME: u32 = 3;

impl Environment {
    /// Whether it has somebody to tell that it ends, and does so now: it ends soon then, and nobody waits for it here.
    pub(in crate::environment) fn takes_leave(&self, cause: Cause) -> bool {
        let Some(programs) = self.programs.as_ref().filter(|programs| programs.attended.load(Ordering::Acquire)) else {
            return false;
        };
        // What is out of memory has been killed by the kernel, and a caller who cancels wants an end.
        if matches!(cause, Cause::Memory | Cause::Cancelled) || self.ended() || self.state() == State::Init {
            return false;
        }
        if programs.leaving.swap(true, Ordering::AcqRel) {
            return true;
        }
        let Some(this) = self.this.get().and_then(std::sync::Weak::upgrade) else { return false };
        let thread = std::thread::Builder::new().name("coldframe-leave".into());
        let leave = move || {
            let _ = defect::contain(|| this.leave(cause));
            this.end_now();
        };
        thread.spawn(leave).is_ok()
    }

    /// Whether there is somebody to be told.
    pub fn has_extensions(&self) -> bool {
        self.programs.as_ref().is_some_and(|programs| programs.attended.load(Ordering::Acquire))
    }

    /// Whether it has been told that it ends, and has not ended yet.
    pub fn is_leaving(&self) -> bool {
        !self.ended() && self.programs.as_ref().is_some_and(|programs| programs.leaving.load(Ordering::Acquire))
    }

    fn leave(self: &Arc<Self>, cause: Cause) {
        let (Some(programs), Some(launch)) = (&self.programs, &self.function.launch) else { return };
        let reason = match cause {
            Cause::Timeout => Shutdown::Timeout,
            _ if programs.failed.load(Ordering::Acquire) => Shutdown::Failure,
            _ => Shutdown::Spindown,
        };
        self.lift_quota();
        if self.thaw(false).is_err() {
            return;
        }
        // Whoever waits for an answer sees that there will be none, and stops listening.
        let listening = programs.board.listen();
        self.conclude(programs, Some(reason));
        let budget = if launch.extensions.is_empty() { WITH_INTERNAL } else { WITH_EXTERNAL };
        let begun = Instant::now();
        if programs.board.lives(RUNTIME) {
            let _ = launcher::signal(self.control.as_fd(), RUNTIME, Signal::TERM);
            if !self.wait_for(programs, begun + budget * OF_RUNTIME / 10, |id| id != RUNTIME) {
                let _ = launcher::signal(self.control.as_fd(), RUNTIME, Signal::KILL);
            }
        }
        drop(listening);
        programs.has_delivered(begun + budget / 4);
        let _listening = programs.board.listen();
        let end = SystemTime::now() + budget.saturating_sub(begun.elapsed());
        let deadline_ms = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        programs.session.shutdown(reason, deadline_ms);
        let registered = programs.session.registered();
        for (id, extension) in (1..).zip(&launch.extensions) {
            let wants = |one: &&crate::api::Extension| one.external && one.name == extension.name;
            let told =
                registered.iter().find(wants).is_some_and(|one| one.events.iter().any(|event| event == "SHUTDOWN"));
            if !told {
                let _ = launcher::signal(self.control.as_fd(), id, Signal::KILL);
            }
        }
        self.wait_for(programs, begun + budget, |_| false);
    }

    /// Waits until only those processes live; false if they still do by then.
    fn wait_for(&self, programs: &Programs, until: Instant, may_live: impl Fn(u32) -> bool) -> bool {
        const TURN: Duration = Duration::from_millis(20);
        loop {
            while let Ok(Some(_)) = programs.board.word() {}
            self.drain_programs(programs);
            if programs.board.living().into_iter().all(&may_live) || process::readable(self.pidfd(), Duration::ZERO) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            process::readable(self.control.as_fd(), left.min(TURN));
        }
    }
}
