//! A client that knows no more of HTTP than what it is told to send.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::SOON;

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Status and body.
    pub fn said(&self) -> (u16, &str) {
        (self.status, std::str::from_utf8(&self.body).expect("text"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.set_write_timeout(Some(SOON)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream) }
    }

    /// Waits no longer than this for an answer.
    pub fn wait_for(&mut self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("a timeout");
    }

    /// Sends bytes, as far as the other side takes them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Sends no more.
    pub fn finish(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Write);
    }

    /// The answer to the oldest request without one.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// The same, if there is one.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            assert!(headers.insert(name.to_lowercase(), value.to_owned()).is_none(), "{name} comes twice");
        }
        if status == 100 {
            return self.try_answer();
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Answer { status, headers, body })
    }

    /// Sends a request and hears the answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        assert!(self.send(request), "the request was not taken");
        self.answer()
    }

    /// Whether the other side has ended the connection, with nothing more to say.
    pub fn is_over(&mut self) -> bool {
        matches!(self.stream.fill_buf(), Ok([]) | Err(_))
    }

    /// Which of two has an answer first.
    pub fn first_to_hear(clients: &[Self; 2]) -> usize {
        let until = Timespec::try_from(SOON).expect("a duration");
        let mut fds = clients.each_ref().map(|client| PollFd::new(client.stream.get_ref(), PollFlags::IN));
        poll(&mut fds, Some(&until)).expect("poll");
        fds.iter().position(|fd| !fd.revents().is_empty()).expect("an answer in time")
    }

    /// Whether there is something to hear now.
    pub fn has_heard(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.get_ref(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).expect("poll") > 0
    }

    /// A line of the answer.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    }
}

/// A request without a body.
pub fn get(path: &str) -> String {
    with("GET", path, &[], "")
}

/// One with a body and headers.
pub fn post(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    with("POST", path, headers, body)
}

/// Any.
pub fn with(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").expect("a string");
    }
    request + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

/// One whose body has still to be sent, in chunks.
pub fn chunked(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n{headers}Transfer-Encoding: chunked\r\n\r\n")
}

/// A chunk; the empty one is the last, but for trailers and an empty line.
pub fn chunk(data: &str) -> String {
    let length = data.len();
    if data.is_empty() { "0\r\n".to_owned() } else { format!("{length:x}\r\n{data}\r\n") }
}
