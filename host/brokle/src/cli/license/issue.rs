//! `brokle license issue`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::{Random, SystemRandom};
use brokle_runtime::license::tiers::Tier;
use brokle_runtime::license::token::Claims;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;

use super::Outcome;
use crate::cli::keys;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The root's license key (PKCS#8 PEM).
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// The customer's name.
    #[arg(long)]
    customer: String,
    /// The customer's id [default: the name].
    #[arg(long, value_name = "ID")]
    customer_id: Option<String>,
    /// free, pro, business or enterprise.
    #[arg(long, value_parser = parse_tier)]
    tier: Tier,
    /// The license's id, by which it can be revoked [default: at random].
    #[arg(long, value_name = "JTI")]
    id: Option<String>,
    /// When it starts [default: now].
    #[arg(long, value_name = "TIME")]
    starts: Option<DateTime<Utc>>,
    /// When it ends.
    #[arg(long, value_name = "TIME", conflicts_with = "days", required_unless_present = "days")]
    expires: Option<DateTime<Utc>>,
    /// How many days it holds.
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=36_500))]
    days: Option<i64>,
    /// An installation that it is bound to, as `brokle license show` names it; may be repeated.
    #[arg(long, value_name = "ID")]
    instance: Vec<String>,
    /// An organization that it is bound to; may be repeated.
    #[arg(long, value_name = "ID")]
    organization: Vec<String>,
    /// What is added to the tier; may be repeated.
    #[arg(long, value_name = "ENTITLEMENT")]
    grant: Vec<String>,
    /// What is taken from the tier; may be repeated.
    #[arg(long, value_name = "ENTITLEMENT")]
    withhold: Vec<String>,
    /// How many people it is for.
    #[arg(long, value_name = "N")]
    seats: Option<u64>,
    /// Another limit: projects=5, or projects=unlimited; may be repeated.
    #[arg(long, value_name = "NAME=N", value_parser = parse_limit)]
    limit: Vec<(String, Option<u64>)>,
    /// How many days all goes on after the end.
    #[arg(long, value_name = "N")]
    grace_days: Option<u32>,
    /// How many days before the end it is told.
    #[arg(long, value_name = "N")]
    warn_days: Option<u32>,
    /// How many days after the end paid components no longer load.
    #[arg(long, value_name = "N")]
    term_days: Option<u32>,
    /// Components built until then load, when that is later than the end.
    #[arg(long, value_name = "TIME")]
    updates_until: Option<DateTime<Utc>>,
    /// Not paid for.
    #[arg(long)]
    trial: bool,
}

fn parse_tier(text: &str) -> Result<Tier, String> {
    let tier = Tier::ALL.into_iter().find(|tier| tier.as_str() == text);
    tier.ok_or_else(|| "free, pro, business or enterprise is expected".to_owned())
}

fn parse_limit(text: &str) -> Result<(String, Option<u64>), String> {
    let (name, limit) = text.split_once('=').ok_or("NAME=N is expected")?;
    let limit = match limit {
        "unlimited" => None,
        number => Some(number.parse().map_err(|_| format!("'{number}' is no number, nor 'unlimited'"))?),
    };
    Ok((name.to_owned(), limit))
}

pub(super) fn run(command: &Issue) -> Outcome {
    let now = SystemClock.now();
    let starts = command.starts.unwrap_or(now);
    let expires = command.expires.unwrap_or_else(|| starts + TimeDelta::days(command.days.unwrap_or(0)));
    let id = command.id.clone().unwrap_or_else(|| {
        let mut bytes = [0; 16];
        SystemRandom.fill(&mut bytes);
        format!("lic-{:032x}", u128::from_be_bytes(bytes))
    });
    let mut claims = Claims::new(&command.customer, &id, command.tier, now, expires);
    if let Some(customer) = &command.customer_id {
        claims.sub.clone_from(customer);
    }
    claims.nbf = starts;
    claims.bind.instances.clone_from(&command.instance);
    claims.bind.organizations.clone_from(&command.organization);
    let granted = command.grant.iter().map(|name| (name.clone(), true));
    claims.entitlements.extend(granted.chain(command.withhold.iter().map(|name| (name.clone(), false))));
    claims.limits.extend(command.limit.iter().cloned());
    if let Some(seats) = command.seats {
        claims.limits.insert("seats".to_owned(), Some(seats));
    }
    claims.grace_days = command.grace_days.unwrap_or(claims.grace_days);
    claims.warn_days = command.warn_days.unwrap_or(claims.warn_days);
    claims.term_days = command.term_days.unwrap_or(claims.term_days);
    claims.updates_until = command.updates_until;
    claims.trial = command.trial;
    let keys = keys::secrets(std::slice::from_ref(&command.key))?;
    let token = keys.first().ok_or("a key is expected").map(|key| claims.sign(key))??;
    output::complain(&format!("Issued {id} for {} until {expires}.", command.customer));
    output::lines([token])?;
    Ok(ExitCode::SUCCESS)
}
