//! Files that projects upload, and that batches make: rows in the database, bytes in a [`BlobStore`].
//!
//! A file is a project's: for any other one it is as missing as one that isn't there. It has at most
//! [`Settings::max_bytes`], a project at most [`Settings::project_bytes`] and [`Settings::project_files`], uploads that are
//! under way included. It is forgotten when its time is over, [`Settings::keep`] unless its owner says less.
//!
//! The row comes first and is nobody's to see until the bytes are stored; an upload that never ends is swept up after
//! [`STALE`]. A file goes the other way round: its row first, so that what is seen can be read.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::FileId;
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_storage::blobs::{BlobReader, BlobStore};
use brokle_storage::sql::files::{BeginError, File, Quota};
use brokle_storage::sql::{Database, Page, StorageError};
use bytes::Bytes;

use crate::refusal::{Fault, Refusal};

/// After which time an upload that hasn't ended never will.
const STALE: Duration = Duration::from_secs(3_600);

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
}

/// Files of all projects.
#[derive(Debug)]
pub struct FileService {
    database: Database,
    blobs: Arc<dyn BlobStore>,
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
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: Settings,
    ) -> Self {
        Self { database, blobs, clock, random, settings }
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
        let mut file = self.describe(tenant, new.filename, &new.purpose, bytes);
        if let Some(keep) = new.keep.filter(|keep| *keep < self.settings.keep) {
            file.expires_at = file.created_at + keep;
        }
        let quota = Quota {
            bytes: i64::try_from(self.settings.project_bytes).unwrap_or(i64::MAX),
            files: i64::try_from(self.settings.project_files).unwrap_or(i64::MAX),
        };
        match self.database.files().begin(tenant.organization, &file, quota).await {
            Ok(()) => {}
            Err(BeginError::Quota) => {
                let (bytes, files) = (self.settings.project_bytes, self.settings.project_files);
                let message =
                    format!("The project's files may be {files} and have {bytes} bytes: delete some first.");
                return Err(Refusal::client(403, "quota_exceeded", message));
            }
            Err(BeginError::Storage(error)) => return Err(unavailable(&error)),
        }
        let content: BlobReader = Box::pin(std::io::Cursor::new(new.content));
        if let Err(error) = self.blobs.put(&file.blob, content).await {
            let _ = self.database.files().delete(tenant.organization, tenant.project, file.id).await;
            return Err(unavailable(&error));
        }
        let finished = self.database.files().finish(tenant.organization, file.id).await;
        finished.map_err(|error| unavailable(&error))?;
        Ok(file)
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
    /// 503 when it can't be read now.
    pub async fn content(&self, file: &File) -> Result<BlobReader, Refusal> {
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
        self.forget(&file).await.map_err(|error| unavailable(&error))
    }

    async fn forget(&self, file: &File) -> Result<(), StorageError> {
        self.database.files().delete(file.organization, file.project, file.id).await?;
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
