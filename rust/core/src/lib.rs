//! coldframe's core: execution environments for functions, without Python.
//!
//! Pure plans first, then the steps that carry them out. [`pool::Core`] owns everything; a [`spec::Spec`] describes a
//! function, [`interpreter`] what runs it, [`host::Facts`] what this machine gives, [`plan`] what the far side of a fork is to do about both, and
//! [`seccomp`], [`landlock`] and [`cgroup`] what holds it. [`nursery`], [`zygote`], [`seat`], [`stock`] and
//! [`environment`] are the processes, [`snapstart`] what other environments are forked
//! from, [`supervisor`] and [`keeper`] the threads that watch them and make them ahead,
//! [`reclaim`] what those give back that nobody needs for a while,
//! [`wire`] and [`api`] what is said between them, [`patience`] how an answer is waited for, [`report`], [`failure`],
//! [`platform`] and [`phases`] what comes of it, and [`status`] what other programs of this user are told.
#![forbid(unsafe_code)]
// Its modules tell whoever works on them what else there is; programs use the crate `coldframe`.
#![allow(rustdoc::private_intra_doc_links)]

pub mod alarm;
pub mod api;
pub mod assistant;
pub mod calendar;
pub mod caller;
pub mod cgroup;
pub mod defect;
pub mod environment;
pub mod error;
pub mod eviction;
pub mod failure;
pub mod frames;
pub mod function;
pub mod host;
pub mod house;
pub mod idle;
pub mod interpreter;
pub mod invocation;
pub mod keeper;
pub mod landlock;
pub mod launch;
pub mod log;
pub mod mounts;
pub mod nursery;
pub mod owner;
pub mod patience;
pub mod phases;
pub mod plan;
pub mod platform;
pub mod pool;
pub mod posture;
pub mod process;
pub mod random;
pub mod reclaim;
pub mod report;
pub mod seat;
pub mod seccomp;
mod serving;
pub mod snapstart;
pub mod spec;
pub mod state;
pub mod status;
pub mod stock;
pub mod store;
pub mod streaming;
pub mod supervisor;
pub mod trouble;
pub mod untold;
pub mod variables;
pub mod wire;
pub mod zygote;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: coldframe_sys::testing::metered::Metered = coldframe_sys::testing::metered::Metered;
