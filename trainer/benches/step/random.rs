//! Checkpoints of random weights, in bf16, in the shapes of T5 v1.1.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use clap::ValueEnum;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, json};

const VOCABULARY: usize = 32128;
const D_KV: usize = 64;
const BUCKETS: usize = 32;

/// Random numbers that weights are made of, over and over: speed does not depend on their values.
const POOL: usize = 1 << 20;

/// The shapes of T5 v1.1, and one to try things out with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Shape {
    Tiny,
    Base,
    Large,
    Xl,
    Xxl,
}

/// A tensor to be written.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    scale: f32,
}

// === impl Shape ===

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Base => "base",
            Self::Large => "large",
            Self::Xl => "xl",
            Self::Xxl => "xxl",
        }
    }

    /// Width, width of the feed-forward layers, heads, and layers of each stack.
    fn sizes(self) -> [usize; 4] {
        match self {
            Self::Tiny => [64, 128, 2, 2],
            Self::Base => [768, 2048, 12, 12],
            Self::Large => [1024, 2816, 16, 24],
            Self::Xl => [2048, 5120, 32, 24],
            Self::Xxl => [4096, 10240, 64, 24],
        }
    }

    /// Writes the checkpoint, unless it is there.
    pub(super) fn write(self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join("model.safetensors");
        if path.is_file() {
            return Ok(());
        }
        std::fs::create_dir_all(folder)?;
        let [d_model, d_ff, heads, layers] = self.sizes();
        let config = json!({
            "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": VOCABULARY,
            "d_model": d_model, "d_kv": D_KV, "d_ff": d_ff, "num_heads": heads, "num_layers": layers,
            "num_decoder_layers": layers, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false,
            "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": BUCKETS,
            "relative_attention_max_distance": 128, "decoder_start_token_id": 0, "eos_token_id": 1,
            "pad_token_id": 0
        });
        std::fs::write(folder.join("config.json"), format!("{config:#}"))?;
        // a file that is there is whole
        let unfinished = folder.join("unfinished");
        write_tensors(&self.tensors(), &unfinished)?;
        std::fs::rename(unfinished, path)?;
        Ok(())
    }

    fn tensors(self) -> Vec<Tensor> {
        let [d_model, d_ff, heads, layers] = self.sizes();
        let inner = heads * D_KV;
        let by_width = (d_model as f32).powf(-0.5);
        let mut all = Vec::new();
        let mut add =
            |name: String, shape: &[usize], scale| all.push(Tensor { name, shape: shape.into(), scale });
        add("shared.weight".into(), &[VOCABULARY, d_model], 1.0);
        add("lm_head.weight".into(), &[VOCABULARY, d_model], by_width);
        for (stack, attentions) in
            [("encoder", &["SelfAttention"][..]), ("decoder", &["SelfAttention", "EncDecAttention"])]
        {
            add(format!("{stack}.final_layer_norm.weight"), &[d_model], 0.0);
            let bias = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
            add(bias, &[BUCKETS, heads], by_width);
            for block in 0..layers {
                let at =
                    |layer: usize, name: &str| format!("{stack}.block.{block}.layer.{layer}.{name}.weight");
                for (layer, attention) in attentions.iter().enumerate() {
                    add(at(layer, "layer_norm"), &[d_model], 0.0);
                    let small = ((d_model * D_KV) as f32).powf(-0.5);
                    for (name, scale) in [("q", small), ("k", by_width), ("v", by_width)] {
                        add(at(layer, &format!("{attention}.{name}")), &[inner, d_model], scale);
                    }
                    add(at(layer, &format!("{attention}.o")), &[d_model, inner], (inner as f32).powf(-0.5));
                }
                let last = attentions.len();
                add(at(last, "layer_norm"), &[d_model], 0.0);
                add(at(last, "DenseReluDense.wi_0"), &[d_ff, d_model], by_width);
                add(at(last, "DenseReluDense.wi_1"), &[d_ff, d_model], by_width);
                add(at(last, "DenseReluDense.wo"), &[d_model, d_ff], (d_ff as f32).powf(-0.5));
            }
        }
        all
    }
}

fn write_tensors(tensors: &[Tensor], path: &Path) -> anyhow::Result<()> {
    let mut header = Map::new();
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + 2 * tensor.shape.iter().product::<usize>();
        header.insert(
            tensor.name.clone(),
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let pool = normals(POOL);
    for tensor in tensors {
        // the scale of a norm is 1
        let value = |x: &f32| if tensor.scale == 0.0 { 1.0 } else { x * tensor.scale };
        // bf16 is the upper half of an f32
        let block: Vec<u8> =
            pool.iter().map(value).flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect();
        let mut left = 2 * tensor.shape.iter().product::<usize>();
        while left > 0 {
            let part = left.min(block.len());
            file.write_all(&block[..part])?;
            left -= part;
        }
    }
    file.flush()?;
    Ok(())
}

/// Numbers of mean 0 and variance 1; the same ones each time.
pub(super) fn normals(count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // the sum of twelve uniform numbers is as normal as a weight has to be
    (0..count).map(|_| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0).collect()
}
