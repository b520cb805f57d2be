//! Bytes under a name: what is too large for a row. In a [`Folder`], or a bucket of [`S3`] or of what speaks its API.
//!
//! Names are made by the server: letters, digits, `-` and `/` between them. What is stored is whole or not there, and on disk
//! before [`BlobStore::put`] answers.

mod folder;
mod s3;

use std::fmt;
use std::io;
use std::pin::Pin;

use tokio::io::AsyncRead;

pub use self::folder::Folder;
pub use self::s3::{Bucket, BucketError, Credentials, S3};

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

    /// Whether something is stored.
    fn exists<'a>(&'a self, name: &'a str) -> BlobFuture<'a, bool>;

    /// Removes what is stored; what isn't there is as good as removed.
    fn delete<'a>(&'a self, name: &'a str) -> BlobFuture<'a, ()>;

    /// Removes everything whose name begins with this one and `/`; how many blobs that was.
    fn delete_under<'a>(&'a self, name: &'a str) -> BlobFuture<'a, u64>;
}

/// Whether a name is one: it leads nowhere else.
fn check(name: &str) -> io::Result<()> {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.split('/').all(is_part) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of a blob"))
}
