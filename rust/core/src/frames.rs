//! The framed log, which runtimes that are not ours write to the descriptor in `_LAMBDA_TELEMETRY_LOG_FD`: messages with
//! their ends and levels, where a stream of lines would leave both to be guessed. Our own runtime writes lines.
//!
//! A frame is its type, its length and the microseconds since 1970, all big-endian, and the message. Whatever comes is
//! hostile: nothing is kept of it here but the beginning of a header, and what is no frame is text from there on.

use std::os::fd::BorrowedFd;

use crate::log::Log;

/// In front of every frame's type.
const MAGIC: [u8; 2] = [0xa5, 0x5a];
/// Type and length; without a time in the first version of the format.
const SHORT: usize = 8;
/// With the time.
const LONG: usize = 16;

/// How much a message matters to who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// `TRACE`
    Trace,
    /// `DEBUG`
    Debug,
    /// `INFO`
    Info,
    /// `WARN`
    Warn,
    /// `ERROR`
    Error,
    /// `FATAL`
    Fatal,
}

/// What is said of a message before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Its level; `None`: not said.
    pub severity: Option<Severity>,
    /// Whether it is JSON.
    pub json: bool,
    /// When it was written, in microseconds since 1970; 0: not said.
    pub micros: u64,
}

/// What comes of a stream of frames, in this order: a header, any number of pieces of text, an end. Text without a header
/// is of a stream that has broken the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A message begins.
    Begin(Header),
    /// Some of it.
    Text(&'a [u8]),
    /// It is whole.
    End,
}

/// A stream of frames on its way in.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; LONG],
    /// How much of a header is here.
    filled: usize,
    /// How much of a message is to come; `None`: a header is.
    left: Option<usize>,
    /// Whether everything is text.
    broken: bool,
    /// The last byte of the message so far.
    last: u8,
}

impl Frames {
    /// Takes bytes as they come, and hands on what they say.
    pub fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            if self.broken {
                return each(Piece::Text(bytes));
            }
            if let Some(left) = self.left {
                let (text, rest) = bytes.split_at(left.min(bytes.len()));
                each(Piece::Text(text));
                bytes = rest;
                self.go_on(left - text.len(), &mut each);
                continue;
            }
            self.header[self.filled] = bytes[0];
            self.filled += 1;
            bytes = &bytes[1..];
            let begun = &self.header[..self.filled];
            if !MAGIC.starts_with(&begun[..self.filled.min(2)]) {
                self.broken = true;
                each(Piece::Text(begun));
            } else if let Some((header, length)) = parse(begun) {
                self.filled = 0;
                each(Piece::Begin(header));
                self.go_on(length, &mut each);
            }
        }
    }

    /// Notes that so much of a message is to come.
    fn go_on(&mut self, left: usize, each: &mut impl FnMut(Piece<'_>)) {
        self.left = (left > 0).then_some(left);
        if left == 0 {
            each(Piece::End);
        }
    }

    /// Takes what is in the pipe now, and adds it to the log: each message ends its line.
    pub fn drain(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8], log: &mut Log) {
        self.drain_into(pipe, buffer, |text| log.add(text));
    }

    /// The same for whatever takes text.
    pub fn drain_into(&mut self, pipe: BorrowedFd<'_>, buffer: &mut [u8], mut add: impl FnMut(&[u8])) {
        crate::log::pull(pipe, buffer, |bytes| {
            let mut last = self.last;
            self.take(bytes, |piece| match piece {
                Piece::Begin(_) => last = 0,
                Piece::Text(text) => {
                    last = text.last().copied().unwrap_or(last);
                    add(text);
                }
                Piece::End if last == b'\n' => {}
                Piece::End => add(b"\n"),
            });
            self.last = last;
        });
    }
}

/// What a header says, and how long its message is, if it is whole.
fn parse(header: &[u8]) -> Option<(Header, usize)> {
    let (kind, rest) = header.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let kind = u32::from_be_bytes(*kind);
    // Bit 0: text rather than JSON; bit 1: there is a time; above: the level.
    let micros = match (kind & 2 != 0, rest.first_chunk()) {
        (true, Some(micros)) if header.len() == LONG => u64::from_be_bytes(*micros),
        (false, _) if header.len() == SHORT => 0,
        _ => return None,
    };
    let severity = match kind >> 2 & 0x3fff {
        1 => Some(Severity::Trace),
        2 => Some(Severity::Debug),
        3 => Some(Severity::Info),
        4 => Some(Severity::Warn),
        5 => Some(Severity::Error),
        6 => Some(Severity::Fatal),
        _ => None,
    };
    Some((Header { severity, json: kind & 1 == 0, micros }, u32::from_be_bytes(*length) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Level, Logging};
    use coldframe_sys::testing::fuzz::fuzz;
    use coldframe_sys::testing::metered::peak;
    use std::os::fd::AsFd as _;

    const TEXT: Logging = Logging { json: false, level: Level::Info };

    fn frame(kind: u32, micros: u64, text: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(text.len() as u32).to_be_bytes(), &micros.to_be_bytes(), text].concat()
    }

    /// What comes of it: each message with its header, whole or not, and what is no message.
    fn read(pieces: &[&[u8]]) -> Vec<(Option<Header>, Vec<u8>, bool)> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for bytes in pieces {
            frames.take(bytes, |piece| match piece {
                Piece::Begin(header) => found.push((Some(header), Vec::new(), false)),
                Piece::Text(text) => {
                    if found.last().is_none_or(|(header, _, whole)| header.is_some() && *whole) {
                        found.push((None, Vec::new(), false));
                    }
                    found.last_mut().expect("one").1.extend(text);
                }
                Piece::End => found.last_mut().expect("one").2 = true,
            });
        }
        found
    }

    #[test]
    fn a_message_has_its_ends_and_its_level() {
        let header = |severity, json, micros| Some(Header { severity, json, micros });
        let both = [frame(0xa55a_0003, 7, b"one\ntwo"), frame(0xa55a_0016, 8, b"{}")].concat();
        let expected = vec![
            (header(None, false, 7), b"one\ntwo".to_vec(), true),
            (header(Some(Severity::Error), true, 8), b"{}".to_vec(), true),
        ];
        assert_eq!(read(&[&both]), expected);
        assert_eq!(read(&both.chunks(1).collect::<Vec<_>>()), expected);
        assert_eq!(read(&[&frame(0xa55a_000f, 0, b"")])[0].0, header(Some(Severity::Info), false, 0));
        let old = [&0xa55a_0001_u32.to_be_bytes()[..], &3_u32.to_be_bytes(), b"old"].concat();
        assert_eq!(read(&[&old]), [(header(None, false, 0), b"old".to_vec(), true)]);
    }

    #[test]
    fn what_is_no_frame_is_text_from_there_on() {
        let bytes = [&frame(0xa55a_0003, 0, b"one")[..], b"plain\n", &frame(0xa55a_0003, 0, b"two")].concat();
        let found = read(&[&bytes]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], (None, bytes[19..].to_vec(), false));
        assert_eq!(read(&[b"\xa5", b"x"]), [(None, b"\xa5x".to_vec(), false)]);
    }

    #[test]
    fn each_message_ends_its_line_in_the_log() {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        let (mut frames, mut log) = (Frames::default(), Log::new(1000, TEXT));
        let bytes = [frame(0xa55a_0003, 0, b"a"), frame(0xa55a_000b, 0, b"b\n"), frame(0xa55a_0003, 0, b"")].concat();
        for part in [&bytes[..17], &bytes[17..20], &bytes[20..]] {
            rustix::io::write(&theirs, part).expect("room in the pipe");
            frames.drain(ours.as_fd(), &mut [0; 64], &mut log);
        }
        assert_eq!(log.take(), ("a\nb\n\n".to_owned(), 0));
    }

    #[test]
    fn fuzz_frames_say_the_same_however_they_arrive() {
        let seeds = [
            [frame(0xa55a_0003, 7, b"one"), frame(0xa55a_001a, 8, b"{}")].concat(),
            [&frame(0xa55a_0006, 1, b"x")[..], b"plain"].concat(),
            frame(0xa55a_0003, u64::MAX, &[5; 300])[..200].to_vec(),
            [&0xa55a_0001_u32.to_be_bytes()[..], &u32::MAX.to_be_bytes(), b"old"].concat(),
        ];
        fuzz(&seeds, |bytes| {
            let ((), memory) = peak(|| Frames::default().take(bytes, |_| {}));
            assert_eq!(memory, 0, "nothing is kept of what passes");
            let whole = read(&[bytes]);
            assert_eq!(read(&bytes.chunks(3).collect::<Vec<_>>()), whole);
            assert!(whole.iter().map(|(_, text, _)| text.len()).sum::<usize>() <= bytes.len());
            whole.into_iter().map(|(header, text, whole)| (header, text.len().min(20), whole)).collect::<Vec<_>>()
        });
    }
}
