//! The output of one invocation: its beginning and its end are kept, the middle is counted.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, read};

/// As much as a pipe holds.
const PIPE: usize = 65_536;

/// What a handler printed, up to a limit.
#[derive(Debug)]
pub struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    half: usize,
    dropped: u64,
}

impl Log {
    /// A log that keeps `limit` bytes: half of them from the start, half from the end, where errors are.
    pub fn new(limit: usize) -> Self {
        Self { head: Vec::new(), tail: VecDeque::new(), half: limit / 2, dropped: 0 }
    }

    /// Takes what is in the pipe now, and not what a flood puts there meanwhile: whoever drains has other things to do.
    pub fn drain(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8]) {
        let mut left = PIPE;
        while left > 0 {
            match read(pipe, &mut *buffer) {
                Ok(n) => {
                    self.add(&buffer[..n]);
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

    /// Takes these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(self.half)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(self.half);
        self.dropped += (rest.len() - kept.len() + over) as u64;
        self.tail.drain(..over);
        self.tail.extend(kept);
    }

    /// The text, with a mark where something is missing, and how many bytes that is. The log is empty afterwards.
    pub fn take(&mut self) -> (String, u64) {
        let dropped = std::mem::take(&mut self.dropped);
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
            let mark =
                format!("[coldframe: {dropped} bytes of output were dropped here; log_kb sets how much is kept]\n");
            text.push_str(&mark);
        }
        text.push_str(&String::from_utf8_lossy(tail.make_contiguous()));
        (text, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept_whole() {
        let mut log = Log::new(10);
        log.add(b"hello");
        log.add(b"world");
        assert_eq!(log.take(), ("helloworld".to_owned(), 0));
        assert_eq!(log.take(), (String::new(), 0));
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
        let mut log = Log::new(10);
        for i in 0..1000 {
            log.add(format!("{i:03}").as_bytes());
        }
        let (text, dropped) = log.take();
        assert_eq!(dropped, 2990);
        assert!(text.starts_with("00000\n[coldframe: 2990 bytes") && text.ends_with("98999"), "{text}");
    }

    #[test]
    fn characters_stay_whole_where_nothing_is_missing() {
        let mut log = Log::new(20);
        let text = "xéééééééé";
        log.add(text.as_bytes());
        assert_eq!(log.take(), (text.to_owned(), 0));
    }

    #[test]
    fn a_log_of_no_size_counts_everything() {
        let mut log = Log::new(0);
        log.add(b"abc");
        assert_eq!(log.take().1, 3);
    }
}
