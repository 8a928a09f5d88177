//! What C holds while it uses the library: a host, a function, and what goes with a call.

use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Failed, c_text};
use crate::options;

/// `coldframe_host`
pub struct Host(pub api::Host);

/// `coldframe_function`
pub struct Function {
    pub inner: api::Function,
    /// Every protection and what is in force, as a JSON object.
    pub isolation: CString,
}

/// `coldframe_call`
#[derive(Default)]
pub struct Call(Mutex<api::Call>);

impl Host {
    pub fn new(abi: u32, options: &str) -> Result<Self, Failed> {
        use crate::border::{ABI, OLDEST};
        if !(OLDEST..=ABI).contains(&abi) {
            return Err(Failed::misuse(format!(
                "this program was built with a coldframe.h of ABI {abi}, and the library {} has {ABI} and takes {OLDEST} to \
                 {ABI}; build it with the header that came with the library",
                env!("CARGO_PKG_VERSION")
            )));
        }
        Ok(Self(api::Host::new(options::host(options)?)?))
    }

    pub fn function(&self, handler: &str, code: &str, options: &str) -> Result<Function, Failed> {
        let (runtime, spec) = options::function(handler, code, options)?;
        let inner = self.0.function(&runtime, spec)?;
        let isolation = c_text(&serde_json::json!(inner.isolation()).to_string());
        Ok(Function { inner, isolation })
    }
}

impl Call {
    /// Its settings. They are as whoever set them last left them, also if that was in the middle of a panic.
    pub fn settings(&self) -> MutexGuard<'_, api::Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
