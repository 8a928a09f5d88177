//! Answers of the server: every one is small and complete.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

/// What goes back to a process inside.
pub type Answer = Response<Full<Bytes>>;

/// A JSON document, on a line of its own as Lambda sends it.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    with(status, "application/json", format!("{body}\n"))
}

/// A body of a type.
pub fn with(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// No body at all.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

/// What was posted has been taken.
pub fn accepted() -> Answer {
    with(StatusCode::ACCEPTED, "application/json", "{\"status\":\"OK\"}\n")
}

/// Why a request is refused: data, until it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub error_type: &'static str,
    pub message: String,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        json(refusal.status, &json!({ "errorMessage": refusal.message, "errorType": refusal.error_type }))
    }
}

/// A refusal with a status.
pub fn refusal(status: StatusCode, error_type: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, error_type, message: message.into() }
}

/// What a process in this state, or with this name, may not do.
pub fn forbidden(error_type: &'static str, message: impl Into<String>) -> Refusal {
    refusal(StatusCode::FORBIDDEN, error_type, message)
}

/// No such path.
pub fn not_found() -> Answer {
    with(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// The id is not that of the open invocation.
pub fn invalid_request_id() -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
}

/// The body ended too early, or was no HTTP.
pub fn truncated() -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

/// More than a body may have.
pub fn too_large(limit: u64) -> Refusal {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
}

/// Neither buffered nor streaming.
pub fn invalid_mode() -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "InvalidFunctionResponseMode", "Invalid function response mode")
}

/// The server itself is wrong.
pub fn internal() -> Refusal {
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error")
}

/// A header value that may come from a caller: what HTTP does not allow in one is a space, as Lambda has it.
pub fn header(value: &[u8]) -> HeaderValue {
    let fit = |b: &u8| if *b == b'\t' || (*b >= b' ' && *b != 0x7f) { *b } else { b' ' };
    let bytes: Vec<u8> = value.iter().map(fit).collect();
    HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static(""))
}
