//! The component under the real host, from recorded bytes.

use std::path::Path;

#[test]
fn fixtures() {
    let component = brokle_testkit::built("dialect-acme").unwrap_or_else(|error| panic!("{error}"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    if let Err(error) = brokle_testkit::run_fixtures(&component, &fixtures) {
        panic!("{error}");
    }
}
