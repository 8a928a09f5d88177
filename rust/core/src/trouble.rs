//! What goes wrong beside the invocations, so that no caller gets it as an error: it is among the news.

use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::environment::Environment;

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Something has been killed, and is still there.
    #[error(
        "{what} cannot be ended: {why}; its cgroups are {}; it is tried again every second, `coldframe doctor` lists it, and \
         the next host collects what is left",
        shown(cgroups)
    )]
    Stuck {
        /// The environment, and its function's name.
        what: String,
        /// Who holds it.
        why: String,
        /// Its cgroups that are still there.
        cgroups: Vec<PathBuf>,
    },
    /// A thread of ours has panicked, and the host was ended.
    #[error("{0}")]
    Defect(String),
}

impl Trouble {
    /// Of an environment that does not end.
    pub fn stuck(environment: &Environment) -> Self {
        let what = format!("environment {} of {}", environment.id(), environment.function().spec.name);
        let init = (!environment.ended()).then(|| environment.pid());
        Self::held(what, init, environment.cgroup())
    }

    /// Of something with a cgroup, and an init if that lives.
    pub fn held(what: String, init: Option<i32>, cgroup: &Cgroup) -> Self {
        let mut why: Vec<String> =
            init.map(|pid| format!("its init, process {pid}, has been killed and lives")).into_iter().collect();
        let inside = cgroup.inside();
        why.extend(inside.iter().map(|(pid, at)| format!("process {pid} ({}) is in {}", name(*pid), at.display())));
        let below = cgroup.below();
        why.extend(below.iter().map(|path| format!("somebody made the cgroup {}", path.display())));
        if why.is_empty() {
            why.push("the kernel keeps its cgroup and names nobody in it".to_owned());
        }
        let cgroups = cgroup.paths().into_values().filter(|path| path.exists()).collect();
        Self::Stuck { what, why: why.join(", "), cgroups }
    }
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The name of a process, and the letter of its state.
fn name(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let named = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    named.map_or_else(
        || "gone by now".into(),
        |(name, rest)| format!("{name}, {}", rest.trim().chars().next().unwrap_or('?')),
    )
}
