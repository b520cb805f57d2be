//! `make dev-services`: PostgreSQL, Redis, ClickHouse and an S3 server for a person who tries things out, as the tests have them:
//! on free ports, in folders of their own. Prints the environment that `brokle serve` takes. Ctrl-C ends them, and what was in them.

use std::error::Error;
use std::io::Write as _;

use brokle_test_services::{ClickHouse, Postgres, Redis, S3};

fn main() -> Result<(), Box<dyn Error>> {
    let (postgres, redis) = (Postgres::shared()?, Redis::start()?);
    let (clickhouse, s3) = (ClickHouse::start()?, S3::shared()?);
    let mut lines = Vec::new();
    if let Some(postgres) = postgres {
        let database = postgres.database()?;
        lines.push(format!("DATABASE_URL={}", database.app_url));
        lines.push(format!("DATABASE_MIGRATE_URL={}", database.owner_url));
    }
    lines.extend(redis.as_ref().map(|redis| format!("REDIS_URL={}", redis.url())));
    lines.extend(clickhouse.as_ref().map(|server| format!("CLICKHOUSE_URL={}", server.database_url())));
    if let Some(s3) = s3 {
        lines.push(format!("BROKLE_S3_ENDPOINT={}", s3.endpoint()));
        lines.push(format!("BROKLE_S3_BUCKET={}", s3.bucket()?));
        lines.extend(["BROKLE_S3_ACCESS_KEY_ID=any", "BROKLE_S3_SECRET_ACCESS_KEY=any"].map(str::to_owned));
    }
    let mut output = std::io::stdout().lock();
    for line in lines {
        writeln!(output, "export {line}")?;
    }
    writeln!(output, "# Ctrl-C ends them, and what is in them.")?;
    output.flush()?;
    // A signal ends this process, and with it those that watch it, which end the servers.
    loop {
        std::thread::park();
    }
}
