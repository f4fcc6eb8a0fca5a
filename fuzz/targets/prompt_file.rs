//! Any bytes as a prompt file. The length of the header, which stands before it, is made to fit half of the time:
//! otherwise hardly a change of the header would be read.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer, Value};

fuzz_target!(|bytes: &[u8]| xprompt_fuzz::check_file(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if seed.is_multiple_of(2) && size > 8 {
        let mut header: StreamDeserializer<'_, IoRead<&[u8]>, Value> =
            Deserializer::from_reader(&data[8..size]).into_iter();
        if matches!(header.next(), Some(Ok(_))) {
            let length = header.byte_offset() as u64;
            data[..8].copy_from_slice(&length.to_le_bytes());
        }
    }
    size
});
