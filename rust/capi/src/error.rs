//! What C is told when something cannot be done.

use std::ffi::{CString, c_char, c_int};

use api::Error as Core;

/// The codes of `coldframe.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    Configuration = 1,
    HostCapability = 2,
    Throttled = 3,
    Payload = 4,
    Cancelled = 5,
    Closed = 6,
    System = 7,
    Defect = 8,
    Misuse = 9,
    Initialisation = 10,
}

/// Why a call has failed, as the rest of this crate has it.
#[derive(Debug)]
pub struct Failed(pub Code, pub String);

impl Failed {
    /// The caller has passed what it must not.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self(Code::Misuse, message.into())
    }

    pub fn configuration(message: impl Into<String>) -> Self {
        Self(Code::Configuration, message.into())
    }
}

impl From<Core> for Failed {
    fn from(error: Core) -> Self {
        let code = match &error {
            Core::Configuration(_) => Code::Configuration,
            Core::HostCapability(_) => Code::HostCapability,
            Core::Throttled(_) => Code::Throttled,
            Core::Payload(_) => Code::Payload,
            Core::Cancelled => Code::Cancelled,
            Core::Closed(_) => Code::Closed,
            Core::Initialisation { .. } => Code::Initialisation,
            Core::Defect(_) => Code::Defect,
            _ => Code::System,
        };
        Self(code, error.to_string())
    }
}

/// `coldframe_error`: what C sees, and what owns it. Fields are only ever added, and before `message_owner`.
#[repr(C)]
pub struct Error {
    code: c_int,
    message: *const c_char,
    _owner: CString,
}

impl From<Failed> for Box<Error> {
    fn from(Failed(code, message): Failed) -> Self {
        let owner = c_text(&message);
        Box::new(Error { code: code as c_int, message: owner.as_ptr(), _owner: owner })
    }
}

/// A text for C, in which no NUL can be.
pub fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}
