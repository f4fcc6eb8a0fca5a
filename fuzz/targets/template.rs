//! Any template with any fields, cut to any length. The input: a byte for the limit, a byte for the fields that are
//! kept whole, and texts between zero bytes, of which the first is the template.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use xprompt::task::{InputForm, Template};
use xprompt_fuzz::nano;

fuzz_target!(|input: (u8, u8, &str)| {
    let (limit, kept, text) = input;
    let mut texts = text.split('\0');
    let source = texts.next().unwrap_or_default();
    // braces that are doubled are text: around any text a field is filled as it is
    let escaped = source.replace('{', "{{").replace('}', "}}");
    let around = Template::parse(&format!("{escaped}{{x}}{escaped}")).unwrap();
    assert_eq!(around.fill(&[text.to_owned()]), format!("{source}{text}{source}"));

    let Ok(template) = Template::parse(source) else { return };
    let fields = template.fields().to_vec();
    assert!(!fields.is_empty() && fields.iter().all(|field| !field.is_empty() && field.trim() == field));
    assert!((1..fields.len()).all(|i| !fields[..i].contains(&fields[i])));
    let values: Vec<String> =
        texts.map(str::to_owned).chain(std::iter::repeat(String::new())).take(fields.len()).collect();
    let row: Map<String, Value> =
        fields.iter().cloned().zip(values.iter().cloned().map(Value::String)).collect();
    assert_eq!(template.values(&Value::Object(row)).unwrap(), values);
    let filled = template.fill(&values);
    assert!(values.iter().all(|value| filled.contains(value.as_str())));

    let is_kept = |i: usize| kept >> (i % 8) & 1 == 1;
    let keep: Vec<String> = (0..fields.len()).filter(|&i| is_kept(i)).map(|i| fields[i].clone()).collect();
    let limit = usize::from(limit).max(1);
    let form = InputForm::new(source, &keep, limit).unwrap();
    let (tokenizer, config) = nano();
    let (ids, before) = form.source(&values, tokenizer).unwrap();
    assert!(ids.len() <= limit && ids.last() == Some(&config.eos_token_id));
    assert!(before > limit || ids.len() == before);
});
