//! The fixed-size record in which the far side of a fork reports to the supervisor.

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The process exists and waits for the supervisor's word; the message's credentials tell its process id.
    Hello = 1,
    /// A step failed: `index` is its place in the program of `section`, `value` the errno.
    Failed = 2,
    /// The process that an init watches ended: `value` is its wait status.
    Exited = 3,
    /// A seat is made, and its init watches.
    Seated = 4,
    /// An environment's process is in its seat: whoever helped it there has gone.
    Born = 5,
    /// It waits for its function.
    Parked = 6,
    /// A socket on which an environment's own programs will be heard comes with it.
    Listening = 7,
    /// A launcher has started the process `index`: `value` is its id inside.
    Started = 8,
    /// That process has ended: `value` is its wait status.
    Ended = 9,
    /// A connection comes with it that was asked for under the number `index`.
    Connected = 10,
    /// A base stands still, and can be looked at; `value` is an errno of a question, or 0.
    Stopped = 11,
    /// What was asked for is done.
    Done = 12,
}

/// Which program a failed step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// On the way from the zygote into a seat.
    Enter = 0,
    /// An environment's process before it is given a function.
    Park = 1,
    /// The same when it is given a function.
    Assign = 2,
    /// The init program.
    Init = 3,
    /// The second part of the init program: a zygote on its way to its interpreter.
    Child = 4,
    /// What an init does when it has started its child.
    Last = 5,
    /// What a launcher was asked for.
    Launch = 6,
    /// How a base is taken over.
    Take = 7,
    /// How ids are mapped below a base.
    Map = 8,
}

/// Sixteen bytes: kind, section, index, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// One of [`Kind`].
    pub kind: u32,
    /// One of [`Section`].
    pub section: u32,
    /// Place of the step in its program.
    pub index: u32,
    /// An errno or a wait status.
    pub value: i32,
}

impl Record {
    /// The length of a record on the wire.
    pub const LEN: usize = 16;

    /// The record as it is sent.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.section.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.index.to_le_bytes());
        bytes[12..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// The record that `bytes` are, if their number is right.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
        if bytes.len() != Self::LEN {
            return None;
        }
        Some(Self {
            kind: u32::from_le_bytes(word(0)?),
            section: u32::from_le_bytes(word(4)?),
            index: u32::from_le_bytes(word(8)?),
            value: i32::from_le_bytes(word(12)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz::fuzz;

    #[test]
    fn fuzz_a_record_is_sixteen_bytes_and_nothing_else_is_one() {
        let seeds = [Kind::Hello, Kind::Failed, Kind::Exited].map(|kind| {
            Record { kind: kind as u32, section: Section::Last as u32, index: 7, value: -1 }.to_bytes().to_vec()
        });
        fuzz(&seeds, |bytes| {
            let record = Record::from_bytes(bytes);
            assert_eq!(record.is_some(), bytes.len() == Record::LEN);
            assert!(record.is_none_or(|record| record.to_bytes() == bytes));
            record.is_some()
        });
    }
}
