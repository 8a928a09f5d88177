use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::super::testing::Scratch;
use super::*;

type Bytes = Vec<u8>;

/// What an entry of a layer is.
enum Is<'a> {
    File(&'a str),
    Program(&'a str),
    Directory,
    Link(&'a str),
    Other(&'a str),
    Of(EntryType),
}

fn layer(entries: &[(&str, Is)]) -> Bytes {
    let mut builder = Builder::new(Vec::new());
    for (name, is) in entries {
        let (kind, mode, content, target) = match is {
            Is::File(content) => (EntryType::Regular, 0o644, *content, ""),
            Is::Program(content) => (EntryType::Regular, 0o6755, *content, ""),
            Is::Directory => (EntryType::Directory, 0o700, "", ""),
            Is::Link(target) => (EntryType::Symlink, 0o777, "", *target),
            Is::Other(target) => (EntryType::Link, 0o644, "", *target),
            Is::Of(kind) => (*kind, 0o666, "", ""),
        };
        builder.append(&header(name, kind, mode, content.len(), target), content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A header with any name there can be.
fn header(name: &str, kind: EntryType, mode: u32, size: usize, target: &str) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    header
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Puts a blob into a layout: its descriptor.
fn blob(scratch: &Scratch, bytes: &[u8], kind: &str) -> Value {
    let digest = digest_of(bytes);
    scratch.write(&format!("image/{}", digest.replacen("sha256:", "blobs/sha256/", 1)), bytes);
    json!({"digest": digest, "size": bytes.len(), "mediaType": format!("application/vnd.oci.image.{kind}")})
}

fn config(layers: &[Bytes], config: &Value) -> Value {
    let contents: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
    json!({"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"type": "layers", "diff_ids": contents}})
}

fn manifest(scratch: &Scratch, layers: &[Bytes], of: &Value) -> Value {
    let config = blob(scratch, config(layers, of).to_string().as_bytes(), "config.v1+json");
    let layers: Vec<_> = layers.iter().map(|layer| blob(scratch, &gzip(layer), "layer.v1.tar+gzip")).collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    blob(scratch, manifest.to_string().as_bytes(), "manifest.v1+json")
}

fn layout(scratch: &Scratch, layers: &[Bytes], of: &Value) -> PathBuf {
    let manifest = manifest(scratch, layers, of);
    index(scratch, &json!([manifest]))
}

fn index(scratch: &Scratch, manifests: &Value) -> PathBuf {
    scratch.write("image/oci-layout", r#"{"imageLayoutVersion": "1.0.0"}"#);
    scratch.write("image/index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string());
    scratch.path("image")
}

fn read_image(scratch: &Scratch, path: &Path) -> Result<Image> {
    scratch.store.image(path, Architecture::X86_64, &Sizes::default())
}

fn unpacked(scratch: &Scratch, layers: &[Bytes]) -> Result<Image> {
    read_image(scratch, &layout(scratch, layers, &json!({})))
}

#[track_caller]
fn assert_refused(layers: &[Bytes], why: &str) {
    let scratch = Scratch::new();
    let message = unpacked(&scratch, layers).expect_err("a hostile image was unpacked").to_string();
    assert!(message.contains(why) && message.contains("image"), "{message}");
    assert!(scratch.stored().is_empty());
}

fn text(image: &Image, path: &str) -> String {
    fs::read_to_string(image.root.path.join(path)).unwrap()
}

#[test]
fn layers_are_laid_over_one_another_and_settings_are_read() {
    let scratch = Scratch::new();
    let lower = layer(&[
        ("./", Is::Directory),
        ("bin/", Is::Directory),
        ("bin/tool", Is::Program("tool")),
        ("bin/other", Is::Other("bin/tool")),
        ("etc/passwd", Is::File("app:x:1000:1001::/:\n")),
        ("old", Is::File("old")),
        ("lib", Is::Link("usr/lib")),
        ("./usr/lib/a", Is::File("a")),
        ("gone/x", Is::File("x")),
        ("emptied/x", Is::File("x")),
        ("device", Is::File("no device yet")),
    ]);
    let upper = layer(&[
        ("old", Is::File("new")),
        ("lib/b", Is::File("b")),
        (".wh.gone", Is::File("")),
        ("emptied/new", Is::File("new")),
        ("emptied/.wh..wh..opq", Is::File("")),
        (".wh..wh.plnk/1.2", Is::File("")),
        ("device", Is::Of(EntryType::Char)),
        ("fifo", Is::Of(EntryType::Fifo)),
    ]);
    let of = json!({
        "Entrypoint": ["/bin/tool", "-x"], "Cmd": ["app.handler"], "Env": ["A=1", "B=2=3", "rubbish"],
        "WorkingDir": "/srv", "User": "app"
    });
    let image = read_image(&scratch, &layout(&scratch, &[lower, upper], &of)).unwrap();
    assert_eq!(text(&image, "old"), "new");
    assert_eq!((text(&image, "usr/lib/a"), text(&image, "usr/lib/b")), ("a".into(), "b".into()));
    assert!(fs::symlink_metadata(image.root.path.join("lib")).unwrap().is_symlink());
    let names = |path: &str| -> Vec<String> {
        let all = fs::read_dir(image.root.path.join(path)).unwrap();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("emptied"), ["new"]);
    for gone in ["gone", "device", "fifo", ".wh.gone", ".wh..wh.plnk"] {
        assert!(!image.root.path.join(gone).exists(), "{gone}");
    }
    let tool = fs::metadata(image.root.path.join("bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink(), tool.mtime()), (0o755, 2, 1_700_000_000));
    assert!(text(&image, "etc/hosts").contains("sandbox.localdomain"));
    for place in ["proc", "dev", "tmp", "mnt", ".store", ".cover"] {
        assert!(fs::symlink_metadata(image.root.path.join(place)).unwrap().is_dir(), "{place}");
    }
    let settings = &image.settings;
    assert_eq!(settings.entrypoint, ["/bin/tool", "-x"]);
    assert_eq!((settings.cmd[0].as_str(), settings.working_dir.as_str()), ("app.handler", "/srv"));
    assert_eq!(settings.env, [("A".into(), "1".into()), ("B".into(), "2=3".into())]);
    assert_eq!(image.user, User { uid: 1000, gid: 1001 });
}

#[test]
fn an_image_in_use_is_not_unpacked_again() {
    let scratch = Scratch::new();
    let path = layout(&scratch, &[layer(&[("a", Is::File("a"))])], &json!({}));
    let first = read_image(&scratch, &path).unwrap();
    for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap().path();
        // Layers alone are no JSON.
        if fs::read(&entry).unwrap()[0] == 0x1f {
            fs::remove_file(entry).unwrap();
        }
    }
    let second = read_image(&scratch, &path).unwrap();
    assert_eq!(first.root.key, second.root.key);
    drop((first, second));
    assert!(scratch.stored().is_empty());
    assert!(read_image(&scratch, &path).unwrap_err().to_string().contains("is missing"));
}

#[test]
fn what_docker_saves_is_read_in_both_its_forms() {
    let scratch = Scratch::new();
    let layers = [layer(&[("a", Is::File("one"))]), layer(&[("b", Is::File("two"))])];
    let config = config(&layers, &json!({"Cmd": ["/a"]})).to_string();
    let mut old = Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        old.append(&header(name, EntryType::Regular, 0o644, bytes.len(), ""), bytes).unwrap();
    };
    put("1/layer.tar", &layers[0]);
    put("2/layer.tar", &layers[1]);
    put("config.json", config.as_bytes());
    put("manifest.json", br#"[{"Config": "config.json", "Layers": ["1/layer.tar", "3/layer.tar"], "RepoTags": []}]"#);
    old.append(&header("3/layer.tar", EntryType::Symlink, 0o777, 0, "../2/layer.tar"), &[][..]).unwrap();
    let image = read_image(&scratch, &scratch.write("old.tar", old.into_inner().unwrap())).unwrap();
    assert_eq!((text(&image, "a"), text(&image, "b")), ("one".into(), "two".into()));
    assert_eq!(image.settings.cmd, ["/a"]);

    let path = layout(&scratch, &layers, &json!({"Cmd": ["/a"]}));
    let mut new = Builder::new(Vec::new());
    new.append_dir_all(".", &path).unwrap();
    let new = scratch.write("new.tar", new.into_inner().unwrap());
    assert!(is_image(&new) && is_image(&path) && !is_image(&scratch.path("private")));
    assert_eq!(read_image(&scratch, &new).unwrap().root.key, image.root.key);
}

#[test]
fn the_manifest_for_this_machine_is_taken() {
    let scratch = Scratch::new();
    let mut right = manifest(&scratch, &[layer(&[("a", Is::File("right"))])], &json!({}));
    let mut wrong = manifest(&scratch, &[layer(&[("a", Is::File("wrong"))])], &json!({}));
    right["platform"] = json!({"os": "linux", "architecture": "amd64"});
    wrong["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let mut signature = wrong.clone();
    signature["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    signature["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let inner = json!({"schemaVersion": 2, "manifests": [wrong, signature, right, right]});
    let inner = blob(&scratch, inner.to_string().as_bytes(), "index.v1+json");
    let path = index(&scratch, &json!([inner]));
    assert_eq!(text(&read_image(&scratch, &path).unwrap(), "a"), "right");
    let message = |manifests: &Value| {
        let path = index(&scratch, manifests);
        read_image(&scratch, &path).unwrap_err().to_string()
    };
    assert!(message(&json!([wrong, signature])).contains("for: linux/arm64;"));
    assert!(message(&json!([])).contains("for: nothing"));
    wrong["platform"] = Value::Null;
    assert!(message(&json!([right, wrong])).contains("holds 2 images"));
}

#[test]
fn whatever_its_digest_does_not_fit_is_refused() {
    let files = [("a", Is::File("content"))];
    for kind in ["config", "manifest", "layer"] {
        let scratch = Scratch::new();
        let path = layout(&scratch, &[layer(&files)], &json!({}));
        for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
            let entry = entry.unwrap().path();
            let mut bytes = fs::read(&entry).unwrap();
            let is = match bytes[0] {
                0x1f => "layer",
                _ if String::from_utf8_lossy(&bytes).contains("diff_ids") => "config",
                _ => "manifest",
            };
            if is == kind {
                // In the middle of the compressed data, or of JSON that means the same.
                if is == "layer" {
                    bytes.extend([0; 10]);
                } else {
                    bytes.push(b' ');
                }
                fs::write(&entry, bytes).unwrap();
            }
        }
        let message = read_image(&scratch, &path).unwrap_err().to_string();
        assert!(
            message.contains("should have the digest sha256:") || message.contains("is broken"),
            "{kind}: {message}"
        );
        assert!(scratch.stored().is_empty());
    }
    // A layer that is what its file says, and not what the configuration means.
    let scratch = Scratch::new();
    let (said, given) = (layer(&files), layer(&[("a", Is::File("another"))]));
    let config = blob(&scratch, config(&[said], &json!({})).to_string().as_bytes(), "config.v1+json");
    let given = blob(&scratch, &gzip(&given), "layer.v1.tar+gzip");
    let of = json!({"config": config, "layers": [given]});
    let manifest = blob(&scratch, of.to_string().as_bytes(), "manifest.v1+json");
    let path = index(&scratch, &json!([manifest]));
    assert!(read_image(&scratch, &path).unwrap_err().to_string().contains("when it is unpacked"));
}

#[test]
fn links_are_no_way_out() {
    let scratch = Scratch::new();
    let outside = scratch.write("outside/file", "of the host");
    let directory = outside.parent().unwrap().display().to_string();
    let up = "../../../../../../../../../../../../../../..";
    let image = unpacked(
        &scratch,
        &[layer(&[
            ("absolute", Is::Link(&directory)),
            ("absolute/file", Is::File("in the image")),
            ("up", Is::Link(up)),
            ("up/file", Is::File("at the top")),
            ("self", Is::Link(".")),
            ("self/self/self/here", Is::File("here")),
            ("etc", Is::Directory),
            ("etc/hosts", Is::Link("/etc/passwd")),
            ("proc", Is::Link("/etc")),
            ("dev", Is::Link(&directory)),
            (".store", Is::Link(&directory)),
        ])],
    )
    .unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
    assert_eq!(fs::read_dir(outside.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(text(&image, &format!("{}/file", directory.trim_start_matches('/'))), "in the image");
    assert_eq!((text(&image, "file"), text(&image, "here")), ("at the top".into(), "here".into()));
    for place in ["proc", "dev", ".store"] {
        assert!(fs::symlink_metadata(image.root.path.join(place)).unwrap().is_dir(), "{place}");
    }
    assert!(fs::symlink_metadata(image.root.path.join("etc/hosts")).unwrap().is_file());
}

#[test]
fn what_reaches_out_of_the_image_is_refused() {
    let bad = |name: &'static str, is: Is<'static>| vec![layer(&[(name, is)])];
    assert_refused(&bad("../x", Is::File("")), "has `..` in its name");
    assert_refused(&bad("a/../../x", Is::File("")), "has `..` in its name");
    assert_refused(&bad("a/..", Is::Directory), "has `..` in its name");
    assert_refused(&bad("x", Is::Other("../../etc/passwd")), "has `..` in its name");
    assert_refused(&bad("x", Is::Other("/etc/passwd")), "not there");
    assert_refused(&bad("x", Is::Other("")), "not there");
    assert_refused(&bad("x", Is::Other("x")), "not there");
    assert_refused(&bad("x", Is::Link("")), "link to nothing");
    assert_refused(&bad(".wh...", Is::File("")), "takes away nothing");
    assert_refused(&bad("a/.wh.", Is::File("")), "takes away nothing");
    assert_refused(&bad("x", Is::Of(EntryType::GNUSparse)), "sparse");
    assert_refused(&bad("x", Is::Of(EntryType::new(b'M'))), "of a type");
    let loops = [("a", Is::Link("b")), ("b", Is::Link("a")), ("a/x", Is::File(""))];
    assert_refused(&[layer(&loops)], "too many links");
    assert_refused(&[layer(&[("a", Is::File("")), ("a/b", Is::File(""))])], "below a file");
    assert_refused(&[layer(&[("a", Is::Directory), ("x", Is::Other("a"))])], "not there");
    let deep = "d/".repeat(49) + "x";
    assert_refused(
        &[layer(&[("l", Is::Link(&deep)), ("l/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", Is::File(""))])],
        "too deep",
    );
}

/// A header of attributes, and an entry that they are of.
fn extended(records: &[(&str, &[u8])], name: &str, content: &str) -> Bytes {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..4).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length).unwrap();
        text.extend(format!("{length} {key}=").bytes().chain(value.iter().copied()).chain([b'\n']));
    }
    let mut builder = Builder::new(Vec::new());
    builder.append(&header("pax", EntryType::XHeader, 0o644, text.len(), ""), &text[..]).unwrap();
    builder.append(&header(name, EntryType::Regular, 0o644, content.len(), ""), content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn headers_in_front_of_entries_are_read_and_bounded() {
    let scratch = Scratch::new();
    let capability = b"\x01\0\0\x02\n\n\0=";
    let records: [(&str, &[u8]); 3] =
        [("SCHILY.xattr.security.capability", capability), ("path", b"long/name"), ("mtime", b"12345.5")];
    let image = unpacked(&scratch, &[extended(&records, "short", "x")]).unwrap();
    assert_eq!(text(&image, "long/name"), "x");
    assert_eq!(fs::metadata(image.root.path.join("long/name")).unwrap().mtime(), 12345);
    assert_refused(&[extended(&[("path", b"../x")], "y", "")], "`..`");
    assert_refused(&[extended(&[("path", b"x\0y")], "y", "")], "NUL");
    assert_refused(&[extended(&[("size", b"100")], "y", "abc")], "two sizes");
    assert_refused(&[extended(&[("GNU.sparse.major", b"1")], "y", "abc")], "sparse");
    assert_refused(&[extended(&[("path", "n".repeat(256).as_bytes())], "y", "")], "too long");
    let mut endless = Builder::new(Vec::new());
    endless.append(&header("l", EntryType::GNULongName, 0o644, 2 << 20, ""), &vec![b'x'; 2 << 20][..]).unwrap();
    assert_refused(&[endless.into_inner().unwrap()], "too long");
}

#[test]
fn unpacked_bytes_are_counted() {
    let scratch = Scratch::new();
    let path = layout(&scratch, &[layer(&[("bomb", Is::File(&"0".repeat(3 << 20)))])], &json!({}));
    let sizes = |image_mb| Sizes { image_mb, ..Sizes::default() };
    let message = scratch.store.image(&path, Architecture::X86_64, &sizes(3)).unwrap_err().to_string();
    assert!(message.contains("smaller than 3145728 bytes") && message.contains("max_image_mb"), "{message}");
    assert!(scratch.store.image(&path, Architecture::X86_64, &sizes(4)).is_ok());
}

#[test]
fn users_are_those_of_the_image() {
    let scratch = Scratch::new();
    let passwd = "root:x:0:0:::\nrubbish\n:::\napp:x:1000:1001::\n7:x:70:71::\nbig:x:99999999999:1::\n";
    let lists = [("etc/passwd", Is::File(passwd)), ("etc/group", Is::File("app:x:2000:\nwheel:x:10:app\n"))];
    let image = unpacked(&scratch, &[layer(&lists)]).unwrap();
    let found = |wanted: &str| user::find(&image.root.path, wanted);
    for (wanted, uid, gid) in [
        ("", 993, 990),
        ("app", 1000, 1001),
        ("app:wheel", 1000, 10),
        ("1000", 1000, 1001),
        ("1234", 1234, 0),
        ("1234:5678", 1234, 5678),
        ("7", 70, 71),
        ("0", 0, 0),
        ("root:app", 0, 2000),
    ] {
        assert_eq!(found(wanted), Ok(User { uid, gid }), "{wanted}");
    }
    for wanted in ["nobody", "app:nobody", "4294967295", "-1", "99999999999", ":app", "big"] {
        assert!(found(wanted).unwrap_err().contains("is no number"), "{wanted}");
    }
}

#[test]
fn a_list_of_users_that_leads_to_the_host_is_none() {
    let scratch = Scratch::new();
    let outside = scratch.write("users", "app:x:1:1::\n").display().to_string();
    for link in [outside.as_str(), "/dev/zero"] {
        let image = unpacked(&scratch, &[layer(&[("etc/passwd", Is::Link(link))])]).unwrap();
        assert!(user::find(&image.root.path, "app").is_err());
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (of, why) in [
        (json!({"Cmd": [1]}), "no text"),
        (json!({"Entrypoint": "text"}), "no list"),
        (json!({"Cmd": ["a\0b"]}), "NUL"),
        (json!({"Env": ["x=".to_owned() + &"x".repeat(40_000)]}), "bytes"),
        (json!({"User": "somebody"}), "is no number"),
    ] {
        let scratch = Scratch::new();
        let message = read_image(&scratch, &layout(&scratch, &[], &of)).unwrap_err().to_string();
        assert!(message.contains(why), "{of}: {message}");
    }
}

#[test]
fn links_in_a_layout_are_not_followed() {
    let scratch = Scratch::new();
    let path = layout(&scratch, &[], &json!({}));
    fs::rename(path.join("index.json"), scratch.path("elsewhere.json")).unwrap();
    symlink(scratch.path("elsewhere.json"), path.join("index.json")).unwrap();
    assert!(read_image(&scratch, &path).is_err());
}

/// Whatever bytes a layer has: an image or an error, nothing outside, nothing left, and little memory.
#[test]
fn fuzz_layers_are_unpacked_or_refused() {
    const MEMORY: usize = 4 << 20;
    let seeds = [
        layer(&[
            ("a/b", Is::File("content")),
            ("l", Is::Link("a")),
            ("l/c", Is::Program("x")),
            ("h", Is::Other("a/b")),
            ("a/.wh.b", Is::File("")),
            ("a/.wh..wh..opq", Is::File("")),
        ]),
        extended(&[("path", b"long/name"), ("mtime", b"1.5")], "short", "x"),
        gzip(&layer(&[("x", Is::Directory), ("x", Is::Link("/")), ("x/y", Is::File(""))])),
    ];
    let scratch = Scratch::new();
    coldframe_sys::testing::fuzz::fuzz(&seeds, |bytes| {
        let mut builder = Builder::new(Vec::new());
        let mut put = |name: &str, bytes: &[u8]| {
            builder.append(&header(name, EntryType::Regular, 0o644, bytes.len(), ""), bytes).unwrap();
        };
        put("config.json", config(&[bytes.to_vec()], &json!({})).to_string().as_bytes());
        put("manifest.json", br#"[{"Config": "config.json", "Layers": ["layer.tar"]}]"#);
        put("layer.tar", bytes);
        let path = scratch.write("image.tar", builder.into_inner().unwrap());
        let (outcome, memory) = coldframe_sys::testing::metered::peak(|| read_image(&scratch, &path));
        assert!(memory < MEMORY + 8 * bytes.len(), "{memory} bytes of memory for {}", bytes.len());
        let fate: String = match outcome {
            Ok(image) => format!("{} entries", fs::read_dir(&image.root.path).unwrap().count()),
            Err(Error::Configuration(why)) => why.chars().filter(char::is_ascii_alphabetic).skip(60).take(60).collect(),
            Err(Error::Kernel { source, .. }) => source.kind().to_string(),
            Err(other) => panic!("{other:?}"),
        };
        assert!(scratch.stored().is_empty(), "{fate}");
        fate
    });
}

/// The same of the JSON files.
#[test]
fn fuzz_manifests_are_read_or_refused() {
    let scratch = Scratch::new();
    let seeds = [
        config(&[], &json!({"User": "1:2", "Env": ["A=b"], "Cmd": ["x"]})).to_string().into_bytes(),
        br#"{"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}"#.to_vec(),
    ];
    coldframe_sys::testing::fuzz::fuzz(&seeds, |bytes| {
        let mut builder = Builder::new(Vec::new());
        let mut put = |name: &str, bytes: &[u8]| {
            builder.append(&header(name, EntryType::Regular, 0o644, bytes.len(), ""), bytes).unwrap();
        };
        put("config.json", bytes);
        put("manifest.json", br#"[{"Config": "config.json", "Layers": []}]"#);
        let path = scratch.write("image.tar", builder.into_inner().unwrap());
        match read_image(&scratch, &path) {
            Ok(image) => format!("{:?} {:?}", image.settings, image.user),
            Err(Error::Configuration(why)) => why.chars().filter(char::is_ascii_alphabetic).skip(60).take(60).collect(),
            Err(other) => panic!("{other:?}"),
        }
    });
}
