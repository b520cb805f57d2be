//! Blobs as files. What is being written is beside its place, under another name, until it is whole.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs;
use tokio::io::AsyncWriteExt as _;

use super::{BlobFuture, BlobReader, BlobStore, check};

/// A folder of this machine, or one that several share.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// This folder; it is made with the first blob.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check(name)?;
        Ok(self.0.join(name))
    }
}

impl BlobStore for Folder {
    fn put<'a>(&'a self, name: &'a str, mut content: BlobReader) -> BlobFuture<'a, u64> {
        Box::pin(async move {
            let path = self.path(name)?;
            let folder = path.parent().unwrap_or(&self.0);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await?;
            let partial = path.with_extension("partial");
            let stored = write(&partial, &mut content).await;
            if stored.is_err() {
                let _ = fs::remove_file(&partial).await;
            }
            let size = stored?;
            fs::rename(&partial, &path).await?;
            // The name, too, is to outlive a crash.
            fs::File::open(folder).await?.sync_all().await?;
            Ok(size)
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BlobFuture<'a, BlobReader> {
        Box::pin(async move {
            let file = fs::File::open(self.path(name)?).await?;
            Ok(Box::pin(file) as BlobReader)
        })
    }

    fn exists<'a>(&'a self, name: &'a str) -> BlobFuture<'a, bool> {
        Box::pin(async move { fs::try_exists(self.path(name)?).await })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BlobFuture<'a, ()> {
        Box::pin(async move {
            match fs::remove_file(self.path(name)?).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn delete_under<'a>(&'a self, name: &'a str) -> BlobFuture<'a, u64> {
        Box::pin(async move {
            let path = self.path(name)?;
            let count = count(&path).await?;
            match fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(count),
            }
        })
    }
}

/// The files of a folder and of those in it; of one that isn't there, none.
async fn count(path: &Path) -> io::Result<u64> {
    let (mut folders, mut files) = (vec![path.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        let mut entries = match fs::read_dir(folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        while let Some(entry) = entries.next_entry().await? {
            if entry.file_type().await?.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
            }
        }
    }
    Ok(files)
}

async fn write(path: &Path, content: &mut BlobReader) -> io::Result<u64> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).await?;
    let size = tokio::io::copy(content, &mut file).await?;
    file.flush().await?;
    file.sync_all().await?;
    Ok(size)
}
