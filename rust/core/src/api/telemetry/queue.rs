//! What waits for one subscriber.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Api;
use super::record::{Category, Record};
use super::subscription::Subscription;

/// How many times what a subscriber buffers may wait: a batch that is full, and what comes while the one before is sent.
const BATCHES: usize = 2;
/// The reason that a subscriber is told of records for which there was no room.
const SLOW: &str = "Some logs were dropped because the downstream consumer is slower than the logs production rate";
/// What the older API has no records of.
const NEWER: [&str; 6] = [
    "platform.initStart",
    "platform.initRuntimeDone",
    "platform.initReport",
    "platform.restoreStart",
    "platform.restoreRuntimeDone",
    "platform.restoreReport",
];

/// A queue: at most [`BATCHES`] times `maxItems` records, and `maxBytes` bytes.
#[derive(Debug)]
pub struct Queue {
    number: u64,
    name: String,
    api: Api,
    types: Vec<Category>,
    max_items: usize,
    max_bytes: usize,
    timeout: Duration,
    records: VecDeque<Record>,
    bytes: usize,
    /// Whether a batch is on its way.
    sending: bool,
    /// When the oldest has waited for long enough.
    due: Option<Instant>,
    /// Records, and their bytes, for which there was no room.
    dropped: (usize, usize),
    /// There is something to do for whoever takes them away.
    pub wake: Arc<Notify>,
}

/// What a queue gives.
#[derive(Debug)]
pub enum Batch {
    /// To be sent now, with how many bytes they have.
    Full(Vec<Record>, usize),
    /// Not before then, unless there is a wake.
    At(Instant),
    /// Not before the next wake.
    Empty,
}

impl Queue {
    pub fn new(name: &str, api: Api, subscription: &Subscription) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            api,
            types: subscription.types.clone(),
            max_items: subscription.max_items,
            max_bytes: subscription.max_bytes,
            timeout: subscription.timeout,
            records: VecDeque::new(),
            bytes: 0,
            sending: false,
            due: None,
            dropped: (0, 0),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Which one it is, of all that there ever were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its owner wants to hear of such.
    pub fn takes(&self, category: Category) -> bool {
        self.types.contains(&category)
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.bytes
    }

    /// Adds a record, if it is wanted and there is room.
    pub fn push(&mut self, record: &Record) {
        if !self.takes(record.category) || self.api == Api::Logs && NEWER.contains(&record.kind) {
            return;
        }
        let full = self.records.len() >= BATCHES * self.max_items;
        if full || self.bytes + record.bytes() > BATCHES * self.max_bytes {
            self.lose(1, record.bytes());
            return;
        }
        self.bytes += record.bytes();
        self.records.push_back(record.clone());
        if self.due.is_none() {
            // Whoever takes them away does not look at the clock without a reason.
            self.due = Some(Instant::now() + self.timeout);
            self.wake.notify_one();
        } else if self.is_full() {
            self.wake.notify_one();
        }
    }

    /// Records were lost.
    pub fn lose(&mut self, records: usize, bytes: usize) {
        self.dropped.0 += records;
        self.dropped.1 += bytes;
    }

    /// What waits goes now.
    pub fn flush(&mut self) {
        if self.due.is_some() {
            self.due = Some(Instant::now());
            self.wake.notify_one();
        }
    }

    /// Whether nothing waits, and nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && !self.sending
    }

    /// What was taken has been sent, or given up.
    pub fn sent(&mut self) {
        self.sending = false;
    }

    fn is_full(&self) -> bool {
        self.records.len() >= self.max_items || self.bytes >= self.max_bytes
    }

    /// What is to be sent now.
    pub fn take(&mut self) -> Batch {
        let Some(due) = self.due else { return Batch::Empty };
        let now = Instant::now();
        if due > now && !self.is_full() {
            return Batch::At(due);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.max_items && bytes < self.max_bytes {
            let Some(record) = self.records.pop_front() else { break };
            bytes += record.bytes();
            batch.push(record);
        }
        self.bytes -= bytes;
        self.sending = true;
        self.due = (!self.records.is_empty()).then_some(now);
        self.say_what_was_lost(SLOW);
        Batch::Full(batch, bytes)
    }

    /// Tells the subscriber of what it does not get, now that there is room to say so.
    fn say_what_was_lost(&mut self, reason: &str) {
        let (records, bytes) = std::mem::take(&mut self.dropped);
        if records > 0 {
            let lost = json!({ "droppedBytes": bytes, "droppedRecords": records, "reason": reason });
            self.push(&Record::new(Category::Platform, "platform.logsDropped", &lost));
        }
    }

    /// A batch could not be sent.
    pub fn failed(&mut self, records: usize, bytes: usize, reason: &str) {
        self.lose(records, bytes);
        self.say_what_was_lost(reason);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Whoever takes records away sees that there are no more.
        self.wake.notify_one();
    }
}
