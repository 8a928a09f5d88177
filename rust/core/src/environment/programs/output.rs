//! What the programs of an environment print: into the log of the invocation, and to who subscribed to it.

use std::os::fd::AsFd as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Programs;
use crate::api::Source;
use crate::environment::Environment;
use crate::environment::talk::{give_buffer_back, take_buffer};
use crate::frames::Frames;
use crate::log::pull;

/// Output on its way in.
#[derive(Debug, Default)]
pub struct Reading {
    frames: Frames,
    function: Lines,
    extension: Lines,
}

impl Environment {
    pub(super) fn drain_programs(&self, programs: &Programs) {
        let mut reading = programs.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { frames, function, extension } = &mut *reading;
        let mut buffer = take_buffer();
        let attended = programs.attended.load(Ordering::Acquire);
        let log = &mut self.lock().log;
        let tell = |lines: &mut Lines, source, bytes: &[u8]| {
            if attended {
                lines.take(bytes, |line| programs.session.log(source, line));
            }
        };
        pull(self.output.as_fd(), &mut buffer, |bytes| {
            log.add(bytes);
            tell(function, Source::Function, bytes);
        });
        frames.drain_into(programs.frames.0.as_fd(), &mut buffer, |bytes| {
            log.add(bytes);
            tell(function, Source::Function, bytes);
        });
        if let Some((read, _)) = &programs.extensions {
            pull(read.as_fd(), &mut buffer, |bytes| {
                log.add(bytes);
                tell(extension, Source::Extension, bytes);
            });
        }
        give_buffer_back(buffer);
    }
}

/// The longest line.
const LINE: usize = 65_536;

/// A stream on its way to be cut into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.0.extend(piece);
            if piece.ends_with(b"\n") || self.0.len() >= LINE {
                each(&String::from_utf8_lossy(&std::mem::take(&mut self.0)));
            }
        }
    }
}
