//! The analytics store's promises, over SQLite and over ClickHouse.

mod clickhouse;
mod conformance;
mod language;
mod list;
mod sqlite;
mod trace;
mod write;

use brokle_core::clock::SystemClock;
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::observations::{Page, Summary};

fn tenant() -> Tenant {
    Tenant {
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: ProjectId::generate(&SystemClock, &SystemRandom),
        environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
    }
}

fn names(page: &Page<Summary>) -> Vec<String> {
    page.data.iter().map(|summary| summary.name.clone()).collect()
}
