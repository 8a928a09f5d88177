//! What happens beside the invocations, in the words that every caller's log has for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::room::Eviction;
use crate::environment::{Cause, Environment};
use crate::nursery::Unfit;
use crate::platform::Subject;
use crate::reclaim::Note;
use crate::trouble::Trouble;

/// Something that has happened.
#[derive(Debug)]
pub enum News {
    /// An environment began or ended.
    Life(Life),
    /// One had to make room.
    Eviction(Eviction),
    /// One was to give memory back.
    Reclaim(Note),
    /// A module is in no zygote.
    Unfit(Unfit),
    /// Something went wrong.
    Trouble(Trouble),
}

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

/// What news are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// An environment.
    Environment,
    /// Modules that are imported before the fork.
    Preload,
    /// The host as a whole.
    Host,
}

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

impl News {
    /// What it is about.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Life(_) | Self::Eviction(_) | Self::Reclaim(_) => Topic::Environment,
            Self::Unfit(_) => Topic::Preload,
            Self::Trouble(_) => Topic::Host,
        }
    }

    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Life(_) | Self::Eviction(_) | Self::Reclaim(Note { outcome: Ok(_), .. }) => Level::Debug,
            Self::Unfit(_) => Level::Info,
            Self::Reclaim(Note { outcome: Err(_), .. }) | Self::Trouble(Trouble::Stuck { .. }) => Level::Warning,
            Self::Trouble(Trouble::Defect(_)) => Level::Error,
        }
    }

    /// What all news of its kind say, and what goes to each `%s` in it: loggers keep the two apart.
    pub fn told(&self) -> (&'static str, Vec<String>) {
        match self {
            Self::Life(Life { environment, subject, turn }) => {
                let (template, how) = match turn {
                    Turn::Made(took) => {
                        ("made environment %s of %s in %s ms", format!("{:.1}", took.as_secs_f64() * 1e3))
                    }
                    Turn::Ended(cause) => ("destroyed environment %s of %s: %s", ended(*cause).to_owned()),
                };
                (template, vec![environment.clone(), subject.name.clone(), how])
            }
            Self::Eviction(Eviction { environment, function, reason }) => {
                ("evicted environment %s of %s: %s", vec![environment.clone(), function.clone(), reason.clone()])
            }
            Self::Reclaim(Note { environment, function, outcome }) => {
                let (template, what) = match outcome {
                    Ok(given) => ("reclaimed memory of environment %s of %s: %s", given.to_string()),
                    Err(error) => ("could not reclaim memory of environment %s of %s: %s", error.to_string()),
                };
                (template, vec![environment.clone(), function.clone(), what])
            }
            Self::Unfit(Unfit { module, reason }) => {
                ("%s is not preloaded, and imported in each environment: %s", vec![module.clone(), reason.clone()])
            }
            Self::Trouble(trouble) => ("%s", vec![trouble.to_string()]),
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (template, arguments) = self.told();
        let mut parts = template.split("%s");
        f.write_str(parts.next().unwrap_or_default())?;
        parts.zip(arguments).try_for_each(|(part, argument)| write!(f, "{argument}{part}"))
    }
}

fn ended(cause: Cause) -> &'static str {
    match cause {
        Cause::None => "it ended by itself",
        Cause::Timeout => "its time was over",
        Cause::Memory => "its memory was used up",
        Cause::Cancelled => "its invocation was cancelled",
        Cause::Retired => "it was not needed any more, or not fit to be used again",
    }
}

impl Core {
    /// What has happened since this was last asked, the latest thousand of each kind at most.
    pub fn news(&self) -> Vec<News> {
        let lives = self.lives.take().into_iter().map(News::Life);
        let evictions = self.evictions.take().into_iter().map(News::Eviction);
        let reclaims = self.reclaim.notes().into_iter().map(News::Reclaim);
        let unfit = self.nursery.unfit().into_iter().map(News::Unfit);
        let troubles = self.troubles.take().into_iter().map(News::Trouble);
        lives.chain(evictions).chain(reclaims).chain(unfit).chain(troubles).collect()
    }

    /// Notes it, to be told later.
    pub(super) fn note_life(&self, environment: &Environment, turn: Turn) {
        let subject = Arc::clone(&environment.function().subject);
        self.lives.add(Life { environment: environment.id().to_owned(), subject, turn });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_has_its_place() {
        let news = News::Eviction(Eviction {
            environment: "e1".into(),
            function: "100%s".into(),
            reason: "memory is full; it is worth least".into(),
        });
        assert_eq!(news.to_string(), "evicted environment e1 of 100%s: memory is full; it is worth least");
        let unfit = News::Unfit(Unfit { module: "grpc".into(), reason: "it starts threads".into() });
        assert_eq!(unfit.to_string(), "grpc is not preloaded, and imported in each environment: it starts threads");
        for news in [news, unfit, News::Trouble(Trouble::Defect("a panic".into()))] {
            let (template, arguments) = news.told();
            assert_eq!(template.matches("%s").count(), arguments.len(), "{news}");
        }
    }
}
