//! Where what is too large for a row is kept: a folder, or a bucket.

use std::path::PathBuf;
use std::sync::Arc;

use brokle_storage::blobs::{BlobStore, Bucket, Credentials, Folder, S3};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of files, and of large inputs and outputs: in a bucket if one is named, else in `files.folder`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Blobs {
    /// A bucket of S3, or of a server that speaks its API. Also `BROKLE_S3_BUCKET`. Its keys are `BROKLE_S3_ACCESS_KEY_ID` and
    /// `BROKLE_S3_SECRET_ACCESS_KEY`, in the environment only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<String>,
    /// Where the bucket is, if not at AWS: `https://minio.example:9000`. Also `BROKLE_S3_ENDPOINT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// The bucket's region. Also `BROKLE_S3_REGION`.
    pub(crate) region: String,
    /// Whether the bucket is named in the path rather than in the host. Without it: where there is an endpoint, since most
    /// servers but AWS want it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path_style: Option<bool>,
    /// What every blob's name begins with.
    pub(crate) prefix: String,
}

impl Default for Blobs {
    fn default() -> Self {
        Self {
            bucket: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            path_style: None,
            prefix: String::new(),
        }
    }
}

impl Blobs {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.endpoint.is_some() && self.bucket.is_none() {
            return Err("blobs.endpoint: of which bucket? blobs.bucket isn't set".to_owned());
        }
        let is_url = |url: &String| url.starts_with("https://") || url.starts_with("http://");
        if self.endpoint.as_ref().is_some_and(|url| !is_url(url)) {
            return Err("blobs.endpoint: http[s]://HOST[:PORT] is expected".to_owned());
        }
        Ok(())
    }

    /// The bucket, or else the folder.
    pub(crate) fn open(
        &self,
        folder: PathBuf,
        credentials: Option<&Credentials>,
    ) -> Result<Arc<dyn BlobStore>, String> {
        let Some(name) = &self.bucket else { return Ok(Arc::new(Folder::new(folder))) };
        let credentials = credentials
            .ok_or("blobs.bucket: BROKLE_S3_ACCESS_KEY_ID and BROKLE_S3_SECRET_ACCESS_KEY aren't set")?;
        let bucket = Bucket {
            name: name.clone(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            prefix: self.prefix.clone(),
        };
        let store = S3::new(&bucket, credentials.clone()).map_err(|error| format!("blobs: {error}"))?;
        Ok(Arc::new(store))
    }
}
