//! Who the caller is and whether it can make environments: the kernel's own answers, not guesses from versions and ids.

use std::fs;
use std::io;
use std::time::Duration;

use coldframe_sys::child::record::{Kind, Record, Section};
use coldframe_sys::program::Step;
use rustix::process::{getgid, getuid};

use crate::assistant::Assistant;
use crate::plan::rootfs::mount;
use crate::plan::{NODEV, NOEXEC, NOSUID, RECURSIVE_PRIVATE};
use crate::process::namespace::{CGROUP, IPC, MOUNT, NETWORK, PID, USER, UTS};
use crate::process::own_map;
use crate::state::USERS;
use crate::zygote::failure;

/// How long making namespaces may take.
const TRIAL: Duration = Duration::from_secs(5);
/// What root has to be capable of, by number and name: becoming other users, handing cgroups to them, giving everything
/// up, namespaces, and being root in one of users.
const CAPABILITIES: [(u32, &str); 6] = [
    (0, "CAP_CHOWN"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (21, "CAP_SYS_ADMIN"),
    (31, "CAP_SETFCAP"),
];
const OF_THE_KERNEL: &str = "sysctl -w user.max_user_namespaces=15000; on Ubuntu also: sysctl -w \
     kernel.apparmor_restrict_unprivileged_userns=0; in a container, allow unshare, mount and pivot_root in its \
     profile, and leave /proc uncovered";
const OF_ROOT: &str = "give the container CAP_SYS_ADMIN and what else is named, or run as an ordinary user";

/// Why no namespaces can be made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is missing, or what the kernel answered.
    pub why: String,
    /// What would mend it.
    pub remedy: &'static str,
}

/// Whether the caller is root, with the users of the host. Root of a user namespace that lacks the users that environments
/// are given is treated as the ordinary user that it is.
pub fn is_root() -> bool {
    getuid().is_root() && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| has_users(&map))
}

fn has_users(uid_map: &str) -> bool {
    uid_map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next().unwrap_or(0), numbers.next(), numbers.next().unwrap_or(0));
        first <= USERS.start.into() && first + count >= USERS.end.into()
    })
}

/// What root lacks.
fn lacking(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let has = |number: u32| effective.is_none_or(|set| set >> number & 1 == 1);
    CAPABILITIES.into_iter().filter(|&(number, _)| !has(number)).map(|(_, name)| name).collect()
}

/// Makes every namespace as it is made for environments, mounts a `/proc` there, and changes the root.
pub fn try_namespaces(root: bool) -> Result<(), Refusal> {
    let all = PID | MOUNT | NETWORK | IPC | UTS | CGROUP;
    let mounts = [
        mount("none", "/", "", RECURSIVE_PRIVATE, ""),
        mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC, ""),
        // Docker's own profile allows whoever has CAP_SYS_ADMIN all but this.
        mount("tmpfs", "/proc", "tmpfs", NOSUID | NODEV | NOEXEC, ""),
        Step::Pivot { path: "/proc".to_owned() },
    ];
    let refused = |why: String| Refusal { why, remedy: OF_THE_KERNEL };
    if !root {
        return attempt(all | USER, &mounts).map_err(refused);
    }
    let status = fs::read_to_string("/proc/self/status").map_err(|e| refused(e.to_string()))?;
    let lacking = lacking(&status);
    if !lacking.is_empty() {
        return Err(Refusal { why: format!("root lacks {}", lacking.join(", ")), remedy: OF_ROOT });
    }
    // What is covered in the caller's /proc stands in nobody's way: a zygote's is mounted without a user namespace.
    attempt(all, &mounts).and_then(|()| attempt(all | USER, &[])).map_err(refused)
}

/// Starts an init with these namespaces, which takes these steps, and ends it.
fn attempt(namespaces: u64, steps: &[Step]) -> Result<(), String> {
    let said = start(namespaces, steps).map_err(|e| e.to_string())?;
    match failure(&said, Section::Init, steps) {
        Some(error) => Err(error.to_string()),
        None if Record::from_bytes(&said).is_some_and(|record| record.kind == Kind::Seated as u32) => Ok(()),
        None => Err("its init said nothing of use".to_owned()),
    }
}

fn start(namespaces: u64, steps: &[Step]) -> io::Result<[u8; Record::LEN]> {
    let map = own_map(getuid().as_raw(), getgid().as_raw());
    let map = (namespaces & USER != 0).then_some((map.0.as_str(), map.1.as_str()));
    Assistant::start(namespaces, steps, map)?.says(TRIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_the_users_of_environments() {
        assert!(has_users("         0          0 4294967295\n"));
        assert!(!has_users("         0       1000          1\n"), "root of a user namespace over one user");
        assert!(!has_users("0 1000 1\n1 100000 65536\n"), "and of one as for a rootless container");
        assert!(!has_users(""));
    }

    #[test]
    fn what_root_lacks_is_named() {
        assert!(lacking("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(lacking("CapPrm:\t0\nCapEff:\t00000000a80425fb\n"), ["CAP_SYS_ADMIN"], "as in a container");
    }
}
