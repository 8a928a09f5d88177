//! How the base of a function with `snapstart` is made: the first environment, which is initialised and serves no event.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coldframe_sys::program;
use serde_json::json;

use super::Core;
use super::make::Need;
use crate::environment::{Cause, Environment, Reply, State};
use crate::error::{Error, Result};
use crate::function::Function;
use crate::plan::restored::Births;
use crate::plan::rootfs::aliases;
use crate::platform::Phase;
use crate::process;
use crate::report::Initialisation;
use crate::seat::Special;
use crate::snapstart::tracer::Tracer;
use crate::snapstart::{Base, fitness};
use crate::state::UIDS;
use crate::wire::Kind;
use crate::zygote::Zygote;

/// How long its initialisation may take at least (Lambda's 130 seconds; more if the function's timeout is longer).
const INIT_TIMEOUT: Duration = Duration::from_secs(130);
/// How often somebody who waits for a base that another makes looks for an interruption.
const LOOK: Duration = Duration::from_millis(10);
/// What a base forks beside an environment, for a moment.
const USHERS: u64 = 2;

/// What came of looking for a base.
pub enum Based {
    /// It serves.
    Ready(Arc<Zygote>),
    /// The same, of one that has just been made.
    Made(Arc<Zygote>, Initialisation),
    /// The function could not be initialised, or could not be forked afterwards.
    Failed(Arc<Environment>, Reply, Duration),
}

impl Core {
    /// The function's base, which is made if there is none that lives.
    pub(super) fn base(&self, function: &Arc<Function>, need: &Need<'_>) -> Result<Based> {
        let shared = self.bases.place(function.id);
        let mut place = loop {
            self.open()?;
            if let Some(place) = shared.try_lock() {
                break place;
            }
            if need.ticket.is_cancelled() || (need.interrupted)() {
                return Err(Error::Cancelled);
            }
            if shared.is_made_here() {
                return Err(Error::Throttled(format!(
                    "function {:?} is being initialised by this very thread, which a signal has interrupted; invoke it when \
                     that is over, or from another thread",
                    function.spec.name
                )));
            }
            std::thread::sleep(LOOK);
        };
        if let Some(base) = place.as_ref().filter(|base| base.serves()) {
            return Ok(Based::Ready(Arc::clone(base)));
        }
        if let Some(base) = place.take() {
            base.retire();
            base.kill();
        }
        let making = shared.making();
        let based = self.make_base(function, need)?;
        drop(making);
        if let Based::Made(base, _) = &based {
            self.nursery.adopt(Arc::clone(base));
            *place = Some(Arc::clone(base));
            // Closed meanwhile: nobody will look here again.
            if !self.lock().functions.contains_key(&function.id) {
                base.retire();
                base.kill();
                return Err(Error::Closed("this function"));
            }
        }
        Ok(based)
    }

    fn make_base(&self, function: &Arc<Function>, need: &Need<'_>) -> Result<Based> {
        self.make_memory_room()?;
        let making = self.begin()?;
        let begun = Instant::now();
        let zygote = self.nursery.zygote(&self.house, function)?;
        let facts = &self.house.facts;
        let doors = zygote.birth().enter.len();
        self.house.groups.admit_bases()?;
        let shown: Vec<_> = function.zygote.directories.iter().map(|grant| grant.target.clone()).collect();
        let births = Births::new(&function.planned, doors, facts.landlock, &aliases(&shown), &facts.posture);
        let below = program::encode_init(&births.below.seat, &[], &births.below.init);
        let below = process::sealed("coldframe-program", &below).map_err(|e| Error::kernel("making", "a base", e))?;
        let first = self.house.zygote_user().unwrap_or_default();
        let special = Special { births: &births, below: below.as_fd(), users: first + 1..first + UIDS };
        let free = self.make_seat_with(&zygote, Some(&special))?;
        let known = free.known()?;
        let seat = free.enter(&zygote).map_err(|lost| self.give_up(*lost))?;
        let number = self.next_number();
        let environment = Environment::create(seat, &zygote, function, number, State::Parked, &self.house.api);
        let environment = self.admit_environment(environment.map_err(|lost| self.give_up(*lost))?)?;
        if !need.ticket.hold(&environment) {
            environment.kill(Cause::Cancelled);
            return Err(Error::Cancelled);
        }
        // It is watched from now on: who closes the host meanwhile, perhaps in a signal handler on this thread, ends it.
        drop(making);
        let reply = self.initialise_base(&environment, need);
        need.ticket.release();
        let _making = self.begin().inspect_err(|_| environment.kill(Cause::Retired))?;
        let reply = reply.inspect_err(|_| environment.kill(Cause::Retired))?;
        match reply {
            Reply::Answer(Kind::Ready, _) if environment.usable() => {}
            Reply::Interrupted => {
                environment.kill(Cause::Cancelled);
                return Err(Error::Cancelled);
            }
            reply => {
                environment.kill(Cause::Retired);
                if environment.cause() == Cause::Cancelled {
                    return Err(Error::Cancelled);
                }
                let failure = environment.setup_failure();
                return failure.map_or_else(|| Ok(Based::Failed(environment, reply, begun.elapsed())), Err);
            }
        }
        let taken = self.take_over(&environment, &known);
        match taken.inspect_err(|_| environment.kill(Cause::Retired))? {
            Ok(tracer) => {
                let spec = &function.spec;
                environment.cgroup().limit(spec.memory_mb, spec.max_processes + USHERS)?;
                let (output, dropped) = environment.output();
                let initialised = Initialisation {
                    phase: Phase::Init,
                    restore: false,
                    took: begun.elapsed(),
                    failure: None,
                    output,
                    dropped,
                };
                let base = Base { environment: Arc::clone(&environment), tracer };
                Ok(Based::Made(Zygote::of_base(base, births.below)?, initialised))
            }
            Err(why) => {
                environment.kill(Cause::Retired);
                let message = format!(
                    "the function is initialised, but no copy can be made of it: {why}; with snapstart=True a function has one \
                     thread and nothing open when its initialisation ends (a before-snapshot hook may see to that)"
                );
                let body = json!({"errorType": "Runtime.SnapshotUnfit", "errorMessage": message}).to_string();
                let reply = Reply::Answer(Kind::InitError, body.into_bytes());
                Ok(Based::Failed(environment, reply, begun.elapsed()))
            }
        }
    }

    fn initialise_base(&self, environment: &Arc<Environment>, need: &Need<'_>) -> Result<Reply> {
        let limit = Instant::now() + INIT_TIMEOUT.max(environment.function().spec.timeout);
        environment.will_have(None);
        let deadline = self.supervisor.keep(environment, limit);
        let reply = environment.initialise(None, Phase::Init, limit + Duration::from_secs(5), need.interrupted);
        if !self.supervisor.met(&deadline) {
            environment.kill(Cause::Timeout);
        }
        reply
    }

    /// Has the tracer take it over, if it is fit: why not is the inner error.
    fn take_over(&self, environment: &Environment, known: &fitness::Known) -> Result<Result<Tracer, String>> {
        let pid = match fitness::only_process(environment.cgroup()) {
            Ok(pid) => pid,
            Err(why) => return Ok(Err(why)),
        };
        let mut unfit = None;
        let tracer = Tracer::take(&self.bases.program, pid, environment.pidfd(), || {
            // Now that it stands still: whoever could have made another process, or shared its memory, would be seen.
            unfit = match fitness::only_process(environment.cgroup()) {
                Ok(again) if again == pid => fitness::unfit(pid, known),
                Ok(_) => Some("another process has taken its place".into()),
                Err(why) => Some(why),
            };
            unfit.as_ref().map_or(Ok(()), |_| Err(Error::Cancelled))
        });
        match unfit {
            Some(why) => Ok(Err(why)),
            None => tracer.map(Ok),
        }
    }
}
