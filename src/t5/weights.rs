//! Which tensors a T5 has, by its configuration.

use std::collections::BTreeMap;

use super::Config;

impl Config {
    /// Every tensor of the model, with its shape, by the names of Hugging Face's checkpoints. What the embedding table and
    /// the output projection are called depends on the checkpoint; it is one name where they are tied.
    #[must_use]
    pub fn weights(&self, embedding: &str, head: &str) -> BTreeMap<String, Vec<usize>> {
        let inner = self.num_heads * self.d_kv;
        let mut all = BTreeMap::new();
        let mut need = |name: String, shape: &[usize]| all.insert(name, shape.to_vec());
        need(embedding.into(), &[self.vocab_size, self.d_model]);
        need(head.into(), &[self.vocab_size, self.d_model]);
        for (stack, layers, attentions) in [
            ("encoder", self.num_layers, &["SelfAttention"][..]),
            ("decoder", self.num_decoder_layers, &["SelfAttention", "EncDecAttention"]),
        ] {
            need(format!("{stack}.final_layer_norm.weight"), &[self.d_model]);
            for block in 0..layers {
                if block == 0 || self.bias_in_every_layer() {
                    need(bias_name(stack, block), &[self.relative_attention_num_buckets, self.num_heads]);
                }
                let at =
                    |layer: usize, name: &str| format!("{stack}.block.{block}.layer.{layer}.{name}.weight");
                for (layer, attention) in attentions.iter().enumerate() {
                    need(at(layer, "layer_norm"), &[self.d_model]);
                    for projection in ["q", "k", "v"] {
                        need(at(layer, &format!("{attention}.{projection}")), &[inner, self.d_model]);
                    }
                    need(at(layer, &format!("{attention}.o")), &[self.d_model, inner]);
                }
                let last = attentions.len();
                need(at(last, "layer_norm"), &[self.d_model]);
                let inputs: &[_] = if self.activation.gated { &["wi_0", "wi_1"] } else { &["wi"] };
                for input in inputs {
                    need(at(last, &format!("DenseReluDense.{input}")), &[self.d_ff, self.d_model]);
                }
                need(at(last, "DenseReluDense.wo"), &[self.d_model, self.d_ff]);
            }
        }
        all
    }
}

/// The table of a layer's biases by bucket of positions.
pub(super) fn bias_name(stack: &str, block: usize) -> String {
    format!("{stack}.block.{block}.layer.0.SelfAttention.relative_attention_bias.weight")
}
