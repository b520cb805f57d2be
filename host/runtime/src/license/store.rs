//! The license of this host, and what it remembers: under `DATA_DIR/trust`, beside the root of trust.
//!
//! | file | content |
//! |---|---|
//! | `license.jwt` | the license that was installed; the file that the configuration names goes before it |
//! | `clock.json` | the high-water mark: the latest time that a license was held against |
//! | `instance-id` | this installation's id, made at random once |
//!
//! The mark only rises. If a clock was once set far ahead by mistake, the mark has followed it: delete `clock.json`. Whoever
//! owns the machine can do that to cheat, too; a license offline is evidence and a contract, not a lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use brokle_core::random::Random;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::state::{Entitlements, Place, State};
use super::token::MAX_LICENSE;
use crate::trust::{self, Refusal, RefusalCode, TrustError, TrustStore, files};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    high_water_mark: DateTime<Utc>,
}

/// The license of this host.
#[derive(Debug)]
pub struct Licenses {
    folder: PathBuf,
    configured: Option<PathBuf>,
    trust: Arc<TrustStore>,
    instance: String,
    built_at: DateTime<Utc>,
    current: ArcSwap<Entitlements>,
    /// One evaluation at a time: an older one must not overwrite a newer one's result. It holds how the file looked then.
    evaluating: Mutex<Look>,
}

/// How a file looked: its size and its time of change; none when it isn't there.
type Look = Option<(u64, Option<SystemTime>)>;

impl Licenses {
    /// Opens the license in a folder (`DATA_DIR/trust`), and evaluates it. `configured` is the file that the configuration
    /// names, if it does.
    ///
    /// # Errors
    /// When the folder can't be read or written. A license that doesn't hold is no error, but a [`State::Invalid`].
    pub fn open(
        folder: &Path,
        configured: Option<PathBuf>,
        trust: Arc<TrustStore>,
        random: &dyn Random,
        now: DateTime<Utc>,
    ) -> Result<Self, TrustError> {
        Self::open_built(folder, configured, trust, random, now, trust::built_at())
    }

    pub(super) fn open_built(
        folder: &Path,
        configured: Option<PathBuf>,
        trust: Arc<TrustStore>,
        random: &dyn Random,
        now: DateTime<Utc>,
        built_at: DateTime<Utc>,
    ) -> Result<Self, TrustError> {
        files::private_folder(folder)?;
        let licenses = Self {
            folder: folder.to_owned(),
            configured,
            trust,
            instance: instance_id(folder, random)?,
            built_at,
            current: ArcSwap::from_pointee(Entitlements::none(now)),
            evaluating: Mutex::new(None),
        };
        licenses.evaluate(now);
        Ok(licenses)
    }

    /// What the license gives, as of the last evaluation. One atomic load.
    #[must_use]
    pub fn current(&self) -> Arc<Entitlements> {
        self.current.load_full()
    }

    /// Where the license stands at a time, without remembering it.
    #[must_use]
    pub fn state(&self, now: DateTime<Utc>) -> State {
        self.look(now).state
    }

    /// This installation's id, which a license may be bound to.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Evaluates the license anew: reads the file, asks the root and the revocations that are held now, raises the
    /// high-water mark. The server calls this hourly and when something changed; a change of state is logged.
    pub fn evaluate(&self, now: DateTime<Utc>) -> Arc<Entitlements> {
        let mut looked = self.evaluating.lock();
        // Before it is read: one that is replaced meanwhile looks changed.
        *looked = self.looks();
        let next = Arc::new(self.look(now));
        let before = self.current.swap(next.clone());
        if before.state != next.state {
            tracing::info!(
                from = before.state.as_str(),
                to = next.state.as_str(),
                "the license's state changed"
            );
        }
        for warning in next.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        if next.claims.is_some()
            && let Err(error) = self.raise(next.evaluated_at)
        {
            tracing::warn!(%error, "the license's clock couldn't be kept");
        }
        next
    }

    /// Whether the license's file has changed since the last evaluation: another process may have installed one.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        *self.evaluating.lock() != self.looks()
    }

    fn looks(&self) -> Look {
        let metadata = std::fs::metadata(self.file()).ok()?;
        Some((metadata.len(), metadata.modified().ok()))
    }

    fn file(&self) -> PathBuf {
        self.configured.clone().unwrap_or_else(|| self.folder.join("license.jwt"))
    }

    /// Keeps a license and evaluates it. One that doesn't hold here isn't kept, and the one before stays.
    ///
    /// # Errors
    /// Why it doesn't hold; or that it can't be written, or that the configuration names another file.
    pub fn install(&self, token: &[u8], now: DateTime<Utc>) -> Result<Arc<Entitlements>, Refusal> {
        if let Some(path) = &self.configured {
            return Err(RefusalCode::LicenseInvalid.because(format!(
                "the configuration names {}, which goes before an installed license: replace that file",
                path.display()
            )));
        }
        let offered = self.check(token, now);
        if let Some(refusal) = offered.refusal {
            return Err(refusal);
        }
        files::write(&self.folder.join("license.jwt"), token, 0o600)
            .map_err(|error| RefusalCode::LicenseInvalid.because(format!("it can't be kept: {error}")))?;
        Ok(self.evaluate(now))
    }

    /// What a license would give here, without keeping it.
    #[must_use]
    pub fn check(&self, token: &[u8], now: DateTime<Utc>) -> Entitlements {
        Entitlements::evaluate(token, self.place(now))
    }

    fn look(&self, now: DateTime<Utc>) -> Entitlements {
        let read = match &self.configured {
            Some(path) => files::read_named(path, MAX_LICENSE).map(Some),
            None => files::read_if_there(&self.folder.join("license.jwt"), MAX_LICENSE),
        };
        match read {
            Ok(Some(token)) => self.check(&token, now),
            Ok(None) => Entitlements::none(now),
            Err(error) => Entitlements::invalid(RefusalCode::LicenseInvalid.because(error_text(&error)), now),
        }
    }

    fn place(&self, now: DateTime<Utc>) -> Place<'_> {
        Place {
            trust: &self.trust,
            instance: &self.instance,
            system: now,
            built_at: self.built_at,
            high_water_mark: self.mark(),
        }
    }

    /// The high-water mark. One that can't be read counts as none: a damaged file mustn't take the license away.
    fn mark(&self) -> Option<DateTime<Utc>> {
        let bytes = files::read_if_there(&self.folder.join("clock.json"), 1 << 10).ok()??;
        let mark: Mark = serde_json::from_slice(&bytes).ok()?;
        Some(mark.high_water_mark)
    }

    fn raise(&self, now: DateTime<Utc>) -> Result<(), TrustError> {
        if self.mark().is_some_and(|mark| mark >= now) {
            return Ok(());
        }
        let json = serde_json::to_vec(&Mark { high_water_mark: now }).unwrap_or_default();
        files::write(&self.folder.join("clock.json"), &json, 0o600)
    }
}

fn error_text(error: &TrustError) -> String {
    format!("it can't be read: {error}")
}

/// The installation's id: 32 hex digits, made once.
fn instance_id(folder: &Path, random: &dyn Random) -> Result<String, TrustError> {
    let path = folder.join("instance-id");
    if let Some(bytes) = files::read_if_there(&path, 128)? {
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text);
        }
        return Err(TrustError::Malformed {
            what: "instance-id",
            detail: "32 hex digits are expected".to_owned(),
        });
    }
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let text = trust::hex(&bytes);
    files::write(&path, text.as_bytes(), 0o600)?;
    Ok(text)
}
