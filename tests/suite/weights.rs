//! Models whose weights are a formula of seed, name and position, as tests/fixtures/variants.py has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::json;
use xprompt::graph::DType;
use xprompt::t5::Config;

use crate::support::{Tensors, fixtures};

/// The members of T5's family.
pub const FAMILY: [&str; 13] = [
    "mt5",
    "mt5-tied",
    "umt5",
    "umt5-tied",
    "byt5",
    "codet5",
    "ul2",
    "silu",
    "gelu",
    "gelu-new",
    "gated-relu",
    "gated-gelu-exact",
    "mixed",
];

/// What transformers made of a member.
pub fn expected(name: &str) -> PathBuf {
    fixtures().join("variants").join(name).join("expected.safetensors")
}

/// The folder of a member, with its weights: one file, or two for the one of mixed types.
pub fn family(name: &str) -> PathBuf {
    let config = fixtures().join("variants").join(name).join("config.json");
    let seed = Tensors::read(&expected(name)).i64s("seed")[0].cast_unsigned();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("family").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    put(&folder.join("config.json"), |path| std::fs::write(path, std::fs::read(config).unwrap()).unwrap());
    write(&folder, seed, if name == "mixed" { 2 } else { 1 }, |tensor| match name {
        "mixed" if tensor.contains("SelfAttention") => DType::Bf16,
        "mixed" if tensor.contains("DenseReluDense") => DType::F16,
        _ => DType::F32,
    });
    folder
}

/// Writes the weights that a folder's configuration asks for.
pub fn write(folder: &Path, seed: u64, shards: usize, dtype: impl Fn(&str) -> DType) {
    let config = Config::read(folder).unwrap();
    let head = if config.tie_word_embeddings { "shared.weight" } else { "lm_head.weight" };
    let weights = config.weights("shared.weight", head);
    type Shard<'a> = BTreeMap<&'a String, (Dtype, &'a Vec<usize>, Vec<u8>)>;
    let mut files: Vec<Shard<'_>> = vec![BTreeMap::new(); shards];
    let file = |shard: usize| match shards {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{shards:05}.safetensors", shard + 1),
    };
    let mut index = serde_json::Map::new();
    for (i, (name, shape)) in weights.iter().enumerate() {
        let stored = match dtype(name) {
            DType::Bf16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            _ => Dtype::F32,
        };
        let bytes = dtype(name).bytes_of(&weight(name, shape, seed, &config));
        files[i % shards].insert(name, (stored, shape, bytes));
        index.insert(name.clone(), json!(file(i % shards)));
    }
    for (shard, tensors) in files.iter().enumerate() {
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), TensorView::new(*dtype, (*shape).clone(), bytes).unwrap())
        });
        put(&folder.join(file(shard)), |path| serialize_to_file(views, None, path).unwrap());
    }
    if shards > 1 {
        let index = json!({"metadata": {}, "weight_map": index}).to_string();
        put(&folder.join("model.safetensors.index.json"), |path| std::fs::write(path, index).unwrap());
    }
}

/// Puts a file in its place in one step: tests side by side write the same bytes.
fn put(path: &Path, write: impl FnOnce(&Path)) {
    let unfinished = path.with_extension(format!("{:?}", std::thread::current().id()));
    write(&unfinished);
    std::fs::rename(unfinished, path).unwrap();
}

fn weight(name: &str, shape: &[usize], seed: u64, config: &Config) -> Vec<f32> {
    let key = name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |key: u64, byte| {
        (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let noise = (0..shape.iter().product::<usize>()).map(|i| {
        let z = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(key);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    });
    let tied = config.tie_word_embeddings;
    let value = |noise: f64| {
        if name.contains("layer_norm") {
            let scale = if tied && name == "decoder.final_layer_norm.weight" { 4.0 } else { 1.0 };
            scale * (1.0 + 0.35 * noise)
        } else if name.contains("relative_attention_bias") {
            1.75 * noise
        } else if name == "shared.weight" {
            (if tied { 0.75 } else { 3.5 }) * noise
        } else if name == "lm_head.weight" {
            0.875 * noise
        } else {
            let value = 2.5 / (shape[1] as f64).sqrt() * noise;
            if name.ends_with(".q.weight") { value / (config.d_kv as f64).sqrt() } else { value }
        }
    };
    noise.map(|noise| value(noise) as f32).collect()
}
