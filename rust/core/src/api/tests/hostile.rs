//! Clients that mean harm, or are broken. Whatever they do, the session goes on, and so do the others of the host.

use std::net::TcpListener;
use std::time::Duration;

use coldframe_sys::testing::fuzz::fuzz;
use http_body_util::BodyExt as _;

use super::client::{Client, chunk, chunked, get, post, with};
use super::{About, Api, ID, NEXT, News, response};
use crate::api::answer::{self, Answer, Refusal};
use crate::api::connection::CONNECTIONS;

/// A whole invocation, by a client that means well.
fn works(api: &Api) {
    let mut client = api.running();
    assert_eq!(client.ask(post(&response(ID), &[], "1")).status, 202);
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: "1".into() });
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

/// What ends with the server having ended the connection.
fn ended(api: &Api, send: impl Fn(&mut Client)) {
    let mut client = api.client();
    send(&mut client);
    while client.try_answer().is_some() {}
    assert!(client.is_over());
}

#[test]
fn headers_without_end_have_one() {
    let api = Api::new(&[]);
    let endless = |client: &mut Client| {
        client.send("GET / HTTP/1.1\r\n");
        let header = format!("x: {}\r\n", "y".repeat(1 << 10));
        for _ in 0..4096 {
            if !client.send(&header) {
                break;
            }
        }
    };
    ended(&api, endless);
    ended(&api, |client| {
        client.send(format!("GET /{}", "x".repeat(2 << 20)));
    });
    ended(&api, |client| {
        client.send("GET / HTTP/1.1\r\n");
        for number in 0..1000 {
            client.send(format!("x-{number}: y\r\n"));
        }
        client.send("\r\n");
    });
    works(&api);
}

#[test]
fn heads_that_are_not_complete_share_what_they_may_hold() {
    let api = Api::new(&[]);
    // A megabyte each, which is allowed to one of them: not all can stay.
    let mut clients: Vec<Client> = (0..16).map(|_| api.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nx: ");
        client.send("y".repeat(1 << 20));
    }
    works(&api);
    let alive = clients.into_iter().filter_map(|mut client| {
        client.send("\r\n\r\n");
        client.try_answer()
    });
    let alive = alive.count();
    assert!((1..16).contains(&alive), "{alive}");
}

#[test]
fn empty_lines_have_an_end() {
    let api = Api::new(&[]);
    ended(&api, |client| while client.send("\r\n") {});
    ended(&api, |client| {
        client.send("\r\n".repeat(100));
    });
    works(&api);
    // One is what some clients send after a body.
    assert_eq!(api.client().ask("\r\n".to_owned() + &get("/2018-06-01/ping")).status, 200);
}

#[test]
fn what_is_no_http_is_not_answered_for_long() {
    let api = Api::new(&[]);
    let rubbish = [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}",
        "hello\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for rubbish in rubbish {
        ended(&api, |client| {
            client.send(rubbish);
        });
    }
    works(&api);
}

#[test]
fn fuzz_whatever_is_sent_the_session_goes_on() {
    let api = Api::new(&[]);
    let seeds = [
        get(NEXT),
        get("/2018-06-01/ping") + &get("/2018-06-01/ping"),
        post(&response(ID), &[("Lambda-Runtime-Function-Response-Mode", "streaming")], "1"),
        chunked(&response(ID), "Trailer: a\r\n") + &chunk("12345") + &chunk("") + "a: b\r\n\r\n",
        post("/2018-06-01/runtime/init/error", &[("Lambda-Runtime-Function-Error-Type", "Runtime.A")], "{}"),
        post("/2020-01-01/extension/register", &[("Lambda-Extension-Name", "a")], "{\"events\":[\"INVOKE\"]}"),
        with("PUT", "/2022-07-01/telemetry", &[("Lambda-Extension-Identifier", ID)], "{\"types\":[]}"),
    ];
    let seeds = seeds.map(String::into_bytes);
    fuzz(&seeds, |bytes| {
        api.session.start_init();
        let mut client = api.client();
        // Who asks for an event, and has sent more than that, is left waiting.
        client.wait_for(Duration::from_millis(50));
        client.send(bytes);
        client.finish();
        let mut fate = Vec::new();
        while let Some(answer) = client.try_answer() {
            fate.push(answer.status);
        }
        assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
        while let Some(news) = api.session.news() {
            assert!(!matches!(news, News::Defect(_)), "{news:?}");
        }
        fate
    });
}

#[test]
fn half_a_request_harms_nobody() {
    let api = Api::new(&[]);
    let halves: Vec<Client> =
        ["G", "GET /2018-06-01/runtime/invocation/next", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n1"]
            .into_iter()
            .map(|half| {
                let mut client = api.client();
                client.send(half);
                client
            })
            .collect();
    works(&api);
    drop(halves);
    works_again(&api);
}

/// An invocation of a session whose runtime has been ready before.
fn works_again(api: &Api) {
    // Those who have gone may have to be seen to have gone before anybody else is let in, or is given the event.
    let pings = || {
        let mut client = api.client();
        client.send(get("/2018-06-01/ping"));
        client.try_answer().is_some_and(|answer| answer.status == 200)
    };
    assert!((0..1000).any(|_| (0..3).all(|_| pings())), "nobody is let in");
    let mut client = api.client();
    client.send(get(NEXT));
    assert!((0..3).all(|_| pings()));
    api.session.invoke(super::event());
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.ask(post(&response(ID), &[], "1")).status, 202);
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: "1".into() });
}

#[test]
fn a_head_is_not_waited_for_forever() {
    let api = Api::new(&[]);
    let mut idle = api.client();
    assert_eq!(idle.ask(get("/2018-06-01/ping")).status, 200);
    ended(&api, |client| {
        client.send("GET / HTTP/1.1\r\n");
    });
    // Who has not begun may take as long as it likes.
    assert_eq!(idle.ask(get("/2018-06-01/ping")).status, 200);
}

#[test]
fn a_thousand_connections_leave_room_for_one_more() {
    let api = Api::new(&[]);
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(api.client());
    }
    works(&api);
    drop(clients);
    works_again(&api);
}

#[test]
fn connections_that_all_wait_are_not_more_than_may_be() {
    let api = Api::new(&[]);
    let mut clients: Vec<Client> = vec![api.ready()];
    let turned_away = (0..10 * CONNECTIONS).any(|_| {
        let mut client = api.client();
        client.send(get("/2018-06-01/ping"));
        let answered = client.try_answer().is_some();
        client.send(get(NEXT));
        clients.push(client);
        !answered
    });
    assert!(turned_away);
    drop(clients);
    works_again(&api);
}

#[test]
fn a_connection_that_closes_in_the_middle_is_forgotten() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client.send(format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345", response(ID)));
    drop(client);
    assert!(matches!(api.news(), News::Error { error_type, .. } if error_type == "Runtime.TruncatedResponse"));
    let mut client = api.client();
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn who_waits_with_a_body_is_seen_to_go_as_well() {
    let api = Api::new(&[]);
    for body in ["12345", "123"] {
        let mut gone = api.client();
        gone.send(format!("GET {NEXT} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{body}"));
        gone.finish();
        while gone.try_answer().is_some() {}
        assert!(gone.is_over());
    }
    // Whether it asked before it went is nobody's promise.
    let mut client = api.ready();
    api.session.invoke(super::event());
    assert_eq!(client.answer().status, 200);
}

#[test]
fn who_waits_with_something_unread_is_passed_over() {
    let api = Api::new(&[]);
    let mut gone = api.client();
    gone.send(get(NEXT) + "GET");
    gone.finish();
    assert_eq!(api.news(), News::Ready);
    let mut client = api.client();
    client.send(get(NEXT));
    assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
    assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
    api.session.invoke(super::event());
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_body_longer_than_it_says_is_the_next_request() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client
        .send(format!("POST {} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n12345 and more\r\n\r\n", response(ID)));
    assert_eq!(client.answer().status, 202);
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: "1".into() });
    assert_eq!(client.try_answer().map(|answer| answer.status), Some(400));
    assert!(client.is_over());
    works_again_after_done(&api);
}

fn works_again_after_done(api: &Api) {
    let mut client = api.client();
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
    api.session.invoke(super::event());
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_body_that_never_ends_is_given_up() {
    let api = Api::new(&[]);
    ended(&api, |client| {
        client.send("POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = super::client::chunk(&"x".repeat(1 << 20));
        for _ in 0..64 {
            client.send(&chunk);
        }
    });
    works(&api);
}

#[test]
fn sessions_do_not_feel_each_other() {
    let api = Api::new(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let other = api.server.serve(listener.into(), About::default()).expect("another session");
    let mut stranger = Client::new(address);
    assert_eq!(stranger.ask(get("/2018-06-01/ping")).status, 200);
    works(&api);
    other.close();
    assert!(stranger.is_over());
    works_again(&api);
}

#[test]
fn a_session_that_is_closed_lets_go_of_everything() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    api.session.close();
    assert!(client.is_over());
    let gone = (0..10_000).any(|_| {
        std::thread::yield_now();
        std::net::TcpStream::connect(api.address).is_err()
    });
    assert!(gone, "somebody still listens");
}

#[test]
fn a_server_that_is_stopped_ends_its_thread() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    api.server.stop();
    assert!(client.is_over());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    assert!(api.server.serve(listener.into(), About::default()).is_err());
    let names = std::fs::read_dir("/proc/self/task")
        .expect("the threads")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    // Others may be running tests of their own.
    let _ = names.count();
}

#[test]
fn a_defect_is_told_of_and_ends_nothing_else() {
    let api = Api::new(&[]);
    api.session.shared().spawn(async { panic!("seven") });
    let internal = "{\"errorMessage\":\"Internal Server Error\",\"errorType\":\"InternalServerError\"}\n";
    assert_eq!(sent(answer::internal()), (500, internal.to_owned()));
    let News::Defect(text) = api.news() else { panic!("something else") };
    assert!(text.contains("defect of coldframe") && text.contains("seven"), "{text}");
    works(&api);
}

/// A refusal as it goes out.
fn sent(refusal: Refusal) -> (u16, String) {
    let answer = Answer::from(refusal);
    let status = answer.status().as_u16();
    let body = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(answer.into_body().collect());
    (status, String::from_utf8(body.expect("a body").to_bytes().to_vec()).expect("text"))
}
