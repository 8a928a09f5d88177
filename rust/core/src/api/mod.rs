//! Lambda's Runtime, Extensions and Telemetry APIs, as the processes of an environment see them.
//!
//! A [`Session`] is the API of one environment: an HTTP server on a socket that listens inside the environment, and a state
//! machine. The processes inside ask and answer; whoever runs the environment gives it events and hears what came of them as
//! [`News`]. All sessions of a host are served by the one thread of its [`Server`], outside every sandbox. None of the methods
//! here blocks, and what an environment sends costs its own session alone: its connections, what they may hold and how long a
//! half-sent request may take are bounded ([`connection`]).
//!
//! The host holds for one environment, at most: 8 MiB of heads that are not complete and 128 KiB of the body of each of 64
//! connections; the event; one answer of [`About::max_response`] bytes, or 1 MiB of one that is streamed; and 2 MiB of
//! telemetry that waits, with 1 MiB on its way to each of ten subscribers. An environment that means well has two connections.
//!
//! [`state`] is what a session knows, and which step follows which: data, without a socket. [`runtime`] and [`extension`] are
//! the answers to the two kinds of process.

mod answer;
mod body;
mod connection;
mod extension;
mod peer;
mod route;
mod runtime;
mod server;
mod session;
mod state;
mod telemetry;

pub use server::Server;
pub use session::{Connector, Session};

/// What does not change while an environment lives.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Name of the function.
    pub function_name: String,
    /// Its version: `$LATEST` or a number.
    pub function_version: String,
    /// Its handler, as configured.
    pub handler: String,
    /// The account, told to extensions that ask for it.
    pub account_id: String,
    /// The function's ARN.
    pub arn: String,
    /// Its memory, in MB.
    pub memory_mb: u64,
    /// `on-demand`, `provisioned-concurrency` or `snap-start`.
    pub initialization_type: String,
    /// Base names of the external extensions that are going to be started.
    pub external: Vec<String>,
    /// Bytes that a buffered response, and the body of an error, may have; Lambda's are 6,291,556.
    pub max_response: usize,
    /// Bytes that a streamed response may have.
    pub max_stream: u64,
    /// Only sockets of this host user are heard; `None`: nobody else can reach the listener.
    pub only: Option<u32>,
}

/// An invocation, as the runtime is told of it. Headers whose value is empty are left out.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Lambda's request id, a UUID.
    pub request_id: String,
    /// When its time is up, in milliseconds since the epoch.
    pub deadline_ms: u64,
    /// The ARN that was called, with the qualifier that the caller gave.
    pub arn: String,
    /// The value of `_X_AMZN_TRACE_ID`.
    pub trace_id: String,
    /// JSON.
    pub client_context: Vec<u8>,
    /// JSON.
    pub cognito_identity: String,
    /// The tenant for whom it is, of functions that keep them apart.
    pub tenant_id: String,
    /// What the handler is called with, passed on byte by byte.
    pub payload: Vec<u8>,
    /// Its type; empty stands for `application/json`.
    pub content_type: String,
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// All external extensions have registered: the runtime may be started. Also comes when there are none.
    Registered,
    /// The initialisation is over: the runtime and every extension wait for an event.
    Ready,
    /// The runtime said that its initialisation failed.
    InitError {
        /// For reports: `Runtime.*`, `Function.*`.
        error_type: String,
        /// For the caller, as it came.
        body: Vec<u8>,
    },
    /// An extension failed.
    ExtensionError {
        /// `Extension.InitError`, `Extension.ExitError` or `Extension.Crash`.
        error_type: String,
        /// The extension's name.
        name: String,
    },
    /// The answer to the event.
    Response {
        /// As it came; may be empty.
        content_type: String,
        /// As it came.
        body: Vec<u8>,
    },
    /// The handler failed.
    Error {
        /// For reports: `Runtime.*`, `Function.*`.
        error_type: String,
        /// As it came; may be empty.
        content_type: String,
        /// For the caller, as it came.
        body: Vec<u8>,
    },
    /// The answer was larger than [`About::max_response`]: for the caller, `Function.ResponseSizeTooLarge`.
    TooLarge,
    /// The answer came in a mode that there is not: for the caller, `Runtime.InvalidResponseModeHeader`.
    BadMode,
    /// The answer begins, and comes in chunks.
    Stream {
        /// As it came; may be empty.
        content_type: String,
    },
    /// A piece of the answer.
    Chunk(Vec<u8>),
    /// The answer is complete, or went wrong on the way.
    StreamEnd(Option<StreamError>),
    /// The runtime asked for the next event after its answer.
    RuntimeDone,
    /// So did all extensions that take events: the environment may be frozen.
    Idle,
    /// An extension subscribed to telemetry.
    Subscribed,
    /// The server itself is wrong; what it says is for a report to coldframe's authors.
    Defect(String),
}

/// Why a streamed answer ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// What the runtime said, or `Runtime.TruncatedResponse`, or `Function.ResponseSizeTooLarge`.
    pub error_type: String,
    /// The error as JSON; may be empty.
    pub body: Vec<u8>,
}

/// Why an environment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is not needed any more.
    Spindown,
    /// An invocation took too long.
    Timeout,
    /// Something in it failed.
    Failure,
}

/// An extension that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name: for an external one the base name of its file.
    pub name: String,
    /// Whether it is a process of its own.
    pub external: bool,
    /// `INVOKE`, `SHUTDOWN`.
    pub events: Vec<String>,
}

/// Whose output a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The runtime's.
    Function,
    /// An extension's.
    Extension,
}

/// A record of the platform for telemetry: `platform.start` and so on, with its `record` as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// Such as `platform.initStart`.
    pub kind: &'static str,
    /// The record.
    pub record: serde_json::Value,
}

#[cfg(test)]
mod tests;
