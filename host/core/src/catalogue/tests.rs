//! The catalogue's rules, on the data that ships.

use std::sync::LazyLock;

use super::*;
use crate::money::Usd;
use crate::usage::{Units, Usage};

mod cost;
mod data;
mod lookup;
mod overrides;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::builtin().unwrap());

fn model(provider: &str, name: &str) -> &'static Model {
    CATALOGUE.find(provider, name).unwrap_or_else(|| panic!("no {provider}/{name}"))
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}
