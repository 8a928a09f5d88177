//! The connections of one environment, and what they may cost.
//!
//! At most [`CONNECTIONS`] are open. Together they hold at most [`HEADS`] bytes of requests of which the head is not complete,
//! and each at most twice [`PIECE`] bytes of a body on its way. One that is idle stays for as long as it likes, because
//! environments are frozen between requests; one that began a request has [`PATIENCE`] to complete its head. One more than
//! there may be replaces the one that has been idle for longest.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking, yield_now};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::session::Shared;
use super::{answer, peer, route};

/// Connections of an environment.
pub const CONNECTIONS: usize = 64;
/// Bytes of the head of a request: runtimes send an error's cause of up to a megabyte in a header.
const HEAD: usize = (1 << 20) + (64 << 10);
/// Bytes of all heads of an environment that are not complete.
const HEADS: usize = 8 << 20;
/// Headers of a request.
const HEADERS: usize = 512;
/// Bytes that are read in one go.
const PIECE: usize = 64 << 10;
/// Empty lines before a request: there should be none, and each would have the parser begin anew.
const BLANK: usize = 16;
/// For how long the head of a request may be incomplete.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 60 });
/// How long the next connection waits whose user has to be looked up, and the next request after one that no invocation needs:
/// the thread that answers is everybody's, and its time is in nobody's share.
const PACE: Duration = Duration::from_millis(5);
/// How long the server waits when the host is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection costs, for itself and together with the others of its environment.
struct Gauge {
    /// Bytes of incomplete heads, of all connections.
    heads: Arc<AtomicUsize>,
    /// Bytes of this one's.
    head: AtomicUsize,
    /// Whether there is a request that has not been answered.
    busy: AtomicBool,
    /// What counts the requests of all connections, and where it stood when this one was last used.
    clock: Arc<AtomicU64>,
    used: AtomicU64,
}

/// Takes connections, until it is dropped.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let clock = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let mut open: Vec<(AbortHandle, Arc<Gauge>)> = Vec::new();
    let mut next = Instant::now();
    loop {
        sleep_until(next).await;
        let stream = {
            let mut coming = pin!(listener.accept());
            poll_fn(|cx| {
                while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
                coming.as_mut().poll(cx)
            })
            .await
        };
        let Ok((stream, client)) = stream else {
            // Out of descriptors, or the connection is gone already.
            sleep(PAUSE).await;
            continue;
        };
        if let Some(user) = shared.about.only {
            // Not on this thread: all connections of the host are looked through.
            let server = stream.local_addr();
            let heard = spawn_blocking(move || server.is_ok_and(|server| peer::is_of(user, client, server)));
            next = Instant::now() + PACE;
            if !heard.await.unwrap_or(false) {
                continue;
            }
        }
        open.retain(|(task, _)| !task.is_finished());
        if open.len() >= CONNECTIONS {
            let idle = open.iter().enumerate().filter(|(_, (_, gauge))| !gauge.busy.load(Ordering::Relaxed));
            let Some((oldest, _)) = idle.min_by_key(|(_, (_, gauge))| gauge.used.load(Ordering::Relaxed)) else {
                continue;
            };
            open.swap_remove(oldest).0.abort();
        }
        let gauge = Arc::new(Gauge::new(&heads, &clock));
        let task = tasks.spawn(serve(stream, Arc::clone(&shared), Arc::clone(&gauge)));
        open.push((task, gauge));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, gauge: Arc<Gauge>) {
    let _ = stream.set_nodelay(true);
    let guard = Guard { stream, gauge: Arc::clone(&gauge), deadline: None };
    let service = service_fn(|request| {
        gauge.begin();
        async {
            let needless = request.method() == Method::GET && request.uri().path().ends_with("/ping");
            let answer = shared.contain(route::answer(&shared, request)).await;
            if needless || answer.as_ref().is_none_or(|answer| !answer.status().is_success()) {
                sleep(PACE).await;
            }
            // Others have their turn, however many requests this one has sent ahead.
            yield_now().await;
            gauge.end();
            Ok::<_, Infallible>(answer.unwrap_or_else(|| answer::internal().into()))
        }
    });
    // An error is the end of the connection, for whatever reason the client has.
    let _ = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD)
        .max_header_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(guard), service)
        .await;
}

impl Gauge {
    fn new(heads: &Arc<AtomicUsize>, clock: &Arc<AtomicU64>) -> Self {
        let used = AtomicU64::new(clock.fetch_add(1, Ordering::Relaxed));
        let (head, busy) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { heads: Arc::clone(heads), head, busy, clock: Arc::clone(clock), used }
    }

    /// There is a request.
    fn begin(&self) {
        self.complete();
        self.busy.store(true, Ordering::Relaxed);
    }

    /// It has been answered.
    fn end(&self) {
        self.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.busy.store(false, Ordering::Relaxed);
    }

    /// Takes note of bytes of a head; whether that was too much.
    fn add(&self, bytes: &[u8]) -> bool {
        let before = self.head.fetch_add(bytes.len(), Ordering::Relaxed);
        let all = self.heads.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        all > HEADS || before == 0 && blank > BLANK || before < BLANK && blank == bytes.len() && before + blank > BLANK
    }

    /// The head is complete.
    fn complete(&self) {
        let head = self.head.swap(0, Ordering::Relaxed);
        self.heads.fetch_sub(head, Ordering::Relaxed);
    }
}

/// The stream, and what is read from it.
struct Guard {
    stream: TcpStream,
    gauge: Arc<Gauge>,
    /// When the head that has begun has to be complete.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.gauge.complete();
    }
}

impl AsyncRead for Guard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = if buf.remaining() <= PIECE {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let mut piece = ReadBuf::new(buf.initialize_unfilled_to(PIECE));
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut piece);
            let filled = piece.filled().len();
            buf.advance(filled);
            read
        };
        if self.gauge.busy.load(Ordering::Relaxed) {
            self.deadline = None;
        } else if read.is_ready() {
            if self.gauge.add(&buf.filled()[before..]) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        } else if self.gauge.head.load(Ordering::Relaxed) > 0 {
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        } else {
            self.deadline = None;
        }
        read
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
