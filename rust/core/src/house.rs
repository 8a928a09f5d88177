//! What this process has on this host: what the host gives, and what is ours on its disk and in its cgroups.

use crate::cgroup::Groups;
use crate::error::Result;
use crate::host::Facts;
use crate::state::State;
use crate::store::Store;

/// All of it.
#[derive(Debug)]
pub struct House {
    /// What the host gives.
    pub facts: Facts,
    /// Our directory.
    pub state: State,
    /// The code of functions, in it.
    pub store: Store,
    /// Our cgroups.
    pub groups: Groups,
}

impl House {
    /// Looks at the host, collects what dead owners left there, and settles.
    pub fn new(take: bool) -> Result<Self> {
        let facts = Facts::probe(take)?;
        let state = State::new(facts.root)?;
        // Noted first: what is not on the list is never collected.
        state.note_cgroups(&Groups::planned(&facts.cgroups, state.name()))?;
        let groups = Groups::new(&facts.cgroups, state.name())?;
        let house = Self { store: Store::new(state.store()), facts, state, groups };
        if let Some(user) = house.zygote_user() {
            house.groups.admit(user)?;
        }
        Ok(house)
    }

    /// As root: the host user that zygotes are.
    pub fn zygote_user(&self) -> Option<u32> {
        self.facts.root.then(|| self.state.first_uid())
    }
}
