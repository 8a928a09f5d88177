//! coldframe's core: execution environments for functions, without Python.
//!
//! Pure plans first, then the steps that carry them out. [`pool::Core`] owns everything; a [`spec::Spec`] describes a
//! function, [`host::Facts`] what this machine gives, [`plan`] what the far side of a fork is to do about both, and
//! [`seccomp`], [`landlock`] and [`cgroup`] what holds it. [`nursery`], [`zygote`], [`birth`] and [`environment`] are the processes,
//! [`supervisor`] the thread that watches them, [`wire`] what is said between them, [`report`] what comes of it.
#![forbid(unsafe_code)]

pub mod birth;
pub mod cgroup;
pub mod environment;
pub mod error;
pub mod function;
pub mod host;
pub mod house;
pub mod invocation;
pub mod landlock;
pub mod log;
pub mod nursery;
pub mod plan;
pub mod pool;
pub mod process;
pub mod random;
pub mod report;
pub mod seccomp;
pub mod spec;
pub mod state;
pub mod store;
pub mod supervisor;
pub mod wire;
pub mod zygote;
