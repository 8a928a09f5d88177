//! The Extensions API, rule by rule.

use super::client::{Client, get, post, with};
use super::{Api, Event, ID, NEXT, News, event, event_next, forbidden, register, response};
use crate::api::{Extension, Shutdown};

const REGISTER: &str = "/2020-01-01/extension/register";
const INIT_ERROR: &str = "/2020-01-01/extension/init/error";
const EXIT_ERROR: &str = "/2020-01-01/extension/exit/error";
const UNKNOWN: &str = "8476a536-e9f4-11e8-9739-000000000000";

/// Asserts a refusal, by its type and message.
#[track_caller]
fn refuses(client: &mut Client, request: impl AsRef<[u8]>, error_type: &str, message: &str) {
    let (status, body) = forbidden(error_type, message);
    assert_eq!(client.ask(request).said(), (status, body.as_str()));
}

/// Asserts that a step is refused.
#[track_caller]
fn refuses_step(client: &mut Client, request: impl AsRef<[u8]>, from: &str, to: &str, who: &str) {
    let message = format!(
        "State transition from {from} to {to} failed for extension {who}. Error: State transition is not allowed"
    );
    refuses(client, request, "Extension.InvalidExtensionState", &message);
}

fn named(name: &str, body: &str) -> String {
    post(REGISTER, &[("Lambda-Extension-Name", name)], body)
}

fn failed(path: &str, id: &str) -> String {
    let headers = [("Lambda-Extension-Identifier", id), ("Lambda-Extension-Function-Error-Type", "Extension.Mine")];
    post(path, &headers, "{}")
}

#[test]
fn an_extension_registers_and_is_told_of_the_function() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    assert_eq!(api.session.registered(), []);
    let answer = client.ask(named("outer", r#"{"events":["INVOKE","SHUTDOWN"]}"#));
    let known = "{\"functionName\":\"function\",\"functionVersion\":\"$LATEST\",\"handler\":\"app.handler\"}\n";
    assert_eq!(answer.said(), (200, known));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("lambda-extension-identifier").map(str::len), Some(36));
    assert_eq!(api.news(), News::Registered);
    let events = vec!["INVOKE".into(), "SHUTDOWN".into()];
    assert_eq!(api.session.registered(), [Extension { name: "outer".into(), external: true, events }]);
}

#[test]
fn an_extension_that_accepts_it_is_told_of_the_account() {
    let api = Api::new(&[]);
    let headers = [("Lambda-Extension-Name", "inner"), ("Lambda-Extension-Accept-Feature", "other, accountId")];
    let answer = api.client().ask(post(REGISTER, &headers, "{}"));
    let known = "{\"accountId\":\"123456789012\",\"functionName\":\"function\",\"functionVersion\":\"$LATEST\",\
                 \"handler\":\"app.handler\"}\n";
    assert_eq!(answer.said(), (200, known));
    let expected = Extension { name: "inner".into(), external: false, events: Vec::new() };
    assert_eq!(api.session.registered(), [expected]);
}

#[test]
fn the_runtime_is_started_when_all_external_ones_have_registered() {
    let api = Api::new(&["one", "two"]);
    let mut client = api.client();
    register(&mut client, "one", "INVOKE");
    register(&mut client, "inner", "INVOKE");
    assert_eq!(api.session.news(), None);
    register(&mut client, "two", "INVOKE");
    assert_eq!(api.news(), News::Registered);
    assert_eq!(api.session.news(), None);
}

#[test]
fn a_registration_needs_a_name() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let (kind, message) = ("Extension.InvalidExtensionName", "Empty extension name");
    refuses(&mut client, post(REGISTER, &[], r#"{"events":["INVOKE"]}"#), kind, message);
    refuses(&mut client, named("", r#"{"events":["INVOKE"]}"#), kind, message);
    let message = "Extension name is longer than 1024 bytes";
    refuses(&mut client, named(&"x".repeat(1025), "{}"), kind, message);
}

#[test]
fn events_are_those_that_there_are() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    let kind = "Extension.InvalidEventType";
    refuses(&mut client, named("outer", r#"{"events":["BOOM"]}"#), kind, "BOOM: ErrorInvalidEventType");
    refuses(&mut client, named("inner", r#"{"events":["invoke"]}"#), kind, "invoke: ErrorInvalidEventType");
    // Parts of the runtime's process are not told of its end.
    let message = "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension";
    refuses(&mut client, named("inner", r#"{"events":["INVOKE","SHUTDOWN"]}"#), kind, message);
    // A refused one may try again.
    register(&mut client, "outer", "SHUTDOWN");
}

#[test]
fn a_registration_has_a_format() {
    let api = Api::new(&[]);
    let mut client = api.client();
    for body in ["", "{", "[]", "1", r#"{"events":"INVOKE"}"#, r#"{"events":[1]}"#, &"x".repeat(100_000)] {
        let answer = client.ask(named("inner", body));
        assert_eq!(answer.status, 403, "{body}");
        assert!(answer.said().1.ends_with("\"errorType\":\"InvalidRequestFormat\"}\n"), "{answer:?}");
    }
    let message = "configurationKeys are deprecated; use environment variables instead";
    let body = r#"{"events":["INVOKE"],"configurationKeys":["a"]}"#;
    refuses(&mut client, named("inner", body), "InvalidRequestFormat", message);
    assert_eq!(client.ask(named("inner", r#"{"events":[],"configurationKeys":[]}"#)).status, 200);
}

#[test]
fn a_name_registers_once() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    register(&mut client, "outer", "INVOKE");
    refuses_step(&mut client, named("outer", "{}"), "Registered", "Registered", "outer");
    register(&mut client, "inner", "INVOKE");
    let message = "Extension with this name already registered";
    refuses(&mut client, named("inner", "{}"), "Extension.InvalidExtensionState", message);
}

#[test]
fn there_are_ten_extensions_at_most() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    for number in 0..9 {
        register(&mut client, &format!("inner-{number}"), "INVOKE");
    }
    refuses(&mut client, named("inner-9", "{}"), "Extension.TooManyExtensions", "Extension limit (10) reached");
    register(&mut client, "outer", "INVOKE");
}

#[test]
fn nobody_registers_after_the_initialisation() {
    let api = Api::new(&[]);
    let _client = api.ready();
    let message = "Extension registration closed already";
    refuses(&mut api.client(), named("late", "{}"), "Extension.RegistrationClosed", message);
}

#[test]
fn whoever_asks_says_who_it_is() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let paths = [
        ("GET", "/2020-01-01/extension/event/next"),
        ("POST", INIT_ERROR),
        ("POST", EXIT_ERROR),
        ("PUT", "/2022-07-01/telemetry"),
    ];
    for (method, path) in paths {
        let missing = "Missing Lambda-Extension-Identifier header";
        refuses(&mut client, with(method, path, &[], "{}"), "Extension.MissingExtensionIdentifier", missing);
        for id in [
            "me",
            "8476a536-e9f4-11e8-9739-2dfe598c3fc",
            "8476a536ae9f4a11e8a9739a2dfe598c3fcd",
            "g476a536-e9f4-11e8-9739-2dfe598c3fcd",
        ] {
            let request = with(method, path, &[("Lambda-Extension-Identifier", id)], "{}");
            let invalid = "Invalid Lambda-Extension-Identifier";
            refuses(&mut client, request, "Extension.InvalidExtensionIdentifier", invalid);
        }
        let headers =
            [("Lambda-Extension-Identifier", UNKNOWN), ("Lambda-Extension-Function-Error-Type", "Extension.X")];
        let message = match path {
            INIT_ERROR | EXIT_ERROR => "Unknown Lambda-Extension-Identifier".to_owned(),
            _ => format!("Unknown extension {UNKNOWN}"),
        };
        refuses(&mut client, with(method, path, &headers, "{}"), "Extension.UnknownExtensionIdentifier", &message);
    }
}

#[test]
fn an_id_may_be_written_as_any_uuid() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    let forms = [id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}")];
    for form in forms {
        let request = post(INIT_ERROR, &[("Lambda-Extension-Identifier", &form)], "");
        refuses(&mut client, request, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found");
    }
}

#[test]
fn extensions_are_told_of_events_and_waited_for() {
    let api = Api::new(&["outer"]);
    let mut outer = api.client();
    let outer_id = register(&mut outer, "outer", "INVOKE");
    assert_eq!(api.news(), News::Registered);
    let mut inner = api.client();
    let inner_id = register(&mut inner, "inner", "INVOKE");
    let mut runtime = api.client();
    runtime.send(get(NEXT));
    outer.send(event_next(&outer_id));
    assert_eq!(api.session.news(), None);
    inner.send(event_next(&inner_id));
    assert_eq!(api.news(), News::Ready);
    for turn in ["1", "2"] {
        api.session.invoke(Event {
            request_id: turn.into(),
            arn: "arn:\"x\"".into(),
            trace_id: "Root=1".into(),
            ..event()
        });
        assert_eq!(runtime.answer().status, 200);
        let told = format!(
            "{{\"eventType\":\"INVOKE\",\"deadlineMs\":1700000000000,\"requestId\":\"{turn}\",\
             \"invokedFunctionArn\":\"arn:\\\"x\\\"\",\"tracing\":{{\"type\":\"X-Amzn-Trace-Id\",\"value\":\"Root=1\"}}}}"
        );
        for client in [&mut outer, &mut inner] {
            let answer = client.answer();
            assert_eq!(answer.said(), (200, told.as_str()));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("lambda-extension-event-identifier").map(str::len), Some(36));
        }
        // The response does not wait for them, the next event does.
        inner.send(event_next(&inner_id));
        assert_eq!(runtime.ask(post(&response(turn), &[], "1")).status, 202);
        assert_eq!(api.news(), News::Response { content_type: String::new(), body: "1".into() });
        runtime.send(get(NEXT));
        assert_eq!(api.news(), News::RuntimeDone);
        assert_eq!(api.session.news(), None);
        outer.send(event_next(&outer_id));
        assert_eq!(api.news(), News::Idle);
    }
}

#[test]
fn an_event_without_a_trace_says_nothing_of_it() {
    let api = Api::new(&[]);
    let mut inner = api.client();
    let id = register(&mut inner, "inner", "INVOKE");
    inner.send(event_next(&id));
    let _runtime = api.ready();
    api.session.invoke(event());
    let told = format!(
        "{{\"eventType\":\"INVOKE\",\"deadlineMs\":1700000000000,\"requestId\":\"{ID}\",\"invokedFunctionArn\":\"\"}}"
    );
    assert_eq!(inner.answer().said(), (200, told.as_str()));
}

#[test]
fn an_extension_that_takes_no_events_is_not_waited_for() {
    let api = Api::new(&["outer"]);
    let mut outer = api.client();
    let id = register(&mut outer, "outer", "SHUTDOWN");
    assert_eq!(api.news(), News::Registered);
    outer.send(event_next(&id));
    let mut runtime = api.running();
    assert_eq!(runtime.ask(post(&response(ID), &[], "1")).status, 202);
    runtime.send(get(NEXT));
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: "1".into() });
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn extensions_are_told_of_the_end() {
    let reasons = [(Shutdown::Spindown, "SPINDOWN"), (Shutdown::Timeout, "TIMEOUT"), (Shutdown::Failure, "FAILURE")];
    for (reason, name) in reasons {
        let api = Api::new(&["outer"]);
        let mut outer = api.client();
        let id = register(&mut outer, "outer", "SHUTDOWN");
        assert_eq!(api.news(), News::Registered);
        outer.send(event_next(&id));
        let _runtime = api.ready();
        api.session.shutdown(reason, 1_700_000_002_000);
        let answer = outer.answer();
        let told = format!("{{\"eventType\":\"SHUTDOWN\",\"deadlineMs\":1700000002000,\"shutdownReason\":\"{name}\"}}");
        assert_eq!(answer.said(), (200, told.as_str()));
        assert_eq!(answer.header("lambda-extension-event-identifier"), None);
        api.session.extension_ended("outer", "exit status 0");
        assert_eq!(api.session.news(), None);
    }
}

#[test]
fn an_extension_at_work_is_told_of_the_end_when_it_asks() {
    let api = Api::new(&["outer"]);
    let mut outer = api.client();
    let answer = outer.ask(named("outer", r#"{"events":["INVOKE","SHUTDOWN"]}"#));
    let id = answer.header("lambda-extension-identifier").expect("an id").to_owned();
    assert_eq!(api.news(), News::Registered);
    outer.send(event_next(&id));
    let _runtime = api.running();
    assert!(outer.answer().said().1.contains("INVOKE"));
    api.session.expire();
    api.session.shutdown(Shutdown::Timeout, 1);
    assert!(outer.ask(event_next(&id)).said().1.contains("SHUTDOWN"));
}

#[test]
fn who_waits_does_not_ask_again() {
    let api = Api::new(&[]);
    let mut inner = api.client();
    let id = register(&mut inner, "inner", "INVOKE");
    inner.send(event_next(&id));
    let _runtime = api.ready();
    refuses_step(&mut api.client(), event_next(&id), "Ready", "Ready", &id);
}

#[test]
fn an_extension_says_that_its_initialisation_failed() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    let id = register(&mut client, "outer", "INVOKE");
    assert_eq!(api.news(), News::Registered);
    assert_eq!(client.ask(failed(INIT_ERROR, &id)).said(), (202, "{\"status\":\"OK\"}\n"));
    let failure = News::ExtensionError { error_type: "Extension.InitError".into(), name: "outer".into() };
    assert_eq!(api.news(), failure);
    // It may say so again, but that is no news, and neither is its end.
    assert_eq!(client.ask(failed(INIT_ERROR, &id)).status, 202);
    api.session.extension_ended("outer", "exit status 1");
    assert_eq!(api.session.news(), None);
    refuses_step(&mut client, event_next(&id), "InitError", "Ready", &id);
    refuses_step(&mut client, failed(EXIT_ERROR, &id), "InitError", "Exited", &id);
}

#[test]
fn an_extension_says_that_it_is_going_to_exit() {
    let api = Api::new(&[]);
    let mut inner = api.client();
    let id = register(&mut inner, "inner", "INVOKE");
    inner.send(event_next(&id));
    let _runtime = api.running();
    assert_eq!(inner.answer().status, 200);
    refuses_step(&mut inner, failed(INIT_ERROR, &id), "Running", "InitError", &id);
    assert_eq!(inner.ask(failed(EXIT_ERROR, &id)).status, 202);
    let failure = News::ExtensionError { error_type: "Extension.ExitError".into(), name: "inner".into() };
    assert_eq!(api.news(), failure);
    assert_eq!(inner.ask(failed(EXIT_ERROR, &id)).status, 202);
    assert_eq!(api.session.news(), None);
}

#[test]
fn a_failure_needs_a_type() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    for path in [INIT_ERROR, EXIT_ERROR] {
        let request = post(path, &[("Lambda-Extension-Identifier", &id)], "{}");
        refuses(&mut client, request, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found");
    }
}

#[test]
fn an_extension_that_ends_by_itself_has_crashed() {
    let api = Api::new(&["outer", "other"]);
    for name in ["outer", "other"] {
        api.session.extension_ended(name, "signal: killed");
        api.session.extension_ended(name, "signal: killed");
        let failure = News::ExtensionError { error_type: "Extension.Crash".into(), name: name.into() };
        assert_eq!((api.news(), api.session.news()), (failure, None));
    }
}

#[test]
fn extensions_of_a_failed_initialisation_are_forgotten() {
    let api = Api::new(&["outer"]);
    let mut client = api.client();
    let old = register(&mut client, "outer", "INVOKE");
    assert_eq!(api.news(), News::Registered);
    client.send(event_next(&old));
    register(&mut api.client(), "inner", "INVOKE");
    api.session.start_init();
    // Whether it had begun to wait or not.
    assert_eq!(client.answer().status, 403);
    assert_eq!(api.session.registered(), []);
    let message = format!("Unknown extension {old}");
    refuses(&mut client, event_next(&old), "Extension.UnknownExtensionIdentifier", &message);
    let id = register(&mut client, "outer", "INVOKE");
    assert_eq!(api.news(), News::Registered);
    client.send(event_next(&id));
    let _runtime = api.ready();
}
