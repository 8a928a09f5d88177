//! What C calls. `include/coldframe.h` says what each does, what it may be given, and which threads may.
//!
//! C's pointers to handles are references and boxes here, which may be null where the type is an `Option`; both are pointers in
//! the platform's calling convention, and a null is an error before anything is done. That such a pointer came from this
//! library, and was not freed, is what the header asks of its callers, and nobody could check. No panic goes further than
//! [`told`], and nothing here unwinds into C.
#![expect(unsafe_code, reason = "what C points to can be read in no other way, and names are exported by it")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;

use crate::error::{Error, Failed, c_text};
use crate::handles::{Call, Function, Host};
use crate::invocation::Owned;
use crate::options;

/// `COLDFRAME_ABI`: one more with everything that is added to the header.
pub const ABI: u32 = 1;
/// The oldest header with which a program may have been built; the library's soname changes with it.
pub const OLDEST: u32 = 1;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version without NUL"),
};

/// A place where C wants a pointer written; it may hold anything before.
type Place<'a, T> = Option<&'a mut MaybeUninit<*mut T>>;
/// Null if all went well.
type Answer = Option<Box<Error>>;

/// Does something; what goes wrong, a panic included, is an error of C's.
fn told(work: impl FnOnce() -> Result<(), Failed>) -> Answer {
    api::contain(work).unwrap_or_else(|defect| Err(defect.into())).err().map(Box::from)
}

/// Lets go of something; a panic on the way has nobody to tell.
fn free<T>(handle: Option<Box<T>>) {
    let _ = api::contain(|| drop(handle));
}

fn there<'a, T>(what: &str, handle: Option<&'a T>) -> Result<&'a T, Failed> {
    handle.ok_or_else(|| Failed::misuse(format!("{what} is NULL")))
}

/// The place for a result, which is null until there is one.
fn place<'a, T>(what: &str, place: Place<'a, T>) -> Result<&'a mut *mut T, Failed> {
    let place = place.ok_or_else(|| Failed::misuse(format!("{what} is NULL: there is no place for the result")))?;
    Ok(place.write(std::ptr::null_mut()))
}

/// Reads a text that ends with a NUL.
///
/// # Safety
/// Unless it is null, `text` points to bytes with a NUL among them, which nobody changes while `'a` lasts.
unsafe fn text<'a>(what: &str, text: *const c_char) -> Result<&'a str, Failed> {
    if text.is_null() {
        return Err(Failed::misuse(format!("{what} is NULL")));
    }
    // SAFETY: it is not null, and the caller upholds the rest.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map_err(|e| Failed::misuse(format!("{what} is no UTF-8: {e}")))
}

/// The same for options, which may be left out.
///
/// # Safety
/// That of [`text`].
unsafe fn options_text<'a>(given: *const c_char) -> Result<&'a str, Failed> {
    // SAFETY: upheld by the caller.
    if given.is_null() { Ok("") } else { unsafe { text("options", given) } }
}

/// Reads bytes.
///
/// # Safety
/// Unless it is null, `data` points to `size` bytes, which nobody changes while `'a` lasts.
unsafe fn bytes<'a>(what: &str, data: *const c_void, size: usize) -> Result<&'a [u8], Failed> {
    if data.is_null() {
        return Err(Failed::misuse(format!("{what} is NULL")));
    }
    if isize::try_from(size).is_err() {
        return Err(Failed::misuse(format!("{what} cannot have {size} bytes")));
    }
    // SAFETY: it is not null, bytes need no alignment, the size fits an isize, and the caller upholds the rest.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), size) })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_version() -> *const c_char {
    VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_abi() -> u32 {
    ABI
}

/// # Safety
/// `given` is null or a text that ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_host_new(abi: u32, given: *const c_char, host: Place<'_, Host>) -> Answer {
    told(|| {
        let host = place("host", host)?;
        // SAFETY: upheld by the caller, until this returns.
        let options = unsafe { options_text(given) }?;
        *host = Box::into_raw(Box::new(Host::new(abi, options)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_host_prewarm(host: Option<&Host>, function: Option<&Function>, count: usize) -> Answer {
    told(|| Ok(there("host", host)?.0.prewarm(&there("function", function)?.inner, count)?))
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_host_news(host: Option<&Host>, news: Place<'_, c_char>) -> Answer {
    told(|| {
        let news = place("news", news)?;
        let told = there("host", host)?.0.news();
        let told: Vec<_> =
            told.iter().map(|news| serde_json::json!({"level": news.level.name(), "message": news.message})).collect();
        *news = c_text(&serde_json::json!(told).to_string()).into_raw();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_host_close(host: Option<&Host>) -> Answer {
    told(|| Ok(there("host", host)?.0.close()?))
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_host_free(host: Option<Box<Host>>) {
    free(host);
}

/// # Safety
/// `handler` and `code` are texts that end with a NUL, and so is `given`, or it is null.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_function_new(
    host: Option<&Host>,
    handler: *const c_char,
    code: *const c_char,
    given: *const c_char,
    function: Place<'_, Function>,
) -> Answer {
    told(|| {
        let function = place("function", function)?;
        // SAFETY: upheld by the caller, until this returns.
        let (handler, code) = unsafe { (text("handler", handler)?, text("code", code)?) };
        // SAFETY: the same.
        let options = unsafe { options_text(given) }?;
        *function = Box::into_raw(Box::new(there("host", host)?.function(handler, code, options)?));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_function_isolation(function: Option<&Function>) -> *const c_char {
    function.map_or(std::ptr::null(), |function| function.isolation.as_ptr())
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_function_close(function: Option<&Function>) -> Answer {
    told(|| {
        there("function", function)?.inner.close();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_function_free(function: Option<Box<Function>>) {
    free(function);
}

#[unsafe(no_mangle)]
#[expect(clippy::unnecessary_box_returns, reason = "it is a pointer for C")]
extern "C" fn coldframe_call_new() -> Box<Call> {
    Box::default()
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_call_set_timeout_s(call: Option<&Call>, timeout_s: f64) -> Answer {
    told(|| {
        there("call", call)?.settings().timeout = Some(api::timeout_from_secs(timeout_s)?);
        Ok(())
    })
}

/// # Safety
/// `json` points to `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_call_set_client_context(
    call: Option<&Call>,
    json: *const c_void,
    size: usize,
) -> Answer {
    told(|| {
        // SAFETY: upheld by the caller, until this returns.
        let json = unsafe { bytes("json", json, size) }?;
        there("call", call)?.settings().client_context = options::client_context(json)?;
        Ok(())
    })
}

/// # Safety
/// `trace_id` is a text that ends with a NUL.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_call_set_trace_id(call: Option<&Call>, trace_id: *const c_char) -> Answer {
    told(|| {
        // SAFETY: upheld by the caller, until this returns.
        let trace_id = unsafe { text("trace_id", trace_id) }?;
        trace_id.clone_into(&mut there("call", call)?.settings().trace_id);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_call_set_wait(call: Option<&Call>, wait: bool) -> Answer {
    told(|| {
        there("call", call)?.settings().wait = wait;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_call_cancel(call: Option<&Call>) -> Answer {
    told(|| {
        let ticket = there("call", call)?.settings().ticket.clone();
        ticket.cancel();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_call_free(call: Option<Box<Call>>) {
    free(call);
}

/// # Safety
/// `event` points to `size` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_invoke(
    function: Option<&Function>,
    event: *const c_void,
    size: usize,
    call: Option<&Call>,
    invocation: Place<'_, Owned>,
) -> Answer {
    told(|| {
        let invocation = place("invocation", invocation)?;
        // SAFETY: upheld by the caller, until this returns.
        let event = unsafe { bytes("event", event, size) }?;
        let call = call.map_or_else(api::Call::default, |call| call.settings().clone());
        let outcome = there("function", function)?.inner.call(event, &call)?;
        *invocation = Box::into_raw(Box::<Owned>::from(outcome));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_invocation_free(invocation: Option<Box<Owned>>) {
    free(invocation);
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_doctor(report: Place<'_, c_char>) -> Answer {
    told(|| {
        let report = place("report", report)?;
        let found: Vec<_> = api::doctor()?
            .into_iter()
            .map(|found| {
                serde_json::json!({
                    "protection": found.name,
                    "in_force": found.in_force,
                    "detail": found.detail,
                    "remedy": found.remedy,
                })
            })
            .collect();
        *report = c_text(&serde_json::json!(found).to_string()).into_raw();
        Ok(())
    })
}

/// # Safety
/// `text` is null or came from this library, and was not freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn coldframe_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: every text that is handed over was made by `CString::into_raw`, and the caller upholds the rest.
        drop(unsafe { CString::from_raw(text) });
    }
}

#[unsafe(no_mangle)]
extern "C" fn coldframe_error_free(error: Option<Box<Error>>) {
    free(error);
}
