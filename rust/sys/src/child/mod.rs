//! What runs on the far side of a fork. Nothing here allocates, takes a lock or calls a C library.
//!
//! The folder is compiled five times: into `init` (pid 1 of environments and zygotes; zygotes without an interpreter), into
//! `serve` (the library with which a zygote forks), into `graft` and `trace` (what makes a base fork, from inside and from
//! outside), and into this crate, which lends its numbers to the supervisor and shows it to the tools.
#![allow(dead_code, reason = "each of the programs uses its part of this folder")]

pub mod abi;
pub mod fork;
pub mod graft;
pub mod init;
pub mod launch;
pub mod op;
pub mod record;
pub mod registers;
pub mod run;
pub mod serve;
pub mod syscall;
pub mod trace;
