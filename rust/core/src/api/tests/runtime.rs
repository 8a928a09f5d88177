//! The Runtime API, rule by rule.

use super::client::{Client, chunk, chunked, get, post, with};
use super::{ACCEPTED, Api, Event, ID, NEXT, News, TOO_LARGE, done, error, event, forbidden, response};
use crate::api::state::Runtime;

const OTHER: &str = "00000000-e9f4-11e8-9739-2dfe598c3fcd";
const INVALID_ID: (u16, &str) = (400, "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}\n");
const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";

/// What the runtime is told of a step that it may not take.
fn refused(from: &str, to: &str) -> (u16, String) {
    let message =
        format!("State transition from {from} to {to} failed for runtime. Error: State transition is not allowed");
    forbidden("InvalidStateTransition", &message)
}

#[test]
fn an_event_is_answered_and_the_next_one_asked_for() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    for turn in ["1", "2", "3"] {
        api.session.invoke(Event { request_id: turn.into(), payload: turn.into(), ..event() });
        assert_eq!(client.answer().said(), (200, turn));
        assert_eq!(client.ask(post(&response(turn), &[], turn)).said(), ACCEPTED);
        assert_eq!(api.news(), done(turn));
        client.send(get(NEXT));
        assert_eq!(api.news(), News::RuntimeDone);
        assert_eq!(api.news(), News::Idle);
        assert_eq!(api.session.news(), None);
    }
}

#[test]
fn the_event_says_all_that_is_known_of_it() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    api.session.invoke(Event {
        arn: "arn:aws:lambda:us-east-1:123456789012:function:function:live".into(),
        trace_id: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1".into(),
        client_context: "{\"custom\":\n{\"k\":\"\u{fc}\"}}".into(),
        cognito_identity: r#"{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}"#.into(),
        payload: vec![0, 255, b'\r', b'\n', 128],
        content_type: "application/octet-stream".into(),
        ..event()
    });
    let next = client.answer();
    assert_eq!((next.status, next.body.as_slice()), (200, &[0, 255, b'\r', b'\n', 128][..]));
    let headers = [
        ("lambda-runtime-aws-request-id", ID),
        ("lambda-runtime-deadline-ms", "1700000000000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:function:live"),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1"),
        ("lambda-runtime-client-context", "{\"custom\": {\"k\":\"\u{fc}\"}}"),
        ("lambda-runtime-cognito-identity", r#"{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}"#),
        ("content-type", "application/octet-stream"),
    ];
    for (name, value) in headers {
        assert_eq!(next.header(name), Some(value), "{name}");
    }
}

#[test]
fn headers_without_a_value_are_left_out() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    api.session.invoke(event());
    let next = client.answer();
    let mut names: Vec<&str> = next.headers.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected =
        ["content-length", "content-type", "date", "lambda-runtime-aws-request-id", "lambda-runtime-deadline-ms"];
    assert_eq!(names, expected);
    assert_eq!(next.header("content-type"), Some("application/json"));
}

#[test]
fn a_runtime_that_asks_again_gets_the_same_event() {
    let api = Api::new(&[]);
    let mut client = api.running();
    for _ in 0..2 {
        let again = client.ask(get(NEXT));
        assert_eq!((again.said(), again.header("lambda-runtime-aws-request-id")), ((200, "{}"), Some(ID)));
    }
    assert_eq!(api.client().ask(get(NEXT)).said(), (200, "{}"));
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
}

#[test]
fn an_event_goes_to_one_of_those_who_wait() {
    let api = Api::new(&[]);
    let mut both = [api.ready(), api.client()];
    both[1].send(get(NEXT));
    // Who came later is heard later.
    for _ in 0..2 {
        assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
    }
    for turn in ["1", "2", "3"] {
        api.session.invoke(Event { request_id: turn.into(), ..event() });
        let heard = Client::first_to_hear(&both);
        assert_eq!(both[heard].answer().header("lambda-runtime-aws-request-id"), Some(turn));
        assert_eq!(both[heard].ask(post(&response(turn), &[], "1")).said(), ACCEPTED);
        both[heard].send(get(NEXT));
        assert_eq!((api.news(), api.news(), api.news()), (done("1"), News::RuntimeDone, News::Idle));
        assert!(!both[1 - heard].has_heard());
    }
}

#[test]
fn an_id_that_is_not_the_open_one_is_invalid() {
    let api = Api::new(&[]);
    let mut client = api.client();
    for path in [response(ID), error(ID)] {
        assert_eq!(client.ask(post(&path, &[], "{}")).said(), INVALID_ID);
    }
    let mut client = api.running();
    for path in [response(OTHER), error(OTHER), response("nonsense"), response(&ID.to_uppercase())] {
        assert_eq!(client.ask(post(&path, &[], "{}")).said(), INVALID_ID);
    }
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news(), api.news()), (done("1"), News::RuntimeDone, News::Idle));
    // The same id, after the invocation was closed.
    for path in [response(ID), error(ID)] {
        assert_eq!(api.client().ask(post(&path, &[], "{}")).said(), INVALID_ID);
    }
}

#[test]
fn an_answer_is_taken_once() {
    let api = Api::new(&[]);
    let mut client = api.running();
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
    let again = client.ask(post(&response(ID), &[], "2"));
    let (status, body) = refused("RuntimeResponseSentState", "InvocationResponse");
    assert_eq!(again.said(), (status, body.as_str()));
    let again = client.ask(post(&error(ID), &[], "{}"));
    let (status, body) = refused("RuntimeResponseSentState", "InvocationErrorResponse");
    assert_eq!(again.said(), (status, body.as_str()));
    assert_eq!((api.news(), api.session.news()), (done("1"), None));
}

#[test]
fn an_answer_before_next_is_refused() {
    let api = Api::new(&[]);
    // It asked, went away, and has not come back for what there is.
    assert!(api.session.shared().lock().next().is_ok());
    assert_eq!(api.news(), News::Ready);
    api.session.invoke(event());
    for (path, to) in [(response(ID), "InvocationResponse"), (error(ID), "InvocationErrorResponse")] {
        let (status, body) = refused("Ready", to);
        assert_eq!(api.client().ask(post(&path, &[], "1")).said(), (status, body.as_str()));
    }
    let mut client = api.client();
    assert_eq!(client.ask(get(NEXT)).status, 200);
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
}

#[test]
fn an_answer_after_next_is_refused_while_an_extension_works() {
    let api = Api::new(&[]);
    let mut extension = api.client();
    let id = super::register(&mut extension, "inner", "INVOKE");
    extension.send(super::event_next(&id));
    let mut client = api.ready();
    api.session.invoke(event());
    assert_eq!((client.answer().status, extension.answer().status), (200, 200));
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (done("1"), News::RuntimeDone));
    // Exactly Lambda's words for it.
    let late = api.client().ask(post(&response(ID), &[], "2"));
    assert_eq!(
        late.said(),
        (
            403,
            "{\"errorMessage\":\"State transition from Ready to InvocationResponse failed for runtime. \
             Error: State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}\n"
        )
    );
    assert_eq!(late.header("content-type"), Some("application/json"));
    extension.send(super::event_next(&id));
    assert_eq!(api.news(), News::Idle);
}

#[test]
fn an_answer_in_no_known_mode_is_refused() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let answer = client.ask(post(&response(ID), &[("Lambda-Runtime-Function-Response-Mode", "Streaming")], "1"));
    let said = "{\"errorMessage\":\"Invalid function response mode\",\"errorType\":\"InvalidFunctionResponseMode\"}\n";
    assert_eq!(answer.said(), (400, said));
    assert_eq!((api.news(), api.session.news()), (News::BadMode, None));
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn an_error_is_passed_on_as_it_came() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let headers =
        [("Lambda-Runtime-Function-Error-Type", "Runtime.Boom"), ("Content-Type", "application/vnd.any+json")];
    assert_eq!(client.ask(post(&error(ID), &headers, "no JSON: \u{1f600}")).said(), ACCEPTED);
    let (error_type, content_type) = ("Runtime.Boom".into(), "application/vnd.any+json".into());
    assert_eq!(api.news(), News::Error { error_type, content_type, body: "no JSON: \u{1f600}".into() });
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn an_error_without_a_type_is_of_an_unknown_one() {
    let api = Api::new(&[]);
    let mut client = api.running();
    assert_eq!(client.ask(post(&error(ID), &[], "{}")).said(), ACCEPTED);
    let (error_type, content_type) = ("Runtime.Unknown".into(), String::new());
    assert_eq!(api.news(), News::Error { error_type, content_type, body: "{}".into() });
}

#[test]
fn the_cause_of_an_error_is_not_for_the_caller() {
    let cases = [
        (
            r#"{"errorMessage":"m","errorType":"t","stackTrace":["a"],"errorCause":{"paths":[]},"more":1}"#,
            "application/json",
            r#"{"errorMessage":"m","errorType":"t","stackTrace":["a"]}"#,
        ),
        ("{", "application/octet-stream", "\"Invalid error body\""),
    ];
    for (sent, content_type, heard) in cases {
        let api = Api::new(&[]);
        let mut client = api.running();
        let cause = [("Content-Type", "application/vnd.aws.lambda.error.cause+json")];
        assert_eq!(client.ask(post(&error(ID), &cause, sent)).said(), ACCEPTED);
        let (error_type, content_type) = ("Runtime.Unknown".into(), content_type.into());
        assert_eq!(api.news(), News::Error { error_type, content_type, body: heard.into() });
    }
}

#[test]
fn an_error_that_is_too_large_is_refused() {
    let api = Api::new(&[]);
    let mut client = api.running();
    assert_eq!(client.ask(post(&error(ID), &[], &"x".repeat(6_291_557))).said(), TOO_LARGE);
    assert_eq!(api.news(), News::TooLarge);
}

#[test]
fn a_failed_initialisation_is_told_of_once() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let headers = [("Lambda-Runtime-Function-Error-Type", "Runtime.ImportModuleError")];
    assert_eq!(client.ask(post(INIT_ERROR, &headers, "{\"errorType\":\"x\"}")).said(), ACCEPTED);
    let error_type = "Runtime.ImportModuleError".into();
    assert_eq!(api.news(), News::InitError { error_type, body: "{\"errorType\":\"x\"}".into() });
    let (status, body) = refused("InitError", "InitError");
    assert_eq!(client.ask(post(INIT_ERROR, &headers, "{}")).said(), (status, body.as_str()));
    let (status, body) = refused("InitError", "Ready");
    assert_eq!(client.ask(get(NEXT)).said(), (status, body.as_str()));
    assert_eq!(api.session.news(), None);
}

#[test]
fn an_initialisation_that_is_over_does_not_fail() {
    let api = Api::new(&[]);
    let _ready = api.ready();
    let (status, body) = refused("Ready", "InitError");
    assert_eq!(api.client().ask(post(INIT_ERROR, &[], "{}")).said(), (status, body.as_str()));
    api.session.invoke(event());
    let mut client = api.client();
    let (status, body) = refused("Running", "InitError");
    // Who waited has the event by the time that anybody else can ask for it.
    while client.ask(get(NEXT)).status != 200 {}
    assert_eq!(client.ask(post(INIT_ERROR, &[], "{}")).said(), (status, body.as_str()));
}

#[test]
fn an_initialisation_is_tried_again() {
    let api = Api::new(&[]);
    let mut client = api.client();
    assert_eq!(client.ask(post(INIT_ERROR, &[], "{}")).said(), ACCEPTED);
    assert_eq!(api.news(), News::InitError { error_type: "Runtime.Unknown".into(), body: "{}".into() });
    api.session.start_init();
    assert_eq!(api.news(), News::Registered);
    let mut client = api.ready();
    api.session.invoke(event());
    assert_eq!(client.answer().said(), (200, "{}"));
}

#[test]
fn who_waited_before_processes_were_started_anew_gets_nothing() {
    let api = Api::new(&[]);
    let mut old = api.ready();
    api.session.start_init();
    let body = "State transition from Ready to Running failed for runtime. Error: Concurrent state modification";
    let (status, body) = forbidden("InvalidStateTransition", body);
    assert_eq!(old.answer().said(), (status, body.as_str()));
}

#[test]
fn an_answer_comes_too_late_for_an_invocation_that_expired() {
    let api = Api::new(&[]);
    let mut client = api.running();
    api.session.expire();
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), INVALID_ID);
    assert_eq!(client.ask(post(&error(ID), &[], "1")).said(), INVALID_ID);
    assert_eq!(api.session.news(), None);
}

#[test]
fn an_answer_on_its_way_is_not_waited_for_once_its_invocation_expired() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client.send(chunked(&response(ID), "") + &chunk("12345"));
    api.session.expire();
    client.send(chunk("") + "\r\n");
    assert_eq!(client.answer().said(), INVALID_ID);
    assert_eq!(api.session.news(), None);
}

#[test]
fn an_answer_that_is_whole_when_its_invocation_expires_is_late() {
    let api = Api::new(&[]);
    let _runtime = api.running();
    assert!(api.session.shared().lock().begin(ID, Runtime::InvocationResponse).is_ok());
    api.session.expire();
    assert!(!api.session.shared().lock().answered(ID, done("1")));
    assert_eq!(api.session.news(), None);
}

#[test]
fn what_was_said_of_an_invocation_that_expired_is_not_heard() {
    let api = Api::new(&[]);
    let mut client = api.running();
    assert_eq!(client.ask(post(&response(ID), &[], "1")).said(), ACCEPTED);
    api.session.expire();
    assert_eq!(api.session.news(), None);
}

#[test]
fn other_paths_are_not_found() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let paths = [
        "/",
        "/2018-06-01",
        "/2018-06-01/runtime/invocation/",
        "/2018-06-01/runtime/invocation//response",
        "/2018-06-01/runtime/invocation/a/b/response",
        "/2018-06-01/runtime/restore/next",
        "/2018-06-01/runtime/invocation/next/",
        "/2020-01-01/runtime/invocation/next",
        "/2021-04-23/credentials",
    ];
    for path in paths {
        assert_eq!(client.ask(get(path)).said(), (404, "404 page not found\n"), "{path}");
    }
    assert_eq!(client.ask(post("/2018-06-01/runtime/restore/error", &[], "{}")).status, 404);
}

#[test]
fn other_methods_are_not_allowed() {
    let api = Api::new(&[]);
    let mut client = api.client();
    for (method, path) in
        [("POST", NEXT), ("PUT", INIT_ERROR), ("GET", response(ID).as_str()), ("PATCH", "/2022-07-01/telemetry")]
    {
        assert_eq!(client.ask(with(method, path, &[], "{}")).said(), (405, ""), "{method} {path}");
    }
}

#[test]
fn the_server_is_alive() {
    let api = Api::new(&[]);
    let answer = api.client().ask(get("/2018-06-01/ping"));
    assert_eq!(answer.said(), (200, "pong"));
}

#[test]
fn headers_of_a_megabyte_are_taken() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let cause = format!("{{\"paths\":[\"{}\"]}}", "x".repeat((1 << 20) - 20));
    let headers = [("Lambda-Runtime-Function-XRay-Error-Cause", cause.as_str())];
    assert_eq!(client.ask(post(&error(ID), &headers, "{}")).said(), ACCEPTED);
    assert!(matches!(api.news(), News::Error { .. }));
    let many: Vec<(String, &str)> = (0..500).map(|i| (format!("x-{i}"), "y")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(client.ask(with("GET", "/2018-06-01/ping", &many, "")).said(), (200, "pong"));
}

#[test]
fn requests_may_come_before_their_turn() {
    let api = Api::new(&[]);
    let mut client: Client = api.ready();
    api.session.invoke(event());
    client.send(post(&response(ID), &[], "1") + &get(NEXT));
    assert_eq!(client.answer().said(), (200, "{}"));
    assert_eq!(client.answer().said(), ACCEPTED);
    assert_eq!((api.news(), api.news(), api.news()), (done("1"), News::RuntimeDone, News::Idle));
    api.session.invoke(event());
    assert_eq!(client.answer().said(), (200, "{}"));
}
