use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::MetadataExt;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::testing::Scratch;
use super::*;
use crate::spec::{Architecture, Sizes};
use crate::store::tree::Room;
use crate::store::{Limits, Snapshot};

type Bytes = Vec<u8>;

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(mode)
}

/// An archive of files; a name that ends with `/` is a directory, one with `->` in it a link.
fn archive(names: &[&str]) -> Bytes {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for name in names {
        if let Some((link, target)) = name.split_once("->") {
            writer.add_symlink(link, target, options(0o777)).unwrap();
        } else if name.ends_with('/') {
            writer.add_directory(*name, options(0o755)).unwrap();
        } else {
            writer.start_file(*name, options(0o644)).unwrap();
            writer.write_all(b"content").unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

/// The same archive with other bytes for these, which have the same length, wherever they are.
fn replaced(mut bytes: Bytes, from: &str, to: &str) -> Bytes {
    assert_eq!(from.len(), to.len());
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

/// The same archive with other bytes at this place of the last header of the central directory.
fn patched(mut bytes: Bytes, at: usize, value: &[u8]) -> Bytes {
    let header = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    bytes[header + at..header + at + value.len()].copy_from_slice(value);
    bytes
}

fn with_mode(bytes: Bytes, mode: u32) -> Bytes {
    patched(bytes, 38, &(mode << 16).to_le_bytes())
}

fn unpacked(scratch: &Scratch, bytes: &[u8]) -> Result<Snapshot> {
    let mut limits = Limits::new(&Sizes { zip_mb: 100, ..Sizes::default() });
    scratch.store.code(&scratch.write("code.zip", bytes), Architecture::X86_64, &mut limits)
}

/// The message with which an archive is refused, and nothing of it is left.
fn refusal(bytes: &[u8]) -> String {
    let scratch = Scratch::new();
    let error = unpacked(&scratch, bytes).expect_err("a hostile archive was unpacked");
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
    assert!(scratch.stored().is_empty());
    let message = error.to_string();
    assert!(message.contains("code.zip"), "{message}");
    message
}

#[track_caller]
fn assert_refused(bytes: &[u8], why: &str) {
    let message = refusal(bytes);
    assert!(message.contains(why), "{message}");
}

#[test]
fn a_sound_archive_is_unpacked() {
    let scratch = Scratch::new();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let date = DateTime::from_date_and_time(2024, 2, 29, 12, 30, 58).unwrap();
    let deflated = SimpleFileOptions::default().last_modified_time(date).unix_permissions(0o4711);
    writer.start_file("deep/er/tool", deflated).unwrap();
    writer.write_all(&vec![7; 100_000]).unwrap();
    writer.start_file("app.py", options(0o600)).unwrap();
    writer.add_directory("deep/", options(0o700)).unwrap();
    writer.start_file("./a//b/./na\u{ef}ve\\name", options(0o644)).unwrap();
    writer.add_symlink("deep/link", "../app.py", options(0o777)).unwrap();
    let snapshot = unpacked(&scratch, &writer.finish().unwrap().into_inner()).unwrap();
    let tool = fs::metadata(snapshot.path.join("deep/er/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.len(), tool.mtime()), (0o755, 100_000, 1_709_209_858));
    assert_eq!(fs::metadata(snapshot.path.join("app.py")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(snapshot.path.join("deep")).unwrap().mode() & 0o7777, 0o755);
    assert!(snapshot.path.join("a/b/na\u{ef}ve\\name").is_file());
    assert_eq!(fs::read_link(snapshot.path.join("deep/link")).unwrap(), Path::new("../app.py"));
}

#[test]
fn an_empty_archive_and_the_top_directory_are_sound() {
    let scratch = Scratch::new();
    assert!(unpacked(&scratch, &archive(&[])).is_ok());
    let snapshot = unpacked(&scratch, &archive(&["./", "./app.py"])).unwrap();
    assert!(snapshot.path.join("app.py").is_file());
}

#[test]
fn names_that_lead_out_are_refused() {
    for (name, why) in [
        ("../x", "`..`"),
        ("d/../../x", "`..`"),
        ("d/..", "`..`"),
        ("../", "`..`"),
        ("/etc/x", "absolute"),
        ("//", "absolute"),
        ("..\\x", "`..`"),
        ("d\\..\\x", "`..`"),
        ("\\x", "absolute"),
        ("\\\\host\\x", "absolute"),
        ("C:\\x", "absolute"),
        ("x\0y", "control"),
        ("x\ny", "control"),
        ("x\u{1b}[2J", "control"),
        (".", "empty"),
    ] {
        // Under a harmless name first, in case the writer would mend it.
        let harmless: String = name.chars().map(|c| if c.is_ascii() { 'z' } else { c }).collect();
        let (harmless, name) = match name.strip_suffix('/') {
            Some(_) => (harmless[1..].to_owned() + "/", name),
            None => (harmless, name),
        };
        assert_refused(&replaced(archive(&[&harmless]), &harmless, name), why);
    }
}

#[test]
fn names_have_limits() {
    assert_refused(&archive(&[&"n".repeat(256)]), "too long");
    assert_refused(&archive(&[&["n".repeat(200), "d/".repeat(64)].join("/")]), "too deep");
    assert_refused(&archive(&[&["n".repeat(240).as_str(); 17].join("/")]), "too long");
    let scratch = Scratch::new();
    assert!(unpacked(&scratch, &archive(&[&("d/".repeat(63) + &"n".repeat(255))])).is_ok());
}

#[test]
fn clashing_entries_are_refused() {
    assert_refused(&archive(&["a/b", "a//b"]), "another entry");
    assert_refused(&archive(&["a/b", "./a/./b"]), "another entry");
    assert_refused(&archive(&["a", "a/"]), "another entry");
    assert_refused(&archive(&["a/", "a"]), "another entry");
    assert_refused(&archive(&["a/b", "a"]), "another entry");
    assert_refused(&archive(&["a", "a/b"]), "below a file or link");
    assert_refused(&archive(&["a/", ".//a/"]), "another entry");
    let message = refusal(&replaced(archive(&["one", "two", "eno"]), "eno", "one"));
    assert!(message.contains("\"one\" is there twice"), "{message}");
}

#[test]
fn nothing_is_written_through_a_link() {
    for names in [["a->b", "a/x"], ["a/x", "a->b"], ["a->b", "a/"], ["a->.", "./a"], ["a->.", "./a->."]] {
        refusal(&archive(&names));
    }
}

#[test]
fn links_stay_inside() {
    for link in ["a->/etc", "a->..", "a->../x", "d/a->../../x", "d/a->x/../../../d", "a->", "d/a->.././../d"] {
        assert_refused(&archive(&[link]), "link out of the archive");
    }
    assert_refused(&archive(&[&format!("a->{}", "x/".repeat(3000))]), "link out of the archive");
    assert_refused(&replaced(archive(&["a->qqqq"]), "qqqq", "q\0qq"), "broken"); // and so is the checksum
    assert!(!stays_inside(b"a", b"q\0q"));
    let scratch = Scratch::new();
    let sound = archive(&["d/e/a->../../x", "d/b->..", "x->d/e/..", "dangling->nowhere/./at//all/"]);
    let snapshot = unpacked(&scratch, &sound).unwrap();
    assert_eq!(fs::read_link(snapshot.path.join("d/b")).unwrap(), Path::new(".."));
}

#[test]
fn odd_types_are_refused() {
    for kind in [0o010_000, 0o020_000, 0o060_000, 0o140_000, 0o170_000] {
        assert_refused(&with_mode(archive(&["x"]), kind | 0o644), "device, FIFO or socket");
    }
    assert_refused(&with_mode(archive(&["x"]), 0o040_755), "contradicts");
    assert_refused(&with_mode(archive(&["x/"]), 0o100_644), "contradicts");
    assert_refused(&with_mode(archive(&["x/"]), 0o120_777), "contradicts");
    // Made on a system without such modes: still no device.
    let foreign = patched(archive(&["x"]), 5, &[0]);
    assert_refused(&with_mode(foreign, 0o060_644), "device, FIFO or socket");
}

#[test]
fn encryption_and_odd_compression_are_refused() {
    assert_refused(&patched(archive(&["x"]), 8, &[1]), "encrypted");
    for (method, name) in [(12_u16, "Bzip2"), (93, "Zstd"), (14, "Lzma"), (9, "Deflate64"), (77, "77")] {
        assert_refused(&patched(archive(&["x"]), 10, &method.to_le_bytes()), name);
    }
}

#[test]
fn broken_archives_are_refused() {
    assert_refused(b"", "not a sound .zip archive");
    assert_refused(b"no archive at all, but long enough to look like one", "not a sound .zip archive");
    let sound = archive(&["app.py", "d/x"]);
    for length in 0..sound.len() {
        refusal(&sound[..length]);
    }
    assert_refused(&[&b"#!/bin/sh\n"[..], &sound].concat(), "not a sound .zip archive");
    let corrupt = replaced(archive(&["app.py"]), "content", "CONTENT");
    assert_refused(&corrupt, "\"app.py\" is broken");
}

/// Whatever byte is wrong, there is a snapshot or an error, and never a panic.
#[test]
fn a_wrong_byte_is_survived() {
    let scratch = Scratch::new();
    let sound = archive(&["a/x.so", "b/", "l->a/x.so"]);
    for at in 0..sound.len() {
        for value in [0, 0x2f, 0xff, sound[at] ^ 1] {
            let mut bytes = sound.clone();
            bytes[at] = value;
            drop(unpacked(&scratch, &bytes));
        }
    }
    assert!(scratch.stored().is_empty());
}

fn unpack_within(bytes: &[u8], left: u64) -> Result<u64> {
    let scratch = Scratch::new();
    let source = scratch.write("code.zip", bytes);
    let mut room = Room::of_mb(250, "an option");
    room.left = left;
    let mut tree = Tree::new(&scratch.directory("tree"), None, room).unwrap();
    unpack(&mut tree, &source, 50).map(|()| tree.room().left)
}

#[test]
fn zipped_bytes_are_counted() {
    let scratch = Scratch::new();
    let source = scratch.write("code.zip", []);
    File::options().write(true).open(&source).unwrap().set_len((50 << 20) + 1).unwrap();
    let message = scratch.code(&source).unwrap_err().to_string();
    assert!(message.starts_with("Zipped size must be smaller than 52428800 bytes"), "{message}");
}

fn bomb() -> Bytes {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("bomb", SimpleFileOptions::default()).unwrap();
    writer.write_all(&vec![0; 1_000_000]).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn unzipped_bytes_are_counted() {
    assert_eq!(unpack_within(&archive(&["a", "b"]), 14).unwrap(), 0);
    assert_eq!(unpack_within(&archive(&["a", "l->a"]), 8).unwrap(), 0);
    for (bytes, left) in [(archive(&["a", "b"]), 13), (archive(&["l->target"]), 3), (bomb(), 999_999)] {
        let message = unpack_within(&bytes, left).unwrap_err().to_string();
        assert!(message.starts_with("Unzipped size must be smaller than 262144000 bytes"), "{message}");
    }
}

#[test]
fn sizes_in_headers_are_not_trusted() {
    // It says 10 bytes and has a million.
    assert_refused(&patched(bomb(), 24, &10_u32.to_le_bytes()), "\"bomb\" is broken");
    // It says 4 GiB and has seven.
    let bytes = patched(archive(&["a"]), 24, &[0xfe, 0xff, 0xff, 0xff]);
    assert_eq!(unpack_within(&bytes, 7).unwrap(), 0);
    assert_refused(&patched(archive(&["a"]), 20, &[0, 0, 0, 0x7f]), "overlap");
}

#[test]
fn entries_are_counted() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..=ENTRIES {
        writer.start_file(format!("{number}"), options(0o644)).unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    assert_refused(&bytes, "more than 100000 files");
    // Few entries that imply many directories.
    let names: Vec<_> = (0..2000).map(|number| format!("{number}{}x", "/d".repeat(60))).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_refused(&archive(&names), "more than 100000 files");
    // A directory that is larger than what is read of it.
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..DIRECTORY_BYTES / 60_000 + 10 {
        writer.start_file(format!("{number}{}", "n".repeat(60_000)), options(0o644)).unwrap();
    }
    assert_refused(&writer.finish().unwrap().into_inner(), "more than 100000 files");
}

#[test]
fn dates_are_seconds() {
    for (date, expected) in [
        ((1980, 1, 1, 0, 0, 0), 315_532_800),
        ((2000, 2, 29, 23, 59, 58), 951_868_798),
        ((2000, 3, 1, 0, 0, 0), 951_868_800),
        ((2107, 12, 31, 23, 59, 58), 4_354_819_198),
    ] {
        let (year, month, day, hour, minute, second) = date;
        let date = DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap();
        assert_eq!(seconds(date), expected);
    }
}

/// How many files lie below a directory that was unpacked, and their size. Nothing there is a device or leads out.
fn inspect(top: &Path, folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            let below = inspect(top, &path);
            (files, bytes) = (files + below.0, bytes + below.1);
        } else if kind.is_symlink() {
            let inside = path.strip_prefix(top).unwrap().as_os_str().as_encoded_bytes();
            assert!(stays_inside(inside, fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes()), "{path:?}");
        } else {
            assert!(kind.is_file() && kind.mode() & 0o7000 == 0, "{path:?}");
            (files, bytes) = (files + 1, bytes + kind.len());
        }
    }
    (files, bytes)
}

#[test]
fn fuzz_archives_are_unpacked_whole_or_refused() {
    const MEMORY: usize = 4 << 20;
    let mut deflated = ZipWriter::new(Cursor::new(Vec::new()));
    let method = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    deflated.start_file("pkg/app.py", method).unwrap();
    deflated.write_all(&b"def handler(event, context): return event\n".repeat(20)).unwrap();
    let seeds = [
        archive(&["app.py"]),
        archive(&["a/", "a/b/c.txt", "link->a/b/c.txt", "x.so"]),
        archive(&["up->../..", "b"]),
        with_mode(archive(&["device"]), 0o020_666),
        deflated.finish().unwrap().into_inner(),
        b"PK\x05\x06".iter().copied().chain([0; 18]).collect(),
        b"def handler(event, context): return event\n".to_vec(),
    ];
    let scratch = Scratch::new();
    coldframe_sys::testing::fuzz::fuzz(&seeds, |bytes| {
        let source = scratch.write("code.zip", bytes);
        let (outcome, memory) = coldframe_sys::testing::metered::peak(|| scratch.code(&source));
        assert!(memory < MEMORY + 8 * bytes.len(), "{memory} bytes of memory for {}", bytes.len());
        let fate = match outcome {
            Ok(snapshot) => {
                let (files, size) = inspect(&snapshot.path, &snapshot.path);
                assert!(size <= 250 << 20);
                format!("{files} files")
            }
            Err(Error::Configuration(why)) => why.chars().filter(char::is_ascii_alphabetic).skip(20).take(60).collect(),
            Err(other) => panic!("{other:?}"),
        };
        assert!(scratch.stored().is_empty(), "{fate}");
        fate
    });
}
