//! Runs AWS-Lambda-style handlers, each in an isolated Linux process of its own.
//!
//! A [`Host`] owns the execution environments, a [`Function`] is a handler with its code and its limits, and
//! [`Function::invoke`] puts one event through one environment. A handler that fails is an [`Outcome`]; an [`Error`] is what
//! the caller got wrong, or what the host cannot give.
//!
//! ```no_run
//! use coldframe::{Host, Options, Runtime, Spec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::new(Options::default())?;
//! let spec = Spec { memory_mb: 256, ..Spec::new("app.handler", "examples/hello") };
//! let greet = host.function(&Runtime::Python, spec)?;
//!
//! let outcome = greet.invoke(br#"{"name": "Ada"}"#)?;
//! match outcome.payload() {
//!     Ok(json) => println!("{}", String::from_utf8_lossy(json)), // {"message": "Hello, Ada!"}
//!     Err(failure) => println!("{failure}"),                     // KeyError: 'name'
//! }
//! println!("{}", outcome.log());
//! # Ok(())
//! # }
//! ```
//!
//! Everything can be used from many threads at a time. A host ends its environments when it is dropped; if the process is
//! killed the kernel does. A process that was forked off has no part in the hosts of its parent: there they are closed, and
//! it makes its own.
#![forbid(unsafe_code)]

mod function;
mod host;
mod news;
mod runtime;

pub use coldframe_core::error::{Error, Result};
pub use coldframe_core::failure::Failure;
pub use coldframe_core::invocation::Ticket;
pub use coldframe_core::pool::Options;
pub use coldframe_core::report::{Kind, Outcome, Report, Start, Verdict};
pub use coldframe_core::spec::{Architecture, Isolation, MAX_PAYLOAD, Mount, ProcView, Sizes, Spec, timeout_from_secs};
pub use function::{Call, Function};
pub use host::{Host, doctor};
pub use news::{Level, News};
pub use runtime::Runtime;

pub use coldframe_core::defect::contain;
pub use coldframe_core::host::Protection;
