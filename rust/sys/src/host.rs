//! Questions to this kernel, and the few calls about the calling thread that no safe crate offers.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::child::abi;

/// The Landlock version that this kernel offers (kernel 5.13 on), or `None`.
pub fn landlock_abi() -> Option<u32> {
    // SAFETY: a version query takes a null pointer and a size of zero; no memory is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            abi::LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).ok().filter(|&abi| abi > 0)
}

/// Whether filters may answer with this action.
pub fn seccomp_action_available(action: u32) -> bool {
    // SAFETY: the pointer is to a local of the size that the operation reads.
    unsafe { libc::syscall(libc::SYS_seccomp, abi::SECCOMP_GET_ACTION_AVAIL, 0usize, &raw const action) == 0 }
}

/// Kernel 6.16; newer than C libraries' headers.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Lets nobody send descriptors to this socket (kernel 6.16; false where the kernel cannot): what is sent is closed by
/// whoever receives it, and closing may block.
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> bool {
    let no: libc::c_int = 0;
    let size = size_of_val(&no) as libc::socklen_t;
    // SAFETY: the value is a local of the size that is given.
    unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), size) == 0 }
}

/// The process that connected this Unix socket, or that listened on the other end of it; `None` where that process is in a
/// namespace of which this one sees nothing, which the kernel says with the id 0.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of_val(&peer) as libc::socklen_t;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    // SAFETY: the value is a local of the size that is given, of which every bit pattern is one, and so is the size.
    let failed = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut peer).cast(), &raw mut size) };
    if failed == 0 { Ok((peer.pid != 0).then_some(peer.pid)) } else { Err(io::Error::last_os_error()) }
}

/// Sets attributes on a mount tree that is attached to nothing, has nothing cross to or from other mounts, and with a user
/// namespace shows its owners as that maps them (kernel 5.12).
pub fn adjust_tree(tree: BorrowedFd<'_>, attributes: u64, users: Option<BorrowedFd<'_>>) -> io::Result<()> {
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let idmap = if users.is_some() { abi::MOUNT_ATTR_IDMAP } else { 0 };
    let users = users.map_or(0, |fd| fd.as_raw_fd() as u64);
    let attr: [u64; 4] = [attributes | idmap, 0, abi::MS_PRIVATE, users];
    // SAFETY: the path is a constant, and the structure a local of the size that is given.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            abi::AT_EMPTY_PATH | abi::AT_RECURSIVE,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Blocks every signal in the calling thread, so that the process's signals go to its other threads.
pub fn block_signals() -> io::Result<()> {
    // SAFETY: both sets are locals; sigfillset initialises the one that is read.
    let failed = unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

#[cfg(test)]
mod tests {
    use super::SO_PASSRIGHTS;
    use crate::testing::headers::{assert_facts, fact};

    #[test]
    fn the_socket_option_is_the_kernels() {
        assert_facts("asm/socket.h", &[fact("SO_PASSRIGHTS", SO_PASSRIGHTS).since(6, 16)]);
    }
}
