//! coldframe for C, and for every language that can call C: `libcoldframe.so`, described by `include/coldframe.h`.
//!
//! The header is written by hand: it is the document that users of this library read, and holds what no generator would make
//! of Rust (a macro for options, when to free what). `tests/capi` compares it with the library: names, sizes and fields.
//!
//! Nothing here knows more than C does of what the crate `coldframe` can do. [`border`] is what C calls, and the only place with
//! `unsafe`: texts and bytes are read there. Handles are boxes that C holds, and arguments that may be null are `Option`s of
//! references, so that the compiler sees to the rest.
#![deny(unsafe_code)]
// What is exported is described in the header.
#![allow(missing_docs, clippy::doc_markdown)]

mod border;
mod error;
mod handles;
mod invocation;
mod options;
