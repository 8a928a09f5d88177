//! What tests of this crate and of others share; not part of what is installed.
#![allow(clippy::print_stdout, reason = "tests tell what they did")]

pub mod fuzz;
pub mod headers;
pub mod metered;
