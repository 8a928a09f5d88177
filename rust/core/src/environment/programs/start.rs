//! How the programs of an environment are started.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::launcher::{RUNTIME, Word};
use super::{Happening, Programs, Wait};
use crate::api::{self, News};
use crate::environment::{Environment, Reply};
use crate::error::Result;
use crate::launch::Launch;
use crate::platform::{Initialization, Phase, Record, Status, error_type};
use crate::report::type_of;
use crate::wire::Kind;

impl Environment {
    /// Starts extensions and the runtime, and waits until all of them wait for an event.
    pub(in crate::environment) fn start_programs(
        &self,
        programs: &Programs,
        phase: Phase,
        backstop: Instant,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Reply> {
        let function = Arc::clone(&self.function);
        let Some(launch) = &function.launch else { return Ok(Reply::Rubbish("it has nothing to start")) };
        if let Some((kind, what)) = &launch.defect {
            return Ok(Reply::Failed((*kind).into(), what.clone()));
        }
        programs.session.start_init();
        let (initialization, begun) = (Initialization::OnDemand, Instant::now());
        programs.record(&Record::InitStart {
            initialization,
            phase,
            runtime: function.subject.runtime.clone(),
            function: function.spec.name.clone(),
            instance: self.id.clone(),
            memory_mb: function.spec.memory_mb,
        });
        for ((id, extension), (_, output)) in (1..).zip(&launch.extensions).zip(programs.extensions.iter().cycle()) {
            programs.board.start(id, &extension.steps(programs.port), output.as_fd()).map_err(|e| self.unheard(e))?;
        }
        if launch.extensions.is_empty() {
            self.start_runtime(programs, launch)?;
        }
        self.prepare().or_else(|e| if self.has_hung_up() { Ok(()) } else { Err(e) })?;
        let wait = Wait { until: backstop, interrupted };
        let reply = self.until_reply(programs, &wait, &mut |happening| {
            Ok(Some(match happening {
                Happening::News(News::Registered) if !launch.extensions.is_empty() => {
                    self.start_runtime(programs, launch)?;
                    return Ok(None);
                }
                Happening::News(News::Ready) => Reply::Answer(Kind::Ready, Vec::new()),
                Happening::News(News::InitError { body, .. }) => Reply::Answer(Kind::InitError, body),
                Happening::News(News::ExtensionError { error_type, name }) => {
                    Reply::Failed(error_type, format!("extension {name:?} failed"))
                }
                Happening::Word(Word::Failed(id, errno)) => Self::not_started(launch, id, errno),
                Happening::Word(Word::Ended(RUNTIME, status)) => Reply::Ended(Some(status)),
                other => return Ok(self.common(programs, other)),
            }))
        })?;
        let registered = programs.session.registered();
        if !registered.is_empty() {
            programs.attended.store(true, Ordering::Release);
        }
        for api::Extension { name, events, .. } in registered {
            let record = Record::Extension { name, state: "Ready".into(), events };
            self.lock().log.add(record.text().as_bytes());
        }
        let status = match &reply {
            Reply::Answer(Kind::Ready, _) => Status::Success,
            Reply::Answer(_, body) => Status::Error(error_type(&type_of(body))),
            Reply::Failed(kind, _) => Status::Error(kind.clone()),
            _ => Status::Error("Runtime.ExitError".into()),
        };
        programs.record(&Record::InitRuntimeDone { initialization, phase, status: status.clone() });
        programs.record(&Record::InitReport { initialization, phase, status, duration: begun.elapsed() });
        Ok(reply)
    }

    fn start_runtime(&self, programs: &Programs, launch: &Launch) -> Result<()> {
        programs
            .board
            .start(RUNTIME, &launch.runtime.steps(programs.port), programs.frames.1.as_fd())
            .map_err(|e| self.unheard(e))
    }

    fn not_started(launch: &Launch, id: u32, errno: i32) -> Reply {
        const NOT_FOUND: i32 = 2;
        if id == RUNTIME && launch.wrapped && errno == NOT_FOUND {
            return Reply::Ended(Some(127 << 8));
        }
        let program = launch.extensions.get((id as usize).wrapping_sub(1)).unwrap_or(&launch.runtime);
        let kind = if id == RUNTIME { "Runtime.InvalidEntrypoint" } else { "Extension.LaunchError" };
        let why = io::Error::from_raw_os_error(errno);
        Reply::Failed(kind.into(), format!("starting {}: {why}", program.path))
    }
}
