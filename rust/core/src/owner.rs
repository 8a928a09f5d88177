//! Whose something is. A process that was forked off has a copy of everything, and behind that are its parent's processes, locks
//! that nobody will ever release, and sockets on which somebody else listens.

/// The process that made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

impl Default for Owner {
    fn default() -> Self {
        Self(std::process::id())
    }
}

impl Owner {
    /// Whether this is that process, and no fork of it.
    pub fn is_here(self) -> bool {
        self == Self::default()
    }
}
