//! How a zygote is made.

use std::path::Path;

use coldframe_sys::child::serve;
use coldframe_sys::program::Step;

use super::rootfs::Root;
use crate::posture::{Posture, Wall};
use crate::process::namespace::{IPC, MOUNT, NETWORK, PID, USER, UTS};

/// The program that the interpreter of a zygote is started with; its configuration is the last argument.
const BOOT: &str = "import sys; sys.path.insert(0, '/var/runtime'); import json; \
                    from coldframe_runtime.zygote import main; main(json.loads(sys.argv[-1]))";
/// The descriptor of the zygote's output, among those that it is started with.
pub const OUTPUT: i32 = 10;

/// What serves.
pub enum Program<'a> {
    /// An interpreter.
    Interpreter {
        /// Its program.
        executable: &'a Path,
        /// What `coldframe_runtime.zygote.main` is told, as JSON.
        config: String,
    },
    /// Our own program, whose environments are launchers.
    Native,
}

/// A zygote to be.
pub struct Zygote<'a> {
    /// Its root file system.
    pub root: &'a Root,
    /// What it is.
    pub program: Program<'a>,
    /// As root: the user that it is to be.
    pub user: Option<u32>,
    /// Whether it stays in the host's network.
    pub network: bool,
    /// The walls that stand.
    pub posture: &'a Posture,
}

impl Zygote<'_> {
    /// The namespaces that it gets. As root it stays in the initial user namespace, without any capability, so that the
    /// supervisor can give each of its children a user of its own.
    pub fn namespaces(&self) -> u64 {
        let user = if self.user.is_some() { 0 } else { USER };
        let network = if self.network { 0 } else { NETWORK };
        PID | MOUNT | IPC | UTS | user | network
    }

    /// What pid 1 does, what the interpreter's process does, and what pid 1 does when it has started that.
    pub fn steps(&self) -> [Vec<Step>; 3] {
        let mut child = vec![
            Step::Setsid,
            Step::NewKeyring,
            Step::ResetSignals,
            Step::Redirect { from: OUTPUT, to: 1 },
            Step::Redirect { from: OUTPUT, to: 2 },
            Step::CloseFrom { first: OUTPUT as u32 },
            Step::Chdir { path: "/".into() },
        ];
        // Its environments inherit it, and that it is hard.
        if self.posture.has(Wall::Rlimits) {
            child.push(Step::Rlimit { resource: super::environment::rlimit::CORE, limit: 1 });
        }
        let lock_down = self.lock_down();
        child.extend(lock_down.clone());
        child.push(match &self.program {
            Program::Native => Step::ExecFd { fd: serve::ZYGOTE_INIT, name: "zygote".into() },
            Program::Interpreter { executable, config } => Step::Exec {
                path: executable.display().to_string(),
                argv: [&executable.display().to_string(), "-I", "-S", "-B", "-c", BOOT, config]
                    .map(str::to_owned)
                    .to_vec(),
                // Bound now, so that no environment has to write into the tables of its C library.
                envp: ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "LD_BIND_NOW=1"]
                    .map(str::to_owned)
                    .to_vec(),
            },
        });
        let mut first = vec![Step::NewKeyring];
        first.extend(self.posture.plan(self.root.steps()));
        [first, child, lock_down]
    }

    /// No capability, none to be had, and as root another user.
    fn lock_down(&self) -> Vec<Step> {
        // With the bits set, a change of user takes no capability away; before it, only root may set them.
        let mut steps = vec![Step::DropBounding, Step::Securebits { bits: super::environment::SECUREBITS }];
        if let Some(uid) = self.user {
            steps.push(Step::SetIds { uid, gid: uid, drop_groups: true });
        }
        steps.push(Step::DropCapabilities);
        // Its environments inherit it.
        if self.posture.has(Wall::NoNewPrivileges) {
            steps.push(Step::NoNewPrivileges);
        }
        steps
    }
}

/// What the runtime in a zygote has to know of its descriptors.
pub fn library() -> (String, i32) {
    (format!("/proc/self/fd/{}", serve::ZYGOTE_LIBRARY), serve::ZYGOTE_CONTROL)
}
