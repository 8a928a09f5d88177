//! What a host tells other programs of its user: one text of JSON for whoever connects to the socket in its directory.
//!
//! Nothing is kept up to date for it: what there is to tell is looked up when somebody asks. A file that is mapped by both
//! sides would have to be written to with every event, for readers that are hardly ever there.

mod server;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub use self::server::{SOCKET, Server};
use crate::defect;
use crate::environment::{Environment, State};
use crate::pool::Core;
use crate::trouble::Trouble;

/// What the answer looks like; another number wherever what is there means something else.
const SCHEMA: u32 = 1;
/// How much less of the processor the answering thread gets than those that somebody waits for.
const NICE: i32 = 5;

/// Somebody asks: answers, in a thread of its own, since it takes some files of every environment.
pub fn answer(core: &Arc<Core>) {
    let Some(listener) = core.status().and_then(Server::listener) else { return };
    let (weak, supervisor) = (Arc::downgrade(core), Arc::clone(core.supervisor()));
    let asked = Arc::clone(&listener);
    let work = move || {
        // The embedding program's signals are for its own threads.
        let _ = coldframe_sys::host::block_signals();
        let _ = rustix::process::setpriority_process(None, NICE);
        let look = || weak.upgrade().map(|core| look_at(&core).to_string().into_bytes());
        match defect::contain(|| server::serve(&asked, look)) {
            Ok(true) => supervisor.expect_questions(std::os::fd::AsFd::as_fd(&*asked)),
            Ok(false) => {}
            // Nobody's environment depends on it: nobody is answered any more, and that is all.
            Err(defect) => {
                weak.upgrade().inspect(|core| core.note(Trouble::Defect(defect.to_string())));
            }
        }
    };
    if std::thread::Builder::new().name("coldframe-status".into()).spawn(work).is_err() {
        // No room for a thread: whoever has asked gets no answer, and may ask again.
        server::turn_away(&listener);
        core.supervisor().expect_questions(std::os::fd::AsFd::as_fd(&*listener));
    }
}

/// All there is to tell. Times are seconds, of days since the epoch.
fn look_at(core: &Core) -> Value {
    let (in_flight, invocations) = core.invocations();
    let environments: Vec<Value> = core.environments().iter().map(|environment| of_one(environment)).collect();
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "time": epoch(SystemTime::now()),
        "started": core.status().map(|status| epoch(status.since())),
        "max_concurrency": core.options().max_concurrency,
        "in_flight": in_flight,
        "invocations": invocations,
        "parked": core.parked(),
        "memory_mb": core.memory_used().map(mib),
        "environments": environments,
    })
}

fn of_one(environment: &Environment) -> Value {
    let (created, last_used) = environment.times();
    let (memory, cpu) = environment.glance();
    let spec = &environment.function().spec;
    json!({
        "id": environment.id(),
        "function": spec.name,
        // One that has been killed is as good as dead, whatever it did last.
        "state": if environment.usable() { environment.state() } else { State::Dead }.name(),
        "memory_mb": memory.map(mib),
        "memory_limit_mb": spec.memory_mb,
        "cpu_s": cpu.map(|time| time.as_secs_f64()),
        "invocations": environment.used(),
        "created": epoch(created),
        "last_used": epoch(last_used),
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
