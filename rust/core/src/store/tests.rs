use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::thread;

use super::testing::{Scratch, limits};
use super::*;

fn message<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Configuration(message)) => message,
        Err(other) => panic!("not a configuration error: {other:?}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn a_script_ends_up_at_the_top() {
    let scratch = Scratch::new();
    let snapshot = scratch.code(&scratch.write("src/app.py", "x = 1")).unwrap();
    assert_eq!(fs::read_to_string(snapshot.path.join("app.py")).unwrap(), "x = 1");
    assert_eq!(snapshot.path, scratch.path("private/store").join(&snapshot.key));
    assert_eq!(snapshot.key.len(), 64);
    // The name that was given counts, not the one that it leads to.
    symlink(scratch.path("src/app.py"), scratch.path("other.py")).unwrap();
    assert!(scratch.code(&scratch.path("other.py")).unwrap().path.join("other.py").is_file());
}

#[test]
fn what_is_no_code_is_refused() {
    let scratch = Scratch::new();
    scratch.write("app.txt", "");
    scratch.write("py", "");
    for name in ["app.txt", "py", "nothing", "app.txt/", "nothing/app.py", "app.txt/app.py", "nul\0.py"] {
        assert!(message(scratch.code(&scratch.path(name))).contains("a directory, a `.py` file or a `.zip` file"));
    }
    assert!(message(scratch.code(Path::new(""))).contains("path is empty"));
    rustix::fs::mkfifoat(rustix::fs::CWD, scratch.path("fifo.py"), 0o644.into()).unwrap();
    assert!(message(scratch.code(&scratch.path("fifo.py"))).contains("code is a directory"));
}

#[test]
fn equal_content_is_stored_once_and_goes_with_the_last_snapshot() {
    let scratch = Scratch::new();
    scratch.write("one/app.py", "x");
    scratch.write("two/app.py", "x");
    let mut writer = zip::ZipWriter::new(File::create(scratch.path("three.zip")).unwrap());
    writer.start_file("app.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(b"x").unwrap();
    writer.finish().unwrap();

    let first = scratch.code(&scratch.path("one")).unwrap();
    let others = ["two", "two/app.py", "three.zip"].map(|name| scratch.code(&scratch.path(name)).unwrap());
    assert!(others.iter().all(|other| other.key == first.key));
    assert_eq!(scratch.stored(), std::slice::from_ref(&first.key));
    drop(others);
    assert!(first.path.join("app.py").is_file());
    let last = first.clone();
    drop(first);
    assert!(last.path.join("app.py").is_file());
    drop(last);
    assert!(scratch.stored().is_empty());
    assert!(lock(&scratch.store.shelf.holds).is_empty());
}

#[test]
fn snapshots_outlive_their_store_and_their_source() {
    let mut scratch = Scratch::new();
    let source = scratch.write("app.py", "x");
    let snapshot = scratch.code(&source).unwrap();
    scratch.store = Store::new(scratch.path("private/store"));
    fs::remove_file(source).unwrap();
    assert!(snapshot.path.join("app.py").is_file());
    drop(snapshot);
    assert!(scratch.stored().is_empty());
}

#[test]
fn threads_share_content_while_it_comes_and_goes() {
    let scratch = Scratch::new();
    let source = scratch.write("app.py", "x");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let snapshot = scratch.code(&source).unwrap();
                    assert!(snapshot.path.join("app.py").is_file());
                }
            });
        }
    });
    assert!(scratch.stored().is_empty());
}

#[test]
fn layers_lie_over_one_another() {
    let scratch = Scratch::new();
    for name in ["a/kept", "a/replaced", "a/file/below", "a/directory", "a/link/below/deep", "a/to/x"] {
        scratch.write(name, "a");
    }
    for name in ["b/replaced", "b/file", "b/directory/below", "b/to/y"] {
        scratch.write(name, "b");
    }
    symlink("to", scratch.path("b/link")).unwrap();
    scratch.write("c/link/x", "c");
    let layers = |names: &[&str]| {
        let sources: Vec<_> = names.iter().map(|name| scratch.path(name)).collect();
        scratch.store.layers(&sources, Architecture::X86_64, &mut limits())
    };
    let two = layers(&["a", "b"]).unwrap().unwrap();
    let read = |name: &str| fs::read_to_string(two.path.join(name)).unwrap();
    for (name, content) in [("kept", "a"), ("replaced", "b"), ("file", "b"), ("directory/below", "b")] {
        assert_eq!(read(name), content, "{name}");
    }
    assert_eq!((read("to/x"), read("link/y")), ("a".to_owned(), "b".to_owned()));
    assert_eq!(fs::read_link(two.path.join("link")).unwrap(), Path::new("to"));
    // The third one replaces the link, and writes nothing through it.
    let three = layers(&["a", "b", "c"]).unwrap().unwrap();
    assert!(fs::symlink_metadata(three.path.join("link")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(three.path.join("to/x")).unwrap(), "a");
    // What was covered leaves no trace in the key.
    assert_eq!(layers(&["a", "a"]).unwrap().unwrap().key, scratch.code(&scratch.path("a")).unwrap().key);
    assert!(layers(&[]).unwrap().is_none());
    assert!(layers(&["a", "b", "c", "a", "b"]).is_ok());
    assert!(message(layers(&["a"; 6])).starts_with("Cannot reference more than 5 layers. "));
    scratch.write("x.py", "");
    assert!(message(layers(&["a", "x.py"])).contains("a layer is a directory or a `.zip` file"));
}

#[test]
fn native_code_has_the_architecture() {
    let scratch = Scratch::new();
    scratch.write("d/pkg/fast.so", elf::tests::header(183));
    let text = message(scratch.code(&scratch.path("d")));
    assert!(text.contains("\"pkg/fast.so\"") && text.contains("arm64") && text.contains("on x86_64"), "{text}");
    assert!(scratch.store.code(&scratch.path("d"), Architecture::Arm64, &mut limits()).is_ok());
    assert!(
        message(scratch.store.layers(&[scratch.path("d")], Architecture::X86_64, &mut limits()))
            .contains("pkg/fast.so")
    );
    scratch.write("d/pkg/fast.so", "\x7fELF");
    assert!(scratch.code(&scratch.path("d")).is_ok());
    assert!(scratch.stored().is_empty());
}

#[test]
fn what_is_open_is_granted_as_it_is() {
    let scratch = Scratch::new();
    scratch.write("home/site/pkg/mod.py", "");
    scratch.write("home/site/tool", "");
    for (name, mode) in [("home/site/tool", 0o755), ("home/site/pkg", 0o755), ("home/site", 0o755), ("home", 0o700)] {
        scratch.chmod(name, mode);
    }
    symlink("/nowhere", scratch.path("home/site/link")).unwrap();
    let source = scratch.path("home/site");
    assert_eq!(scratch.store.grant(&source).unwrap(), source);
    let file = source.join("pkg/mod.py");
    assert_eq!(scratch.store.grant(&file).unwrap(), file);
    assert!(message(scratch.store.grant(&scratch.path("nothing"))).contains("cannot be read"));
}

#[test]
fn a_link_that_took_the_place_of_a_directory_is_not_granted() {
    for mode in [0o755, 0o700] {
        let scratch = Scratch::new();
        scratch.write("elsewhere/secret", "");
        scratch.chmod("elsewhere", mode);
        symlink(scratch.path("elsewhere"), scratch.path("site")).unwrap();
        assert!(message(scratch.store.grant(&scratch.path("site"))).contains("cannot be read"), "{mode:o}");
        assert!(scratch.stored().is_empty());
    }
}

#[test]
fn what_is_closed_is_granted_as_a_copy() {
    for (name, mode) in [("site/pkg/mod.py", 0o640), ("site/pkg/tool", 0o754), ("site/pkg", 0o711), ("site", 0o700)] {
        let mut scratch = Scratch::new();
        scratch.write("site/pkg/mod.py", "x");
        scratch.write("site/pkg/tool", elf::tests::header(183)); // no architecture is asked for here
        rustix::fs::mkfifoat(rustix::fs::CWD, scratch.path("site/fifo"), 0o644.into()).unwrap();
        for (name, mode) in [("site", 0o755), ("site/pkg", 0o755), ("site/pkg/tool", 0o755), (name, mode)] {
            scratch.chmod(name, mode);
        }
        let source = scratch.path("site");
        let copy = scratch.store.grant(&source).unwrap();
        assert_ne!(copy, source, "{name}");
        assert_eq!(fs::read_to_string(copy.join("pkg/mod.py")).unwrap(), "x");
        assert_eq!(fs::metadata(copy.join("pkg/tool")).unwrap().mode() & 0o777, 0o755);
        assert!(!copy.join("fifo").exists());
        assert_eq!(scratch.store.grant(&source).unwrap(), copy);
        assert_eq!(scratch.store.grant(&copy).unwrap(), copy);
        // A new package makes a new copy; who uses the old one keeps it.
        scratch.write("site/pkg/new.py", "");
        assert!(scratch.store.grant(&source).unwrap().join("pkg/new.py").is_file());
        assert!(copy.join("pkg/mod.py").is_file());
        scratch.store = Store::new(scratch.path("private/store"));
        assert!(scratch.stored().is_empty());
    }
}

#[test]
fn a_closed_file_is_granted_under_its_name() {
    let scratch = Scratch::new();
    let source = scratch.write("stdlib.zip", "not looked into");
    scratch.chmod("stdlib.zip", 0o600);
    let copy = scratch.store.grant(&source).unwrap();
    assert_eq!((copy.file_name(), copy == source), (source.file_name(), false));
    assert_eq!(fs::read_to_string(copy).unwrap(), "not looked into");
}

#[test]
fn code_and_layers_share_their_room() {
    let scratch = Scratch::new();
    scratch.write("code/app.py", vec![1; 1 << 19]);
    scratch.write("layer/data", vec![1; 1 << 19]);
    scratch.write("layer2/x", [1]);
    let mut limits = Limits::new(&Sizes { code_mb: 1, ..Sizes::default() });
    let x86 = Architecture::X86_64;
    scratch.store.code(&scratch.path("code"), x86, &mut limits).unwrap();
    scratch.store.layers(&[scratch.path("layer")], x86, &mut limits).unwrap();
    let refused = message(scratch.store.layers(&[scratch.path("layer2")], x86, &mut limits));
    assert!(refused.starts_with("Unzipped size must be smaller than 1048576 bytes"), "{refused}");
    assert!(refused.contains("\"x\"") && refused.contains("layer2") && refused.contains("max_code_mb"), "{refused}");
}
