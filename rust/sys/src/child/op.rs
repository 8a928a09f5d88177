//! The steps that the far side of a fork can be told to take, and how they are written down.
//!
//! A program is a sequence of steps; a step is its code (u16), two bytes of padding, the length of its arguments (u32)
//! and the arguments: numbers (u64) first, then strings that end in NUL, then what is left as bytes. Little-endian.

/// The code of a step; `program::Step` says what each does.
#[allow(missing_docs, reason = "see Step, which has the same names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    MakeDir = 1,
    MakeFile,
    Symlink,
    Bind,
    Grant,
    Offer,
    Attach,
    Mount,
    Unmount,
    Pivot,
    Hostname,
    LoopbackUp,
    WriteFile,
    Rlimit,
    Umask,
    Setsid,
    Chdir,
    DropBounding,
    DropCapabilities,
    Securebits,
    SetIds,
    NoNewPrivileges,
    Undumpable,
    LandlockBegin,
    LandlockPath,
    LandlockEnforce,
    Seccomp,
    JoinCgroup,
    NewKeyring,
    CgroupNamespace,
    Redirect,
    CloseFrom,
    ResetSignals,
    Sync,
    Listen,
    Place,
    ExecFd,
    Exec,
}

impl Code {
    const LAST: u16 = Self::Exec as u16;

    /// The code with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        if (1..=Self::LAST).contains(&number) {
            // SAFETY: the enumeration is `repr(u16)`, begins at 1, has no gaps, and ends at LAST.
            Some(unsafe { core::mem::transmute::<u16, Self>(number) })
        } else {
            None
        }
    }
}

/// Bytes in front of a step's arguments.
pub const HEADER: usize = 8;

/// Reads the steps of a program one after another; rubbish ends it with an error rather than a panic.
pub struct Steps<'a> {
    rest: &'a [u8],
}

impl<'a> Steps<'a> {
    /// The steps of `program`.
    pub fn new(program: &'a [u8]) -> Self {
        Self { rest: program }
    }

    /// The next step: `None` at the end, an error where the bytes are no step.
    pub fn take(&mut self) -> Option<Result<(Code, Args<'a>), ()>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.parse().ok_or(()))
    }

    fn parse(&mut self) -> Option<(Code, Args<'a>)> {
        let header = self.rest.get(..HEADER)?;
        let code = Code::from_number(u16::from_le_bytes([header[0], header[1]]))?;
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let args = self.rest.get(HEADER..HEADER.checked_add(len)?)?;
        self.rest = &self.rest[HEADER + len..];
        Some((code, Args { rest: args }))
    }
}

/// The arguments of one step, taken from the front.
pub struct Args<'a> {
    rest: &'a [u8],
}

impl<'a> Args<'a> {
    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let (head, tail) = self.rest.split_first_chunk::<8>()?;
        self.rest = tail;
        Some(u64::from_le_bytes(*head))
    }

    /// The next string, with its NUL.
    pub fn string(&mut self) -> Option<super::syscall::CStr<'a>> {
        let end = self.rest.iter().position(|&byte| byte == 0)? + 1;
        let (head, tail) = self.rest.split_at(end);
        self.rest = tail;
        super::syscall::CStr::new(head)
    }

    /// Whatever is left.
    pub fn bytes(self) -> &'a [u8] {
        self.rest
    }
}
