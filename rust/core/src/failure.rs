//! Why an invocation failed, read off Lambda's error JSON.
//!
//! That comes from the environment and may be anything: what it lacks is filled in, what it has too much of is left alone.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::report::Kind;

/// How long the text of an error may be that is no JSON.
const LONGEST_TEXT: usize = 1000;

/// A failed invocation's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of end it was; never [`Kind::Ok`].
    pub kind: Kind,
    /// The name of the handler's own exception, or one of Lambda's, such as `Sandbox.Timedout`.
    pub error_type: String,
    /// What it says; may be empty.
    pub error_message: String,
    /// The frames of the handler's language, the innermost last; may be empty.
    pub stack_trace: Vec<String>,
}

impl Failure {
    /// The error of an invocation that ended like this, with this error JSON.
    pub fn read(kind: Kind, error: &[u8]) -> Self {
        let text = String::from_utf8_lossy(error);
        let mut parser = serde_json::Deserializer::from_str(&text);
        let read = parser.deserialize_map(Fields).and_then(|read| parser.end().map(|()| read));
        let (error_type, error_message, stack_trace) = read.unwrap_or_else(|_| {
            let said = text.chars().take(LONGEST_TEXT).collect();
            (String::new(), said, Vec::new())
        });
        let error_type = if error_type.is_empty() { "Runtime.Unknown".into() } else { error_type };
        // Inside an environment these are ordinary errors of the runtime; for the caller they are all about the payload.
        let kind = match error_type.as_str() {
            "Runtime.MarshalError" | "Runtime.UnmarshalError" | "Function.ResponseSizeTooLarge" => Kind::Payload,
            _ => kind,
        };
        Self { kind, error_type, error_message, stack_trace }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error_type)?;
        if self.error_message.is_empty() { Ok(()) } else { write!(f, ": {}", self.error_message) }
    }
}

impl std::error::Error for Failure {}

/// Reads type, message and stack trace, and takes nothing else into memory: a few bytes of JSON may be a hundred times as many
/// as values.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = (String, String, Vec<String>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error as an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut error_type, mut error_message, mut stack_trace) = Self::Value::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "errorType" => error_type = text(map.next_value()?).unwrap_or_default(),
                "errorMessage" => {
                    let value: &RawValue = map.next_value()?;
                    let empty = matches!(value.get(), "null" | "false" | "0" | "[]" | "{}");
                    error_message = text(value).unwrap_or_else(|| if empty { "" } else { value.get() }.to_owned());
                }
                "stackTrace" => {
                    let value: &RawValue = map.next_value()?;
                    let frames = serde_json::Deserializer::from_str(value.get()).deserialize_seq(Frames);
                    stack_trace = frames.unwrap_or_default();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((error_type, error_message, stack_trace))
    }
}

/// Reads the texts of a list.
struct Frames;

impl<'de> Visitor<'de> for Frames {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut frames = Vec::new();
        while let Some(frame) = list.next_element::<&RawValue>()? {
            frames.extend(text(frame));
        }
        Ok(frames)
    }
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_whatever_it_is() {
        let parts = |error: &str| {
            let Failure { error_type, error_message, stack_trace, .. } = Failure::read(Kind::Handler, error.as_bytes());
            (error_type, error_message, stack_trace.join("|"))
        };
        let told = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        let whole = r#"{"errorMessage": "n\u00fc", "errorType": "E", "requestId": [[]], "stackTrace": ["a", 1, "b"]}"#;
        assert_eq!(parts(whole), told("E", "nü", "a|b"));
        assert_eq!(parts(r#"{"errorType": 1, "errorMessage": {"a": 1}, "stackTrace": "x"}"#), {
            told("Runtime.Unknown", r#"{"a": 1}"#, "")
        });
        assert_eq!(parts(r#"{"errorType": "A", "errorType": "B", "errorMessage": null}"#), told("B", "", ""));
        for other in ["", "[]", "so\0me", r#"{"errorType": "E"} 2"#, r#"{"errorType": "E""#] {
            assert_eq!(parts(other), told("Runtime.Unknown", other, ""));
        }
        assert_eq!(Failure::read(Kind::Exit, b"\xff").error_message, "\u{fffd}");
    }

    #[test]
    fn an_error_of_the_payload_is_one_wherever_it_was_found() {
        let kind = |name: &str| Failure::read(Kind::Handler, format!(r#"{{"errorType":"{name}"}}"#).as_bytes()).kind;
        assert_eq!(kind("Runtime.MarshalError"), Kind::Payload);
        assert_eq!(kind("MarshalError"), Kind::Handler);
    }

    #[test]
    fn an_error_is_not_taken_into_memory_to_be_read() {
        let many = r#"{"":0},"#.repeat(300_000);
        let error = format!(r#"{{"errorType": "Mine", "stackTrace": [{many}0], "more": [{many}0]}}"#);
        let (failure, bytes) = coldframe_sys::testing::metered::peak(|| Failure::read(Kind::Handler, error.as_bytes()));
        assert_eq!(failure.error_type, "Mine");
        assert!(bytes < 1 << 10, "{bytes} bytes");
    }
}
