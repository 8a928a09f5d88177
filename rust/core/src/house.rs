//! What this process has on this host: what the host gives, and what is ours on its disk and in its cgroups.

use crate::api::Server;
use crate::cgroup::Groups;
use crate::error::Result;
use crate::host::Facts;
use crate::state::State;
use crate::status;
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
    /// Who answers runtimes and extensions that are programs.
    pub api: Server,
    /// Who answers other programs of this user: nobody where the file system takes no sockets, as `coldframe top` says.
    pub status: Option<status::Server>,
}

impl House {
    /// Looks at the host, collects what dead owners left there, and settles.
    pub fn new(take: bool) -> Result<Self> {
        let facts = Facts::probe(take)?;
        let state = State::new(facts.root)?;
        let planned = Groups::planned(&facts.cgroups, state.name());
        // Noted first: what is not on the list is never collected.
        let noted = state.note_cgroups(&planned);
        match noted.and_then(|()| Groups::new(&facts.cgroups, state.name())) {
            Ok(groups) => {
                let (store, status) = (Store::new(state.store()), status::Server::new(state.directory()).ok());
                let house = Self { store, facts, state, groups, api: Server::new(), status };
                let admitted = house.zygote_user().map_or(Ok(()), |user| house.groups.admit(user));
                if let Err(e) = admitted {
                    house.clear();
                    return Err(e);
                }
                Ok(house)
            }
            // Nothing half made stays until somebody else starts.
            Err(e) => {
                for path in planned {
                    let _ = std::fs::remove_dir(path);
                }
                state.remove();
                Err(e)
            }
        }
    }

    /// Removes what is ours, when nothing runs in it. What is left keeps its entry in our directory, by which the next start
    /// finds it; false if there is any.
    pub fn clear(&self) -> bool {
        let clear = self.groups.remove();
        if clear {
            self.state.remove();
        }
        clear
    }

    /// As root: the host user that zygotes are.
    pub fn zygote_user(&self) -> Option<u32> {
        self.facts.root.then(|| self.state.first_uid())
    }
}
