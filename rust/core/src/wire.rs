//! Messages between the supervisor and an environment: packets over a socket pair, one message at a time each way.
//!
//! Every byte from inside is hostile: a length is checked before memory is taken for it, a message counts only with the
//! token of the question that is open, and the body is passed on without being looked at.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the environment: the length (u32) of what follows first, which is what the function is, unless it knows already, a
    /// zero byte, and the bytecode of its handler, if that is known; then there may be the token and the body of an
    /// invocation, which so begins without a word from us in between.
    Init = 1,
    /// To the environment: an event.
    Invoke = 2,
    /// To the environment, ahead of need: what the function is.
    Describe = 3,
    /// To the environment: an event whose answer may come in chunks.
    Stream = 4,
    /// To one that is a fork of an initialised function: the same as `Init`, with what is new in this environment.
    Restore = 5,
    /// From it: the function is initialised.
    Ready = 11,
    /// From it: the function could not be initialised.
    InitError = 12,
    /// From it: the handler's result.
    Response = 13,
    /// From it: the handler failed.
    Error = 14,
    /// From it: it knows what the function is.
    Described = 15,
    /// From it: a part of the handler's result. Any number of them come before the response, which then is empty, or the error.
    Chunk = 16,
}

impl Kind {
    fn answer(number: u8) -> Option<Self> {
        [Self::Ready, Self::InitError, Self::Response, Self::Error, Self::Described, Self::Chunk]
            .into_iter()
            .find(|&kind| kind as u8 == number)
    }
}

/// Bytes in front of the body, in the first packet: kind, padding, reserved, length, token.
const HEADER: usize = 16;
/// The largest packet.
pub const PACKET: usize = 65_536;
/// What of a body fits into the first.
pub const FIRST: usize = PACKET - HEADER;

/// The longest chunk: the runtime makes several of a longer one.
pub const MAX_CHUNK: usize = 1 << 20;

/// A message on its way out.
pub struct Outgoing<'a> {
    header: [u8; HEADER],
    parts: Vec<&'a [u8]>,
    first: bool,
}

impl<'a> Outgoing<'a> {
    /// A message whose body is `parts`, one after another.
    pub fn new(kind: Kind, token: u64, parts: &[&'a [u8]]) -> Self {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; HEADER];
        header[0] = kind as u8;
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        header[8..].copy_from_slice(&token.to_le_bytes());
        Self { header, parts: parts.to_vec(), first: true }
    }

    /// Sends what the socket takes: true when all of it is gone.
    pub fn push(&mut self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        while self.first || !self.parts.is_empty() {
            let mut room = PACKET;
            let mut vectors = Vec::with_capacity(self.parts.len() + 1);
            if self.first {
                vectors.push(IoSlice::new(&self.header));
                room -= HEADER;
            }
            let body = room;
            for part in &self.parts {
                let take = part.len().min(room);
                vectors.push(IoSlice::new(&part[..take]));
                room -= take;
                if room == 0 {
                    break;
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(fd, &vectors, &mut SendAncillaryBuffer::default(), flags) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
            self.first = false;
            self.consume(body - room);
        }
        Ok(true)
    }

    fn consume(&mut self, mut sent: usize) {
        while let Some(part) = self.parts.first_mut() {
            if sent < part.len() {
                *part = &part[sent..];
                return;
            }
            sent -= part.len();
            self.parts.remove(0);
        }
    }
}

/// What came of looking for a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not all of it is here yet.
    Nothing,
    /// All of it.
    Message(Kind, Vec<u8>),
    /// Nobody holds the other end any more.
    Closed,
    /// Something that is no answer to the open question: why.
    Rubbish(&'static str),
}

/// A message on its way in.
#[derive(Debug)]
pub struct Incoming {
    token: u64,
    stale: u64,
    most: usize,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    kind: Kind,
    left: usize,
    body: Vec<u8>,
    stale: bool,
}

impl Incoming {
    /// Waits for the answer with this token, of at most `most` bytes. Second answers to the question before, whose token
    /// is `stale`, are thrown away: the one that came first has counted.
    pub fn new(token: u64, stale: u64, most: usize) -> Self {
        Self { token, stale, most, begun: None }
    }

    /// Takes what has arrived.
    pub fn pull(&mut self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Arrival> {
        loop {
            let got = match recv(fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Arrival::Closed),
                Ok((_, len)) if len > buffer.len() => return Ok(Arrival::Rubbish("a packet is too long")),
                Ok((_, len)) => &buffer[..len],
                Err(Errno::AGAIN) => return Ok(Arrival::Nothing),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            if let Some(arrival) = self.take(got) {
                return Ok(arrival);
            }
        }
    }

    fn take(&mut self, packet: &[u8]) -> Option<Arrival> {
        let body = if self.begun.is_some() {
            packet
        } else {
            match self.begin(packet) {
                Ok(body) => body,
                Err(why) => return Some(Arrival::Rubbish(why)),
            }
        };
        let begun = self.begun.as_mut()?;
        let Some(left) = begun.left.checked_sub(body.len()) else {
            return Some(Arrival::Rubbish("a message is longer than it said"));
        };
        begun.left = left;
        if !begun.stale {
            // No more than what is there is taken on the word of the other side: this grows as bytes arrive.
            begun.body.extend_from_slice(body);
        }
        if left > 0 {
            return None;
        }
        let whole = self.begun.take()?;
        (!whole.stale).then_some(Arrival::Message(whole.kind, whole.body))
    }

    fn begin<'p>(&mut self, packet: &'p [u8]) -> Result<&'p [u8], &'static str> {
        let (header, body) = packet.split_first_chunk::<HEADER>().ok_or("a message is shorter than its header")?;
        let kind = Kind::answer(header[0]).ok_or("a message is of no known kind")?;
        let mut word = [0; 8];
        word.copy_from_slice(&header[8..]);
        let token = u64::from_le_bytes(word);
        let left = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if token != self.token && token != self.stale {
            return Err("a message answers no open question");
        }
        if left > if kind == Kind::Chunk { MAX_CHUNK.min(self.most) } else { self.most } {
            return Err("a message is longer than it may be");
        }
        self.begun = Some(Begun { kind, left, body: Vec::new(), stale: token != self.token });
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::packet_pair;
    use coldframe_sys::testing::fuzz::fuzz;
    use coldframe_sys::testing::metered::peak;
    use std::os::fd::AsFd;

    /// Packets of any bytes and lengths: each begins with its length (u16).
    #[test]
    fn fuzz_packets_bring_no_more_than_was_sent_and_allowed() {
        const MOST: usize = 1000;
        let framed = |packets: &[Vec<u8>]| {
            let frame = |packet: &Vec<u8>| [&(packet.len() as u16).to_le_bytes()[..], packet].concat();
            packets.iter().flat_map(frame).collect::<Vec<u8>>()
        };
        let seeds = [
            framed(&[packet(13, 3, 7, b"one")]),
            framed(&[packet(14, 9, 7, b"one"), b"two".to_vec(), b"six".to_vec()]),
            framed(&[packet(13, 4, 6, b"st"), b"al".to_vec(), packet(11, 2, 7, b"ok"), packet(12, 0, 7, b"")]),
            framed(&[packet(15, 1000, 7, &[5; 999]), vec![5]]),
            framed(&[packet(16, 3, 7, b"one"), packet(16, 4, 7, b"t"), b"two".to_vec(), packet(13, 0, 7, b"")]),
        ];
        fuzz(&seeds, |mut bytes| {
            let (mut incoming, mut sent, mut fate) = (Incoming::new(7, 6, MOST), 0, Vec::new());
            while let Some((length, rest)) = bytes.split_first_chunk() {
                let (packet, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
                bytes = rest;
                sent += packet.len();
                let (arrival, memory) = peak(|| incoming.take(packet));
                assert!(memory <= 2 * sent.min(MOST) + 64, "{memory} bytes taken for {sent} that were sent");
                match arrival {
                    Some(Arrival::Message(kind, body)) => {
                        assert!(body.len() <= MOST && body.len() + HEADER <= sent && kind as u8 > 10);
                        fate.push(kind as usize);
                        sent = 0;
                    }
                    Some(Arrival::Rubbish(why)) => {
                        fate.push(why.len());
                        break;
                    }
                    Some(other) => panic!("{other:?} comes from a socket alone"),
                    None => fate.push(0),
                }
            }
            fate
        });
    }

    fn buffer() -> Vec<u8> {
        vec![0; PACKET]
    }

    fn packet(kind: u8, len: u32, token: u64, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend(len.to_le_bytes());
        packet.extend(token.to_le_bytes());
        packet.extend(body);
        packet
    }

    fn read(packets: &[Vec<u8>], most: usize) -> Arrival {
        let (ours, theirs) = packet_pair().expect("a socket pair");
        for packet in packets {
            rustix::net::send(&theirs, packet, SendFlags::empty()).expect("room in the socket");
        }
        let mut buffer = buffer();
        Incoming::new(7, 6, most).pull(ours.as_fd(), &mut buffer).expect("no kernel error")
    }

    #[test]
    fn a_message_arrives_whole_however_many_packets_it_took() {
        let body = vec![5; 100];
        assert_eq!(read(&[packet(13, 100, 7, &body)], 100), Arrival::Message(Kind::Response, body.clone()));
        let split = [packet(13, 100, 7, &body[..10]), body[10..60].to_vec(), body[60..].to_vec()];
        assert_eq!(read(&split, 100), Arrival::Message(Kind::Response, body));
        assert_eq!(read(&[packet(11, 0, 7, b"")], 0), Arrival::Message(Kind::Ready, vec![]));
    }

    #[test]
    fn a_second_answer_to_the_question_before_is_thrown_away() {
        let stale = [packet(13, 3, 6, b"o"), b"ld".to_vec(), packet(14, 0, 6, b"")];
        assert_eq!(read(&stale, 100), Arrival::Nothing);
        let fresh = [&stale[..], &[packet(13, 3, 7, b"new")]].concat();
        assert_eq!(read(&fresh, 100), Arrival::Message(Kind::Response, b"new".to_vec()));
    }

    #[test]
    fn what_is_no_answer_is_rubbish() {
        for (packets, most) in [
            (vec![packet(13, 1, 8, b"x")], 100),
            (vec![packet(2, 1, 7, b"x")], 100),
            (vec![packet(13, 101, 7, b"x")], 100),
            (vec![packet(13, 1, 7, b"xy")], 100),
            (vec![packet(13, 3, 7, b"x"), vec![0; 3]], 100),
            (vec![vec![13]], 100),
            (vec![packet(16, MAX_CHUNK as u32 + 1, 7, b"x")], 2 * MAX_CHUNK),
        ] {
            assert!(matches!(read(&packets, most), Arrival::Rubbish(_)), "{packets:?}");
        }
    }

    #[test]
    fn a_large_message_goes_out_in_pieces_as_the_socket_takes_them() {
        let (ours, theirs) = packet_pair().expect("a socket pair");
        let body: Vec<u8> = (0..1_000_000).map(|i| i as u8).collect();
        let mut outgoing = Outgoing::new(Kind::Response, 7, &[&body[..3], &body[3..]]);
        let mut incoming = Incoming::new(7, 6, body.len());
        let mut buffer = buffer();
        loop {
            outgoing.push(theirs.as_fd()).expect("no kernel error");
            match incoming.pull(ours.as_fd(), &mut buffer).expect("no kernel error") {
                Arrival::Nothing => {}
                arrival => break assert_eq!(arrival, Arrival::Message(Kind::Response, body)),
            }
        }
    }
}
