//! The Telemetry API, with subscribers that listen.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::client::{Client, get, post, with};
use super::{Api, ID, NEXT, News, SOON, event, event_next, forbidden, register, response};
use crate::api::{Platform, Shutdown, Source};

const TELEMETRY: &str = "/2022-07-01/telemetry";
const LOGS: &str = "/2020-08-15/logs";

/// A subscription of an extension.
fn subscription(path: &str, id: &str, body: &Value) -> String {
    with("PUT", path, &[("Lambda-Extension-Identifier", id)], &body.to_string())
}

/// To everything, over HTTP, with as little delay as there may be.
fn everything() -> Value {
    json!({
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function", "extension"],
        "buffering": { "maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 25 },
        "destination": { "protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/path?a=b" },
    })
}

/// A listener inside the environment, and what connects to it.
struct Inside {
    listener: TcpListener,
    ports: Arc<Mutex<Vec<u16>>>,
}

impl Inside {
    /// One to which the session finds its way, after it did not for some times.
    fn new(api: &Api, failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let (ports, left) = (Arc::<Mutex<Vec<u16>>>::default(), AtomicUsize::new(failures));
        let asked = Arc::clone(&ports);
        api.session.deliver(Box::new(move |port| {
            asked.lock().expect("the ports").push(port);
            let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
            if fails { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(TcpStream::connect(address)?.into()) }
        }));
        Self { listener, ports }
    }

    /// The next connection.
    fn accept(&self) -> BufReader<TcpStream> {
        let until = Timespec::try_from(SOON).expect("a duration");
        let ready = poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&until)).expect("poll");
        assert_eq!(ready, 1, "nobody connects");
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        BufReader::new(stream)
    }
}

/// A request: its head, and the records in its body.
fn request(stream: &mut BufReader<TcpStream>) -> (Vec<String>, Vec<Value>) {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("the body");
    let Value::Array(records) = serde_json::from_slice(&body).expect("JSON") else { panic!("no array") };
    (head, records)
}

fn reply(stream: &mut BufReader<TcpStream>, status: &str) {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nOK");
    stream.get_mut().write_all(answer.as_bytes()).expect("an answer");
}

/// Records, until there is one of a kind.
fn until(stream: &mut BufReader<TcpStream>, last: &str) -> Vec<Value> {
    let mut all = Vec::new();
    while !all.iter().any(|record: &Value| record["type"] == last) {
        all.extend(request(stream).1);
        reply(stream, "200 OK");
    }
    all
}

/// An extension that has subscribed, and waits.
fn subscribed(api: &Api, body: &Value) -> (Client, String) {
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    let answer = client.ask(subscription(TELEMETRY, &id, body));
    assert_eq!(answer.said(), (200, "\"OK\""));
    assert_eq!(api.news(), News::Subscribed);
    (client, id)
}

#[test]
fn records_are_posted_with_what_came_before() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let record = json!({ "initializationType": "on-demand", "phase": "init" });
    api.session.platform(&Platform { kind: "platform.initStart", record: record.clone() });
    api.session.log(Source::Function, "a \"line\"");
    let _client = subscribed(&api, &everything());
    let mut stream = inside.accept();
    let (head, records) = request(&mut stream);
    reply(&mut stream, "200 OK");
    assert_eq!(head[0], "post /path?a=b http/1.1");
    assert!(head.contains(&"host: sandbox.localdomain:8080".to_owned()), "{head:?}");
    assert!(head.contains(&"content-type: application/json".to_owned()), "{head:?}");
    assert_eq!(*inside.ports.lock().expect("the ports"), [8080]);
    let subscribed = json!({ "name": "inner", "state": "Subscribed", "types": ["platform", "function", "extension"] });
    let expected = [
        ("platform.initStart", record),
        ("function", json!("a \"line\"")),
        ("platform.telemetrySubscription", subscribed),
    ];
    assert_eq!(records.len(), expected.len(), "{records:?}");
    for (record, (kind, what)) in records.iter().zip(expected) {
        assert_eq!((&record["type"], &record["record"]), (&json!(kind), &what));
        let time = record["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
    // The connection is kept.
    api.session.log(Source::Extension, "later");
    let (_, records) = request(&mut stream);
    assert_eq!((&records[0]["type"], &records[0]["record"]), (&json!("extension"), &json!("later")));
}

#[test]
fn records_are_lines_over_tcp() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let mut body = everything();
    body["types"] = json!(["function"]);
    body["destination"] = json!({ "protocol": "TCP", "port": 1234 });
    let _client = subscribed(&api, &body);
    for line in ["one", "two\nlines"] {
        api.session.log(Source::Function, line);
    }
    api.session.log(Source::Extension, "not wanted");
    let mut stream = inside.accept();
    for text in ["one", "two\nlines"] {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        let record: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&record["type"], &record["record"]), (&json!("function"), &json!(text)));
    }
    assert_eq!(*inside.ports.lock().expect("the ports"), [1234]);
}

#[test]
fn what_cannot_be_sent_is_tried_again() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 2);
    let _client = subscribed(&api, &everything());
    let mut stream = inside.accept();
    let first = request(&mut stream).1;
    reply(&mut stream, "500 Internal Server Error");
    let mut stream = inside.accept();
    assert_eq!(request(&mut stream).1, first);
    assert_eq!(inside.ports.lock().expect("the ports").len(), 4);
}

#[test]
fn what_cannot_be_sent_at_all_is_said_to_be_lost() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 5);
    let _client = subscribed(&api, &everything());
    let mut stream = inside.accept();
    let records = until(&mut stream, "platform.logsDropped");
    let lost = &records[0]["record"];
    assert_eq!(lost["droppedRecords"], 1, "{records:?}");
    assert!(lost["droppedBytes"].as_u64().is_some_and(|bytes| bytes > 100), "{lost}");
    assert_eq!(lost["reason"], "could not send events: connection refused");
}

#[test]
fn a_subscriber_that_speaks_no_http_harms_nobody() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let _client = subscribed(&api, &everything());
    let endless = "x: y\r\n".repeat(1 << 15);
    for answer in [
        "rubbish\r\n\r\n",
        "",
        &format!("HTTP/1.1 200 OK\r\n{endless}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut stream = inside.accept();
        assert!(!request(&mut stream).1.is_empty());
        let _ = stream.get_mut().write_all(answer.as_bytes());
    }
    let mut stream = inside.accept();
    assert_eq!(until(&mut stream, "platform.telemetrySubscription").len(), 1);
    assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
}

#[test]
fn a_slow_subscriber_is_told_what_it_lost() {
    let api = Api::new(&[]);
    let mut body = everything();
    body["buffering"]["timeoutMs"] = json!(30_000);
    let inside = Inside::new(&api, 0);
    let _client = subscribed(&api, &body);
    // A full batch of a quarter of a megabyte goes at once, and two more wait while nobody answers.
    let line = "x".repeat(64 << 10);
    for _ in 0..4 {
        api.session.log(Source::Function, &line);
    }
    let mut stream = inside.accept();
    let (_, records) = request(&mut stream);
    assert_eq!(records.len(), 5);
    for _ in 0..20 {
        api.session.log(Source::Function, &line);
    }
    let held: usize =
        api.session.shared().lock().telemetry.queues.iter().map(super::super::telemetry::Queue::held).sum();
    assert!(held <= 2 * 262_144, "{held}");
    reply(&mut stream, "200 OK");
    let records = until(&mut stream, "platform.logsDropped");
    let lost = records.iter().find(|record| record["type"] == "platform.logsDropped").expect("it");
    assert_eq!(lost["record"]["droppedRecords"], 13, "{lost}");
    let reason = "Some logs were dropped because the downstream consumer is slower than the logs production rate";
    assert_eq!(lost["record"]["reason"], reason);
}

#[test]
fn nothing_is_sent_to_an_environment_that_is_frozen() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let (mut client, id) = subscribed(&api, &everything());
    let mut stream = inside.accept();
    until(&mut stream, "platform.telemetrySubscription");
    client.send(event_next(&id));
    let mut runtime = api.ready();
    // It may be frozen from here on: what is recorded waits for the next event.
    api.session.log(Source::Function, "frozen");
    stream.get_ref().set_nonblocking(true).expect("not blocking");
    for _ in 0..100 {
        assert!(stream.fill_buf().is_err());
        std::thread::yield_now();
    }
    stream.get_ref().set_nonblocking(false).expect("blocking");
    api.session.invoke(event());
    let (_, records) = request(&mut stream);
    assert_eq!(records[0]["type"], "platform.extension");
    assert_eq!(records[0]["record"], json!({ "name": "inner", "state": "Ready", "events": ["INVOKE"] }));
    assert_eq!(records[1]["record"], "frozen");
    reply(&mut stream, "200 OK");
    // The end is one as well.
    assert_eq!((runtime.answer().status, client.answer().status), (200, 200));
    client.send(event_next(&id));
    assert_eq!(runtime.ask(post(&response(ID), &[], "1")).status, 202);
    runtime.send(get(NEXT));
    assert!(matches!(api.news(), News::Response { .. }));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
    api.session.log(Source::Function, "at the end");
    api.session.shutdown(Shutdown::Spindown, 1);
    assert_eq!(request(&mut stream).1[0]["record"], "at the end");
}

#[test]
fn the_older_api_hears_of_less() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    api.session.platform(&Platform { kind: "platform.initStart", record: json!({}) });
    api.session.platform(&Platform { kind: "platform.start", record: json!({}) });
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    let mut body = everything();
    body["schemaVersion"] = json!("2021-03-18");
    assert_eq!(client.ask(subscription(LOGS, &id, &body)).said(), (200, "\"OK\""));
    let records = until(&mut inside.accept(), "platform.logsSubscription");
    let kinds: Vec<&Value> = records.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["platform.start", "platform.logsSubscription"]);
}

#[test]
fn a_wrong_subscription_is_refused() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    let body = json!({ "schemaVersion": "2022-07-01", "types": [], "destination": { "protocol": "HTTP", "URI": "http://sandbox.localdomain/" } });
    let said = "{\"errorMessage\":\"URI port is not provided; types should not be empty\",\"errorType\":\"ValidationError\"}\n";
    assert_eq!(client.ask(subscription(TELEMETRY, &id, &body)).said(), (400, said));
    let answer = client.ask(with("PUT", TELEMETRY, &[("Lambda-Extension-Identifier", &id)], "{"));
    assert_eq!(answer.status, 400);
    assert!(answer.said().1.starts_with("{\"errorMessage\":\"failed to parse JSON: "), "{answer:?}");
    let large = with("PUT", TELEMETRY, &[("Lambda-Extension-Identifier", &id)], &"x".repeat(100_000));
    assert_eq!(client.ask(large).status, 413);
    assert_eq!(api.session.news(), None);
}

#[test]
fn nobody_subscribes_after_the_initialisation() {
    let api = Api::new(&[]);
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    client.send(event_next(&id));
    let _runtime = api.ready();
    let mut client = api.client();
    for (path, error_type, message) in [
        (TELEMETRY, "Telemetry.SubscriptionClosed", "Telemetry API subscription is closed"),
        (LOGS, "Logs.SubscriptionClosed", "Logs API subscription is closed"),
    ] {
        let mut body = everything();
        if path == LOGS {
            body["schemaVersion"] = json!("2020-08-15");
        }
        let (status, body_said) = forbidden(error_type, message);
        assert_eq!(client.ask(subscription(path, &id, &body)).said(), (status, body_said.as_str()));
    }
}

#[test]
fn a_second_subscription_replaces_the_first() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let mut client = api.client();
    let id = register(&mut client, "inner", "INVOKE");
    let mut body = everything();
    body["buffering"]["timeoutMs"] = json!(30_000);
    assert_eq!(client.ask(subscription(TELEMETRY, &id, &body)).status, 200);
    body = everything();
    body["destination"]["URI"] = json!("http://sandbox.localdomain:9999");
    assert_eq!(client.ask(subscription(TELEMETRY, &id, &body)).status, 200);
    let (head, _) = request(&mut inside.accept());
    assert_eq!(head[0], "post / http/1.1");
    assert_eq!(*inside.ports.lock().expect("the ports"), [9999]);
}

#[test]
fn what_is_on_its_way_to_a_subscription_that_was_replaced_is_let_go() {
    let api = Api::new(&[]);
    let inside = Inside::new(&api, 0);
    let (mut client, id) = subscribed(&api, &everything());
    let mut silent = inside.accept();
    // It reads and never answers.
    request(&mut silent);
    assert_eq!(client.ask(subscription(TELEMETRY, &id, &everything())).status, 200);
    assert_eq!(silent.read(&mut [0; 1]).expect("an end"), 0);
}

#[test]
fn an_environment_is_asked_for_one_connection_at_a_time() {
    let api = Api::new(&[]);
    let (asked, hear) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    api.session.deliver(Box::new(move |_| {
        let _ = asked.send(());
        let _ = wait.lock().expect("it is ours").recv_timeout(SOON);
        Err(io::ErrorKind::TimedOut.into())
    }));
    let mut clients: Vec<Client> = (0..5).map(|_| api.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let id = register(client, &format!("e{number}"), "INVOKE");
        assert_eq!(client.ask(subscription(TELEMETRY, &id, &everything())).status, 200);
    }
    hear.recv_timeout(SOON).expect("somebody asks");
    // All of them have something to deliver by now, and would have asked.
    let patience = std::time::Duration::from_millis(300);
    assert!(hear.recv_timeout(patience).is_err(), "another asks beside it");
    drop(go);
}
