//! The file of keys: TOML, one line a key, `NAME = { sha256 = "…", predict = ["TASK", …], admin = true }`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable as _};
use toml::Spanned;

use super::key::{self, Key, Scopes};

/// Keys that a file may have; each request is compared with all.
const MAX_KEYS: usize = 1000;

/// The keys of a file.
#[derive(Debug)]
pub(super) struct KeyRing(Vec<Arc<Key>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    #[serde(default)]
    predict: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    metrics: bool,
}

// === impl KeyRing ===

impl KeyRing {
    /// Reads a file; a problem begins with its line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "1: the file is not UTF-8".to_owned())?;
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let entries: BTreeMap<String, Spanned<Entry>> = toml::from_str(text).map_err(|error| {
            // the text of the error only: the file's own text may be a key that was pasted in
            format!("{}: {}", line(error.span().map_or(0, |span| span.start)), error.message())
        })?;
        if entries.len() > MAX_KEYS {
            return Err(format!("1: the file has {} keys, {MAX_KEYS} are allowed", entries.len()));
        }
        let keys = entries.into_iter().map(|(name, entry)| {
            let line = line(entry.span().start);
            of_entry(name, entry.into_inner()).map_err(|problem| format!("{line}: {problem}"))
        });
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The key with this text. Takes as long for every text.
    pub(super) fn find(&self, text: &str) -> Option<Arc<Key>> {
        let hash = key::hash(text);
        let (mut found, mut at) = (Choice::from(0), 0);
        for (i, key) in (0_u32..).zip(&self.0) {
            let same = key.has(&hash);
            at.conditional_assign(&i, same);
            found |= same;
        }
        if bool::from(found) { self.0.get(at as usize).cloned() } else { None }
    }
}

fn of_entry(name: String, entry: Entry) -> Result<Arc<Key>, String> {
    let Entry { sha256, predict, admin, metrics } = entry;
    let scopes = Scopes { predict, admin, metrics };
    key::check(&name, &scopes)?;
    let hash = unhex(&sha256)
        .ok_or_else(|| format!("sha256 of key {name} is not 64 hexadecimal digits; make it with keygen"))?;
    Ok(Arc::new(Key::new(name, hash, scopes)))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::auth::NewKey;

    fn scopes(predict: &[&str], admin: bool) -> Scopes {
        let predict = predict.iter().map(|&pattern| pattern.to_owned()).collect();
        Scopes { predict, admin, metrics: false }
    }

    #[test]
    fn a_made_key_is_found_by_its_line_and_no_other_is() {
        let made: Vec<NewKey> = [("web", scopes(&["tweets", "news-*"], false)), ("ops", scopes(&[], true))]
            .iter()
            .map(|(name, scopes)| NewKey::make(name, scopes).unwrap())
            .collect();
        let file = format!("# ours\n{}\n{}\n", made[0].line(), made[1].line());
        let ring = KeyRing::parse(file.as_bytes()).unwrap();
        let web = ring.find(made[0].text()).unwrap();
        assert_eq!(web.name(), "web");
        let may = |task| web.predicts(task);
        assert!(may("tweets") && may("news-") && may("news-uk"));
        assert!(!may("tweets-2") && !may("new") && !web.administers() && !web.reads_metrics());
        let ops = ring.find(made[1].text()).unwrap();
        assert!(ops.administers() && ops.reads_metrics() && !ops.predicts("tweets"));
        let cut = &made[0].text()[..made[0].text().len() - 1];
        for other in [cut, "", "xp_", &made[0].line()[17..81]] {
            assert!(ring.find(other).is_none(), "{other}");
        }
        assert_ne!(made[0].text(), made[1].text());
        assert!(!file.contains(made[0].text()), "only hashes are kept");
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_without_the_files_text() {
        let hash = "0".repeat(64);
        let of = |line: &str| KeyRing::parse(format!("\n{line}\n").as_bytes()).unwrap_err();
        for (line, words) in [
            ("web = { sha256 = \"12\", admin = true }".to_owned(), "64 hexadecimal digits"),
            (format!("web = {{ sha256 = \"{hash}\" }}"), "is for nothing"),
            (format!("web = {{ sha256 = \"{hash}\", predict = [\"a*b\"] }}"), "\"a*b\" is no task"),
            (format!("web = {{ sha256 = \"{hash}\", admins = true }}"), "admins"),
            (format!("\"w b\" = {{ sha256 = \"{hash}\", admin = true }}"), "is no name of a key"),
            ("xp_secret".to_owned(), ""),
        ] {
            let problem = of(&line);
            assert!(problem.starts_with("2: ") && problem.contains(words), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        }
        let twice = format!("a = {{ sha256 = \"{hash}\", admin = true }}");
        assert!(KeyRing::parse(format!("{twice}\n{twice}").as_bytes()).unwrap_err().starts_with("2: "));
    }
}
