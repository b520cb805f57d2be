//! PostgreSQL's two roles: one that owns and migrates, one that serves.

use std::process::Stdio;

use brokle_test_services::Postgres;

use crate::cli::brokle;
use crate::scene::{KEY, Server};

#[test]
fn the_server_serves_as_a_role_that_owns_nothing() {
    let Some(postgres) = Postgres::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let database = postgres.database().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("DATABASE_URL", &database.app_url).env("BROKLE_BOOTSTRAP_API_KEY", KEY);
        command
    };
    // Nobody has migrated, and this role may not.
    let ended = serve().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("permission denied"), "{said}");
    assert!(!said.contains(&database.app_url), "{said}");

    let mut command = serve();
    command.env("DATABASE_MIGRATE_URL", &database.owner_url);
    let server = Server::start(command);
    assert_eq!(server.chat("echo/echo-1", "hello").0, 200);
    drop(server);

    // What is migrated needs the owner no more.
    let server = Server::start(serve());
    let (status, keys) = server.ask("GET", "/api/v1/keys", "");
    assert_eq!((status, keys["data"].as_array().map(Vec::len)), (200, Some(1)), "{keys}");
}
