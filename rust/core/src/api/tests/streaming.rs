//! Answers that come piece by piece.

use super::client::{Client, chunk, chunked, get};
use super::{Api, ID, NEXT, News, response};
use crate::api::StreamError;

const STREAMING: &str = "Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: text/plain\r\n";

/// A stream that has begun.
fn streaming(api: &Api) -> Client {
    let mut client = api.running();
    client.send(chunked(&response(ID), STREAMING));
    assert_eq!(api.news(), News::Stream { content_type: "text/plain".into() });
    client
}

fn data(text: &str) -> News {
    News::Chunk(text.into())
}

fn failed(error_type: &str, body: &str) -> News {
    News::StreamEnd(Some(StreamError { error_type: error_type.into(), body: body.into() }))
}

#[test]
fn a_piece_is_heard_before_the_next_is_written() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    for piece in ["a", "b", "c"] {
        client.send(chunk(piece));
        assert_eq!(api.news(), data(piece));
        assert_eq!(api.session.news(), None);
    }
    client.send(chunk("") + "\r\n");
    assert_eq!(api.news(), News::StreamEnd(None));
    assert_eq!(client.answer().said(), (202, "{\"status\":\"OK\"}\n"));
    client.send(get(NEXT));
    assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
}

#[test]
fn trailers_say_what_went_wrong() {
    let declared = "Trailer: Lambda-Runtime-Function-Error-Type\r\n";
    for headers in [STREAMING.to_owned() + declared, STREAMING.to_owned()] {
        let api = Api::new(&[]);
        let mut client = api.running();
        client.send(chunked(&response(ID), &headers) + &chunk("a") + &chunk(""));
        client.send("Lambda-Runtime-Function-Error-Type: Error\r\n");
        client.send("Lambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJFIn0=\r\n\r\n");
        assert_eq!(api.news(), News::Stream { content_type: "text/plain".into() });
        assert_eq!(api.news(), data("a"));
        assert_eq!(api.news(), failed("Error", "{\"errorType\":\"E\"}"));
        assert_eq!(client.answer().status, 202);
    }
}

#[test]
fn a_stream_may_be_empty() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    client.send(chunk("") + "\r\n");
    assert_eq!(api.news(), News::StreamEnd(None));
}

#[test]
fn a_stream_that_nobody_reads_is_not_read_either() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    let piece = "x".repeat(60 << 10);
    let writer = std::thread::spawn(move || {
        for _ in 0..128 {
            client.send(chunk(&piece));
        }
        client.send(chunk("") + "\r\n");
        client.answer().status
    });
    // As much as is held, and what one read may be over it; the rest waits in the socket, and with the client.
    let (mut bytes, mut most) = (0, 0);
    loop {
        match api.news() {
            News::Chunk(chunk) => bytes += chunk.len(),
            News::StreamEnd(end) => break assert_eq!(end, None),
            news => panic!("{news:?}"),
        }
        most = most.max(api.session.shared().lock().held());
        std::thread::yield_now();
    }
    assert_eq!(bytes, 128 * (60 << 10));
    assert!(most <= 1 << 20, "{most}");
    assert_eq!(writer.join().expect("the writer"), 202);
}

#[test]
fn a_stream_has_an_end() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    let writer = std::thread::spawn(move || {
        for _ in 0..21 {
            client.send(chunk(&"x".repeat(1 << 20)));
        }
        client.send(chunk("") + "\r\n");
        client.answer()
    });
    let end = loop {
        match api.news() {
            News::Chunk(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, failed("Function.ResponseSizeTooLarge", ""));
    let said = "{\"errorMessage\":\"Exceeded maximum allowed payload size (20971520 bytes).\",\
                \"errorType\":\"RequestEntityTooLarge\"}\n";
    assert_eq!(writer.join().expect("the writer").said(), (413, said));
}

#[test]
fn a_stream_that_breaks_off_is_told_of() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    client.send(chunk("a") + "5\r\nabc");
    drop(client);
    assert_eq!(api.news(), data("a"));
    // What came of the broken piece may be heard.
    let mut news = api.news();
    while let News::Chunk(_) = news {
        news = api.news();
    }
    assert_eq!(news, failed("Runtime.TruncatedResponse", ""));
}

#[test]
fn a_stream_ends_with_its_invocation() {
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    client.send(chunk("a"));
    assert_eq!(api.news(), data("a"));
    api.session.expire();
    client.send(chunk("b") + &chunk("") + "\r\n");
    assert_eq!(client.answer().status, 400);
    assert_eq!(api.session.news(), None);
}

#[test]
fn an_answer_without_a_length_streams_only_when_it_says_so() {
    let api = Api::new(&[]);
    let mut client = api.running();
    client.send(chunked(&response(ID), "") + &chunk("a") + &chunk("b") + &chunk("") + "\r\n");
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: "ab".into() });
}

#[test]
fn pieces_of_a_byte_take_no_more_memory_than_large_ones() {
    const PIECES: usize = 20_000;
    let api = Api::new(&[]);
    let mut client = streaming(&api);
    let waiting = || api.session.shared().lock().news.len();
    let pieces = chunk("a").repeat(PIECES);
    let writer = std::thread::spawn(move || client.send(pieces) && client.send(chunk("") + "\r\n"));
    let mut before = usize::MAX;
    // No more of them come when the server has answered somebody else in between.
    while before != waiting() {
        before = waiting();
        for _ in 0..3 {
            assert_eq!(api.client().ask(get("/2018-06-01/ping")).status, 200);
        }
    }
    assert!((1..=1 << 13).contains(&before), "{before} wait");
    let mut all = 0;
    while let News::Chunk(piece) = api.news() {
        all += piece.len();
    }
    assert_eq!(all, PIECES);
    assert!(writer.join().expect("the writer"));
}
