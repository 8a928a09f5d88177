//! What is said between the supervisor and an environment's launcher.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use coldframe_sys::child::launch::{CONNECT, SIGNAL, START};
use coldframe_sys::child::record::{Kind, Record};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::Signal;

/// The number by which a launcher knows the runtime; extensions follow.
pub const RUNTIME: u32 = 0;

/// A word of a launcher. It is no code of the function's, but what it says is believed no further than it can do harm to its
/// own environment.
#[derive(Debug)]
pub enum Word {
    /// A process could not be started: the errno.
    Failed(u32, i32),
    /// A process has ended: its wait status.
    Ended(u32, i32),
    /// A connection that was asked for.
    Connected(u32, OwnedFd),
    /// The launcher itself has ended.
    Closed,
    /// Something without a meaning here.
    Other,
}

/// Has it start a process, which is given `descriptor`.
pub fn start(control: BorrowedFd<'_>, id: u32, steps: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let header = header(START, id);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(&header), IoSlice::new(steps)];
    sendmsg(control, &parts, &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// Has it send a process a signal.
pub fn signal(control: BorrowedFd<'_>, id: u32, signal: Signal) -> io::Result<()> {
    ask(control, SIGNAL, id, signal.as_raw() as u32)
}

/// Has it connect to a port of its own loopback.
pub fn connect(control: BorrowedFd<'_>, id: u32, port: u16) -> io::Result<()> {
    ask(control, CONNECT, id, port.into())
}

fn ask(control: BorrowedFd<'_>, verb: u32, id: u32, number: u32) -> io::Result<()> {
    let (header, number) = (header(verb, id), number.to_le_bytes());
    let parts = [IoSlice::new(&header), IoSlice::new(&number)];
    sendmsg(control, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

fn header(verb: u32, id: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&verb.to_le_bytes());
    header[4..].copy_from_slice(&id.to_le_bytes());
    header
}

/// Its next word, if it has said one.
pub fn hear(control: BorrowedFd<'_>) -> io::Result<Option<Word>> {
    let mut bytes = [0; Record::LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let len = loop {
        match recvmsg(control, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(got) => break got.bytes,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(Some(Word::Closed)),
            Err(e) => return Err(e.into()),
        }
    };
    let descriptor: Option<OwnedFd> = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if len == 0 {
        return Ok(Some(Word::Closed));
    }
    let Some(record) = Record::from_bytes(&bytes[..len]) else { return Ok(Some(Word::Other)) };
    Ok(Some(match record.kind {
        kind if kind == Kind::Connected as u32 => match descriptor {
            Some(socket) => Word::Connected(record.index, socket),
            None => Word::Other,
        },
        kind if kind == Kind::Failed as u32 => Word::Failed(record.index, record.value),
        kind if kind == Kind::Ended as u32 => Word::Ended(record.index, record.value),
        _ => Word::Other,
    }))
}
