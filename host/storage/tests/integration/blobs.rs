//! What every [`BlobStore`] promises, over a folder and over a server that speaks S3's API.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use brokle_storage::blobs::{BlobReader, BlobStore, Bucket, Credentials, Folder, S3};
use brokle_test_services::S3 as Server;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

struct Store {
    blobs: Arc<dyn BlobStore>,
    directory: Option<TempDir>,
}

impl Store {
    fn folder() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { blobs: Arc::new(Folder::new(directory.path().join("blobs"))), directory: Some(directory) }
    }

    fn s3() -> Option<Self> {
        Some(Self { blobs: Arc::new(s3("")?), directory: None })
    }
}

/// A new bucket, with names below this prefix; none when services are left out.
fn s3(prefix: &str) -> Option<S3> {
    let server = Server::shared().unwrap_or_else(|error| panic!("{error}"))?;
    Some(bucket(&server.endpoint(), &server.bucket().unwrap(), prefix))
}

fn bucket(endpoint: &str, name: &str, prefix: &str) -> S3 {
    let bucket = Bucket {
        name: name.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: "eu-central-1".to_owned(),
        path_style: true,
        prefix: prefix.to_owned(),
    };
    S3::new(&bucket, Credentials { key_id: "id".into(), secret: "secret".into(), token: None }).unwrap()
}

macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn folder() {
                super::$name(super::Store::folder()).await;
            }

            #[tokio::test]
            async fn s3() {
                if let Some(store) = super::Store::s3() {
                    super::$name(store).await;
                }
            }
        }
    )+};
}

on_every_store!(
    what_is_put_is_got_until_it_is_deleted,
    a_name_leads_nowhere_else,
    what_breaks_off_isnt_there,
    a_large_one_goes_through_in_pieces,
    whatever_is_under_a_name_goes_and_nothing_else,
);

fn reader(bytes: &'static [u8]) -> BlobReader {
    Box::pin(bytes)
}

async fn read(store: &Store, name: &str) -> Vec<u8> {
    let mut read = Vec::new();
    store.blobs.get(name).await.unwrap().read_to_end(&mut read).await.unwrap();
    read
}

async fn missing(store: &Store, name: &str) -> bool {
    store.blobs.get(name).await.err().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

async fn what_is_put_is_got_until_it_is_deleted(store: Store) {
    for content in [&b"one"[..], b"another, longer", b""] {
        assert_eq!(store.blobs.put("a/B-1", reader(content)).await.unwrap(), content.len() as u64);
        assert_eq!(read(&store, "a/B-1").await, content);
    }
    if let Some(directory) = &store.directory {
        assert_eq!(
            std::fs::read_dir(directory.path().join("blobs/a")).unwrap().count(),
            1,
            "nothing partial"
        );
    }
    assert!(store.blobs.exists("a/B-1").await.unwrap() && !store.blobs.exists("a/B-2").await.unwrap());
    store.blobs.delete("a/B-1").await.unwrap();
    store.blobs.delete("a/B-1").await.unwrap();
    assert!(missing(&store, "a/B-1").await);
}

async fn a_name_leads_nowhere_else(store: Store) {
    for name in ["", "/", "../x", "a/../x", "/etc/passwd", "a//b", "a.partial", "a\0", "a/%2e%2e"] {
        let refused = store.blobs.put(name, reader(b"x")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(store.blobs.get(name).await.is_err() && store.blobs.delete(name).await.is_err(), "{name}");
        assert!(store.blobs.delete_under(name).await.is_err(), "{name}");
    }
}

/// So many bytes, each the low byte of its place's thousands, made when they are read; it may end in an error.
struct Made {
    left: usize,
    breaks: bool,
    most: Arc<AtomicUsize>,
}

impl AsyncRead for Made {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == 0 && self.breaks {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let size = into.remaining().min(self.left);
        self.most.fetch_max(size, Ordering::Relaxed);
        into.initialize_unfilled_to(size).fill(7);
        into.advance(size);
        self.left -= size;
        Poll::Ready(Ok(()))
    }
}

fn made(left: usize, breaks: bool) -> (BlobReader, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    (Box::pin(Made { left, breaks, most: Arc::clone(&most) }), most)
}

async fn what_breaks_off_isnt_there(store: Store) {
    for size in [1_000, 20 << 20] {
        let error = store.blobs.put("half", made(size, true).0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(missing(&store, "half").await, "{size}");
    }
    store.blobs.put("half", reader(b"whole")).await.unwrap();
    store.blobs.put("half", made(20 << 20, true).0).await.unwrap_err();
    assert_eq!(read(&store, "half").await, b"whole", "what was there stays");
}

async fn a_large_one_goes_through_in_pieces(store: Store) {
    const SIZE: usize = 21 << 20;
    let (content, most) = made(SIZE, false);
    assert_eq!(store.blobs.put("large", content).await.unwrap(), SIZE as u64);
    assert!(most.load(Ordering::Relaxed) <= 8 << 20, "never asked for more than a part");
    let mut content = store.blobs.get("large").await.unwrap();
    let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
    loop {
        let read = content.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().all(|byte| *byte == 7));
        size += read;
    }
    assert_eq!(size, SIZE);
}

async fn whatever_is_under_a_name_goes_and_nothing_else(store: Store) {
    for name in ["p/1", "p/q/2", "p/q/r/3", "p2/1", "other"] {
        store.blobs.put(name, reader(b"x")).await.unwrap();
    }
    assert_eq!(store.blobs.delete_under("p/q").await.unwrap(), 2);
    assert!(missing(&store, "p/q/2").await && missing(&store, "p/q/r/3").await);
    assert_eq!(store.blobs.delete_under("p").await.unwrap(), 1);
    assert_eq!(store.blobs.delete_under("p").await.unwrap(), 0);
    assert_eq!(read(&store, "p2/1").await, b"x");
    assert_eq!(read(&store, "other").await, b"x");
}

#[tokio::test]
async fn prefixes_share_a_bucket() {
    let Some(server) = Server::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let name = server.bucket().unwrap();
    let (one, other) =
        (bucket(&server.endpoint(), &name, "one"), bucket(&server.endpoint(), &name, "other/deep"));
    one.put("a/b", reader(b"1")).await.unwrap();
    other.put("a/b", reader(b"2")).await.unwrap();
    assert_eq!(one.delete_under("a").await.unwrap(), 1);
    let mut left = Vec::new();
    other.get("a/b").await.unwrap().read_to_end(&mut left).await.unwrap();
    assert_eq!(left, b"2");
}

#[tokio::test]
async fn a_bucket_that_isnt_there_is_an_error_that_names_no_key() {
    let Some(server) = Server::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let nowhere = bucket(&server.endpoint(), "nobody-made-it", "");
    let error = nowhere.put("a", reader(b"x")).await.unwrap_err();
    assert!(!format!("{error:?} {nowhere:?}").contains("\"secret\""), "{error:?}");
    assert_eq!(nowhere.get("a").await.err().unwrap().kind(), ErrorKind::NotFound);
}
