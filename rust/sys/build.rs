//! Builds the small programs that run on the far side of a fork, and hands their bytes to the crate.
//!
//! They are made of `src/child/`, with neither an allocator nor a C library, so that what the documentation says of that
//! folder (no allocation, no locks, nothing that could deadlock after a fork) is something the linker checks.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/child");
    println!("cargo::rerun-if-changed=child");
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let about = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let machine = matches!(about("ARCH").as_str(), "x86_64" | "aarch64") && about("POINTER_WIDTH") == "64";
    if !machine || about("OS") != "linux" || about("ENV") != "gnu" {
        // Before any compiler error about what other systems lack: whoever installs from source reads the last lines.
        println!(
            "cargo::error=coldframe isolates handlers with features of the Linux kernel, on x86-64 and arm64 with glibc; it \
             cannot be built for {target}. Install it on such a system, in a virtual machine if need be"
        );
        return;
    }
    build("init", &["--crate-type=bin", "-Crelocation-model=static", "-Clink-arg=-static"], &target);
    build("serve", &["--crate-type=cdylib"], &target);
    build(
        "graft",
        &[
            "--crate-type=bin",
            "-Crelocation-model=pic",
            "-Clink-arg=-static",
            "-Clink-arg=-no-pie",
            "-Clink-arg=-T",
            "-Clink-arg=child/graft.ld",
        ],
        &target,
    );
    // The former goes into it.
    build("trace", &["--crate-type=bin", "-Crelocation-model=static", "-Clink-arg=-static"], &target);
}

fn build(name: &str, flags: &[&str], target: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc
        .arg(format!("child/{name}.rs"))
        .args(["--edition=2024", "--target", target, "-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols"])
        .args([
            "-Ccodegen-units=1",
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-Wl,--build-id=none",
        ])
        .args(flags)
        .arg("-o")
        .arg(&out);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", linker.to_string_lossy()));
    }
    let status = rustc.status().expect("rustc can be started");
    assert!(status.success(), "building child/{name}.rs for {target} failed");
}
