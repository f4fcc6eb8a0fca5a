//! Reading a body within its limits.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;

use super::{Code, Problem};

/// Bytes over the limit that are still read, so that a client that sends a little too much reads the answer
/// instead of a broken connection.
const OVERRUN: usize = 1 << 20;

/// The whole body.
///
/// # Errors
/// `body_too_large`, `body_timeout`, or `bad_request` if the client broke off.
pub(super) async fn read(body: Body, limit: usize, time: Duration) -> Result<Vec<u8>, Problem> {
    match tokio::time::timeout(time, read_all(body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(
            Code::BodyTimeout,
            format!("the body was not there after {time:?}; send it faster, or raise --read-timeout"),
        )),
    }
}

async fn read_all(mut body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::new(Code::BadRequest, format!("the body breaks off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= limit {
            bytes.extend_from_slice(&data);
        } else if length > limit.saturating_add(OVERRUN) {
            break;
        }
    }
    if length <= limit {
        return Ok(bytes);
    }
    let detail =
        format!("the body has more than {limit} bytes; send fewer inputs, or raise --max-body-bytes");
    Err(Problem::new(Code::BodyTooLarge, detail))
}
