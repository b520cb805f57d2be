//! Blobs as objects of a bucket: of S3, or of a server that speaks its API (MinIO, Ceph, R2, …).
//!
//! What is stored goes in one request up to [`PART`], otherwise in parts of that size, [`PARTS`] of them on their way at once;
//! S3 shows an object when it is whole. What is read comes as the caller takes it. A request that fails for a reason that may
//! pass is made again, three times within 20 s.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::StreamReader;

use super::{BlobFuture, BlobReader, BlobStore, check};

/// Bytes of a part; S3 takes none below 5 MiB but the last.
const PART: usize = 8 << 20;
/// Parts of a blob on their way at once.
const PARTS: usize = 2;

/// Which bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where it is, if not at AWS: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// Its region, which signatures name.
    pub region: String,
    /// Whether it is named in the path rather than in the host.
    pub path_style: bool,
    /// What every blob's name begins with; empty: nothing.
    pub prefix: String,
}

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub key_id: String,
    /// The access key.
    pub secret: String,
    /// The session's token, with keys that end.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A bucket that can't be one.
#[derive(Debug, thiserror::Error)]
#[error("the bucket can't be used")]
pub struct BucketError(#[source] Error);

/// A bucket. Clones share their connections.
#[derive(Clone, Debug)]
pub struct S3 {
    bucket: Arc<AmazonS3>,
    prefix: Path,
}

impl S3 {
    /// This bucket; it is asked when a blob is.
    ///
    /// # Errors
    /// When its endpoint is no URL.
    pub fn new(bucket: &Bucket, credentials: Credentials) -> Result<Self, BucketError> {
        // The one TLS library here is rustls with ring; the client takes the process' provider.
        drop(rustls::crypto::ring::default_provider().install_default());
        let is_plain = bucket.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let options = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_connect_timeout(Duration::from_secs(5))
            // A pause, not the whole: a large blob may take its time.
            .with_read_timeout(Duration::from_secs(30))
            .with_timeout_disabled();
        let retry =
            RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_virtual_hosted_style_request(!bucket.path_style)
            .with_access_key_id(credentials.key_id)
            .with_secret_access_key(credentials.secret)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(token) = credentials.token {
            builder = builder.with_token(token);
        }
        let prefix = Path::parse(&bucket.prefix).map_err(|error| BucketError(error.into()))?;
        Ok(Self { bucket: Arc::new(builder.build().map_err(BucketError)?), prefix })
    }

    fn path(&self, name: &str) -> io::Result<Path> {
        check(name)?;
        Ok(name.split('/').fold(self.prefix.clone(), |path, part| path.join(part)))
    }
}

impl BlobStore for S3 {
    fn put<'a>(&'a self, name: &'a str, mut content: BlobReader) -> BlobFuture<'a, u64> {
        Box::pin(async move {
            let path = self.path(name)?;
            let bucket = Arc::clone(&self.bucket);
            let mut writer = BufWriter::with_capacity(bucket, path, PART).with_max_concurrency(PARTS);
            let size = match tokio::io::copy(&mut content, &mut writer).await {
                Ok(size) => size,
                Err(error) => {
                    // Parts without an end cost money until somebody throws them away.
                    let _ = writer.abort().await;
                    return Err(error);
                }
            };
            writer.shutdown().await?;
            Ok(size)
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> BlobFuture<'a, BlobReader> {
        Box::pin(async move {
            let found = self.bucket.get(&self.path(name)?).await.map_err(failed)?;
            let stream = found.into_stream().map_err(failed);
            Ok(Box::pin(StreamReader::new(stream)) as BlobReader)
        })
    }

    fn exists<'a>(&'a self, name: &'a str) -> BlobFuture<'a, bool> {
        Box::pin(async move {
            match self.bucket.head(&self.path(name)?).await {
                Ok(_) => Ok(true),
                Err(Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BlobFuture<'a, ()> {
        Box::pin(async move {
            match self.bucket.delete(&self.path(name)?).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn delete_under<'a>(&'a self, name: &'a str) -> BlobFuture<'a, u64> {
        Box::pin(async move {
            let found = self.bucket.list(Some(&self.path(name)?)).map_ok(|object| object.location).boxed();
            let mut deleted = self.bucket.delete_stream(found);
            let mut count = 0;
            while deleted.try_next().await.map_err(failed)?.is_some() {
                count += 1;
            }
            Ok(count)
        })
    }
}

fn failed(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
