//! Which path is answered by what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::answer::{self, Answer};
use super::session::Shared;
use super::{body, extension, runtime, telemetry};

/// Answers a request.
pub async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let Some((method, target)) = find(&path) else {
        return body::refuse(request, answer::not_found()).await;
    };
    if request.method() != method {
        return body::refuse(request, answer::empty(StatusCode::METHOD_NOT_ALLOWED)).await;
    }
    match target {
        Target::Ping => answer::with(StatusCode::OK, "text/plain; charset=utf-8", "pong"),
        Target::Next => runtime::next(shared, request).await,
        Target::Response(id) => runtime::response(shared, id, request).await,
        Target::Error(id) => runtime::error(shared, id, request).await,
        Target::InitError => runtime::init_error(shared, request).await,
        Target::Register => extension::register(shared, request).await,
        Target::EventNext => extension::next(shared, request).await,
        Target::ExtensionInitError => extension::failed(shared, request, extension::Failed::Init).await,
        Target::ExtensionExitError => extension::failed(shared, request, extension::Failed::Exit).await,
        Target::Subscribe(api) => telemetry::subscribe(shared, request, api).await,
    }
}

/// What there is.
enum Target<'a> {
    Ping,
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
    Register,
    EventNext,
    ExtensionInitError,
    ExtensionExitError,
    Subscribe(telemetry::Api),
}

fn find(path: &str) -> Option<(Method, Target<'_>)> {
    let (version, path) = path.strip_prefix('/')?.split_once('/')?;
    let found = match (version, path) {
        ("2018-06-01", "ping") => (Method::GET, Target::Ping),
        ("2018-06-01", "runtime/invocation/next") => (Method::GET, Target::Next),
        ("2018-06-01", "runtime/init/error") => (Method::POST, Target::InitError),
        ("2018-06-01", path) => {
            let (id, verb) = path.strip_prefix("runtime/invocation/")?.split_once('/')?;
            match (id, verb) {
                ("", _) => return None,
                (id, "response") => (Method::POST, Target::Response(id)),
                (id, "error") => (Method::POST, Target::Error(id)),
                _ => return None,
            }
        }
        ("2020-01-01", "extension/register") => (Method::POST, Target::Register),
        ("2020-01-01", "extension/event/next") => (Method::GET, Target::EventNext),
        ("2020-01-01", "extension/init/error") => (Method::POST, Target::ExtensionInitError),
        ("2020-01-01", "extension/exit/error") => (Method::POST, Target::ExtensionExitError),
        ("2020-08-15", "logs") => (Method::PUT, Target::Subscribe(telemetry::Api::Logs)),
        ("2022-07-01", "telemetry") => (Method::PUT, Target::Subscribe(telemetry::Api::Telemetry)),
        _ => return None,
    };
    Some(found)
}
