//! Bodies that are as large as they may be, or larger, or not whole.

use super::client::{chunk, chunked, get, post};
use super::{ACCEPTED, Api, ID, NEXT, News, TOO_LARGE, done, error, response};

const TRUNCATED: (u16, &str) =
    (400, "{\"errorMessage\":\"HTTP request detected as truncated\",\"errorType\":\"TruncatedHTTPRequest\"}\n");

#[test]
fn the_largest_response_is_taken() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let body = "x".repeat(6_291_556);
    assert_eq!(client.ask(post(&response(ID), &[], &body)).said(), ACCEPTED);
    assert_eq!(api.news(), done(&body));
}

#[test]
fn a_larger_one_is_too_large() {
    let api = Api::new(&[]);
    let mut client = api.running();
    assert_eq!(client.ask(post(&response(ID), &[], &"x".repeat(6_291_557))).said(), TOO_LARGE);
    assert_eq!((api.news(), api.session.news()), (News::TooLarge, None));
    // It was an answer all the same.
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn so_is_one_whose_length_is_not_announced() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client.send(chunked(&response(ID), ""));
    for _ in 0..7 {
        client.send(chunk(&"x".repeat(1 << 20)));
    }
    assert_eq!(api.news(), News::TooLarge);
    client.send(chunk("") + "\r\n");
    assert_eq!(client.answer().said(), TOO_LARGE);
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn a_client_that_asks_first_sends_nothing_of_what_is_too_large() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let path = response(ID);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 7000000\r\n\r\n"));
    assert_eq!(client.answer().said(), TOO_LARGE);
    assert_eq!(api.news(), News::TooLarge);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let api = Api::new(&[]);
    let mut client = api.running();
    let path = response(ID);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
    assert_eq!(client.line().as_deref(), Some("HTTP/1.1 100 Continue"));
    assert_eq!(client.line().as_deref(), Some(""));
    assert_eq!(client.ask("null").said(), ACCEPTED);
    assert_eq!(api.news(), done("null"));
}

/// The news of an answer of which the end did not come.
fn cut_off() -> News {
    News::Error {
        error_type: "Runtime.TruncatedResponse".into(),
        content_type: "application/json".into(),
        body: "{\"errorMessage\":\"HTTP request detected as truncated\",\"errorType\":\"Runtime.TruncatedResponse\"}"
            .into(),
    }
}

#[test]
fn a_truncated_answer_is_refused() {
    for way in [response(ID), error(ID)] {
        let api = Api::new(&[]);
        let mut client = api.running();
        client.send(format!("POST {way} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"));
        client.finish();
        assert_eq!(client.answer().said(), TRUNCATED);
        assert_eq!(api.news(), cut_off());
        let mut client = api.client();
        client.send(get(NEXT));
        assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
    }
}

#[test]
fn so_is_one_that_is_no_http() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client.send(chunked(&response(ID), "") + &chunk("12345") + "rubbish\r\n");
    assert_eq!(client.answer().said(), TRUNCATED);
    assert!(client.is_over());
    assert_eq!(api.news(), cut_off());
}
