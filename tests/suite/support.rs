//! What tests share: the runtime, models, and the reference tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use xprompt::runtime::{Device, Model, Precision, Runtime};
use xprompt::t5::Checkpoint;

use crate::weights;

/// The small random models of the reference.
pub const VARIANTS: [&str; 6] =
    ["t5-v1.0", "t5-v1.1", "t5-v1.1-sharded", "t5-v1.1-bf16", "t5-v1.0-f16", "t5-buckets"];

/// Every model of the reference with its folder and its tensors: [`VARIANTS`], and the members of T5's family.
pub fn references() -> Vec<(&'static str, PathBuf, Tensors)> {
    let variant = |name: &'static str| {
        let expected = fixtures().join(format!("expected/{name}.safetensors"));
        (name, fixtures().join("models").join(name), Tensors::read(&expected))
    };
    let member = |name: &'static str| (name, weights::family(name), Tensors::read(&weights::expected(name)));
    VARIANTS.into_iter().map(variant).chain(weights::FAMILY.into_iter().map(member)).collect()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

pub fn runtime() -> Runtime {
    Runtime::start(None, Some(2)).expect("`make test` fetches ONNX Runtime first")
}

/// Where models compute: on the CPU, unless `XPROMPT_TEST_GPU` has a GPU's number.
pub fn device() -> Device {
    std::env::var("XPROMPT_TEST_GPU").map_or(Device::Cpu, |number| Device::Cuda(number.parse().unwrap()))
}

pub fn model(folder: &Path) -> Model {
    Model::new(Checkpoint::open(folder).unwrap(), runtime()).on(device()).in_precision(Precision::F32)
}

pub fn nano() -> Model {
    model(&root().join("models/t5-nano"))
}

/// A file of reference tensors.
pub struct Tensors(HashMap<String, (Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter();
        Self(tensors.map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec()))).collect())
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.0[name].1.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn i8s(&self, name: &str) -> Vec<i8> {
        self.0[name].1.iter().map(|&byte| byte.cast_signed()).collect()
    }

    pub fn i64s(&self, name: &str) -> Vec<i64> {
        self.0[name].1.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// Relative L2 distance, |a - b| / |b|.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    let apart = square(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    let size = square(&mut b.iter().map(|&b| f64::from(b)));
    if size == 0.0 { apart } else { apart / size }
}
