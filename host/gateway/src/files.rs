//! Files that projects upload, and that batches make: rows in the database, bytes in a [`BlobStore`].
//!
//! A file is a project's: for any other one it is as missing as one that isn't there. It has at most
//! [`Settings::max_bytes`], a project at most [`Settings::project_bytes`] and [`Settings::project_files`], uploads that are
//! under way included. It is forgotten when its time is over, [`Settings::keep`] unless its owner says less.
//!
//! **A provider's.** A file that its caller sends to a provider (`x-brokle-provider`) is streamed there and kept there: here is a row
//! that says whose it is, and what it is called there. It counts for the project's quota like any other.
//!
//! The row comes first and is nobody's to see until the bytes are stored; an upload that never ends is swept up after
//! [`STALE`]. A file goes the other way round: its row first, so that what is seen can be read.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::{EnvironmentId, FileId};
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_storage::blobs::{BlobReader, BlobStore};
use brokle_storage::sql::files::{BeginError, File, Quota};
use brokle_storage::sql::{Database, Page, StorageError};
use bytes::Bytes;
use chrono::DateTime;

use crate::egress::CallerBody;
use crate::gateway::Gateway;
use crate::native::{Done, Keeper, KeptFile};
use crate::refusal::{Fault, Refusal};

/// After which time an upload that hasn't ended never will.
const STALE: Duration = Duration::from_secs(3_600);

/// Bytes of an upload's form beside its file's.
pub const FORM: u64 = 64 << 10;

/// What is kept, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a file: 100 MiB.
    pub max_bytes: u64,
    /// Bytes of a project's files: 10 GiB.
    pub project_bytes: u64,
    /// Files of a project: 10,000.
    pub project_files: u64,
    /// How long a file is kept: 30 days.
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: 100 << 20,
            project_bytes: 10 << 30,
            project_files: 10_000,
            keep: Duration::from_secs(30 * 86_400),
        }
    }
}

/// A file that is to be kept.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// What its owner calls it.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
    /// All of it.
    pub content: Bytes,
    /// How long it is kept; none, or more than the server keeps any: as long as that.
    pub keep: Option<Duration>,
    /// The connection, by its id, whose provider its batches are for.
    pub connection: Option<String>,
}

/// Where a file for a provider's batches is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At the provider.
    There,
    /// Here: this connection's provider takes lines with a batch.
    Here(String),
}

/// Files of all projects.
#[derive(Debug)]
pub struct FileService {
    database: Database,
    blobs: Arc<dyn BlobStore>,
    gateway: Arc<Gateway>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: Settings,
}

impl FileService {
    /// Files with these settings.
    #[must_use]
    pub fn new(
        database: Database,
        blobs: Arc<dyn BlobStore>,
        gateway: Arc<Gateway>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: Settings,
    ) -> Self {
        Self { database, blobs, gateway, clock, random, settings }
    }

    /// What is kept, and how much of it.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Keeps a file.
    ///
    /// # Errors
    /// 413 for one that is too large, 403 `quota_exceeded`, 503 when it can't be kept now.
    pub async fn create(&self, tenant: Tenant, new: NewFile) -> Result<File, Refusal> {
        let bytes = new.content.len() as u64;
        if bytes > self.settings.max_bytes {
            let message = format!("A file may have {} bytes at most.", self.settings.max_bytes);
            return Err(Refusal::client(413, "request_too_large", message));
        }
        if new.connection.is_some() && new.purpose != "batch" {
            return Err(not_a_batchs());
        }
        let mut file = self.describe(tenant, new.filename, &new.purpose, bytes);
        file.connection = new.connection;
        if let Some(keep) = new.keep.filter(|keep| *keep < self.settings.keep) {
            file.expires_at = file.created_at + keep;
        }
        self.begin(&file).await?;
        let content: BlobReader = Box::pin(std::io::Cursor::new(new.content));
        if let Err(error) = self.blobs.put(&file.blob, content).await {
            let _ = self.database.files().delete(tenant.organization, tenant.project, file.id).await;
            return Err(unavailable(&error));
        }
        let finished = self.database.files().finish(tenant.organization, file.id).await;
        finished.map_err(|error| unavailable(&error))?;
        Ok(file)
    }

    /// Makes room for a file.
    async fn begin(&self, file: &File) -> Result<(), Refusal> {
        let quota = Quota {
            bytes: i64::try_from(self.settings.project_bytes).unwrap_or(i64::MAX),
            files: i64::try_from(self.settings.project_files).unwrap_or(i64::MAX),
        };
        match self.database.files().begin(file.organization, file, quota).await {
            Ok(()) => Ok(()),
            Err(BeginError::Quota) => {
                let (bytes, files) = (self.settings.project_bytes, self.settings.project_files);
                let message =
                    format!("The project's files may be {files} and have {bytes} bytes: delete some first.");
                Err(Refusal::client(403, "quota_exceeded", message))
            }
            Err(BeginError::Storage(error)) => Err(unavailable(&error)),
        }
    }

    /// Where a file for batches of this provider, a connection or the first one to a provider of this name, is kept. One of the
    /// key's requests.
    ///
    /// # Errors
    /// 403 `guarded`, 404 `provider_not_found`, 429, 503.
    pub async fn place(&self, principal: &Principal, provider: &str) -> Result<Place, Refusal> {
        let keeper = self.gateway.keeper(principal, provider).await?;
        keeper.take(principal).await?;
        Ok(match keeper.takes_lines().await? {
            true => Place::Here(keeper.connection().id.to_string()),
            false => Place::There,
        })
    }

    /// Sends a file to a provider, a connection or the first one to a provider of this name, and keeps whose it is. `kind` is
    /// the form's media type with its boundary, `length` what it says that it has; its file's purpose must be `batch`.
    ///
    /// # Errors
    /// 400 for another purpose, or a provider that keeps no files; 403 `guarded` or `quota_exceeded`; 404 `provider_not_found`;
    /// 413; what the provider refuses; 503.
    pub async fn upload(
        &self,
        principal: &Principal,
        provider: &str,
        kind: &str,
        length: Option<u64>,
        body: CallerBody,
    ) -> Result<File, Refusal> {
        let keeper = self.gateway.keeper(principal, provider).await?;
        let most = self.settings.max_bytes + FORM;
        // Until it is known what it has, it takes as much room as it may.
        let room = length.unwrap_or(most).min(most);
        let mut file = self.describe(principal.tenant, String::new(), "batch", room);
        file.blob.clear();
        file.connection = Some(keeper.connection().id.to_string());
        self.begin(&file).await?;
        let sent = match keeper.upload(kind, body, most).await {
            Ok(kept) => self.finish(&keeper, &mut file, kept).await,
            Err(refusal) => Err(refusal),
        };
        if sent.is_err() {
            let _ = self.database.files().delete(file.organization, file.project, file.id).await;
        }
        sent.map(|()| file)
    }

    async fn finish(&self, keeper: &Keeper<'_>, file: &mut File, kept: KeptFile) -> Result<(), Refusal> {
        let stored = match kept.purpose.as_str() {
            "batch" => {
                file.vendor_id = Some(kept.id.clone());
                file.filename = kept.filename.chars().filter(|one| !one.is_control()).take(255).collect();
                file.bytes = kept.bytes.max(0);
                let its_end = kept.expires_at.and_then(|at| DateTime::from_timestamp(at, 0));
                file.expires_at = its_end.map_or(file.expires_at, |end| end.min(file.expires_at));
                self.database.files().finish_native(file).await.map_err(|error| unavailable(&error))
            }
            _ => Err(not_a_batchs()),
        };
        if stored.is_err() {
            // Nobody would know of it.
            let _ = keeper.ask::<Done>("files.delete", &kept.id, Bytes::new()).await;
        }
        stored
    }

    /// What its keeper says of a file's state: `processed` of all that is kept here.
    ///
    /// # Errors
    /// 404 when its provider has it no more, or isn't there any more; what the provider refuses.
    pub async fn state(&self, file: &File) -> Result<String, Refusal> {
        let Some((keeper, id)) = self.keeper(file).await? else { return Ok("processed".to_owned()) };
        let kept: KeptFile = keeper.ask("files.get", id, Bytes::new()).await?;
        Ok(kept.status.unwrap_or_else(|| "processed".to_owned()))
    }

    /// Who keeps a file, and what it is called there; none: it is kept here.
    async fn keeper<'a>(&'a self, file: &'a File) -> Result<Option<(Keeper<'a>, &'a str)>, Refusal> {
        let (Some(connection), Some(id)) = (&file.connection, &file.vendor_id) else { return Ok(None) };
        let tenant = Tenant {
            organization: file.organization,
            project: file.project,
            // Connections are a project's or an organization's.
            environment: EnvironmentId::from_u128(0),
        };
        match self.gateway.keeper_at(tenant, connection).await {
            Some(keeper) => Ok(Some((keeper, id))),
            None => {
                let message = "The connection at which the file is kept isn't there any more.";
                Err(Refusal::client(404, "provider_not_found", message))
            }
        }
    }

    /// A file that is about to be, with an id of its own.
    pub(crate) fn describe(&self, tenant: Tenant, filename: String, purpose: &str, bytes: u64) -> File {
        let id = FileId::generate(&*self.clock, &*self.random);
        let created_at = self.clock.now();
        File {
            id,
            organization: tenant.organization,
            project: tenant.project,
            filename,
            purpose: purpose.to_owned(),
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            blob: format!("{}/{id}", tenant.project),
            connection: None,
            vendor_id: None,
            created_at,
            expires_at: created_at + self.settings.keep,
        }
    }

    /// A project's file.
    ///
    /// # Errors
    /// 404 when it has none of this id, 503.
    pub async fn get(&self, tenant: Tenant, id: &str) -> Result<File, Refusal> {
        let missing = || Refusal {
            param: Some("id".into()),
            ..Refusal::client(404, "not_found", "No such File object.")
        };
        let id = read_id(id).ok_or_else(missing)?;
        let now = self.clock.now();
        match self.database.files().get(tenant.organization, tenant.project, id, now).await {
            Ok(file) => Ok(file),
            Err(StorageError::NotFound) => Err(missing()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// A project's files of a purpose (empty: of any), behind one of them.
    ///
    /// # Errors
    /// 400 when `after` is no file's id, 503.
    pub async fn list(
        &self,
        tenant: Tenant,
        purpose: &str,
        newest_first: bool,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<File>, Refusal> {
        let after = match after {
            None => None,
            Some(id) => {
                Some(read_id(id).ok_or_else(|| Refusal::invalid("after", "'after' is a file's id."))?)
            }
        };
        let (page, now) = (Page { after, limit }, self.clock.now());
        let files = self.database.files();
        let listed = files.list(tenant.organization, tenant.project, purpose, newest_first, page, now);
        listed.await.map_err(|error| unavailable(&error))
    }

    /// What is in a file.
    ///
    /// # Errors
    /// 503 when it can't be read now; what its provider refuses.
    pub async fn content(&self, file: &File) -> Result<BlobReader, Refusal> {
        if let Some((keeper, id)) = self.keeper(file).await? {
            return keeper.content(id).await;
        }
        self.blobs.get(&file.blob).await.map_err(|error| unavailable(&error))
    }

    /// Forgets a file.
    ///
    /// # Errors
    /// 404; 409 `file_in_use` while a batch asks its lines, 503.
    pub async fn delete(&self, tenant: Tenant, id: &str) -> Result<(), Refusal> {
        let file = self.get(tenant, id).await?;
        let used = self.database.batches().uses(tenant.organization, tenant.project, file.id).await;
        if used.map_err(|error| unavailable(&error))? {
            let message = "A batch that hasn't ended has this file for its lines.";
            return Err(Refusal::client(409, "file_in_use", message));
        }
        if let Ok(Some((keeper, id))) = self.keeper(&file).await {
            let deleted = keeper.ask::<Done>("files.delete", id, Bytes::new()).await;
            // What isn't there needn't be deleted.
            deleted.map(drop).or_else(|refusal| if refusal.status == 404 { Ok(()) } else { Err(refusal) })?;
        }
        self.forget(&file).await.map_err(|error| unavailable(&error))
    }

    async fn forget(&self, file: &File) -> Result<(), StorageError> {
        self.database.files().delete(file.organization, file.project, file.id).await?;
        if file.blob.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.blobs.delete(&file.blob).await {
            tracing::warn!(%error, blob = file.blob, "a file's bytes weren't removed");
        }
        Ok(())
    }

    /// Forgets what is past its time; for the server to call now and then.
    pub async fn sweep(&self) {
        let now = self.clock.now();
        let found = self.database.files().forgettable(now, now - STALE).await;
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "old files can't be looked for");
            Vec::new()
        });
        for file in found {
            if let Ok(Some((keeper, id))) = self.keeper(&file).await
                && let Err(refusal) = keeper.ask::<Done>("files.delete", id, Bytes::new()).await
            {
                tracing::warn!(code = %refusal.code, file = %file.id, "a forgotten file may still be at its provider");
            }
            match self.forget(&file).await {
                Ok(()) | Err(StorageError::NotFound) => {}
                Err(error) => tracing::debug!(%error, file = %file.id, "an old file stays for now"),
            }
        }
    }

    pub(crate) fn blobs(&self) -> &dyn BlobStore {
        &*self.blobs
    }
}

fn not_a_batchs() -> Refusal {
    Refusal::invalid("purpose", "Only files whose purpose is 'batch' go to a provider.")
}

/// `file-` and the id.
#[must_use]
pub fn write_id(id: FileId) -> String {
    format!("file-{id}")
}

/// The id that [`write_id`] wrote.
pub(crate) fn read_id(text: &str) -> Option<FileId> {
    text.strip_prefix("file-")?.parse().ok()
}

/// What is kept can't be reached; the log has why.
pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::warn!(error, "files and batches can't be read or written");
    let message = "Files and batches can't be read or written now. Try again shortly.";
    Refusal {
        fault: Fault::Internal,
        retry_after: Some(Duration::from_secs(2)),
        ..Refusal::client(503, "database_unavailable", message)
    }
}
