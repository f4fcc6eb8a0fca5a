//! Objects of a bucket that speaks S3. A tag is the object's ETag.
//!
//! Buckets know conditions of writes, and most know none of removals. So a removal with a condition is a write: an
//! object that is empty counts as none.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
    UpdateVersion,
};
use tokio::runtime::Handle;

use super::{Condition, Listed, Object, Storage, StorageError, Tag};

/// How addresses of buckets begin.
const SCHEME: &str = "s3://";

/// For a connection, and for one request; what takes longer is tried again at the next look.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Tries after the first: the keeper looks again by itself, and a call of a client should not wait long.
const RETRIES: RetryConfig = RetryConfig {
    backoff: object_store::BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        base: 2.0,
    },
    max_retries: 2,
    retry_timeout: Duration::from_secs(10),
};

/// A bucket, or what lies below a prefix of it.
#[derive(Debug)]
pub struct S3Storage {
    bucket: AmazonS3,
    prefix: Path,
    place: String,
    runtime: Handle,
}

/// Why a bucket cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The address is not one of a bucket.
    #[error("{0:?} is not a bucket; write s3://BUCKET or s3://BUCKET/PREFIX")]
    Address(String),
    /// The settings from the environment do not fit together.
    #[error("{place}: {source}; the bucket's settings come from the variables AWS_…")]
    Settings {
        /// The bucket.
        place: String,
        /// What is wrong.
        source: Error,
    },
}

// === impl S3Storage ===

impl S3Storage {
    /// Whether a place is meant to be a bucket.
    #[must_use]
    pub fn is_address(place: &str) -> bool {
        place.starts_with(SCHEME)
    }

    /// A bucket by its address, `s3://BUCKET[/PREFIX]`. Region, endpoint and credentials come from the environment
    /// variables that AWS's own programs read. Nothing is sent yet. Calls run on the runtime of the caller.
    ///
    /// # Errors
    /// If the address or a setting cannot be understood.
    pub fn from_env(place: &str, request_time: Duration) -> Result<Self, S3Error> {
        Self::new(place, AmazonS3Builder::from_env(), request_time, Handle::current())
    }

    /// A bucket with settings of its own.
    ///
    /// # Errors
    /// If the address or a setting cannot be understood.
    pub fn new(
        place: &str,
        settings: AmazonS3Builder,
        request_time: Duration,
        runtime: Handle,
    ) -> Result<Self, S3Error> {
        let wrong = || S3Error::Address(place.to_owned());
        let (bucket, prefix) = place
            .strip_prefix(SCHEME)
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .ok_or_else(wrong)?;
        if bucket.is_empty() {
            return Err(wrong());
        }
        let client = ClientOptions::new().with_timeout(request_time).with_connect_timeout(CONNECT_TIME);
        // an address that is plain HTTP was written so on purpose
        let client = client.with_allow_http(true);
        let built = settings.with_bucket_name(bucket).with_retry(RETRIES).with_client_options(client).build();
        let bucket = built.map_err(|source| S3Error::Settings { place: place.to_owned(), source })?;
        let prefix = Path::parse(prefix).map_err(|_| wrong())?;
        Ok(Self { bucket, prefix, place: place.trim_end_matches('/').to_owned(), runtime })
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, Error> {
        let path = self.path(key);
        let put = async |mode: PutMode| {
            let done = self.bucket.put_opts(&path, PutPayload::from(bytes.to_vec()), mode.into()).await?;
            Ok(Tag(done.e_tag.unwrap_or_default()))
        };
        let over = |e_tag| PutMode::Update(UpdateVersion { e_tag, version: None });
        match condition {
            Condition::Any => put(PutMode::Overwrite).await,
            Condition::Is(tag) => put(over(Some(tag.0.clone()))).await,
            Condition::Absent => match put(PutMode::Create).await {
                Err(error @ Error::AlreadyExists { .. }) => match self.bucket.head(&path).await? {
                    ObjectMeta { size: 0, e_tag: e_tag @ Some(_), .. } => put(over(e_tag)).await,
                    _ => Err(error),
                },
                done => done,
            },
        }
    }

    fn error(&self, key: &str, error: &Error) -> StorageError {
        let key = key.to_owned();
        match error {
            Error::NotFound { .. } => StorageError::Missing { key },
            Error::AlreadyExists { .. } | Error::Precondition { .. } => StorageError::Changed { key },
            _ => StorageError::Unavailable { what: format!("{}/{key}", self.place), reason: one_line(error) },
        }
    }
}

impl Storage for S3Storage {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn list(&self, folder: &str, suffix: &str) -> Result<Vec<Listed>, StorageError> {
        let path = self.path(folder);
        let listed = self.runtime.block_on(self.bucket.list_with_delimiter(Some(&path)));
        let objects = match listed {
            Ok(listed) => listed.objects,
            Err(error) => return Err(self.error(folder, &error)),
        };
        let wanted = |name: &str| !name.starts_with('.') && name.ends_with(suffix);
        let listed = objects.into_iter().filter(|object| object.size > 0).filter_map(|object| {
            let name = object.location.filename().filter(|name| wanted(name))?.to_owned();
            let (bytes, tag) = (object.size, Ok(tag(&object)));
            Some(Listed { name, tag, bytes, settled: true })
        });
        Ok(listed.collect())
    }

    fn folders(&self) -> Result<Vec<String>, StorageError> {
        let listed = self.runtime.block_on(self.bucket.list_with_delimiter(Some(&self.prefix)));
        let listed = listed.map_err(|error| self.error("", &error))?;
        let names = listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().map(str::to_owned));
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    fn read(&self, key: &str, limit: u64) -> Result<Object, StorageError> {
        self.runtime.block_on(async {
            let failed = |error: Error| self.error(key, &error);
            let answer = self.bucket.get(&self.path(key)).await.map_err(failed)?;
            let (bytes, tag) = (answer.meta.size, tag(&answer.meta));
            if bytes == 0 {
                return Err(StorageError::Missing { key: key.to_owned() });
            }
            if bytes > limit {
                return Err(StorageError::TooLarge { key: key.to_owned(), bytes, limit });
            }
            let bytes = answer.bytes().await.map_err(failed)?.to_vec();
            Ok(Object { bytes, tag })
        })
    }

    fn write(&self, key: &str, bytes: &[u8], condition: &Condition) -> Result<Tag, StorageError> {
        let done = self.runtime.block_on(self.put(key, bytes, condition));
        done.map_err(|error| self.error(key, &error))
    }

    fn remove(&self, key: &str, condition: &Condition) -> Result<(), StorageError> {
        let path = self.path(key);
        let failed = |error: Error| self.error(key, &error);
        self.runtime.block_on(async {
            match condition {
                Condition::Is(_) => self.put(key, &[], condition).await.map(drop).map_err(failed),
                Condition::Any => match self.bucket.delete(&path).await {
                    Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(failed(error)),
                },
                Condition::Absent => match self.bucket.head(&path).await {
                    Ok(ObjectMeta { size: 0, .. }) | Err(Error::NotFound { .. }) => Ok(()),
                    Ok(_) => Err(StorageError::Changed { key: key.to_owned() }),
                    Err(error) => Err(failed(error)),
                },
            }
        })
    }
}

/// A bucket without ETags is told apart by time and size.
fn tag(object: &ObjectMeta) -> Tag {
    let of_time = || format!("{}-{}", object.last_modified.timestamp_micros(), object.size);
    Tag(object.e_tag.clone().unwrap_or_else(of_time))
}

/// What went wrong, with the causes that the message leaves out.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
