//! The output of one invocation: its beginning and its end are kept, the middle is counted.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use rustix::io::{Errno, read};

use crate::platform::{Logging, Record};

/// As much as a pipe holds.
const PIPE: usize = 65_536;

/// Hands on what is in the pipe now, and not what a flood puts there meanwhile: whoever drains has other things to do.
pub(crate) fn pull(pipe: BorrowedFd<'_>, buffer: &mut [u8], mut each: impl FnMut(&[u8])) {
    let mut left = PIPE;
    while left > 0 {
        match read(pipe, &mut *buffer) {
            Ok(n) => {
                each(&buffer[..n]);
                left = left.saturating_sub(n);
                if n < buffer.len() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// What a handler printed, up to a limit.
#[derive(Debug)]
pub struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    dropped: u64,
    /// How many of those ended a line.
    lines: u64,
    logging: Logging,
}

impl Log {
    /// A log that keeps `limit` bytes: half of them from the start, half from the end, where errors are. Where something is
    /// missing it says so in the form of `logging`.
    pub fn new(limit: usize, logging: Logging) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half: limit / 2, dropped: 0, lines: 0, logging }
    }

    /// Takes what is in the pipe now.
    pub fn drain(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8]) {
        pull(pipe, buffer, |bytes| self.add(bytes));
    }

    /// Takes some output.
    pub fn add(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(self.half)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(self.half);
        let passed = &rest[..rest.len() - kept.len()];
        self.dropped += (passed.len() + over) as u64;
        let ends = |bytes: &mut dyn Iterator<Item = u8>| bytes.filter(|&byte| byte == b'\n').count() as u64;
        self.lines += ends(&mut passed.iter().copied()) + ends(&mut self.tail.drain(..over));
        self.tail.extend(kept);
    }

    /// The text, with a mark where something is missing, and how many bytes that is. The log is empty afterwards.
    pub fn take(&mut self) -> (String, u64) {
        let (dropped, lines) = (std::mem::take(&mut self.dropped), std::mem::take(&mut self.lines));
        let (mut head, mut tail) = (std::mem::take(&mut self.head), std::mem::take(&mut self.tail));
        if dropped == 0 {
            // One piece of text, which may change from one to the other in the middle of a character.
            head.extend(tail.drain(..));
        }
        let mut text = String::from_utf8_lossy(&head).into_owned();
        if dropped > 0 {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&self.mark(dropped, lines));
        }
        text.push_str(&String::from_utf8_lossy(tail.make_contiguous()));
        (text, dropped)
    }

    fn mark(&self, dropped: u64, lines: u64) -> String {
        if !self.logging.json {
            return format!("[coldframe: {dropped} bytes of output were dropped here; log_kb sets how much is kept]\n");
        }
        let reason = "The output is over log_kb.".to_owned();
        let mut line = String::new();
        let record = Record::LogsDropped { bytes: dropped, records: lines, reason };
        self.logging.write(&mut line, &record, SystemTime::now());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Level;

    const TEXT: Logging = Logging { json: false, level: Level::Info };

    #[test]
    fn what_fits_is_kept_whole() {
        let mut log = Log::new(10, TEXT);
        log.add(b"hello");
        log.add(b"world");
        assert_eq!(log.take(), ("helloworld".to_owned(), 0));
        assert_eq!(log.take(), (String::new(), 0));
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
        let mut log = Log::new(10, TEXT);
        for i in 0..1000 {
            log.add(format!("{i:03}").as_bytes());
        }
        let (text, dropped) = log.take();
        assert_eq!(dropped, 2990);
        assert!(text.starts_with("00000\n[coldframe: 2990 bytes") && text.ends_with("98999"), "{text}");
    }

    #[test]
    fn characters_stay_whole_where_nothing_is_missing() {
        let mut log = Log::new(20, TEXT);
        let text = "xéééééééé";
        log.add(text.as_bytes());
        assert_eq!(log.take(), (text.to_owned(), 0));
    }

    #[test]
    fn a_log_of_no_size_counts_everything() {
        let mut log = Log::new(0, TEXT);
        log.add(b"abc");
        assert_eq!(log.take().1, 3);
    }

    #[test]
    fn in_json_the_mark_is_a_record() {
        let mut log = Log::new(10, Logging { json: true, ..TEXT });
        log.add(b"1234\n1234\n1234\n1234\n");
        let (text, dropped) = log.take();
        assert_eq!(dropped, 10);
        let mark: serde_json::Value =
            text.lines().nth(1).map(|line| serde_json::from_str(line).expect("JSON")).expect("a mark");
        assert_eq!((&mark["type"], &mark["record"]["droppedRecords"]), (&"platform.logsDropped".into(), &2.into()));
        assert!(text.starts_with("1234\n{") && text.ends_with("}\n1234\n"), "{text}");
    }
}
