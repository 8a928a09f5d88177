//! A handler with its code and its limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coldframe_core::function::Function as Inner;
use coldframe_core::invocation;
use coldframe_core::owner::Owner;
use coldframe_core::pool::Core;

use crate::host::refuse_forked;
use crate::{Error, Outcome, Result, Ticket};

/// A handler with its code and its limits. Its environments are retired when it is dropped.
#[derive(Debug)]
pub struct Function {
    /// Not the host's owner: a closed host has nothing open, however long its functions are kept.
    core: Weak<Core>,
    inner: Arc<Inner>,
    owner: Owner,
}

/// What goes with one event.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// How long it may take; `None` is the function's own limit.
    pub timeout: Option<Duration>,
    /// What the handler finds as `context.client_context`: a JSON object, empty if there is none.
    pub client_context: Vec<u8>,
    /// What the handler finds as `_X_AMZN_TRACE_ID`: X-Ray's header, empty if there is no trace.
    pub trace_id: String,
    /// Whether to wait for room where [`Function::invoke`] would be throttled.
    pub wait: bool,
    /// By which another thread can cancel it: that kills the environment.
    pub ticket: Arc<Ticket>,
}

impl Function {
    pub(crate) fn new(core: &Arc<Core>, inner: Arc<Inner>, owner: Owner) -> Self {
        Self { core: Arc::downgrade(core), inner, owner }
    }

    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Weak::as_ptr(&self.core) == Arc::as_ptr(core)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Puts one event, which is JSON, through one environment, and waits for what comes of it.
    ///
    /// # Errors
    /// [`Error::Throttled`] if there is no room, [`Error::Payload`] if the event is too large, [`Error::Closed`] if the host
    /// or the function is. A handler that fails is no error but an [`Outcome`].
    pub fn invoke(&self, event: &[u8]) -> Result<Outcome> {
        self.call(event, &Call::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Those of [`Function::invoke`], and [`Error::Cancelled`].
    pub fn call(&self, event: &[u8], call: &Call) -> Result<Outcome> {
        refuse_forked(self.owner)?;
        let core = self.core.upgrade().ok_or(Error::Closed("this host"))?;
        let call = invocation::Call {
            event,
            client_context: &call.client_context,
            trace_id: &call.trace_id,
            timeout: call.timeout,
            ticket: &call.ticket,
            wait: call.wait,
            reported: true,
            streamed: false,
            interrupted: &|| call.ticket.is_cancelled(),
        };
        core.invoke(&self.inner, &call)
    }

    /// Every protection, by name, and what of it is in force.
    pub fn isolation(&self) -> &BTreeMap<String, String> {
        &self.inner.isolation
    }

    /// Retires the function's environments; it cannot be invoked afterwards. Does nothing the second time.
    pub fn close(&self) {
        if refuse_forked(self.owner).is_ok()
            && let Some(core) = self.core.upgrade()
        {
            core.close_function(&self.inner);
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.close();
    }
}
