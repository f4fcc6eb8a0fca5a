//! Any text as the manifest of a file whose tensors are those of a bundled prompt.

#![no_main]

use std::collections::HashMap;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use xprompt_fuzz::{check_file, root};

fn bundled() -> &'static [u8] {
    static BUNDLED: OnceLock<Vec<u8>> = OnceLock::new();
    BUNDLED.get_or_init(|| std::fs::read(root().join("prompts/tweet-sentiment.safetensors")).unwrap())
}

fuzz_target!(|manifest: &str| {
    let tensors = SafeTensors::deserialize(bundled()).unwrap();
    let metadata = HashMap::from([("xprompt".to_owned(), manifest.to_owned())]);
    check_file(&safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap());
});
