//! Whether native code is made for the architecture that a function runs on.

use std::borrow::Cow;

use crate::spec::Architecture;

/// How much of a file's beginning [`foreign`] looks at, in bytes.
pub(super) const HEAD: usize = 20;

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const BIG_ENDIAN: u8 = 2;

const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// Names the architecture of native code that cannot run on `wanted`, by the beginning of its file.
///
/// `None` is everything else: no ELF file, one for `wanted`, one that nobody loads or starts (an object file, say), and
/// a header that makes no sense, which fails to load inside the sandbox all by itself.
pub(super) fn foreign(path: &[u8], executable: bool, head: &[u8], wanted: Architecture) -> Option<Cow<'static, str>> {
    if !(executable || is_loaded(path)) {
        return None;
    }
    let found = architecture(head)?;
    let right = match wanted {
        Architecture::X86_64 => "x86_64",
        Architecture::Arm64 => "arm64",
    };
    (found != right).then_some(found)
}

/// Whether a file of this name is loaded or started for its name alone.
fn is_loaded(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    name == b"bootstrap" || name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}

/// The architecture in an ELF header, in Lambda's spelling where Lambda has it.
fn architecture(head: &[u8]) -> Option<Cow<'static, str>> {
    let head: &[u8; HEAD] = head.first_chunk()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let (class, order) = (head[4], head[5]);
    let machine = [head[18], head[19]];
    let machine = match order {
        LITTLE_ENDIAN => u16::from_le_bytes(machine),
        BIG_ENDIAN => u16::from_be_bytes(machine),
        _ => return None,
    };
    if class != CLASS_32 && class != CLASS_64 {
        return None;
    }
    Some(Cow::Borrowed(match (machine, class, order) {
        (EM_X86_64, CLASS_64, LITTLE_ENDIAN) => "x86_64",
        (EM_AARCH64, CLASS_64, LITTLE_ENDIAN) => "arm64",
        (EM_X86_64, CLASS_32, LITTLE_ENDIAN) => "x32",
        (EM_AARCH64, CLASS_64, BIG_ENDIAN) => "big-endian arm64",
        (3, ..) => "32-bit x86",
        (40, ..) => "32-bit arm",
        (20 | 21, ..) => "powerpc",
        (22, ..) => "s390",
        (8, ..) => "mips",
        (243, ..) => "riscv",
        (258, ..) => "loongarch",
        _ => return Some(Cow::Owned(format!("ELF machine {machine}"))),
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF header of a 64-bit little-endian shared library for this machine number.
    pub(in crate::store) fn header(machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        head.extend(machine.to_le_bytes());
        head.resize(64, 0);
        head
    }

    #[test]
    fn fuzz_only_a_whole_header_names_an_architecture() {
        let seeds = [header(EM_X86_64), header(EM_AARCH64), header(40), b"#!/bin/sh\n".to_vec()];
        coldframe_sys::testing::fuzz::fuzz(&seeds, |file| {
            let head = &file[..file.len().min(HEAD)];
            let named = [Architecture::X86_64, Architecture::Arm64]
                .map(|wanted| foreign(b"x.so", true, file, wanted).map(Cow::into_owned));
            assert!(head.starts_with(b"\x7fELF") && head.len() == HEAD || named == [None, None]);
            assert_eq!(foreign(b"x.so", true, head, Architecture::X86_64).as_deref(), named[0].as_deref());
            assert_eq!(foreign(b"readme", false, file, Architecture::Arm64), None);
            named
        });
    }

    fn found(path: &str, head: &[u8]) -> Option<String> {
        foreign(path.as_bytes(), false, head, Architecture::X86_64).map(Cow::into_owned)
    }

    #[test]
    fn code_for_the_wanted_architecture_passes() {
        for (machine, wanted) in [(EM_X86_64, Architecture::X86_64), (EM_AARCH64, Architecture::Arm64)] {
            assert_eq!(foreign(b"a/b.so", true, &header(machine), wanted), None);
        }
    }

    #[test]
    fn the_other_architecture_is_named() {
        assert_eq!(found("lib.so", &header(EM_AARCH64)).as_deref(), Some("arm64"));
        assert_eq!(foreign(b"lib.so", false, &header(EM_X86_64), Architecture::Arm64).as_deref(), Some("x86_64"));
        assert_eq!(found("lib.so", &header(243)).as_deref(), Some("riscv"));
        assert_eq!(found("lib.so", &header(9999)).as_deref(), Some("ELF machine 9999"));
    }

    #[test]
    fn only_what_is_loaded_or_started_counts() {
        let arm = header(EM_AARCH64);
        for name in ["bootstrap", "bin/bootstrap", "x.so", "libz.so.1", "d/m.cpython-311-aarch64-linux-gnu.so"] {
            assert!(found(name, &arm).is_some(), "{name}");
        }
        for name in ["x.o", "bootstraps", "also", "x.sox", "dir.so/readme", "libz.so/x.bin"] {
            assert!(found(name, &arm).is_none(), "{name}");
        }
        assert!(foreign(b"tool", true, &arm, Architecture::X86_64).is_some());
    }

    #[test]
    fn word_size_and_byte_order_count() {
        let mut head = header(EM_X86_64);
        head[4] = CLASS_32;
        assert_eq!(found("x.so", &head).as_deref(), Some("x32"));
        let mut head = header(EM_AARCH64.swap_bytes());
        head[5] = BIG_ENDIAN;
        assert_eq!(found("x.so", &head).as_deref(), Some("big-endian arm64"));
        head[4] = CLASS_32;
        head[18..20].copy_from_slice(&[0, 3]);
        assert_eq!(found("x.so", &head).as_deref(), Some("32-bit x86"));
    }

    #[test]
    fn nonsense_is_no_native_code() {
        let arm = header(EM_AARCH64);
        for length in 0..HEAD {
            assert_eq!(found("x.so", &arm[..length]), None);
        }
        for (place, value) in [(0, 0), (4, 0), (4, 3), (5, 0), (5, 9)] {
            let mut head = arm.clone();
            head[place] = value;
            assert_eq!(found("x.so", &head), None);
        }
        assert_eq!(found("x.so", b"#!/bin/sh\necho hello world\n"), None);
    }
}
