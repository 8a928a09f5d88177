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

/// A random UUID (version 4), as Lambda's request ids are.
pub fn uuid() -> String {
    let mut b: [u8; 16] = bytes();
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(b));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Random hexadecimal digits.
pub fn hex(digits: usize) -> String {
    let blocks: Vec<String> = (0..digits.div_ceil(16)).map(|_| format!("{:016x}", number())).collect();
    blocks.concat()[..digits].to_owned()
}
