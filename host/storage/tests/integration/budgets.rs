//! What was spent is added up exactly, over both databases.

use brokle_core::ids::OrganizationId;
use brokle_core::money::Usd;
use brokle_storage::sql::StorageError;
use brokle_storage::sql::budgets::SpendKey;

use crate::harness::{Fixture, add_tenant, at, on_both_databases};

on_both_databases!(
    sums_are_exact_however_many_add,
    organizations_are_apart_and_the_gateway_reads_all,
    changes_are_found_by_their_time,
);

fn key(organization: OrganizationId, subject: &str) -> SpendKey {
    SpendKey { organization, budget: "team".into(), subject: subject.into(), period: "month", start: at(0) }
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

async fn sums_are_exact_however_many_add(fixture: Fixture) {
    let database = fixture.migrated().await;
    let organization = add_tenant(database, "acme").await.organization;
    let budgets = database.budgets();
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..20 {
        let budgets = budgets.clone();
        adding.spawn(async move {
            // In either order: nobody waits for the other for ever.
            let mut both = [
                (key(organization, "a"), usd("0.000000000000000001")),
                (key(organization, "b"), usd("1000000000.1")),
            ];
            if number % 2 == 0 {
                both.reverse();
            }
            budgets.add(organization, &both, at(1)).await.unwrap();
        });
    }
    adding.join_all().await;
    let none = [(key(organization, "b"), Usd::ZERO), (key(organization, "a"), Usd::ZERO)];
    let sums = budgets.add(organization, &none, at(2)).await.unwrap();
    assert_eq!(sums, [usd("20000000002"), usd("0.00000000000000002")]);
}

async fn organizations_are_apart_and_the_gateway_reads_all(fixture: Fixture) {
    let database = fixture.migrated().await;
    let ours = add_tenant(database, "acme").await.organization;
    let theirs = add_tenant(database, "umbrella").await.organization;
    let budgets = database.budgets();
    for (organization, amount) in [(ours, "1"), (theirs, "2"), (ours, "4")] {
        budgets.add(organization, &[(key(organization, "same"), usd(amount))], at(1)).await.unwrap();
    }
    let foreign = budgets.add(ours, &[(key(theirs, "same"), usd("8"))], at(1)).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)));
    let gone = OrganizationId::generate(&brokle_core::clock::SystemClock, &brokle_core::random::SystemRandom);
    let gone = budgets.add(gone, &[(key(gone, "same"), usd("8"))], at(1)).await;
    assert!(matches!(gone, Err(StorageError::NotFound)));
    let mut sums: Vec<_> = budgets.changed(at(0), at(0)).await.unwrap();
    sums.sort_by_key(|row| row.spent);
    assert_eq!(sums.iter().map(|row| row.spent).collect::<Vec<_>>(), [usd("2"), usd("5")]);
    assert_eq!((sums[0].budget.as_str(), sums[0].period.as_str(), sums[0].start), ("team", "month", at(0)));
}

async fn changes_are_found_by_their_time(fixture: Fixture) {
    let database = fixture.migrated().await;
    let organization = add_tenant(database, "acme").await.organization;
    let budgets = database.budgets();
    budgets.add(organization, &[(key(organization, "a"), usd("1"))], at(10)).await.unwrap();
    budgets.add(organization, &[(key(organization, "b"), usd("1"))], at(20)).await.unwrap();
    assert_eq!(budgets.changed(at(0), at(0)).await.unwrap().len(), 2);
    assert_eq!(budgets.changed(at(11), at(0)).await.unwrap()[0].subject, "b");
    assert!(budgets.changed(at(21), at(0)).await.unwrap().is_empty());
    assert!(budgets.changed(at(0), at(1)).await.unwrap().is_empty(), "of a later period");
}
