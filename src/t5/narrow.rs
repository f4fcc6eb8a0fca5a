//! A checkpoint's matrices as narrow numbers, made once and kept in a file.
//!
//! Each matrix of the checkpoint that a whole row of activations is multiplied by is stored in the order in which products
//! read it ([`Narrow::shape`]): rounded to bf16, or as 8-bit integers with a scale for each output, where the largest
//! magnitude among its weights is 127. Activations in integers are stored with 128 for zero; what that adds to each output
//! is stored too. The keys and values of cross attention are absorbed: they stay in their order, and are multiplied as
//! floats again. Norms and embeddings stay as they are.
//!
//! The file carries the checkpoint's fingerprint and a hash of itself. One that is damaged, unfinished or of another
//! checkpoint is made anew; it is written beside and renamed. Where no folder can be written to, the numbers are in memory
//! only.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use memmap2::MmapMut;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Checkpoint;
use crate::graph::{DType, Narrow};
use crate::memory::Mapped;

/// Bytes of a cache's line: numbers that are read at once should not lie in two.
const LINE: usize = 64;
/// The largest magnitude of an integer weight.
const LARGEST: f32 = 127.0;
/// The integer that stands for an activation of zero.
const ZERO: f32 = 128.0;

/// The numbers, mapped or in memory.
#[derive(Debug)]
pub struct NarrowWeights {
    bytes: Mapped,
    places: HashMap<String, Place>,
    kept: Kept,
}

/// Where numbers came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The file had them.
    Read(PathBuf),
    /// They were made and are in the file now.
    Written(PathBuf),
    /// They were made, and no folder could be written to.
    InMemory,
}

/// A tensor of the file.
#[derive(Clone, Debug)]
struct Place {
    range: Range<usize>,
    dtype: DType,
    shape: Vec<usize>,
}

// === impl Kept ===

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path) => write!(f, "read from {}", path.display()),
            Self::Written(path) => write!(f, "made and kept in {}", path.display()),
            Self::InMemory => f.write_str("made in memory: no folder could be written to"),
        }
    }
}

// === impl NarrowWeights ===

impl NarrowWeights {
    /// The numbers of a checkpoint: from the first of `files` that has them whole, else made anew and left in the first
    /// that can be written.
    ///
    /// # Errors
    /// If memory is short.
    pub fn open(checkpoint: &Checkpoint, narrow: Narrow, files: &[PathBuf]) -> io::Result<Self> {
        let layout = Layout::of(checkpoint, narrow);
        for path in files {
            if let Some(bytes) = layout.read(path) {
                return Ok(Self { bytes, places: layout.places(), kept: Kept::Read(path.clone()) });
            }
        }
        for path in files {
            match layout.write_file(checkpoint, path) {
                Ok(bytes) => {
                    return Ok(Self { bytes, places: layout.places(), kept: Kept::Written(path.clone()) });
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "weights of products cannot be kept here");
                }
            }
        }
        let mut bytes = MmapMut::map_anon(layout.length())?;
        layout.write(checkpoint, &mut io::Cursor::new(&mut bytes[..]))?;
        Ok(Self { bytes: Mapped::new(bytes)?, places: layout.places(), kept: Kept::InMemory })
    }

    /// Where the numbers of a checkpoint are kept: beside it, or in the user's folder of caches.
    #[must_use]
    pub fn files(checkpoint: &Checkpoint, narrow: Narrow) -> Vec<PathBuf> {
        let beside = checkpoint.folder().join(".xprompt").join(format!("{}.safetensors", narrow.name()));
        let named = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let caches = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
        let file = format!("{}-{}.safetensors", narrow.name(), checkpoint.fingerprint());
        std::iter::once(beside).chain(caches.map(|caches| caches.join("xprompt").join(file))).collect()
    }

    /// Where they came from.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The file's bytes, or those in memory.
    #[must_use]
    pub fn bytes(&self) -> &Mapped {
        &self.bytes
    }

    /// The names of the tensors in graphs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Bytes, element type and shape of a tensor.
    ///
    /// # Panics
    /// If there is none of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> (&[u8], DType, &[usize]) {
        let place = &self.places[name];
        (&self.bytes[place.range.clone()], place.dtype, &place.shape)
    }
}

/// What a whole file looks like.
struct Layout {
    narrow: Narrow,
    matrices: Vec<Matrix>,
    /// Without the hash, which is as long as `HASH`.
    header: String,
    /// Where the hash goes.
    hash_at: usize,
    fingerprint: String,
}

/// A matrix of the checkpoint.
struct Matrix {
    name: String,
    outputs: usize,
    inputs: usize,
    order: Order,
    narrow: Narrow,
}

/// In which order a matrix is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// That of products.
    Panels,
    /// That of the checkpoint, of so many heads.
    Heads(usize),
}

const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

// === impl Layout ===

impl Layout {
    fn of(checkpoint: &Checkpoint, narrow: Narrow) -> Self {
        let heads = checkpoint.config().num_heads;
        let matrix = |(name, [outputs, inputs]): (String, [usize; 2])| {
            let absorbed = [".EncDecAttention.k.", ".EncDecAttention.v."];
            let is_absorbed = absorbed.iter().any(|part| name.contains(part));
            let order = if is_absorbed { Order::Heads(heads) } else { Order::Panels };
            Matrix { name, outputs, inputs, order, narrow }
        };
        let matrices: Vec<Matrix> = checkpoint.products().into_iter().map(matrix).collect();
        let fingerprint = checkpoint.fingerprint().to_owned();
        let mut header = serde_json::Map::new();
        header.insert(
            "__metadata__".into(),
            json!({metadata_key(narrow): recipe(narrow), "fingerprint": fingerprint, "sha256": HASH}),
        );
        for (name, place) in places(&matrices) {
            let Range { start, end } = place.range;
            let dtype = match place.dtype {
                DType::I8 => "I8",
                DType::Bf16 => "BF16",
                _ => "F32",
            };
            header.insert(name, json!({"dtype": dtype, "shape": place.shape, "data_offsets": [start, end]}));
        }
        let mut header = Value::Object(header).to_string();
        let before = size_of::<u64>() + header.len();
        header.extend(std::iter::repeat_n(' ', before.next_multiple_of(LINE) - before));
        let hash_at = header.find(HASH).expect("invariant: the metadata hold the place of the hash") + 8;
        Self { narrow, matrices, header, hash_at, fingerprint }
    }

    fn data_at(&self) -> usize {
        8 + self.header.len()
    }

    fn length(&self) -> usize {
        let data = places(&self.matrices).map(|(_, place)| place.range.end).max().unwrap_or(0);
        self.data_at() + data
    }

    fn places(&self) -> HashMap<String, Place> {
        let at = self.data_at();
        let shift = |(name, place): (String, Place)| {
            (name, Place { range: place.range.start + at..place.range.end + at, ..place })
        };
        places(&self.matrices).map(shift).collect()
    }

    /// The file, if it is whole and of this checkpoint.
    fn read(&self, path: &Path) -> Option<Mapped> {
        let bytes = Mapped::open(&File::open(path).ok()?).ok()?;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        let (key, recipe) = (metadata_key(self.narrow), recipe(self.narrow));
        let known = [(key.as_str(), recipe), ("fingerprint", &self.fingerprint)];
        let is_this = known.iter().all(|(key, value)| metadata.get(*key).is_some_and(|own| own == value));
        if !is_this || bytes.len() != self.length() {
            return None;
        }
        // the same code wrote it: all but the hash is known, byte by byte
        let mut header = bytes[..self.data_at()].to_vec();
        let stored = header[self.hash_at..self.hash_at + HASH.len()].to_vec();
        header[self.hash_at..self.hash_at + HASH.len()].copy_from_slice(HASH.as_bytes());
        let whole = header == self.head()
            && stored == hexadecimal(Sha256::digest(&bytes[self.data_at()..]).as_slice());
        whole.then_some(bytes)
    }

    /// The file's bytes before the data, with the empty hash.
    fn head(&self) -> Vec<u8> {
        let length = (self.header.len() as u64).to_le_bytes();
        length.into_iter().chain(self.header.bytes()).collect()
    }

    fn write_file(&self, checkpoint: &Checkpoint, path: &Path) -> io::Result<Mapped> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        // what is made from a model may be read by whom the model may be read
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = builder.tempfile_in(folder)?;
        self.write(checkpoint, &mut io::BufWriter::new(file.as_file_mut()))?;
        file.as_file().sync_all()?;
        let bytes = Mapped::open(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(bytes)
    }

    fn write(&self, checkpoint: &Checkpoint, out: &mut (impl Write + Seek)) -> io::Result<()> {
        out.write_all(&self.head())?;
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8], out: &mut dyn Write| {
            hash.update(bytes);
            out.write_all(bytes)
        };
        for matrix in self.matrices.iter().filter(|matrix| matrix.narrow == Narrow::Int8) {
            let weight = checkpoint.f32s(&matrix.name);
            let scales = scales(&weight, matrix.inputs);
            let zeros = match matrix.order {
                Order::Panels => zeros(&weight, &scales, matrix.inputs),
                Order::Heads(_) => Vec::new(),
            };
            let both = scales.iter().chain(&zeros).flat_map(|x| x.to_le_bytes());
            put(&both.collect::<Vec<u8>>(), out)?;
        }
        for matrix in &self.matrices {
            let weight = checkpoint.f32s(&matrix.name);
            let numbers = match matrix.narrow {
                Narrow::Int8 => {
                    let scales = scales(&weight, matrix.inputs);
                    matrix.in_order(&weight, |output, x| integer(x, scales[output]).to_le_bytes())
                }
                Narrow::Bf16 => matrix.in_order(&weight, |_, x| bf16::from_f32(x).to_le_bytes()),
            };
            put(&numbers, out)?;
        }
        let hash = hexadecimal(hash.finalize().as_slice());
        out.seek(SeekFrom::Start(self.hash_at as u64))?;
        out.write_all(&hash)?;
        out.flush()
    }
}

// === impl Matrix ===

impl Matrix {
    fn shape(&self) -> Vec<usize> {
        match self.order {
            Order::Panels => self.narrow.shape([self.outputs, self.inputs]).to_vec(),
            Order::Heads(heads) => vec![1, heads, self.outputs / heads, self.inputs],
        }
    }

    fn shape_of_scales(&self) -> Vec<usize> {
        match self.order {
            Order::Panels => vec![2, self.outputs],
            Order::Heads(_) => vec![self.outputs],
        }
    }

    /// The numbers of a weight in their order, of so many bytes each; `of` makes one of an output's weight.
    fn in_order<const BYTES: usize>(
        &self,
        weight: &[f32],
        of: impl Fn(usize, f32) -> [u8; BYTES],
    ) -> Vec<u8> {
        let rows = || weight.chunks(self.inputs).enumerate();
        if self.order != Order::Panels {
            let of = &of;
            return rows().flat_map(|(output, row)| row.iter().flat_map(move |&x| of(output, x))).collect();
        }
        let [panels, blocks, columns, depth] = self.narrow.shape([self.outputs, self.inputs]);
        let mut numbers = vec![[0; BYTES]; panels * blocks * columns * depth];
        let panel = blocks * columns * depth;
        for (output, row) in rows() {
            let panel = &mut numbers[output / columns * panel..][..panel];
            let column = output % columns * depth;
            for (block, xs) in panel.chunks_mut(columns * depth).zip(row.chunks(depth)) {
                for (place, &x) in block[column..].iter_mut().zip(xs) {
                    *place = of(output, x);
                }
            }
        }
        numbers.into_flattened()
    }
}

/// Changes when the same checkpoint gives other numbers.
fn recipe(narrow: Narrow) -> &'static str {
    match narrow {
        Narrow::Int8 => "2",
        Narrow::Bf16 => "1",
    }
}

fn metadata_key(narrow: Narrow) -> String {
    format!("xprompt_{}", narrow.name())
}

/// Scales first, which are aligned so, then the numbers.
fn places(matrices: &[Matrix]) -> impl Iterator<Item = (String, Place)> {
    let mut at = 0;
    let mut place = move |shape: Vec<usize>, size: usize, dtype| {
        let length = shape.iter().product::<usize>() * size;
        at += length;
        Place { range: at - length..at, dtype, shape }
    };
    let mut all = BTreeMap::new();
    for matrix in matrices {
        if let Some(name) = matrix.narrow.scale_name_of(&matrix.name) {
            all.insert(name, place(matrix.shape_of_scales(), 4, DType::F32));
        }
    }
    for matrix in matrices {
        let (size, dtype) = (4 / matrix.narrow.depth(), matrix.narrow.weights());
        all.insert(matrix.narrow.name_of(&matrix.name), place(matrix.shape(), size, dtype));
    }
    all.into_iter()
}

/// The scale of each output of a weight `[outputs, inputs]`; 1 where all its weights are zero.
fn scales(weight: &[f32], inputs: usize) -> Vec<f32> {
    let scale = |row: &[f32]| {
        let largest = row.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        if largest > 0.0 { largest / LARGEST } else { 1.0 }
    };
    weight.chunks(inputs).map(scale).collect()
}

/// What 128 in each input adds to an output, to take away: whole numbers that a float holds, as 128 is a power of two.
fn zeros(weight: &[f32], scales: &[f32], inputs: usize) -> Vec<f32> {
    let rows = weight.chunks(inputs).zip(scales);
    rows.map(|(row, scale)| -ZERO * row.iter().map(|x| f32::from(integer(*x, *scale))).sum::<f32>()).collect()
}

/// A weight over the scale of its output, rounded to even.
fn integer(x: f32, scale: f32) -> i8 {
    (x / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8
}

fn hexadecimal(hash: &[u8]) -> Vec<u8> {
    hash.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}
