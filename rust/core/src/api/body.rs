//! Bodies of requests: read as far as somebody wants them, and no further than they may go.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::EXPECT;
use tokio::time::sleep;

use super::answer::{self, Answer, Refusal};
use super::session::Shared;

/// How much of a body that nobody wants is read all the same: many clients hear an answer only once they have sent what they
/// have, and a refused answer to an invocation may be as large as a good one.
const UNWANTED: u64 = 16 << 20;
/// For how long.
const UNWANTED_FOR: Duration = Duration::from_secs(5);

/// Bytes of a body of a request that should have none.
const NONE: u64 = 64 << 10;

/// Why a body is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection ended too early, or the framing was broken.
    Truncated,
    /// It has more bytes than it may have.
    TooLarge,
    /// The invocation is over.
    Over,
}

/// The body of a request.
pub struct Body {
    body: Incoming,
    /// Whether the client waits for a word before it sends it.
    asks: bool,
}

impl Body {
    pub fn new(request: Request<Incoming>) -> Self {
        let asks = request.headers().contains_key(EXPECT);
        Self { body: request.into_body(), asks }
    }

    /// All of it, in one piece.
    pub async fn read(&mut self, limit: u64) -> Result<Vec<u8>, Trouble> {
        let announced = self.body.size_hint();
        if announced.lower() > limit {
            return Err(Trouble::TooLarge);
        }
        // What is only announced is not allocated, beyond what is usual.
        let mut all = Vec::with_capacity(announced.lower().min(64 << 10) as usize);
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|_| Trouble::Truncated)?.into_data() {
                if all.len() as u64 + data.len() as u64 > limit {
                    return Err(Trouble::TooLarge);
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(all)
    }

    /// The same, while the invocation `id` is open.
    pub async fn read_for(&mut self, shared: &Shared, id: &str, limit: u64) -> Result<Vec<u8>, Trouble> {
        let over = shared.wait(|state| (!state.is_open(id)).then_some(Err(Trouble::Over)));
        first(self.read(limit), over).await
    }

    /// The next piece of it, or the trailers at its end.
    pub async fn piece(&mut self, shared: &Shared, id: &str) -> Result<Option<Piece>, Trouble> {
        let over = shared.wait(|state| (!state.is_open(id)).then_some(Err(Trouble::Over)));
        let piece = async {
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|_| Trouble::Truncated)?;
            Ok(match frame.into_data() {
                Ok(data) => Some(Piece::Data(data)),
                Err(frame) => frame.into_trailers().ok().map(Piece::Trailers),
            })
        };
        first(piece, over).await
    }

    /// Reads what is left of it, for a client that would not listen before, and gives it up at some point.
    pub async fn drain(mut self) {
        if self.asks {
            return;
        }
        let mut left = UNWANTED;
        let read = async {
            while let Some(Ok(frame)) = self.body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                if left == 0 {
                    break;
                }
            }
        };
        first(read, sleep(UNWANTED_FOR)).await;
    }
}

/// A piece of a body.
pub enum Piece {
    Data(Bytes),
    Trailers(hyper::HeaderMap),
}

/// Takes a request that should have no body, and has to be waited for: a connection on which there is something left to read
/// is not watched for its end.
pub async fn none(request: Request<Incoming>) -> Result<(), Refusal> {
    let mut body = Body::new(request);
    match body.read(NONE).await {
        Ok(_) => Ok(()),
        Err(Trouble::TooLarge) => {
            body.drain().await;
            Err(answer::too_large(NONE))
        }
        Err(_) => Err(answer::truncated()),
    }
}

/// Refuses a request, without a look at its body.
pub async fn refuse(request: Request<Incoming>, answer: impl Into<Answer>) -> Answer {
    Body::new(request).drain().await;
    answer.into()
}

/// Whichever is done first.
pub async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        done @ Poll::Ready(_) => done,
    })
    .await
}
