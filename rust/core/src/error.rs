//! What can go wrong, one type for all of the core.

use std::io;

use crate::failure::Failure;
use crate::report::Kind;

/// Every failure of the core; its message says what happened, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The function cannot exist as it is described.
    #[error("{0}")]
    Configuration(String),
    /// This host cannot give the isolation that was asked for.
    #[error("{0}")]
    HostCapability(String),
    /// Concurrency or memory of the host is used up.
    #[error("{0}")]
    Throttled(String),
    /// An event or a response over its size limit, or not what the wire can carry.
    #[error("{0}")]
    Payload(String),
    /// A function could not be initialised where no invocation is there to say so.
    #[error("function {function:?} could not be initialised: {}", Failure::read(*kind, error))]
    Initialisation {
        /// The function's name.
        function: String,
        /// How it ended.
        kind: Kind,
        /// Lambda's error JSON, which may come from the environment.
        error: Vec<u8>,
    },
    /// The caller cancelled the invocation, or a signal interrupted it.
    #[error("the invocation was cancelled and its environment destroyed")]
    Cancelled,
    /// The host or the function was closed.
    #[error("{0} is closed; make a new one")]
    Closed(&'static str),
    /// Coldframe itself is wrong: a panic, and what it said.
    #[error("this is a defect of coldframe, not of your code; please report it: {0}")]
    Defect(String),
    /// A kernel call failed.
    #[error("{step} failed for {subject}: {source}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// To what: a path, a process, a cgroup.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The result of everything that can fail in the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The error of a kernel call, with what it was doing and to what.
    pub fn kernel(step: &'static str, subject: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel { step, subject: subject.into(), source: source.into() }
    }
}
