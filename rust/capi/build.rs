//! Gives the library the name by which programs ask for it when they start.

fn main() {
    // The number changes when programs that were built before could not use the library any more, as OLDEST does.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcoldframe.so.1");
    println!("cargo::rerun-if-changed=build.rs");
}
