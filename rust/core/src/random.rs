//! Random numbers from the kernel: tokens nobody inside can guess before they are told, and request ids.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // The kernel fills requests of up to 256 bytes whole once its pool is ready; an interruption is tried again.
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// A random number.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A random UUID (version 4), as Lambda's request ids are, and a random number that has nothing to do with it: every
/// invocation takes both, and the kernel is asked once.
pub fn uuid_and_number() -> (String, u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let drawn: [u8; 24] = bytes();
    let mut uuid = String::with_capacity(36);
    for (i, byte) in drawn[..16].iter().enumerate() {
        let byte = match i {
            6 => byte & 0x0f | 0x40,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(i, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        uuid.extend([byte >> 4, byte & 0xf].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    let mut number = [0; 8];
    number.copy_from_slice(&drawn[16..]);
    (uuid, u64::from_le_bytes(number))
}

/// Random hexadecimal digits.
pub fn hex(digits: usize) -> String {
    let blocks: Vec<String> = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", number())).collect();
    blocks.concat()[..digits].to_owned()
}
