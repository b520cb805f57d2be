//! `brokle:host/secrets`: handles to secrets whose values never enter a guest.
//!
//! A grant holds references (`env:BROKLE_PLUGIN_TOKEN`); a [`SecretSource`] of the host turns them into values when the
//! plugin is configured. A handle is the position of the secret among the plugin's own, so that there is nothing to
//! leak and nothing to clean up.

use std::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::crypto::PrivateKey;
use crate::bindings::capabilities::brokle::host::secrets::{Error, Host, HostSecret};
use crate::grants::SecretReference;
use crate::instance::State;

/// What a guest's handle stands for.
#[derive(Debug)]
pub struct Handle(());

/// A secret's bytes. Not printed, and wiped when dropped.
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<Vec<u8>>>);

impl SecretValue {
    /// Takes the value; whoever had it should wipe its copies.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(value.into())))
    }

    /// The value, for the one who puts it where it belongs.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A reference that leads to no secret. Names the reference's scheme only in words that an operator may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No source for this scheme.
    #[error("no source for secrets of the scheme '{0}'")]
    UnknownScheme(String),
    /// The source has no such secret.
    #[error("there is no such secret")]
    Missing,
    /// The source doesn't give this one to plugins.
    #[error("{0}")]
    Refused(String),
}

/// Where secrets are kept.
pub trait SecretSource: Send + Sync + fmt::Debug {
    /// The value behind a reference.
    ///
    /// # Errors
    /// There is none, or it isn't for plugins.
    fn resolve(&self, reference: &SecretReference) -> Result<SecretValue, SecretError>;
}

/// Secrets in environment variables, `env:BROKLE_PLUGIN_…`. Others aren't given out: whoever may grant a plugin its
/// secrets could otherwise have the server's own keys sent to an upstream of their choice.
#[derive(Clone, Copy)]
pub struct EnvironmentSecrets(fn(&str) -> Option<String>);

impl Default for EnvironmentSecrets {
    fn default() -> Self {
        Self(|name| std::env::var(name).ok())
    }
}

impl fmt::Debug for EnvironmentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvironmentSecrets")
    }
}

impl EnvironmentSecrets {
    /// What the names begin with.
    pub const PREFIX: &'static str = "BROKLE_PLUGIN_";
}

impl SecretSource for EnvironmentSecrets {
    fn resolve(&self, reference: &SecretReference) -> Result<SecretValue, SecretError> {
        if reference.scheme() != "env" {
            return Err(SecretError::UnknownScheme(reference.scheme().to_owned()));
        }
        if !reference.name().starts_with(Self::PREFIX) {
            let message =
                format!("only environment variables that begin with {} are for plugins", Self::PREFIX);
            return Err(SecretError::Refused(message));
        }
        let value = (self.0)(reference.name()).filter(|value| !value.is_empty());
        value.map(|value| SecretValue::new(value.into_bytes())).ok_or(SecretError::Missing)
    }
}

/// A secret of a configured plugin, with what was read from it.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) name: String,
    pub(crate) value: SecretValue,
    /// Read at its first use; the text says why it is no private key.
    pub(crate) key: OnceLock<Result<PrivateKey, String>>,
}

impl Material {
    pub(crate) fn new(name: &str, value: SecretValue) -> Self {
        Self { name: name.to_owned(), value, key: OnceLock::new() }
    }
}

impl State {
    /// The secret that a guest's handle stands for. Nothing for one that was never given out.
    pub(crate) fn secret(&self, handle: &Resource<Handle>) -> Option<&Material> {
        let secrets = &self.capabilities.as_ref()?.plugin.secrets;
        secrets.get(usize::try_from(handle.rep()).ok()?)
    }
}

impl Host for State {
    fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<Handle>, Error>> {
        let position = self
            .capabilities
            .as_ref()
            .and_then(|instance| instance.plugin.secrets.iter().position(|secret| secret.name == name))
            .and_then(|position| u32::try_from(position).ok());
        if position.is_none() {
            self.deny("secrets");
        }
        Ok(position.map(Resource::new_own).ok_or(Error::Denied))
    }
}

impl HostSecret for State {
    fn drop(&mut self, _: Resource<Handle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plugins_variables_are_given_out() {
        let source = EnvironmentSecrets(|name| match name {
            "BROKLE_PLUGIN_TOKEN" => Some("t0ken".into()),
            "BROKLE_ENCRYPTION_KEY" => Some("the server's own".into()),
            "BROKLE_PLUGIN_EMPTY" => Some(String::new()),
            _ => None,
        });
        let resolve = |text: &str| source.resolve(&SecretReference::try_from(text.to_owned()).unwrap());
        assert_eq!(resolve("env:BROKLE_PLUGIN_TOKEN").unwrap().expose(), b"t0ken");
        assert!(matches!(resolve("env:BROKLE_ENCRYPTION_KEY"), Err(SecretError::Refused(_))));
        assert_eq!(resolve("env:BROKLE_PLUGIN_EMPTY").unwrap_err(), SecretError::Missing);
        assert_eq!(resolve("vault:x").unwrap_err(), SecretError::UnknownScheme("vault".into()));
        assert_eq!(format!("{:?}", resolve("env:BROKLE_PLUGIN_TOKEN").unwrap()), "SecretValue(…)");
    }
}
