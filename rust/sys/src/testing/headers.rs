//! Compares what is written as numbers here with the kernel's headers, by having a C compiler look at both: it refuses a
//! file that asserts what is not so.
//!
//! The headers of either architecture serve on any machine, since a number means the same to every compiler and both
//! architectures lay structures out alike. Where they or the compiler are missing a test says so and ends;
//! `COLDFRAME_REQUIRE=all`, or a list that names `headers`, makes that a failure.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The compiler's own macro of an architecture, and where its headers may lie. Debian's cross packages hold aarch64's.
const MACHINES: [(&str, &[&str]); 2] = [
    ("__x86_64__", &["/usr/include/x86_64-linux-gnu", "/usr/x86_64-linux-gnu/include"]),
    ("__aarch64__", &["/usr/aarch64-linux-gnu/include", "/usr/include/aarch64-linux-gnu"]),
];

/// An expression of C, its value on x86-64 and on aarch64, and the kernel whose headers have it first.
pub struct Fact {
    expression: String,
    values: [u64; 2],
    since: (u32, u32),
}

/// A fact about both architectures.
pub fn fact(expression: impl Into<String>, value: impl TryInto<i128>) -> Fact {
    let value = value.try_into().ok().expect("a number of the kernel fits") as u64;
    fact_on_each(expression, [value; 2])
}

/// A fact that may differ by architecture.
pub fn fact_on_each(expression: impl Into<String>, values: [u64; 2]) -> Fact {
    Fact { expression: expression.into(), values, since: (0, 0) }
}

impl Fact {
    /// The same for headers of this kernel and later ones.
    #[must_use]
    pub fn since(self, major: u32, minor: u32) -> Self {
        Self { since: (major, minor), ..self }
    }
}

/// Asserts that `facts` are those of `headers`, with the kernel's spelling for what they include.
pub fn assert_facts(headers: &str, facts: &[Fact]) {
    assert!(!facts.is_empty());
    for (index, (machine, folders)) in MACHINES.into_iter().enumerate() {
        // The one that has asm/ comes first; the rest may lie in the common folder.
        let Some(folder) = folders.iter().find(|folder| Path::new(folder).join("asm/unistd.h").exists()) else {
            skip(&format!("the headers of {machine} are in none of {folders:?} (Debian: libc6-dev-arm64-cross)"));
            continue;
        };
        if let Err(why) = compile(machine, folder, &source(headers, facts, index)) {
            panic!("{machine}, headers in {folder}:\n{why}");
        }
    }
}

fn source(headers: &str, facts: &[Fact], machine: usize) -> String {
    let includes = headers.split_ascii_whitespace().map(|header| format!("#include <{header}>\n"));
    let assertions = facts.iter().map(|Fact { expression, values, since: (major, minor) }| {
        let value = values[machine];
        format!(
            "#if LINUX_VERSION_CODE >= KERNEL_VERSION({major}, {minor}, 0)\n\
             _Static_assert((unsigned long long)({expression}) == {value:#x}ULL, \"{expression} is not {value:#x}\");\n\
             #endif\n"
        )
    });
    ["#include <linux/version.h>\n".to_owned()]
        .into_iter()
        .chain(includes)
        .chain(assertions)
        .collect::<Vec<_>>()
        .concat()
}

fn compile(machine: &str, folder: &str, source: &str) -> Result<(), String> {
    let others = MACHINES.map(|(other, _)| format!("-U{other}"));
    let compiler = Command::new("cc")
        .args(["-x", "c", "-std=gnu11", "-fsyntax-only", "-D_GNU_SOURCE", "-w"])
        .args(others)
        .args([format!("-D{machine}"), format!("-I{folder}"), "-I/usr/include".into(), "-".into()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut compiler) = compiler else {
        skip("there is no C compiler named cc");
        return Ok(());
    };
    compiler.stdin.take().expect("it is piped").write_all(source.as_bytes()).map_err(|error| error.to_string())?;
    let output = compiler.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Ends a test for want of something, or fails it where that is demanded.
pub fn skip(why: &str) {
    let required = std::env::var("COLDFRAME_REQUIRE").unwrap_or_default();
    let demanded = required.split(',').any(|name| name == "all" || name == "headers");
    assert!(!demanded, "{why}, and COLDFRAME_REQUIRE demands them");
    eprintln!("skipped: {why}");
}
