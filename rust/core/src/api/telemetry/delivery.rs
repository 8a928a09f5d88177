//! How records get to a subscriber inside the environment.
//!
//! A connection is asked of whoever runs the environment, is kept, and is made anew after a failure. What cannot be sent is
//! tried again after a while, and in the end given up on. Only time during which the environment runs is counted: a frozen
//! one does not answer.

use std::future::Future;
use std::io;
use std::net::TcpStream as Plain;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::queue::Batch;
use super::record::Record;
use super::subscription::{Destination, Subscription};
use crate::api::body::first;
use crate::api::session::Shared;
use crate::api::state::State;

/// How long a failure is waited out before the next try: twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often something is tried.
const TRIES: u32 = 5;
/// For how long a subscriber may be silent while its environment runs.
const SILENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes of an answer's head, and of its body: nobody reads it.
const ANSWER: usize = 64 << 10;

/// Delivers what comes to a queue, for as long as there is one.
pub async fn deliver(shared: Arc<Shared>, number: u64, subscription: Subscription) {
    let mut line = Line { destination: subscription.destination, link: None };
    let queue = |state: &mut State| state.telemetry.queues.iter().position(|queue| queue.number() == number);
    let Some(wake) = ({
        let mut state = shared.lock();
        queue(&mut state).map(|at| Arc::clone(&state.telemetry.queues[at].wake))
    }) else {
        return;
    };
    loop {
        // What is frozen has nothing sent to it.
        let gone = shared.wait(|state| match queue(state) {
            None => Some(true),
            Some(_) => state.runs().then_some(false),
        });
        if gone.await {
            return;
        }
        let batch = {
            let mut state = shared.lock();
            let Some(at) = queue(&mut state) else { return };
            state.telemetry.queues[at].take()
        };
        match batch {
            Batch::Empty => wake.notified().await,
            Batch::At(due) => first(wake.notified(), sleep_until(due)).await,
            Batch::Full(records, bytes) => {
                // Replaced or gone meanwhile, it has nobody to get to.
                let gone = shared.wait(|state| queue(state).is_none().then_some(()));
                let sent = first(async { Some(line.send(&shared, &records).await) }, async {
                    gone.await;
                    None
                });
                let Some(sent) = sent.await else { return };
                let mut state = shared.lock();
                let Some(at) = queue(&mut state) else { return };
                state.telemetry.queues[at].sent();
                if let Err(error) = sent {
                    let reason = format!("could not send events: {error}");
                    state.telemetry.queues[at].failed(records.len(), bytes, &reason);
                }
            }
        }
    }
}

/// The way to a subscriber.
struct Line {
    destination: Destination,
    link: Option<Link>,
}

/// A connection that stands.
enum Link {
    Http(SendRequest<Full<Bytes>>, #[expect(dead_code, reason = "the connection ends with it")] JoinSet<()>),
    Tcp(TcpStream),
}

impl Line {
    /// Sends records, with patience.
    async fn send(&mut self, shared: &Arc<Shared>, records: &[Record]) -> io::Result<()> {
        let body = self.body(records);
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let sent = while_it_runs(shared, SILENCE, self.attempt(shared, body.clone())).await;
            match sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => return Ok(()),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => {
                    self.link = None;
                    while_it_runs(shared, pause, std::future::pending::<()>()).await;
                    tries += 1;
                    pause *= 2;
                }
            }
        }
    }

    /// Records as they go over the line.
    fn body(&self, records: &[Record]) -> Bytes {
        let mut body = String::with_capacity(records.iter().map(|record| record.bytes() + 1).sum::<usize>() + 2);
        let http = matches!(self.destination, Destination::Http { .. });
        for (number, record) in records.iter().enumerate() {
            body += match (http, number) {
                (true, 0) => "[",
                (true, _) => ",",
                (false, _) => "",
            };
            body += &record.text;
            body += if http { "" } else { "\n" };
        }
        body += if http { "]" } else { "" };
        body.into()
    }

    async fn attempt(&mut self, shared: &Arc<Shared>, body: Bytes) -> io::Result<()> {
        let link = match &mut self.link {
            Some(link) => link,
            None => self.link.insert(connect(shared, &self.destination).await?),
        };
        match (link, &self.destination) {
            (Link::Tcp(stream), _) => {
                // What has been closed is noticed before something is lost in it.
                if stream.ready(Interest::READABLE | Interest::WRITABLE).await?.is_read_closed() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                stream.write_all(&body).await
            }
            (Link::Http(sender, _), Destination::Http { put, path, host, .. }) => {
                let request = Request::builder()
                    .method(if *put { Method::PUT } else { Method::POST })
                    .uri(path)
                    .header(HOST, host)
                    .header(CONTENT_TYPE, "application/json")
                    .body(Full::new(body))
                    .map_err(io::Error::other)?;
                sender.ready().await.map_err(io::Error::other)?;
                let answer = sender.send_request(request).await.map_err(io::Error::other)?;
                let (status, mut body) = (answer.status(), answer.into_body());
                let mut left = ANSWER;
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(io::Error::other)?;
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                    if left == 0 {
                        self.link = None;
                        break;
                    }
                }
                if status >= StatusCode::BAD_REQUEST {
                    return Err(io::Error::other(format!("http request failed with status {status}")));
                }
                Ok(())
            }
            (Link::Http(..), Destination::Tcp { .. }) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Makes a connection.
async fn connect(shared: &Arc<Shared>, destination: &Destination) -> io::Result<Link> {
    let (Destination::Http { port, .. } | Destination::Tcp { port }) = *destination;
    let connector = shared.connector.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let connector = connector.ok_or_else(|| io::Error::other("nothing leads into the environment"))?;
    // One at a time: an environment whose launcher stands still would else take the threads that ask for all others.
    let Ok(turn) = Arc::clone(&shared.connecting).try_acquire_owned() else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    // It may wait for the far side, so it does not do so here.
    let asked = move || {
        let _turn = turn;
        connector(port)
    };
    let socket = tokio::task::spawn_blocking(asked).await.map_err(io::Error::other)??;
    let stream = Plain::from(socket);
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    if matches!(destination, Destination::Tcp { .. }) {
        return Ok(Link::Tcp(stream));
    }
    let shake = http1::Builder::new().max_buf_size(ANSWER).handshake(TokioIo::new(stream));
    let (sender, connection) = shake.await.map_err(io::Error::other)?;
    let mut task = JoinSet::new();
    task.spawn(async {
        let _ = connection.await;
    });
    Ok(Link::Http(sender, task))
}

/// Does something, for as long as `limit` of the time in which the environment runs.
async fn while_it_runs<T>(shared: &Arc<Shared>, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        let mut left = limit;
        while !left.is_zero() {
            let step = left.min(LOOK);
            sleep(step).await;
            if shared.lock().runs() {
                left -= step;
            }
        }
        None
    };
    first(async { Some(work.await) }, over).await
}
