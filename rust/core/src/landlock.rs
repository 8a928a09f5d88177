//! Which rights Landlock is to handle and to grant, by the version of its interface (ABI); pure data, no kernel calls.
//!
//! Landlock is the second wall behind the mounts: what it handles is refused unless a rule for a path grants it. Not
//! handled are connections by TCP, since an environment has a network of its own and needs its loopback, and what the
//! interface does not know: `stat`, `chmod`, extended attributes, and descriptors that were open before.

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
/// The rights of the first interface, from `EXECUTE` to `MAKE_SYM`.
const FIRST: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// What a ruleset handles (the kernel's `struct landlock_ruleset_attr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Rights over files that are refused where no rule grants them.
    pub handled_access_fs: u64,
    /// Rights over the network, likewise: none.
    pub handled_access_net: u64,
    /// What may not reach beyond the environment: signals, and sockets without a path.
    pub scoped: u64,
}

/// What to handle with a version of the interface, or nothing if the kernel has no Landlock (version 0). A version
/// newer than the ones known here is used as the newest known one, which the kernel guarantees to understand.
pub fn ruleset(abi: u32) -> Option<Ruleset> {
    let scoped = if abi >= 6 { SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL } else { 0 };
    (abi >= 1).then(|| Ruleset { handled_access_fs: known(abi), handled_access_net: 0, scoped })
}

/// The rights over a tree that is only read: code, layers, libraries.
pub fn read_only(abi: u32) -> u64 {
    known(abi) & (EXECUTE | READ_FILE | READ_DIR)
}

/// The rights over the host's programs and libraries: to read them, and to truncate. Whoever opens a file is asked for
/// that too, in advance, and the kernel looks for it in every directory up to the root if it is granted in none, so that
/// an open takes half as long again. It is the read-only mount that refuses it there, and that the files are the host
/// root's; to write to them stays refused here as well.
pub fn programs(abi: u32) -> u64 {
    read_only(abi) | known(abi) & TRUNCATE
}

/// The rights over a scratch directory: everything but to make devices, which is for nobody, and to control some, which
/// there are none of. With `noexec`, not to run what was written either.
pub fn scratch(abi: u32, noexec: bool) -> u64 {
    let withheld = MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV | if noexec { EXECUTE } else { 0 };
    known(abi) & !withheld
}

/// The rights over a device node such as `/dev/null`. Controls are granted, so that `isatty` hears from the device that
/// it is no terminal (`ENOTTY`) and not that asking is forbidden (`EACCES`); the system call filter limits them.
pub fn device(abi: u32) -> u64 {
    known(abi) & (READ_FILE | WRITE_FILE | IOCTL_DEV)
}

/// All rights over files that a version of the interface knows.
fn known(abi: u32) -> u64 {
    let since = [(1, FIRST), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)];
    since.into_iter().filter(|(version, _)| abi >= *version).fold(0, |rights, (_, added)| rights | added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coldframe_sys::testing::headers::{assert_facts, fact};

    #[test]
    fn rights_are_those_of_the_kernels_header() {
        let first = [EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, MAKE_CHAR, MAKE_BLOCK];
        let names = ["EXECUTE", "WRITE_FILE", "READ_FILE", "READ_DIR", "MAKE_CHAR", "MAKE_BLOCK"];
        let mut facts: Vec<_> =
            names.into_iter().zip(first).map(|(name, bit)| fact(format!("LANDLOCK_ACCESS_FS_{name}"), bit)).collect();
        facts.extend([
            fact("2 * LANDLOCK_ACCESS_FS_MAKE_SYM - 1", FIRST),
            fact("LANDLOCK_ACCESS_FS_REFER", REFER).since(5, 19),
            fact("LANDLOCK_ACCESS_FS_TRUNCATE", TRUNCATE).since(6, 2),
            fact("LANDLOCK_ACCESS_FS_IOCTL_DEV", IOCTL_DEV).since(6, 10),
            fact("LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET", SCOPE_ABSTRACT_UNIX_SOCKET).since(6, 12),
            fact("LANDLOCK_SCOPE_SIGNAL", SCOPE_SIGNAL).since(6, 12),
        ]);
        assert_facts("linux/landlock.h", &facts);
    }

    #[test]
    fn without_landlock_there_is_no_ruleset() {
        assert_eq!(ruleset(0), None);
        assert_eq!((read_only(0), scratch(0, false), device(0)), (0, 0, 0));
    }

    #[test]
    fn every_version_handles_all_rights_it_knows() {
        let handled = |abi| ruleset(abi).expect("this version exists").handled_access_fs;
        let expected = [0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff];
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(handled), expected);
    }

    #[test]
    fn the_own_loopback_stays_free_and_scopes_begin_with_version_6() {
        for abi in 1..=7 {
            let ruleset = ruleset(abi).expect("this version exists");
            assert_eq!(ruleset.handled_access_net, 0);
            assert_eq!(ruleset.scoped, if abi < 6 { 0 } else { 3 }, "version {abi}");
        }
    }

    #[test]
    fn a_version_of_the_future_is_used_as_the_newest_known() {
        assert_eq!(ruleset(u32::MAX), ruleset(7));
    }

    #[test]
    fn read_only_trees_can_be_read_and_run() {
        for abi in 1..=7 {
            assert_eq!(read_only(abi), 0b1101, "version {abi}");
        }
    }

    #[test]
    fn programs_are_read_and_looked_for_no_further_up() {
        assert_eq!([1, 2, 3, 4, 7].map(programs), [0b1101, 0b1101, 0x400d, 0x400d, 0x400d]);
    }

    #[test]
    fn scratch_takes_everything_but_devices() {
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 7].map(|abi| scratch(abi, false)),
            [0x17bf, 0x37bf, 0x77bf, 0x77bf, 0x77bf, 0x77bf, 0x77bf]
        );
        for abi in 1..=7 {
            assert_eq!(scratch(abi, true), scratch(abi, false) & !EXECUTE, "version {abi}");
        }
    }

    #[test]
    fn devices_are_read_written_and_asked() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(device), [6, 6, 6, 6, 0x8006, 0x8006, 0x8006]);
    }

    /// The kernel refuses a rule that grants what its ruleset does not handle, or to a file what only directories have.
    #[test]
    fn the_kernel_takes_every_rule() {
        const FOR_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
        for abi in 1..=7 {
            let handled = ruleset(abi).expect("this version exists").handled_access_fs;
            for granted in [read_only(abi), programs(abi), scratch(abi, false), scratch(abi, true), device(abi)] {
                assert!(granted != 0 && granted & !handled == 0, "version {abi}: {granted:#x}");
            }
            assert_eq!(device(abi) & !FOR_FILES, 0, "version {abi}");
        }
    }
}
