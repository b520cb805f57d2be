//! The cluster comes and goes.

use std::net::TcpStream;

use brokle_test_services::{Postgres, skipped};

#[test]
fn a_cluster_is_gone_when_it_is_dropped() {
    if skipped() {
        return;
    }
    let postgres = Postgres::start().expect("PostgreSQL");
    let database = postgres.database().expect("a database");
    let address =
        database.app_url.split_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("a URL").0;
    TcpStream::connect(address).expect("it listens");
    drop(postgres);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
