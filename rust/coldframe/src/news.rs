//! What happens beside the invocations, for the caller's log.

use coldframe_core::nursery::Unfit;
use coldframe_core::pool::Core;
use coldframe_core::pool::room::Eviction;
use coldframe_core::reclaim::Note;
use coldframe_core::trouble::Trouble;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is as it should be.
    Debug,
    /// A function could be quicker.
    Info,
    /// Something does not work.
    Warning,
    /// What must not have happened.
    Error,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// How much it matters.
    pub level: Level,
    /// What it was.
    pub message: String,
}

pub(crate) fn of(core: &Core) -> Vec<News> {
    let evictions = core.evictions().into_iter().map(|Eviction { environment, function, reason }| News {
        level: Level::Debug,
        message: format!("evicted environment {environment} of {function}: {reason}"),
    });
    let notes = core.reclaim().notes().into_iter().map(|Note { environment, function, outcome }| match outcome {
        Ok(given) => News {
            level: Level::Debug,
            message: format!("reclaimed memory of environment {environment} of {function}: {given}"),
        },
        Err(error) => News {
            level: Level::Warning,
            message: format!("could not reclaim memory of environment {environment} of {function}: {error}"),
        },
    });
    let unfit = core.unfit().into_iter().map(|Unfit { module, reason }| News {
        level: Level::Info,
        message: format!("{module} is not preloaded, and imported in each environment: {reason}"),
    });
    let troubles = core.troubles().into_iter().map(|trouble| News {
        level: if matches!(trouble, Trouble::Defect(_)) { Level::Error } else { Level::Warning },
        message: trouble.to_string(),
    });
    evictions.chain(notes).chain(unfit).chain(troubles).collect()
}

impl Level {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
