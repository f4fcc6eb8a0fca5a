//! One file, whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::client::{Client, Described, reason};
use super::{Event, HubError};

/// Times that a download may break off without a byte in between.
const BREAKS: u32 = 5;

/// Tells somebody what happens.
pub(super) type Tell<'a> = &'a mut (dyn FnMut(Event<'_>) + Send);

/// A file under way.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
    pub(super) described: &'a Described,
}

// === impl Download ===

impl Download<'_> {
    /// Downloads to a path that nothing has yet, by way of another that may have the beginning.
    pub(super) async fn to(self, blob: &Path, tell: Tell<'_>) -> Result<(), HubError> {
        let mut unfinished = blob.as_os_str().to_owned();
        unfinished.push(".incomplete");
        let unfinished = Path::new(&unfinished);
        let at = |source| HubError::Cache { path: unfinished.to_owned(), source };
        fs::create_dir_all(blob.parent().unwrap_or(Path::new("."))).map_err(at)?;
        let mut file = File::options().create(true).append(true).open(unfinished).map_err(at)?;
        self.fill(&mut file, unfinished, tell).await?;
        file.sync_all().map_err(at)?;
        if let Err(wrong) = self.check(unfinished).map_err(at)? {
            fs::remove_file(unfinished).map_err(at)?;
            return Err(HubError::Damaged { what: self.client.what(self.file), reason: wrong });
        }
        fs::rename(unfinished, blob).map_err(at)
    }

    /// Appends what is missing, in as many requests as it takes.
    async fn fill(&self, file: &mut File, path: &Path, tell: Tell<'_>) -> Result<(), HubError> {
        let at = |source| HubError::Cache { path: path.to_owned(), source };
        let size = self.described.size;
        let mut breaks = 0;
        loop {
            let mut done = file.metadata().map_err(at)?.len();
            if size.is_some_and(|size| done > size) {
                file.set_len(0).map_err(at)?;
                done = 0;
            }
            tell(Event::Bytes { file: self.file, done, size });
            if size == Some(done) {
                return Ok(());
            }
            let before = done;
            let mut response = self.client.bytes(self.commit, self.file, done).await?;
            if done > 0 && !continues(&response, done) {
                file.set_len(0).map_err(at)?;
                done = 0;
                if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                    response = self.client.bytes(self.commit, self.file, 0).await?;
                }
            }
            let broken = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) => {
                        file.write_all(&chunk).map_err(at)?;
                        done += chunk.len() as u64;
                        tell(Event::Bytes { file: self.file, done, size });
                    }
                    Ok(None) if size.is_none_or(|size| done >= size) => return Ok(()),
                    Ok(None) => break "the answer ended too early".to_owned(),
                    Err(error) => break reason(&error),
                }
            };
            breaks = if done > before { 1 } else { breaks + 1 };
            if breaks > BREAKS {
                return Err(self.client.unreachable(&self.client.what(self.file), broken));
            }
            tell(Event::Again { file: self.file, reason: &broken });
            self.client.pause(breaks).await;
        }
    }

    /// What is wrong with the bytes, by the size and the hash that the hub gave.
    fn check(&self, path: &Path) -> io::Result<Result<(), String>> {
        let Described { etag, size } = self.described;
        let got = fs::metadata(path)?.len();
        if let Some(want) = size
            && got != *want
        {
            return Ok(Err(format!("{got} bytes came, of {want}")));
        }
        let is_hash = |length| etag.len() == length && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let got = if is_hash(64) {
            hash_of(Sha256::new(), path)?
        } else if is_hash(40) {
            hash_of(Sha1::new_with_prefix(format!("blob {got}\0")), path)?
        } else {
            // a hub that names its files in another way
            return Ok(Ok(()));
        };
        Ok(if got == etag.to_lowercase() { Ok(()) } else { Err(format!("its hash is {got}, not {etag}")) })
    }
}

/// Whether an answer begins where the file ends.
fn continues(response: &reqwest::Response, done: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {done}-")))
}

fn hash_of<H: Digest>(mut hash: H, path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&part[..read]);
    }
}
