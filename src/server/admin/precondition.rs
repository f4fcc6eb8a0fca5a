//! `If-Match` and `If-None-Match`, with versions as entity tags.

use axum::http::HeaderMap;
use axum::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::server::{Code, Problem};
use crate::store::Precondition;

/// The active version as an entity tag; no header if there is none.
pub(in crate::server) fn etag(version: Option<&str>) -> HeaderMap {
    let tag = version.and_then(|version| format!("\"{version}\"").parse().ok());
    tag.map(|tag| (ETAG, tag)).into_iter().collect()
}

/// What the headers ask for.
pub(super) fn read(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let (matches, none) = (value(headers, &IF_MATCH)?, value(headers, &IF_NONE_MATCH)?);
    match (matches.as_deref(), none.as_deref()) {
        (None, None) => Ok(Precondition::None),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some("*"), None) => Ok(Precondition::Present),
        (Some(list), None) => list.split(',').map(version).collect::<Option<_>>().map_or_else(
            || Err(bad(format!("If-Match is {list}; send versions in double quotes, or *"))),
            |versions| Ok(Precondition::OneOf(versions)),
        ),
        (None, Some(other)) => Err(bad(format!("If-None-Match is {other}; only * is understood"))),
        (Some(_), Some(_)) => Err(bad("send If-Match or If-None-Match, not both".into())),
    }
}

fn value(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().map_err(|_| bad(format!("{name} has characters that no version has"))))
        .collect::<Result<_, _>>()?;
    Ok(if values.is_empty() { None } else { Some(values.join(",").trim().to_owned()) })
}

/// A tag without its quotes; a weak one matches nothing, so it is none.
fn version(tag: &str) -> Option<String> {
    let version = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    let is_plain = !version.is_empty() && !version.contains('"');
    is_plain.then(|| version.to_owned())
}

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(HeaderName, &'static str)]) -> Result<Precondition, Code> {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        read(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn preconditions_are_read_as_http_writes_them() {
        let one_of = |versions: &[&str]| {
            Ok(Precondition::OneOf(versions.iter().map(|&version| version.to_owned()).collect()))
        };
        assert_eq!(of(&[]), Ok(Precondition::None));
        assert_eq!(of(&[(IF_NONE_MATCH, "*")]), Ok(Precondition::Absent));
        assert_eq!(of(&[(IF_MATCH, " * ")]), Ok(Precondition::Present));
        assert_eq!(of(&[(IF_MATCH, "\"a1\"")]), one_of(&["a1"]));
        assert_eq!(of(&[(IF_MATCH, "\"a1\" ,\"b2\"")]), one_of(&["a1", "b2"]));
        for wrong in ["a1", "W/\"a1\"", "\"a1", "", "\"\"", "\"a1\",*"] {
            assert_eq!(of(&[(IF_MATCH, wrong)]), Err(Code::BadRequest), "{wrong:?}");
        }
        assert_eq!(of(&[(IF_NONE_MATCH, "\"a1\"")]), Err(Code::BadRequest));
        assert_eq!(of(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]), Err(Code::BadRequest));
    }
}
