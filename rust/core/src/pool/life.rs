//! What environments go through, for whoever keeps a log.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::environment::{Cause, Environment};
use crate::platform::Subject;

/// Something that an environment has gone through.
#[derive(Clone, Debug)]
pub struct Life {
    /// The environment's name.
    pub environment: String,
    /// Its function.
    pub subject: Arc<Subject>,
    /// What it was.
    pub turn: Turn,
}

/// The turns of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is initialised, or restored: how long it took from the wish for it.
    Made(Duration),
    /// It is no more: why it was ended, if it was ended by us.
    Ended(Cause),
}

impl Core {
    /// Notes it, to be told later.
    pub(super) fn note_life(&self, environment: &Environment, turn: Turn) {
        let subject = Arc::clone(&environment.function().subject);
        self.lives.add(Life { environment: environment.id().to_owned(), subject, turn });
    }

    /// What environments have gone through since this was last asked, the latest thousand turns at most.
    pub fn lives(&self) -> Vec<Life> {
        self.lives.take()
    }
}
