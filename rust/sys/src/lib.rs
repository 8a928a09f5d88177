//! coldframe's kernel calls: the one crate with unsafe code. It knows no Python and makes no policy.
//!
//! `child` runs on the far side of a fork; `spawn` starts its init program; `host` asks this kernel what it has.

pub mod child;
pub mod host;
pub mod program;
pub mod spawn;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// The static init program (see `child::init`).
pub static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// The library with which a zygote forks (see `child::serve`).
pub static SERVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/serve"));
/// The tracer of a base (see `child::trace`), with what it puts into that.
pub static TRACE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trace"));
