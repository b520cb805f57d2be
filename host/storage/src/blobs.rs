//! Bytes under a name: what is too large for a row. A folder here; a bucket fits behind the same port.
//!
//! Names are made by the server: letters, digits, `-` and `/` between them. What is stored is whole or not there, and on disk
//! before [`BlobStore::put`] answers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use tokio::fs;
use tokio::io::{AsyncRead, AsyncWriteExt as _};

/// What a store answers.
pub type BlobFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;
/// Bytes that are read as they come.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// Keeps bytes under names.
pub trait BlobStore: Send + Sync + fmt::Debug {
    /// Stores what the reader gives, in the place of what was there; how many bytes that is.
    fn put<'a>(&'a self, name: &'a str, content: BlobReader) -> BlobFuture<'a, u64>;

    /// Reads what is stored.
    fn get<'a>(&'a self, name: &'a str) -> BlobFuture<'a, BlobReader>;

    /// Removes what is stored; what isn't there is as good as removed.
    fn delete<'a>(&'a self, name: &'a str) -> BlobFuture<'a, ()>;

    /// Removes everything whose name begins with this one and `/`; how many blobs that was.
    fn delete_under<'a>(&'a self, name: &'a str) -> BlobFuture<'a, u64>;
}

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
        let is_name = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !name.split('/').all(is_name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of a blob"));
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn reader(bytes: &'static [u8]) -> BlobReader {
        Box::pin(bytes)
    }

    #[tokio::test]
    async fn what_is_put_is_got_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::new(folder.path().join("blobs"));
        for content in [&b"one"[..], b"another, longer", b""] {
            assert_eq!(store.put("a/B-1", reader(content)).await.unwrap(), content.len() as u64);
            let mut read = Vec::new();
            store.get("a/B-1").await.unwrap().read_to_end(&mut read).await.unwrap();
            assert_eq!(read, content);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("blobs/a")).unwrap().count(), 1, "nothing partial");
        store.delete("a/B-1").await.unwrap();
        store.delete("a/B-1").await.unwrap();
        assert_eq!(store.get("a/B-1").await.err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_name_leads_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::new(folder.path());
        for name in ["", "/", "../x", "a/../x", "/etc/passwd", "a//b", "a.partial", "a\0"] {
            assert!(store.put(name, reader(b"x")).await.is_err(), "{name}");
            assert!(store.get(name).await.is_err() && store.delete(name).await.is_err(), "{name}");
        }
    }
}
