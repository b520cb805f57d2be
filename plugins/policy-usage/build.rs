//! A stack of 16 KiB: nothing here recurses over a caller's document, and stack, data and heap then are one page, which
//! is what a fresh instance costs to reset.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=16384");
    }
}
