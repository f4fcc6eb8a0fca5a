//! Short names for bytes: what tells a model, a tokenizer, a prompt or a data file from another.

use sha2::{Digest as _, Sha256};

/// The first 16 hexadecimal digits of the SHA-256 of some bytes.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    of_hash(Sha256::new_with_prefix(bytes))
}

/// As [`of_bytes`], of several parts one after the other.
#[must_use]
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    of_hash(hash)
}

/// The first 16 hexadecimal digits of a SHA-256.
pub(crate) fn of_hash(hash: Sha256) -> String {
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum`.
    #[test]
    fn a_fingerprint_begins_the_sha_256() {
        assert_eq!(of_bytes(b"abc"), "ba7816bf8f01cfea");
        assert_eq!(of_parts([&b"a"[..], b"", b"bc"]), "ba7816bf8f01cfea");
    }
}
