//! The owner of environments.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coldframe_core::host::{Facts, Protection};
use coldframe_core::interpreter::Interpreters;
use coldframe_core::owner::Owner;
use coldframe_core::pool::{Core, Options};

use crate::function::Function;
use crate::news::News;
use crate::runtime::{FILES, Runtime};
use crate::{Error, Result, Spec};

/// Creates, reuses, freezes, evicts and destroys execution environments. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Host {
    core: Mutex<Option<Arc<Core>>>,
    owner: Owner,
    interpreters: Interpreters,
    /// Where the runtime's files lie, once they do.
    files: Mutex<Option<PathBuf>>,
}

/// Refuses what belongs to the process that this one was forked off: the threads that watch it are there.
pub(crate) fn refuse_forked(owner: Owner) -> Result<()> {
    if owner.is_here() { Ok(()) } else { Err(Error::Closed("in a forked process the host of its parent")) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// Looks at this machine and makes a host.
    ///
    /// # Errors
    /// [`Error::HostCapability`] where the caller has no cgroups that it may use.
    pub fn new(options: Options) -> Result<Self> {
        let core = Mutex::new(Some(Core::new(options.bounded())?));
        Ok(Self { core, owner: Owner::default(), interpreters: Interpreters::default(), files: Mutex::default() })
    }

    fn core(&self) -> Result<Arc<Core>> {
        refuse_forked(self.owner)?;
        lock(&self.core).clone().ok_or(Error::Closed("this host"))
    }

    /// Checks a function, and reads its code: later edits want a new one. What `spec` says of an interpreter is found out here.
    ///
    /// # Errors
    /// [`Error::Configuration`] if the function cannot exist as it is described, [`Error::HostCapability`] if the host lacks
    /// a protection and the isolation is to be strict.
    pub fn function(&self, runtime: &Runtime, mut spec: Spec) -> Result<Function> {
        let core = self.core()?;
        spec.interpreter = match runtime {
            Runtime::Provided => None,
            Runtime::Python => Some(self.interpreters.describe(None, spec.packages)?),
            Runtime::At(path) => Some(self.interpreters.describe(Some(path), spec.packages)?),
        };
        spec.runtime_dir = self.files(&core)?;
        let function = core.function(spec)?;
        Ok(Function::new(&core, function, self.owner))
    }

    fn files(&self, core: &Core) -> Result<PathBuf> {
        let mut files = lock(&self.files);
        if let Some(path) = &*files {
            return Ok(path.clone());
        }
        let path = core.place_runtime(FILES)?;
        *files = Some(path.clone());
        Ok(path)
    }

    /// Makes initialised environments of a function ahead of need.
    ///
    /// # Errors
    /// [`Error::Throttled`] if there is no room for so many, [`Error::Configuration`] if the function belongs to another
    /// host, [`Error::Initialisation`] if it cannot be initialised.
    pub fn prewarm(&self, function: &Function, count: usize) -> Result<()> {
        let core = self.core()?;
        if !function.is_of(&core) {
            return Err(Error::Configuration("the function belongs to another host; prewarm it on its own".into()));
        }
        core.prewarm(function.inner(), count, &|| false)
    }

    /// What has happened beside the invocations since this was last asked, the latest thousand of each kind: for the caller's
    /// log.
    pub fn news(&self) -> Vec<News> {
        self.core().map_or_else(|_| Vec::new(), |core| core.news().into_iter().map(News::from).collect())
    }

    /// Destroys every environment and ends what is in flight; does nothing the second time.
    ///
    /// # Errors
    /// [`Error::Kernel`] if something would not die within ten seconds; whoever makes a host next collects what is left.
    pub fn close(&self) -> Result<()> {
        refuse_forked(self.owner)?;
        // Whoever else closes it meanwhile waits for the same end.
        let Some(core) = lock(&self.core).clone() else { return Ok(()) };
        let ended = core.end();
        lock(&self.core).take();
        ended
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let core = self.core.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(core) = core else { return };
        if self.owner.is_here() {
            core.close();
        } else {
            // Neither the environments nor the thread that watches them are this process's.
            core.disown();
            std::mem::forget(core);
        }
    }
}

/// Every protection, whether this machine gives it, and what would mend it.
///
/// # Errors
/// [`Error::Kernel`] if the machine cannot be looked at.
pub fn doctor() -> Result<Vec<Protection>> {
    Ok(Facts::probe(false)?.protections())
}
