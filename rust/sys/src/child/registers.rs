//! The registers of a process that is traced, on either architecture.

use super::abi;
use super::syscall::Answer;
use super::trace::ptrace;

/// An instruction that makes a system call, padded.
#[cfg(target_arch = "x86_64")]
pub const SYSTEM_CALL: [u8; 4] = [0x0f, 0x05, 0x0f, 0x0b];
/// An instruction that makes a system call.
#[cfg(target_arch = "aarch64")]
pub const SYSTEM_CALL: [u8; 4] = 0xd400_0001_u32.to_le_bytes();

#[cfg(target_arch = "x86_64")]
const COUNT: usize = 27;
#[cfg(target_arch = "aarch64")]
const COUNT: usize = 34;
#[cfg(target_arch = "x86_64")]
const VECTORS: usize = abi::NT_X86_XSTATE;
#[cfg(target_arch = "aarch64")]
const VECTORS: usize = abi::NT_PRFPREG;
/// The state of vector registers, at most.
pub const ROOM: usize = 16 * 1024;

/// All of them, and those for vectors.
#[derive(Clone)]
pub struct Registers {
    general: [u64; COUNT],
    vectors: Option<&'static [u8]>,
}

/// `struct iovec`.
#[repr(C)]
struct Vector {
    base: usize,
    len: usize,
}

/// The places of `struct user_regs_struct`.
#[cfg(target_arch = "x86_64")]
mod at {
    pub const R10: usize = 7;
    pub const R9: usize = 8;
    pub const R8: usize = 9;
    pub const RAX: usize = 10;
    pub const RDX: usize = 12;
    pub const RSI: usize = 13;
    pub const RDI: usize = 14;
    pub const ORIG_RAX: usize = 15;
    pub const RIP: usize = 16;
    pub const CS: usize = 17;
    pub const FLAGS: usize = 18;
    pub const RSP: usize = 19;
    pub const SS: usize = 20;
    pub const RCX: usize = 11;
    pub const ARGUMENTS: [usize; 6] = [RDI, RSI, RDX, R10, R8, R9];
    pub const ARGUMENTS_OF_C: [usize; 5] = [RDI, RSI, RDX, RCX, R8];
}

/// The places of `struct user_pt_regs`.
#[cfg(target_arch = "aarch64")]
mod at {
    pub const NUMBER: usize = 8;
    pub const SP: usize = 31;
    pub const PC: usize = 32;
    pub const STATE: usize = 33;
    pub const ARGUMENTS: [usize; 6] = [0, 1, 2, 3, 4, 5];
}

impl Registers {
    /// Those of a process that stands still.
    pub fn of(pid: i32) -> Result<Self, i32> {
        let mut registers = Self { general: [0; COUNT], vectors: None };
        let mut vector = Vector { base: registers.general.as_mut_ptr() as usize, len: size_of_val(&registers.general) };
        ptrace(abi::PTRACE_GETREGSET, pid, abi::NT_PRSTATUS, &raw mut vector as usize)?;
        // A process in the other mode of its architecture has fewer.
        if vector.len == size_of_val(&registers.general) { Ok(registers) } else { Err(abi::EINVAL) }
    }

    /// Keeps those for vectors as well, in `room`.
    pub fn with_vectors(mut self, pid: i32, room: &'static mut [u8; ROOM]) -> Result<Self, i32> {
        let mut vector = Vector { base: room.as_mut_ptr() as usize, len: ROOM };
        ptrace(abi::PTRACE_GETREGSET, pid, VECTORS, &raw mut vector as usize)?;
        self.vectors = room.get(..vector.len);
        Ok(self)
    }

    /// Gives them to a process that stands still.
    pub fn put(&self, pid: i32) -> Answer {
        if let Some(vectors) = self.vectors {
            let vector = Vector { base: vectors.as_ptr() as usize, len: vectors.len() };
            ptrace(abi::PTRACE_SETREGSET, pid, VECTORS, &raw const vector as usize)?;
        }
        let vector = Vector { base: self.general.as_ptr() as usize, len: size_of_val(&self.general) };
        ptrace(abi::PTRACE_SETREGSET, pid, abi::NT_PRSTATUS, &raw const vector as usize)
    }
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    /// The address of the next instruction.
    pub fn place(&self) -> usize {
        self.general[at::RIP] as usize
    }

    /// As if it stood in front of the system call that it was stopped in, or nowhere near one.
    pub fn settle(&mut self) {
        // What the kernel answers to itself: it is to begin again, or to go on by other means, which children cannot.
        const AGAIN: [i64; 3] = [-512, -513, -514];
        const OTHERWISE: i64 = -516;
        const EINTR: i64 = -(abi::EINTR as i64);
        let (number, answer) = (self.general[at::ORIG_RAX] as i64, self.general[at::RAX] as i64);
        if number >= 0 && AGAIN.contains(&answer) {
            self.general[at::RAX] = number as u64;
            self.general[at::RIP] -= 2;
        } else if number >= 0 && answer == OTHERWISE {
            self.general[at::RAX] = EINTR as u64;
        }
        self.general[at::ORIG_RAX] = u64::MAX;
    }

    /// At the beginning of a program, in 64-bit mode and with no flag set.
    pub fn start(&mut self, entry: usize, stack: usize, args: [usize; 5]) {
        self.general[at::RSP] = stack as u64;
        self.go(entry);
        for (place, arg) in at::ARGUMENTS_OF_C.into_iter().zip(args) {
            self.general[place] = arg as u64;
        }
    }

    /// In front of a system call instruction, with what it takes.
    pub fn ask(&mut self, number: usize, args: [usize; 6]) {
        self.go(self.place());
        self.general[at::RAX] = number as u64;
        for (place, arg) in at::ARGUMENTS.into_iter().zip(args) {
            self.general[place] = arg as u64;
        }
    }

    fn go(&mut self, place: usize) {
        const CODE_OF_64_BITS: u64 = 0x33;
        const DATA: u64 = 0x2b;
        const FLAGS: u64 = 0x202;
        self.general[at::RIP] = place as u64;
        self.general[at::ORIG_RAX] = u64::MAX;
        self.general[at::CS] = CODE_OF_64_BITS;
        self.general[at::SS] = DATA;
        self.general[at::FLAGS] = FLAGS;
    }

    /// Whether it is about to make this system call.
    pub fn asks(&self, number: usize, args: [usize; 6]) -> bool {
        self.general[at::ORIG_RAX] == number as u64
            && at::ARGUMENTS.into_iter().zip(args).all(|(place, arg)| self.general[place] == arg as u64)
    }

    /// What a system call answered.
    pub fn answer(&self) -> Answer {
        let answer = self.general[at::RAX] as i64;
        if (-4095..0).contains(&answer) { Err(-answer as i32) } else { Ok(answer as usize) }
    }

    /// Past the trap that it stands at: it stands behind it already.
    pub fn skip_trap(&mut self) {}
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    /// The address of the next instruction.
    pub fn place(&self) -> usize {
        self.general[at::PC] as usize
    }

    /// As if it stood in front of the system call that it was stopped in: the kernel has seen to that.
    pub fn settle(&mut self) {}

    /// At the beginning of a program, with no flag set.
    pub fn start(&mut self, entry: usize, stack: usize, args: [usize; 5]) {
        self.general[at::SP] = stack as u64;
        self.general[at::PC] = entry as u64;
        self.general[at::STATE] = 0;
        for (place, arg) in at::ARGUMENTS.into_iter().zip(args) {
            self.general[place] = arg as u64;
        }
    }

    /// In front of a system call instruction, with what it takes.
    pub fn ask(&mut self, number: usize, args: [usize; 6]) {
        self.general[at::STATE] = 0;
        self.general[at::NUMBER] = number as u64;
        for (place, arg) in at::ARGUMENTS.into_iter().zip(args) {
            self.general[place] = arg as u64;
        }
    }

    /// Whether it is about to make this system call.
    pub fn asks(&self, number: usize, args: [usize; 6]) -> bool {
        self.general[at::NUMBER] == number as u64
            && at::ARGUMENTS.into_iter().zip(args).all(|(place, arg)| self.general[place] == arg as u64)
    }

    /// What a system call answered.
    pub fn answer(&self) -> Answer {
        let answer = self.general[0] as i64;
        if (-4095..0).contains(&answer) { Err(-answer as i32) } else { Ok(answer as usize) }
    }

    /// Past the trap that it stands at.
    pub fn skip_trap(&mut self) {
        self.general[at::PC] += 4;
    }
}
