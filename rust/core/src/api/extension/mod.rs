//! The Extensions API: what extensions, processes of their own or parts of the runtime's, ask for and say.

pub mod agent;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};

use self::agent::{Agent, Kind, Stage, Told};
use super::answer::{self, Answer, Refusal};
use super::body::{self, Body, Trouble, refuse};
use super::runtime::text;
use super::session::Shared;
use super::state::State;
use super::{Extension, News, Shutdown};
use crate::random;

/// How many there may be, external and internal ones together.
const LIMIT: usize = 10;
/// Bytes of a registration.
const REGISTRATION: u64 = 64 << 10;
/// Bytes of a name.
const NAME: usize = 1024;
/// The headers that say who asks, and what went wrong.
const IDENTIFIER: &str = "lambda-extension-identifier";
const ERROR_TYPE: &str = "lambda-extension-function-error-type";

/// When an extension has failed.
#[derive(Clone, Copy, Debug)]
pub enum Failed {
    Init,
    Exit,
}

/// `POST /extension/register`.
pub async fn register(shared: &Shared, request: Request<Incoming>) -> Answer {
    let name = text(request.headers(), "lambda-extension-name");
    let features = text(request.headers(), "lambda-extension-accept-feature");
    if name.is_empty() {
        return refuse(request, answer::forbidden("Extension.InvalidExtensionName", "Empty extension name")).await;
    }
    if name.len() > NAME {
        let message = format!("Extension name is longer than {NAME} bytes");
        return refuse(request, answer::forbidden("Extension.InvalidExtensionName", message)).await;
    }
    let mut body = Body::new(request);
    let events = match body.read(REGISTRATION).await {
        Ok(body) => wanted(&body),
        Err(Trouble::Truncated) => Err("unexpected EOF".to_owned()),
        Err(_) => {
            body.drain().await;
            Err(format!("the request has more than {REGISTRATION} bytes"))
        }
    };
    let events = match events {
        Ok(events) => events,
        Err(message) => return answer::forbidden("InvalidRequestFormat", message).into(),
    };
    let registered = shared.change(|state| state.register(&name, &events));
    match registered {
        Ok(id) => {
            let about = &shared.about;
            let mut known = json!({
                "functionName": about.function_name,
                "functionVersion": about.function_version,
                "handler": about.handler,
            });
            if features.split(',').any(|feature| feature.trim() == "accountId") && !about.account_id.is_empty() {
                known["accountId"] = json!(about.account_id);
            }
            let mut answer = answer::json(StatusCode::OK, &known);
            answer.headers_mut().insert(HeaderName::from_static(IDENTIFIER), answer::header(id.as_bytes()));
            answer
        }
        Err(refused) => refused.into(),
    }
}

/// The events of a registration.
fn wanted(body: &[u8]) -> Result<Vec<String>, String> {
    let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let strings = |key: &str| match &body[key] {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => {
            all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().ok_or(())
        }
        _ => Err(()),
    };
    if !body.is_object() {
        return Err("the request is not a JSON object".to_owned());
    }
    if !strings("configurationKeys").map_err(|()| "configurationKeys is not a list of strings")?.is_empty() {
        return Err("configurationKeys are deprecated; use environment variables instead".to_owned());
    }
    strings("events").map_err(|()| "events is not a list of strings".to_owned())
}

/// `GET /extension/event/next`.
pub async fn next(shared: &Shared, request: Request<Incoming>) -> Answer {
    let id = match identifier(request.headers()) {
        Ok(id) => id,
        Err(refused) => return refuse(request, refused).await,
    };
    if let Err(refused) = body::none(request).await {
        return refused.into();
    }
    let asked = shared.lock().agent_asks(&id);
    let generation = match asked {
        Ok(generation) => generation,
        Err(refused) => return refused.into(),
    };
    let told = shared.wait(|state| state.agent_told(generation, &id)).await;
    let (told, event) = match told {
        Ok(Told::Invoke(told)) => (told, true),
        Ok(Told::Shutdown(told)) => (told, false),
        Err(refused) => return refused.into(),
    };
    let mut answer = Answer::new(Full::from(told));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if event {
        let id = answer::header(random::uuid_and_number().0.as_bytes());
        answer.headers_mut().insert(HeaderName::from_static("lambda-extension-event-identifier"), id);
    }
    answer
}

/// `POST /extension/init/error` and `POST /extension/exit/error`.
pub async fn failed(shared: &Shared, request: Request<Incoming>, when: Failed) -> Answer {
    let failed = identifier(request.headers()).and_then(|id| match text(request.headers(), ERROR_TYPE) {
        error_type if error_type.is_empty() => {
            Err(answer::forbidden("Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"))
        }
        error_type => shared.change(|state| state.agent_failed(&id, when, error_type)),
    });
    let answer = failed.map_or_else(Answer::from, |()| answer::accepted());
    refuse(request, answer).await
}

/// Who asks, as an id that could be one.
pub fn identifier(headers: &HeaderMap) -> Result<String, Refusal> {
    let given = text(headers, IDENTIFIER);
    if given.is_empty() {
        let message = "Missing Lambda-Extension-Identifier header";
        return Err(answer::forbidden("Extension.MissingExtensionIdentifier", message));
    }
    uuid(&given)
        .ok_or_else(|| answer::forbidden("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"))
}

/// A UUID as it is usually written, of any of the forms in which it may be.
fn uuid(given: &str) -> Option<String> {
    let given = given.to_ascii_lowercase();
    let given = given.strip_prefix("urn:uuid:").unwrap_or(&given);
    let given = given.strip_prefix('{').and_then(|given| given.strip_suffix('}')).unwrap_or(given);
    let dashed = given.len() == 36 && [8, 13, 18, 23].iter().all(|at| given.as_bytes()[*at] == b'-');
    let digits: String = if dashed { given.split('-').collect() } else { given.to_owned() };
    let valid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

impl State {
    /// An extension registers, and is told its id.
    fn register(&mut self, name: &str, events: &[String]) -> Result<String, Refusal> {
        let external = self.agents.iter().position(|agent| agent.external && agent.name == name);
        let mut kinds = Vec::new();
        for event in events {
            let kind = match event.as_str() {
                "INVOKE" => Ok(Kind::Invoke),
                "SHUTDOWN" if external.is_some() => Ok(Kind::Shutdown),
                "SHUTDOWN" => Err("ShutdownEventNotSupportedForInternalExtension"),
                _ => Err("ErrorInvalidEventType"),
            };
            let kind =
                kind.map_err(|e| answer::forbidden("Extension.InvalidEventType", format!("{}: {e}", short(event))))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if let Some(external) = external {
            let agent = &mut self.agents[external];
            agent.register(kinds)?;
            let id = agent.id.clone();
            self.registered();
            return Ok(id);
        }
        if !self.registration_open() {
            let message = "Extension registration closed already";
            return Err(answer::forbidden("Extension.RegistrationClosed", message));
        }
        if self.agents.len() >= LIMIT {
            let message = format!("Extension limit ({LIMIT}) reached");
            return Err(answer::forbidden("Extension.TooManyExtensions", message));
        }
        if self.agents.iter().any(|agent| agent.name == name) {
            let message = "Extension with this name already registered";
            return Err(answer::forbidden("Extension.InvalidExtensionState", message));
        }
        let mut agent = Agent::internal(name);
        agent.register(kinds)?;
        let id = agent.id.clone();
        self.agents.push(agent);
        Ok(id)
    }

    /// An extension with the id, if it has registered.
    pub fn agent(&mut self, id: &str) -> Option<&mut Agent> {
        self.agents.iter_mut().find(|agent| agent.id == id && agent.has_registered())
    }

    fn agent_asks(&mut self, id: &str) -> Result<u64, Refusal> {
        let unknown = || answer::forbidden("Extension.UnknownExtensionIdentifier", format!("Unknown extension {id}"));
        self.agent(id).ok_or_else(unknown)?.next()?;
        self.settle();
        Ok(self.generation)
    }

    fn agent_told(&mut self, generation: u64, id: &str) -> Option<Result<Told, Refusal>> {
        let gone = || answer::forbidden("Extension.InvalidExtensionState", "Concurrent state modification");
        if generation != self.generation {
            return Some(Err(gone()));
        }
        match self.agent(id) {
            Some(agent) if matches!(agent.stage, Stage::Ready) => agent.take().map(Ok),
            _ => Some(Err(gone())),
        }
    }

    fn agent_failed(&mut self, id: &str, when: Failed, error_type: String) -> Result<(), Refusal> {
        let unknown =
            || answer::forbidden("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier");
        let (stage, failed) = match when {
            Failed::Init => (Stage::InitError, "Extension.InitError"),
            Failed::Exit => (Stage::ExitError, "Extension.ExitError"),
        };
        let agent = self.agent(id).ok_or_else(unknown)?;
        if agent.failed(stage, error_type)? {
            let news = News::ExtensionError { error_type: failed.to_owned(), name: agent.name.clone() };
            self.news.push_back(news);
        }
        Ok(())
    }

    /// The process of an external extension has ended.
    pub fn extension_ended(&mut self, name: &str, _how: &str) {
        let agent = self.agents.iter_mut().find(|agent| agent.external && agent.name == name);
        if agent.is_some_and(Agent::ended) && self.shutdown.is_none() {
            self.news.push_back(News::ExtensionError { error_type: "Extension.Crash".into(), name: name.to_owned() });
        }
    }

    /// The environment is going to end.
    pub fn shut_down(&mut self, reason: Shutdown, deadline_ms: u64) {
        self.shutdown = Some((reason, deadline_ms));
        for agent in &mut self.agents {
            agent.shut_down(reason, deadline_ms);
        }
        self.telemetry.flush();
    }

    /// Those that have registered.
    pub fn extensions(&self) -> Vec<Extension> {
        self.agents.iter().filter(|agent| agent.has_registered()).map(Agent::described).collect()
    }
}

/// A text of others, in a message.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
