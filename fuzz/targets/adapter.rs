//! Any bytes as an adapter of PEFT: `adapter_config.json`, `task.toml` and `adapter_model.safetensors`, between lines
//! `---`. The length of the header, which stands before it in a safetensors file, is not part of the input: it is made to
//! fit, otherwise hardly a change of the header would be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer, Value};
use xprompt::exchange::{Foreign, Settings, to_peft};
use xprompt_fuzz::{base, check_file, nano};

const BETWEEN: &[u8] = b"\n---\n";

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN)?;
    Some((&bytes[..at], &bytes[at + BETWEEN.len()..]))
}

fn with_length(rest: &[u8]) -> Vec<u8> {
    let mut header: StreamDeserializer<'_, IoRead<&[u8]>, Value> =
        Deserializer::from_reader(rest).into_iter();
    let length = if matches!(header.next(), Some(Ok(_))) {
        let end = header.byte_offset();
        // writers pad it with spaces
        end + rest[end..].iter().take_while(|&&byte| byte == b' ').count()
    } else {
        rest.len()
    };
    [&(length as u64).to_le_bytes(), rest].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((config, rest)) = split(bytes) else { return };
    let Some((settings, rest)) = split(rest) else { return };
    let settings = match Settings::parse(settings) {
        Ok(settings) => Some(settings),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    };
    if let Some(settings) = &settings
        && let Ok(written) = settings.to_toml()
    {
        assert_eq!(&Settings::parse(written.as_bytes()).unwrap(), settings, "{written}");
    }
    let foreign = match Foreign::from_peft(config, &with_length(rest)) {
        Ok(foreign) => foreign,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(foreign.rows.len(), foreign.tokens() * foreign.width);
    assert!(foreign.tokens() > 0 && foreign.rows.iter().all(|value| value.is_finite()));
    let Some(settings) = settings else { return };
    if let Err(error) = foreign.fits(base(), &nano().1, settings.base_model.as_deref()) {
        assert!(!error.to_string().is_empty());
    }
    let (origin, rows) = (foreign.origin.clone(), foreign.rows.clone());
    let file = foreign.into_file(settings.task, base(), origin);
    check_file(&file.to_bytes().unwrap());
    // what is exported again has the same rows
    let exported = to_peft(&file, None).unwrap();
    let again = Foreign::from_peft(&exported.config, &exported.weights).unwrap();
    assert_eq!(again.rows, rows);
});
