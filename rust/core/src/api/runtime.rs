//! The Runtime API: what the process that runs the handler asks for and says.

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::answer::{self, Answer};
use super::body::{self, Body, Piece, Trouble, refuse};
use super::session::Shared;
use super::state::{self, Next, Posted, Runtime, Turn};
use super::{News, StreamError};

/// The header, and the trailer, with the type of an error.
const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// Bytes that it may have: it goes into reports.
const ERROR_TYPE_BYTES: usize = 256;
/// The trailer with the error's JSON, in base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";
/// The header with the way in which an answer comes.
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
/// An error that has its cause with it, which is not for the caller.
const WITH_CAUSE: &str = "application/vnd.aws.lambda.error.cause+json";

/// `GET /runtime/invocation/next`.
pub async fn next(shared: &Shared, request: Request<Incoming>) -> Answer {
    if let Err(refused) = body::none(request).await {
        return refused.into();
    }
    let next = shared.lock().next();
    let posted = match next {
        Ok(Next::Now(posted)) => Ok(posted),
        Ok(Next::Wait(turn)) => {
            let _waiting = Waiting { shared, turn };
            shared.wait(|state| state.take(turn)).await
        }
        Err(refused) => Err(refused),
    };
    posted.map_or_else(Answer::from, |posted| event(&posted))
}

/// A runtime that waits, for as long as its connection stands.
struct Waiting<'a> {
    shared: &'a Shared,
    turn: Turn,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // It may be the turn of another one now.
        self.shared.change(|state| state.leave(self.turn));
    }
}

/// An event for the runtime.
fn event(posted: &Posted) -> Answer {
    let event = &posted.event;
    let mut answer = Answer::new(posted.payload.clone().into());
    let headers = answer.headers_mut();
    let deadline = event.deadline_ms.to_string();
    let values: [(&'static str, &[u8]); 7] = [
        ("lambda-runtime-aws-request-id", event.request_id.as_bytes()),
        ("lambda-runtime-deadline-ms", deadline.as_bytes()),
        ("lambda-runtime-invoked-function-arn", event.arn.as_bytes()),
        ("lambda-runtime-trace-id", event.trace_id.as_bytes()),
        ("lambda-runtime-client-context", &event.client_context),
        ("lambda-runtime-cognito-identity", event.cognito_identity.as_bytes()),
        ("lambda-runtime-aws-tenant-id", event.tenant_id.as_bytes()),
    ];
    for (name, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
        headers.insert(HeaderName::from_static(name), answer::header(value));
    }
    let content_type = match event.content_type.as_bytes() {
        b"" => HeaderValue::from_static("application/json"),
        content_type => answer::header(content_type),
    };
    headers.insert(CONTENT_TYPE, content_type);
    answer
}

/// `POST /runtime/invocation/{id}/response`.
pub async fn response(shared: &Shared, id: &str, request: Request<Incoming>) -> Answer {
    let begun = shared.lock().begin(id, Runtime::InvocationResponse);
    if let Err(refused) = begun {
        return refuse(request, refused).await;
    }
    let content_type = text(request.headers(), CONTENT_TYPE.as_str());
    let mut posting = Posting { shared, id, cut_off: Some(truncated()) };
    match text(request.headers(), RESPONSE_MODE).as_str() {
        "" => {
            let mut body = Body::new(request);
            let limit = shared.about.max_response as u64;
            let read = body.read_for(shared, id, limit).await;
            let (news, trouble) = match read {
                Ok(body) => (News::Response { content_type, body }, None),
                Err(Trouble::TooLarge) => (News::TooLarge, Some(Trouble::TooLarge)),
                Err(trouble) => (truncated(), Some(trouble)),
            };
            let trouble = posting.end(news).err().or(trouble);
            finish(body, trouble, limit).await
        }
        "streaming" => stream(shared, posting, content_type, Body::new(request)).await,
        _ => {
            let late = posting.end(News::BadMode).map_err(|_| answer::invalid_request_id()).err();
            refuse(request, late.unwrap_or_else(answer::invalid_mode)).await
        }
    }
}

/// An answer that comes piece by piece, and is passed on so.
async fn stream(shared: &Shared, mut posting: Posting<'_>, content_type: String, mut body: Body) -> Answer {
    let (id, limit) = (posting.id, shared.about.max_stream);
    posting.cut_off = Some(state::cut_off());
    shared.lock().news.push_back(News::Stream { content_type });
    let (mut bytes, mut error, mut trouble) = (0, None, None);
    loop {
        match body.piece(shared, id).await {
            Ok(Some(Piece::Data(data))) => {
                bytes += data.len() as u64;
                if bytes > limit {
                    trouble = Some(Trouble::TooLarge);
                    break;
                }
                let mut chunk = Vec::from(data);
                if !chunk.is_empty() && !shared.wait(|state| state.chunk(id, &mut chunk)).await {
                    trouble = Some(Trouble::Over);
                    break;
                }
            }
            Ok(Some(Piece::Trailers(trailers))) => error = stream_error(&trailers),
            Ok(None) => break,
            Err(what) => {
                trouble = Some(what);
                break;
            }
        }
    }
    let ended = posting.end(match trouble {
        None => News::StreamEnd(error),
        Some(Trouble::TooLarge) => {
            let error_type = "Function.ResponseSizeTooLarge".into();
            News::StreamEnd(Some(StreamError { error_type, body: Vec::new() }))
        }
        Some(_) => state::cut_off(),
    });
    finish(body, ended.err().or(trouble), limit).await
}

/// What the trailers say went wrong.
fn stream_error(trailers: &HeaderMap) -> Option<StreamError> {
    let (error_type, body) = (text(trailers, ERROR_TYPE), trailers.get(ERROR_BODY));
    if error_type.is_empty() && body.is_none() {
        return None;
    }
    let body = body.map_or(&b""[..], HeaderValue::as_bytes);
    Some(StreamError { error_type, body: base64(body).unwrap_or_else(|| body.to_vec()) })
}

/// `POST /runtime/invocation/{id}/error`.
pub async fn error(shared: &Shared, id: &str, request: Request<Incoming>) -> Answer {
    let begun = shared.lock().begin(id, Runtime::InvocationErrorResponse);
    if let Err(refused) = begun {
        return refuse(request, refused).await;
    }
    let mut posting = Posting { shared, id, cut_off: Some(truncated()) };
    let error_type = accepted_type(&text(request.headers(), ERROR_TYPE));
    let content_type = text(request.headers(), CONTENT_TYPE.as_str());
    let limit = shared.about.max_response as u64;
    let mut body = Body::new(request);
    let read = body.read_for(shared, id, limit).await;
    let (news, trouble) = match read {
        Ok(body) => (News::Error { error_type, content_type, body }, None),
        Err(Trouble::TooLarge) => (News::TooLarge, Some(Trouble::TooLarge)),
        Err(trouble) => (truncated(), Some(trouble)),
    };
    let trouble = posting.end(news).err().or(trouble);
    finish(body, trouble, limit).await
}

/// `POST /runtime/init/error`.
pub async fn init_error(shared: &Shared, request: Request<Incoming>) -> Answer {
    let begun = shared.lock().init_error();
    if let Err(refused) = begun {
        return refuse(request, refused).await;
    }
    let error_type = accepted_type(&text(request.headers(), ERROR_TYPE));
    let limit = shared.about.max_response as u64;
    let mut body = Body::new(request);
    let read = body.read(limit).await;
    let trouble = read.as_ref().err().copied();
    let body_read = read.unwrap_or_default();
    shared.lock().news.push_back(News::InitError { error_type, body: body_read });
    finish(body, trouble, limit).await
}

/// What the runtime is told of its post, after everything of it has been read that is going to be.
async fn finish(body: Body, trouble: Option<Trouble>, limit: u64) -> Answer {
    let refusal = match trouble {
        None => return answer::accepted(),
        Some(Trouble::Truncated) => return answer::truncated().into(),
        Some(Trouble::TooLarge) => answer::too_large(limit),
        Some(Trouble::Over) => answer::invalid_request_id(),
    };
    body.drain().await;
    refusal.into()
}

/// An answer that is being posted. If it is given up on, with its connection, the caller hears of that.
struct Posting<'a> {
    shared: &'a Shared,
    id: &'a str,
    cut_off: Option<News>,
}

impl Posting<'_> {
    /// It is complete, unless nobody waits for it any more.
    fn end(&mut self, news: News) -> Result<(), Trouble> {
        self.cut_off = None;
        if self.shared.lock().answered(self.id, news) { Ok(()) } else { Err(Trouble::Over) }
    }
}

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        if let Some(news) = self.cut_off.take() {
            self.shared.lock().answered(self.id, news);
        }
    }
}

/// What the caller is told of an answer of which the end did not come.
fn truncated() -> News {
    let error_type = "Runtime.TruncatedResponse";
    let body = json!({ "errorMessage": "HTTP request detected as truncated", "errorType": error_type });
    News::Error {
        error_type: error_type.into(),
        content_type: "application/json".into(),
        body: body.to_string().into_bytes(),
    }
}

/// What is passed on of an error with a cause.
#[derive(Deserialize, Serialize)]
struct Caused<'a> {
    #[serde(borrow, rename = "errorMessage", skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(borrow, rename = "errorType", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, rename = "stackTrace", skip_serializing_if = "Option::is_none")]
    stack_trace: Option<&'a RawValue>,
}

/// An error without its cause, if it came with one.
pub fn without_cause(news: News) -> News {
    let News::Error { error_type, content_type, body } = news else { return news };
    if content_type != WITH_CAUSE {
        return News::Error { error_type, content_type, body };
    }
    // As text: what an environment writes into a few bytes may take a hundred times as many as values.
    let error = serde_json::from_slice::<Caused<'_>>(&body).ok().and_then(|error| serde_json::to_string(&error).ok());
    let (content_type, body) = match error {
        Some(error) => ("application/json", error),
        None => ("application/octet-stream", "\"Invalid error body\"".to_owned()),
    };
    News::Error { error_type, content_type: content_type.into(), body: body.into_bytes() }
}

/// A header, as text; empty if there is none.
pub fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The type of an error for reports: what has `Runtime.` or `Function.` with a name after it anywhere in it is taken as it is,
/// unless it would break the line of a report.
fn accepted_type(error_type: &str) -> String {
    let named = |prefix: &str| {
        error_type.match_indices(prefix).any(|(at, _)| {
            let name = &error_type.as_bytes()[at + prefix.len()..];
            name.len() >= 2 && name[0].is_ascii_uppercase() && name[1].is_ascii_alphabetic()
        })
    };
    let fits = error_type.len() <= ERROR_TYPE_BYTES && !error_type.chars().any(char::is_control);
    if fits && (named("Runtime.") || named("Function.")) {
        error_type.to_owned()
    } else if error_type.starts_with("Function.") {
        "Function.Unknown".to_owned()
    } else {
        "Runtime.Unknown".to_owned()
    }
}

/// Bytes that are written in base64, with or without the padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    let mut bytes = Vec::with_capacity(end / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in &text[..end] {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_accepted_by_lambdas_rule() {
        let rule = [
            ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
            ("Function.MyError", "Function.MyError"),
            ("xxRuntime.Foo", "xxRuntime.Foo"),
            ("Runtime.x Function.Ab", "Runtime.x Function.Ab"),
            ("Function.Ab\tStatus: success", "Function.Unknown"),
            ("Runtime.F", "Runtime.Unknown"),
            ("Runtime.foo", "Runtime.Unknown"),
            ("Function.foo", "Function.Unknown"),
            ("Function.", "Function.Unknown"),
            ("Exception", "Runtime.Unknown"),
            ("", "Runtime.Unknown"),
        ];
        for (given, taken) in rule {
            assert_eq!(accepted_type(given), taken, "{given}");
        }
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")] {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64(b"Zg=v"), None);
        assert_eq!(base64(b"{\"a\"}"), None);
    }
}
