//! The API as a process inside an environment sees it: through a socket.

mod client;
mod extension;
mod hostile;
mod latency;
mod runtime;
mod sizes;
mod streaming;
mod telemetry;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{About, Event, News, Server, Session};

/// How long anything may take here.
pub const SOON: Duration = Duration::from_secs(20);
pub const NEXT: &str = "/2018-06-01/runtime/invocation/next";
pub const ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
pub const ACCEPTED: (u16, &str) = (202, "{\"status\":\"OK\"}\n");
pub const TOO_LARGE: (u16, &str) = (
    413,
    "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\",\"errorType\":\"RequestEntityTooLarge\"}\n",
);

/// A session, and where it is.
pub struct Api {
    pub session: Arc<Session>,
    pub address: SocketAddr,
    pub server: Server,
}

impl Api {
    /// One that waits for processes, with limits that tests can reach.
    pub fn new(external: &[&str]) -> Self {
        let api = Self::serve(external);
        if external.is_empty() {
            assert_eq!(api.news(), News::Registered);
        }
        api
    }

    fn serve(external: &[&str]) -> Self {
        let about = About {
            function_name: "function".into(),
            function_version: "$LATEST".into(),
            handler: "app.handler".into(),
            account_id: "123456789012".into(),
            initialization_type: "on-demand".into(),
            external: external.iter().map(|name| (*name).to_owned()).collect(),
            max_response: 6_291_556,
            max_stream: 20 << 20,
            ..About::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let server = Server::new();
        let session = server.serve(listener.into(), about).expect("a session");
        session.start_init();
        Self { session, address, server }
    }

    pub fn client(&self) -> client::Client {
        client::Client::new(self.address)
    }

    /// The next news, which is signalled.
    pub fn news(&self) -> News {
        let until = Instant::now() + SOON;
        loop {
            if let Some(news) = self.session.news() {
                return news;
            }
            let left = until.checked_duration_since(Instant::now()).expect("news in time");
            let left = Timespec::try_from(left).expect("a duration");
            poll(&mut [PollFd::new(&self.session.signal(), PollFlags::IN)], Some(&left)).expect("poll");
        }
    }

    /// A client whose runtime has asked for its first event.
    pub fn ready(&self) -> client::Client {
        let mut client = self.client();
        client.send(client::get(NEXT));
        assert_eq!(self.news(), News::Ready);
        client
    }

    /// A client whose runtime has the event.
    pub fn running(&self) -> client::Client {
        let mut client = self.ready();
        self.session.invoke(event());
        assert_eq!(client.answer().status, 200);
        client
    }
}

/// An event with nothing special about it.
pub fn event() -> Event {
    Event { request_id: ID.into(), deadline_ms: 1_700_000_000_000, payload: b"{}".to_vec(), ..Event::default() }
}

/// Where an answer goes.
pub fn response(id: &str) -> String {
    format!("/2018-06-01/runtime/invocation/{id}/response")
}

/// Where an error goes.
pub fn error(id: &str) -> String {
    format!("/2018-06-01/runtime/invocation/{id}/error")
}

/// What is said of something that is not allowed.
pub fn forbidden(error_type: &str, message: &str) -> (u16, String) {
    (403, format!("{{\"errorMessage\":\"{message}\",\"errorType\":\"{error_type}\"}}\n"))
}

/// Registers an extension for one kind of event, and hears its id.
pub fn register(client: &mut client::Client, name: &str, event: &str) -> String {
    let path = "/2020-01-01/extension/register";
    let answer =
        client.ask(client::post(path, &[("Lambda-Extension-Name", name)], &format!("{{\"events\":[\"{event}\"]}}")));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("lambda-extension-identifier").expect("an id").to_owned()
}

/// An extension asks what there is.
pub fn event_next(id: &str) -> String {
    client::with("GET", "/2020-01-01/extension/event/next", &[("Lambda-Extension-Identifier", id)], "")
}

/// What a good answer is.
pub fn done(body: &str) -> News {
    News::Response { content_type: String::new(), body: body.into() }
}
