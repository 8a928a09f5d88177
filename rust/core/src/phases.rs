//! What an invocation's time went into, part by part.

use std::time::Duration;

/// The parts that happened, in their order; they do not overlap. What lies between them is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the call to an environment in hand, or to the beginning of a new one.
    pub queue: Option<Duration>,
    /// From there until the new environment's process runs, as it says; next to nothing where it was parked.
    pub fork: Option<Duration>,
    /// Until it has become the function's and has locked itself down.
    pub isolate: Option<Duration>,
    /// The import of the handler's module, as the environment says; never more than the supervisor saw.
    pub import: Option<Duration>,
    /// The rest of the initialisation: from the function's description to the answer that it is ready.
    pub initialise: Option<Duration>,
    /// The freeze that came before: the last thing that was done with the environment, after its previous answer.
    pub freeze: Option<Duration>,
    /// Letting it go on.
    pub thaw: Option<Duration>,
    /// From the event to the answer, without the thaw.
    pub invoke: Option<Duration>,
}

/// What an environment says of how it came to be, in nanoseconds of the clock that it shares with the host.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// When its process began to run.
    pub forked: u64,
    /// When it had locked itself down.
    pub assigned: u64,
    /// How long the import took.
    pub import: u64,
    /// When it was ready.
    pub ready: u64,
}

impl Said {
    /// Splits the answer of an environment that is ready: what it says, and the bytecode that follows.
    pub fn split(ready: &[u8]) -> Option<(Self, &[u8])> {
        let (forked, rest) = ready.split_first_chunk()?;
        let (assigned, rest) = rest.split_first_chunk()?;
        let (import, rest) = rest.split_first_chunk()?;
        let (ready, rest) = rest.split_first_chunk()?;
        let [forked, assigned, import, ready] = [forked, assigned, import, ready].map(|word| u64::from_le_bytes(*word));
        Some((Self { forked, assigned, import, ready }, rest))
    }
}

impl Phases {
    /// Notes how an environment came to be, from `begun` to `ready`. `said` is what it says of itself (see [`Said`]), which
    /// is believed as far as it can be; nothing: all of it was initialisation.
    pub fn initialised(&mut self, begun: u64, ready: u64, said: Option<Said>) {
        let Some(Said { forked, assigned, import, .. }) = said else {
            self.initialise = Some(Duration::from_nanos(ready.saturating_sub(begun)));
            return;
        };
        let forked = forked.clamp(begun, ready.max(begun));
        let assigned = assigned.clamp(forked, ready.max(forked));
        let rest = ready.saturating_sub(assigned);
        let import = import.min(rest);
        self.fork = Some(Duration::from_nanos(forked - begun));
        self.isolate = Some(Duration::from_nanos(assigned - forked));
        self.import = Some(Duration::from_nanos(import));
        self.initialise = Some(Duration::from_nanos(rest - import));
    }

    /// Those that happened, by their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        [
            ("queue", self.queue),
            ("fork", self.fork),
            ("isolate", self.isolate),
            ("import", self.import),
            ("initialise", self.initialise),
            ("freeze", self.freeze),
            ("thaw", self.thaw),
            ("invoke", self.invoke),
        ]
        .into_iter()
        .filter_map(|(name, time)| Some((name, time?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_believed_no_more_than_was_seen() {
        let phases = |forked, assigned, import| {
            let mut phases = Phases::default();
            phases.initialised(100, 200, Some(Said { forked, assigned, import, ready: 0 }));
            let parts = [phases.fork, phases.isolate, phases.import, phases.initialise];
            parts.map(|part| part.expect("it happened").as_nanos())
        };
        assert_eq!(phases(120, 150, 40), [20, 30, 40, 10]);
        assert_eq!(phases(10, 150, 40), [0, 50, 40, 10], "it was parked");
        assert_eq!(phases(u64::MAX, 0, u64::MAX), [100, 0, 0, 0]);
        assert_eq!(phases(150, 120, 1000), [50, 0, 50, 0]);
        let mut silent = Phases::default();
        silent.initialised(100, 200, None);
        assert_eq!(silent.named().collect::<Vec<_>>(), [("initialise", Duration::from_nanos(100))]);
    }

    #[test]
    fn fuzz_the_parts_are_the_whole_whatever_it_says() {
        let seeds = [[100, 150, 20, 190].map(u64::to_le_bytes).concat(), vec![0; 40], vec![0xff; 32]];
        coldframe_sys::testing::fuzz::fuzz(&seeds, |bytes| {
            let said = Said::split(bytes);
            assert_eq!(said.is_some(), bytes.len() >= 32);
            let mut phases = Phases::default();
            phases.initialised(100, 200, said.map(|(said, _)| said));
            let times: Vec<u128> = phases.named().map(|(_, time)| time.as_nanos()).collect();
            assert_eq!(times.iter().sum::<u128>(), 100, "no more and no less than the supervisor saw");
            times.into_iter().map(u128::checked_ilog2).collect::<Vec<_>>()
        });
    }

    #[test]
    fn what_it_says_comes_before_its_bytecode() {
        let mut ready = [1_u64, 2, 3, 4].map(u64::to_le_bytes).concat();
        ready.extend(b"code");
        let (said, bytecode) = Said::split(&ready).expect("it is long enough");
        assert_eq!((said.forked, said.assigned, said.import, said.ready, bytecode), (1, 2, 3, 4, &b"code"[..]));
        assert!(Said::split(&ready[..31]).is_none());
    }
}
