//! What happens when coldframe itself is wrong: a panic goes no further than the thread or the call in which it came up, and
//! becomes an error that says whose fault it is.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};

/// Does something; a panic in it is an error.
///
/// What the panic left half done is not looked at again: every lock of this crate outlives one, permits and deadlines are
/// given back on the way out, and a host whose own threads panic is ended (`Core::fail`).
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Error::Defect(said(&*panic).to_owned()))
}

/// What a panic has to say.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_whose_fault_it_is() {
        assert_eq!(contain(|| 7).expect("no panic"), 7);
        let number = 7;
        for panic in [contain(|| panic!("seven")), contain(|| panic!("{number}"))] {
            let text = panic.expect_err("a panic").to_string();
            assert!(text.contains("defect of coldframe") && (text.contains("seven") || text.contains('7')), "{text}");
        }
    }
}
