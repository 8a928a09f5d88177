//! The thread that keeps the stocks: it makes seats and parks environments while nobody waits for them. What is left of its
//! time goes into taking memory back from environments that stand still.

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::alarm::Alarm;
use crate::defect;
use crate::error::{Error, Result};
use crate::pool::Core;

/// How much less of the processor the thread gets than those that somebody waits for.
const NICE: i32 = 5;
/// How long a start is left alone before what it took is replaced: by then most have been answered.
pub const DELAY: Duration = Duration::from_millis(2);

/// The thread, and what it is told.
#[derive(Debug)]
pub struct Keeper {
    alarm: Alarm,
    stop: AtomicBool,
}

impl Keeper {
    /// One that does not run yet.
    pub fn new() -> Result<Self> {
        let alarm = Alarm::new().map_err(|e| Error::kernel("starting", "the keeper of the stock", e))?;
        Ok(Self { alarm, stop: AtomicBool::new(false) })
    }

    /// Starts the thread. It ends when it is told to, or when `core` is gone.
    pub fn start(self: &Arc<Self>, core: &Arc<Core>) -> Result<()> {
        let (own, core) = (Arc::clone(self), Arc::downgrade(core));
        std::thread::Builder::new()
            .name("coldframe-stock".into())
            .spawn(move || {
                // The embedding program's signals are for its own threads.
                let _ = coldframe_sys::host::block_signals();
                // Of this thread alone, as Linux has it.
                let _ = rustix::process::setpriority_process(None, NICE);
                // Without it a host would go on, but never as fast as promised, and nobody would know why.
                if let Err(defect) = defect::contain(|| own.run(&core)) {
                    let _ = defect::contain(|| core.upgrade().inspect(|core| core.fail(&defect)));
                }
            })
            .map_err(|e| Error::kernel("starting", "the thread that makes environments ahead", e))?;
        Ok(())
    }

    /// Has it look at what there is to do at `at`, or earlier.
    pub fn wake_at(&self, at: Instant) {
        self.alarm.no_later_than(at);
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake_at(Instant::now());
    }

    fn run(&self, core: &Weak<Core>) {
        loop {
            let _ = poll(&mut [PollFd::from_borrowed_fd(self.alarm.as_fd(), PollFlags::IN)], None);
            self.alarm.clear();
            let Some(core) = core.upgrade().filter(|_| !self.stop.load(Ordering::Acquire)) else { return };
            if let Some(next) = core.restock() {
                self.wake_at(next);
            }
            // One at a time: the stock is what others wait for.
            if core.reclaim_next() {
                self.wake_at(Instant::now());
            }
        }
    }
}
