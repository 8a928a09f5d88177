//! What the far side of a fork is to do, decided before anything is done: pure data in, steps out.
//!
//! [`zygote`] plans a zygote and its root file system, [`environment`] what is made of its children, [`restored`] the same for
//! those of an initialised process.

pub mod environment;
pub mod restored;
pub mod rootfs;
pub mod zygote;

/// Mount attributes of everything that comes from the host: read-only, no set-uid, no devices.
pub const READ_ONLY: u64 = RDONLY | NOSUID | NODEV;
/// Flags of mount(2) that are also attributes of `mount_setattr`, with the same values.
pub const RDONLY: u64 = 1;
/// Set-user-id bits mean nothing.
pub const NOSUID: u64 = 2;
/// Device nodes mean nothing.
pub const NODEV: u64 = 4;
/// Nothing can be executed.
pub const NOEXEC: u64 = 8;
/// Changes the options of a file system (of mount(2) only).
pub const REMOUNT: u64 = 32;
/// Changes the flags of a mount (of mount(2) only).
pub const REMOUNT_BIND: u64 = REMOUNT | 4096;
/// Nothing crosses to or from other mount namespaces.
pub const RECURSIVE_PRIVATE: u64 = 16_384 | (1 << 18);

/// Who environments are, inside: the ids of Lambda's user.
pub const USER_ID: u32 = 993;
/// The group that goes with it.
pub const GROUP_ID: u32 = 990;
/// The name that goes with it.
pub const USER_NAME: &str = "sbx_user1051";

/// Who an environment's processes are, inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Default for User {
    fn default() -> Self {
        Self { uid: USER_ID, gid: GROUP_ID }
    }
}

/// Where the store of code is to be found while an environment is set up; covered before user code runs.
pub const STORE: &str = "/.store";
/// An empty directory that nobody may open: what it is covered with.
pub const COVER: &str = "/.cover";
/// Where layers and an interpreter that both live under `/opt` are put together.
pub const MERGE: &str = "/.merge";
/// Where the host's directories appear that a function has been given.
pub const MNT: &str = "/mnt";
/// Where the files of the runtime are.
pub const RUNTIME: &str = "/var/runtime/coldframe_runtime";

#[cfg(test)]
mod tests {
    use super::*;
    use coldframe_sys::testing::headers::{assert_facts, fact};

    #[test]
    fn flags_of_mounts_are_those_of_the_kernels_header() {
        let mut facts = vec![
            fact("MS_REMOUNT", REMOUNT),
            fact("MS_REMOUNT | MS_BIND", REMOUNT_BIND),
            fact("MS_REC | MS_PRIVATE", RECURSIVE_PRIVATE),
        ];
        for (name, value) in [("RDONLY", RDONLY), ("NOSUID", NOSUID), ("NODEV", NODEV), ("NOEXEC", NOEXEC)] {
            facts.extend(["MS_", "MOUNT_ATTR_"].map(|prefix| fact(format!("{prefix}{name}"), value)));
        }
        assert_facts("linux/mount.h", &facts);
    }
}
