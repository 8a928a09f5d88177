//! The Telemetry API, and the older Logs API: who wants to hear what, and how they are told.
//!
//! Records wait in a queue for each subscriber ([`queue`]), bounded by what it said that it buffers; one that comes when
//! there is no room is counted, and the subscriber is told. A task for each takes them away ([`delivery`]), while the
//! environment runs: what came last before it was frozen is sent when it runs again. What happens before an extension could
//! subscribe is kept for it, until the initialisation is over.

mod delivery;
mod queue;
mod record;
mod subscription;

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde_json::json;

pub use self::queue::Queue;
use self::record::{Category, Record};
use self::subscription::Subscription;
use super::answer::{self, Answer, Refusal};
use super::body::{Body, Trouble, refuse};
use super::extension;
use super::session::Shared;
use super::state::State;
use super::{News, Platform, Source};

/// Bytes of a subscription.
const SUBSCRIPTION: u64 = 64 << 10;
/// What is kept for those who have not subscribed yet: records, and their bytes.
const EARLY: (usize, usize) = (1000, 256 << 10);

/// Which of the two is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Logs,
    Telemetry,
}

/// The subscriptions of an environment.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Whether nobody can subscribe any more.
    closed: bool,
    early: VecDeque<Record>,
    early_bytes: usize,
    pub queues: Vec<Queue>,
}

impl Telemetry {
    /// A line of output.
    pub fn log(&mut self, source: Source, text: &str) {
        let category = match source {
            Source::Function => Category::Function,
            Source::Extension => Category::Extension,
        };
        self.add(category, || Record::new(category, category.name(), &json!(text)));
    }

    /// A record of the platform.
    pub fn platform(&mut self, record: &Platform) {
        self.add(Category::Platform, || Record::new(Category::Platform, record.kind, &record.record));
    }

    fn add(&mut self, category: Category, record: impl FnOnce() -> Record) {
        if self.closed && !self.queues.iter().any(|queue| queue.takes(category)) {
            return;
        }
        let record = record();
        for queue in &mut self.queues {
            queue.push(&record);
        }
        if !self.closed {
            self.early_bytes += record.bytes();
            self.early.push_back(record);
            while self.early.len() > EARLY.0 || self.early_bytes > EARLY.1 {
                self.early_bytes -= self.early.pop_front().map_or(0, |record| record.bytes());
            }
        }
    }

    /// Nobody can subscribe any more.
    pub fn close(&mut self) {
        self.closed = true;
        (self.early, self.early_bytes) = (VecDeque::new(), 0);
    }

    /// Whether all that was told has got to those who want it, or was given up.
    pub fn is_delivered(&self) -> bool {
        self.queues.iter().all(Queue::is_empty)
    }

    /// What waits goes as soon as it can.
    pub fn flush(&mut self) {
        self.queues.iter_mut().for_each(Queue::flush);
    }
}

impl State {
    /// An extension subscribes; if it did before, that is replaced. Says as what number its queue is known.
    fn subscribe(&mut self, name: &str, api: Api, subscription: &Subscription) -> Result<u64, Refusal> {
        if self.telemetry.closed {
            return Err(match api {
                Api::Logs => answer::forbidden("Logs.SubscriptionClosed", "Logs API subscription is closed"),
                Api::Telemetry => {
                    answer::forbidden("Telemetry.SubscriptionClosed", "Telemetry API subscription is closed")
                }
            });
        }
        let kind = match api {
            Api::Logs => "platform.logsSubscription",
            Api::Telemetry => "platform.telemetrySubscription",
        };
        self.telemetry.queues.retain(|queue| queue.name() != name);
        let mut queue = Queue::new(name, api, subscription);
        let number = queue.number();
        for record in &self.telemetry.early {
            queue.push(record);
        }
        self.telemetry.queues.push(queue);
        let types: Vec<&str> = subscription.types.iter().map(|category| category.name()).collect();
        let record = json!({ "name": name, "state": "Subscribed", "types": types });
        self.telemetry.platform(&Platform { kind, record });
        self.news.push_back(News::Subscribed);
        Ok(number)
    }
}

/// `PUT /2022-07-01/telemetry` and `PUT /2020-08-15/logs`.
pub async fn subscribe(shared: &Arc<Shared>, request: Request<Incoming>, api: Api) -> Answer {
    let known = extension::identifier(request.headers()).and_then(|id| {
        let unknown = || answer::forbidden("Extension.UnknownExtensionIdentifier", format!("Unknown extension {id}"));
        shared.lock().agent(&id).map(|agent| agent.name.clone()).ok_or_else(unknown)
    });
    let name = match known {
        Ok(name) => name,
        Err(refused) => return refuse(request, refused).await,
    };
    let mut body = Body::new(request);
    let read = body.read(SUBSCRIPTION).await;
    if read == Err(Trouble::TooLarge) {
        body.drain().await;
        return answer::too_large(SUBSCRIPTION).into();
    }
    let subscribed = read.map_err(|_| answer::truncated()).and_then(|body| {
        let invalid = |message: String| answer::refusal(StatusCode::BAD_REQUEST, "ValidationError", message);
        let subscription = Subscription::parse(&body, api).map_err(invalid)?;
        let number = shared.change(|state| state.subscribe(&name, api, &subscription))?;
        shared.spawn(delivery::deliver(Arc::clone(shared), number, subscription));
        Ok(())
    });
    subscribed.map_or_else(Answer::from, |()| answer::with(StatusCode::OK, "application/json", "\"OK\""))
}
