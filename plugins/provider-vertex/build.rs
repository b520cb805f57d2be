//! The translation recurses over the caller's document (tool schemas, message parts): it needs twice the usual stack.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_TARGET_ARCH").is_some_and(|arch| arch == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=131072");
        // Its memory doesn't have to grow for most calls (docs/adr/0002).
        println!("cargo::rustc-link-arg-cdylib=--initial-heap=131072");
    }
}
