//! Arrays as NumPy saves them (`.npy`, versions 1 to 3): the prompts of google-research/prompt-tuning.

use super::floats::{Float, check_finite};
use super::weights::is_pickle;
use super::{Claims, ExchangeError, Foreign};
use crate::fingerprint;

const MAGIC: &[u8] = b"\x93NUMPY";

/// How to make a file that can be read.
const REMEDY: &str =
    "save the rows alone, with shape [tokens, d_model]: numpy.save('prompt.npy', rows.astype('float32'))";

/// What stands in front of the values.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    float: Float,
    big_endian: bool,
    /// Whether the first dimension runs fastest.
    fortran: bool,
    tokens: usize,
    width: usize,
}

/// A Python literal that is read from its beginning.
struct Literal<'a>(&'a str);

// === impl Foreign ===

impl Foreign {
    /// The prompt in a NumPy file; `file` is its name, for messages.
    ///
    /// Values may be f16, f32 or f64 in either byte order, or the two bytes without a type (`V2`) that bf16 is saved as.
    ///
    /// # Errors
    /// If it is no array of two dimensions, or holds something else than finite numbers.
    pub fn from_npy(bytes: &[u8], file: &str) -> Result<Self, ExchangeError> {
        let malformed = |reason: String| ExchangeError::Malformed { file: file.to_owned(), reason };
        if bytes.starts_with(b"PK\x03\x04") {
            let reason = "a zip archive: an .npz, or what torch.save writes";
            return Err(malformed(format!("{reason}; {REMEDY}")));
        }
        if is_pickle(bytes) {
            return Err(malformed(format!(
                "a pickle, and reading one can run any code that is in it; {REMEDY}"
            )));
        }
        let (header, data) = split(bytes).map_err(malformed)?;
        let header = Header::parse(header).map_err(malformed)?;
        let Header { float, big_endian, tokens, width, .. } = header;
        let size = tokens.checked_mul(width).and_then(|count| count.checked_mul(float.size()));
        if size != Some(data.len()) {
            return Err(malformed(format!(
                "shape ({tokens}, {width}) and its type ask for other than the {} bytes that follow; the file is cut off, or holds \
                 more than one array",
                data.len()
            )));
        }
        let mut rows = float.decode(data, big_endian);
        if header.fortran {
            let columns = rows;
            rows = (0..tokens * width).map(|i| columns[i % width * tokens + i / width]).collect();
        }
        check_finite(file, &rows, width)?;
        let origin = format!("NumPy array ({})", fingerprint::of_bytes(bytes));
        Ok(Self { rows, width, file: file.to_owned(), origin, claims: Claims::default() })
    }
}

/// Header and values.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || format!("not a whole NumPy file; {REMEDY}");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(cut)?;
    let (&[major, minor], rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(format!("NumPy format {major}.{minor}; 1 to 3 can be read")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((std::str::from_utf8(header).map_err(|_| cut())?, data))
}

// === impl Header ===

impl Header {
    fn parse(text: &str) -> Result<Self, String> {
        let broken = || format!("its header cannot be read; {REMEDY}");
        let mut literal = Literal(text);
        let (mut kind, mut fortran, mut shape) = (None, None, None);
        literal.eat('{').ok_or_else(broken)?;
        while literal.eat('}').is_none() {
            let key = literal.quoted().ok_or_else(broken)?;
            literal.eat(':').ok_or_else(broken)?;
            match key {
                "descr" if literal.starts_with('[') => {
                    return Err(format!("an array of records; a prompt has one number a place; {REMEDY}"));
                }
                "descr" => kind = Some(literal.quoted().ok_or_else(broken)?),
                "fortran_order" => fortran = Some(literal.truth().ok_or_else(broken)?),
                "shape" => shape = Some(literal.tuple().ok_or_else(broken)?),
                _ => return Err(broken()),
            }
            if literal.eat(',').is_none() {
                literal.eat('}').ok_or_else(broken)?;
                break;
            }
        }
        let (kind, fortran) = (kind.ok_or_else(broken)?, fortran.ok_or_else(broken)?);
        let (float, big_endian) = type_of(kind)?;
        match shape.ok_or_else(broken)?[..] {
            [tokens @ (1..), width @ (1..)] => Ok(Self { float, big_endian, fortran, tokens, width }),
            ref other => Err(format!("shape {other:?}; {REMEDY}")),
        }
    }
}

/// How numbers of a NumPy type are stored.
fn type_of(kind: &str) -> Result<(Float, bool), String> {
    let (order, name) = kind.split_at_checked(1).unwrap_or(("", kind));
    let float = match name {
        "f2" => Float::F16,
        "f4" => Float::F32,
        "f8" => Float::F64,
        // NumPy has no bf16 of its own
        "V2" => Float::Bf16,
        "O" => return Err(format!("an array of Python objects, which is a pickle; {REMEDY}")),
        _ => return Err(format!("numbers of type {kind:?}; {REMEDY}")),
    };
    match order {
        "<" | "|" => Ok((float, false)),
        ">" => Ok((float, true)),
        _ => Err(format!("numbers of type {kind:?}; {REMEDY}")),
    }
}

// === impl Literal ===

impl<'a> Literal<'a> {
    fn starts_with(&mut self, mark: char) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(mark)
    }

    fn eat(&mut self, mark: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(mark)?;
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let mark = text.chars().next().filter(|mark| ['\'', '"'].contains(mark))?;
        let (inner, rest) = text[1..].split_once(mark)?;
        self.0 = rest;
        (!inner.contains('\\')).then_some(inner)
    }

    fn truth(&mut self) -> Option<bool> {
        let text = self.0.trim_start();
        let (rest, truth) = match (text.strip_prefix("True"), text.strip_prefix("False")) {
            (Some(rest), _) => (rest, true),
            (None, rest) => (rest?, false),
        };
        self.0 = rest;
        Some(truth)
    }

    /// Numbers in parentheses, as Python writes a tuple.
    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.eat('(')?;
        let (inner, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let numbers = inner.split(',').map(str::trim);
        // a comma may stand behind the last, and Python 2 wrote an L behind long ones
        let numbers = numbers.filter(|number| !number.is_empty());
        numbers.map(|number| number.trim_end_matches('L').parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_read_as_python_writes_them() {
        let header = |text| Header::parse(text);
        let plain = header("{'descr': '<f4', 'fortran_order': False, 'shape': (20, 1024), }    \n").unwrap();
        assert_eq!((plain.float, plain.tokens, plain.width, plain.fortran), (Float::F32, 20, 1024, false));
        let other = header("{\"shape\":(2L,3L),\"fortran_order\":True,\"descr\":\">f8\"}").unwrap();
        assert_eq!((other.float, other.big_endian, other.fortran), (Float::F64, true, true));
        for (text, words) in [
            ("", "header cannot be read"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (20,), }", "shape [20]"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", "shape [0, 4]"),
            ("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 4), }", "type \"<i8\""),
            ("{'descr': '', 'fortran_order': False, 'shape': (2, 4), }", "type \"\""),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (2, 4), }", "a pickle"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 4), }", "records"),
        ] {
            let error = header(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(text in r"[{}()\[\]'<>|fVOLshapedcrTu0-9:, \\é]{0,60}") {
            drop(Header::parse(&text));
            drop(Header::parse(&format!("{{'descr': '{text}', 'shape': {text}")));
        }
    }
}
