use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::super::testing::Scratch;
use super::*;

#[test]
fn a_directory_is_normalised() {
    let scratch = Scratch::new();
    for (name, mode) in [("d/file", 0o600), ("d/tool", 0o6710), ("d/sub/deep", 0o644)] {
        scratch.write(name, name);
        scratch.chmod(name, mode);
    }
    scratch.directory("d/empty");
    scratch.chmod("d/sub", 0o700);
    scratch.chmod("d", 0o1770);
    symlink("/etc/passwd", scratch.path("d/absolute")).unwrap();
    symlink("../..", scratch.path("d/sub/up")).unwrap();
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let file = File::options().write(true).open(scratch.path("d/file")).unwrap();
    futimens(file, &Timestamps { last_access: time, last_modification: time }).unwrap();

    let snapshot = scratch.code(&scratch.path("d")).unwrap();
    let stat = |name: &str| fs::symlink_metadata(snapshot.path.join(name)).unwrap();
    for (name, mode) in
        [("", 0o755), ("file", 0o644), ("tool", 0o755), ("sub", 0o755), ("sub/deep", 0o644), ("empty", 0o755)]
    {
        assert_eq!(stat(name).mode() & 0o7777, mode, "{name}");
    }
    assert_eq!((stat("file").mtime(), stat("file").mtime_nsec()), (time.tv_sec, time.tv_nsec));
    assert_eq!(fs::read_link(snapshot.path.join("absolute")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(snapshot.path.join("sub/up")).unwrap(), Path::new("../.."));
    assert_eq!(fs::read_to_string(snapshot.path.join("sub/deep")).unwrap(), "d/sub/deep");
}

#[test]
fn the_key_is_the_content() {
    let scratch = Scratch::new();
    scratch.write("d/file", "x");
    symlink("file", scratch.path("d/link")).unwrap();
    let key = || scratch.code(&scratch.path("d")).unwrap().key;
    let mut keys = vec![key()];
    scratch.chmod("d/file", 0o400);
    assert_eq!(key(), keys[0]);
    let mut differs = |step: &str| {
        assert!(!keys.contains(&key()), "{step}");
        keys.push(key());
    };
    scratch.chmod("d/file", 0o744);
    differs("x-bit");
    scratch.write("d/file", "y");
    differs("bytes");
    fs::rename(scratch.path("d/file"), scratch.path("d/name")).unwrap();
    differs("name");
    fs::create_dir(scratch.path("d/empty")).unwrap();
    differs("directory");
    fs::remove_dir(scratch.path("d/empty")).unwrap();
    scratch.write("d/empty", "");
    differs("type");
    fs::remove_file(scratch.path("d/link")).unwrap();
    symlink("name", scratch.path("d/link")).unwrap();
    differs("link target");
}

fn message(scratch: &Scratch) -> String {
    let error = scratch.code(&scratch.path("d")).unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
    assert!(scratch.stored().is_empty());
    error.to_string()
}

#[test]
fn special_files_are_refused_by_name() {
    let scratch = Scratch::new();
    scratch.directory("d/sub");
    rustix::fs::mkfifoat(CWD, scratch.path("d/sub/pipe"), 0o644.into()).unwrap();
    assert!(message(&scratch).contains("d/sub/pipe\" is a FIFO"));
    fs::remove_file(scratch.path("d/sub/pipe")).unwrap();
    let _listener = UnixListener::bind(scratch.path("d/sub/s\u{1b}ck")).unwrap();
    assert!(message(&scratch).contains("d/sub/s\\u{1b}ck\" is a socket"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    scratch.write("d/secret", "");
    scratch.chmod("d/secret", 0);
    if File::open(scratch.path("d/secret")).is_ok() {
        return; // root reads everything
    }
    assert!(message(&scratch).contains("d/secret\" cannot be read"));
    scratch.chmod("d", 0);
    assert!(message(&scratch).contains("d\" cannot be read"));
    scratch.chmod("d", 0o755);
}

#[test]
fn depth_has_a_limit() {
    let scratch = Scratch::new();
    scratch.directory(&("d/".to_owned() + &"x/".repeat(64)));
    scratch.code(&scratch.path("d")).unwrap();
    scratch.write(&("d/".to_owned() + &"x/".repeat(64) + "file"), "");
    assert!(message(&scratch).contains("is too deep"));
}

#[test]
fn the_store_is_not_part_of_the_code() {
    let scratch = Scratch::new();
    scratch.write("app.py", "");
    let first = scratch.code(&scratch.path("")).unwrap();
    assert!(first.path.join("app.py").is_file());
    assert!(!first.path.join("private/store").exists());
    assert_eq!(scratch.code(&scratch.path("")).unwrap().key, first.key);
}

#[test]
fn a_swapped_link_leads_nowhere() {
    let scratch = Scratch::new();
    scratch.write("outside/secret", "");
    scratch.write("d/sub/inside", "");
    let (sub, aside, outside) = (scratch.path("d/sub"), scratch.path("aside"), scratch.path("outside"));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                fs::rename(&sub, &aside).unwrap();
                symlink(&outside, &sub).unwrap();
                fs::remove_file(&sub).unwrap();
                fs::rename(&aside, &sub).unwrap();
            }
        });
        let outcomes = (0..500).map(|_| scratch.code(&scratch.path("d"))).collect();
        done.store(true, Ordering::Relaxed);
        outcomes
    });
    for outcome in outcomes {
        match outcome {
            Ok(snapshot) => {
                let sub = snapshot.path.join("sub");
                assert!(sub.is_symlink() || !sub.join("secret").exists());
            }
            Err(Error::Configuration(message)) => {
                assert!(message.contains("vanished or was replaced"), "{message}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let scratch = Scratch::new();
    let outside = scratch.directory("outside");
    let mut tree = Tree::new(&scratch.directory("tree"), None, Room::ENDLESS).unwrap();
    // Behind the tree's back, which knows its own links.
    symlink(&outside, scratch.path("tree/link")).unwrap();
    assert!(matches!(tree.directory(b"link/sub"), Err(Error::Kernel { .. })));
    assert!(matches!(tree.link(b"link/sub", b"x"), Err(Error::Kernel { .. })));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}
