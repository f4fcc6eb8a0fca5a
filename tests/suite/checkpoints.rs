use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tempfile::TempDir;
use xprompt::graph::DType;
use xprompt::t5::Checkpoint;

use crate::support::{fixtures, root};
use crate::weights;

/// A whole checkpoint in two shards.
fn sharded() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixtures().join("variants/umt5/config.json"), folder.path().join("config.json")).unwrap();
    weights::write(folder.path(), 1, 2, |_| DType::F32);
    folder
}

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const BIAS: &str = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight";

/// What is said about a folder, with its path as F.
fn error(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap();
    let error = Checkpoint::open(folder).unwrap_err().to_string();
    error.replace(&*real.to_string_lossy(), "F").replace(&*folder.to_string_lossy(), "F")
}

/// Changes the shard that has a tensor: what the tensor is from now on, or none.
fn change(folder: &Path, tensor: &str, new: Option<&(Dtype, Vec<usize>)>) -> &'static str {
    for name in [FIRST, SECOND] {
        let bytes = fs::read(folder.join(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        if file.tensor(tensor).is_err() {
            continue;
        }
        let zeros = vec![0; 1 << 20];
        let tensors = file.tensors().into_iter().filter_map(|(name, view)| match new {
            _ if name != tensor => Some((name, view)),
            None => None,
            Some((dtype, shape)) => {
                let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                Some((name, TensorView::new(*dtype, shape.clone(), &zeros[..length]).unwrap()))
            }
        });
        serialize_to_file(tensors, None, &folder.join("new")).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
        return name;
    }
    panic!("no shard has {tensor}");
}

#[test]
fn a_shard_that_is_cut_anywhere_names_itself() {
    let folder = sharded();
    let path = folder.path().join(SECOND);
    let whole = fs::read(&path).unwrap();
    assert!(Checkpoint::open(folder.path()).is_ok());
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = error(folder.path());
        assert!(error.starts_with(&format!("F/{SECOND}: not a whole safetensors file")), "{length}: {error}");
        assert!(error.ends_with("fetch it again"), "{length}: {error}");
    }
}

#[test]
fn a_tensor_that_does_not_fit_names_itself_its_file_and_the_remedy() {
    for (tensor, new, says) in [
        (
            BIAS,
            None,
            "there is no tensor T, which config.json asks for; the index says that it is in this file",
        ),
        (BIAS, Some((Dtype::F32, vec![32, 4])), "tensor T has shape [32, 4], config.json asks for [8, 4]"),
        (BIAS, Some((Dtype::F64, vec![8, 4])), "tensor T is stored as F64; f32, bf16 and f16 can be read"),
        (BIAS, Some((Dtype::I8, vec![8, 4])), "tensor T is stored as I8; f32, bf16 and f16 can be read"),
        (BIAS, Some((Dtype::F8_E4M3, vec![8, 4])), "tensor T is stored as F8_E4M3; "),
        ("lm_head.weight", None, "there is no tensor T"),
    ] {
        let folder = sharded();
        let file = change(folder.path(), tensor, new.as_ref());
        let error = error(folder.path());
        assert!(error.starts_with(&format!("F/{file}: ")), "{error}");
        assert!(error.contains(&says.replace('T', tensor)) && error.contains("; "), "{error}");
    }
}

#[test]
fn an_index_that_is_wrong_says_how() {
    for (index, says) in [
        ("{", "EOF while parsing"),
        ("{}", "no weight_map"),
        (r#"{"weight_map": {}}"#, "names no file"),
        (r#"{"weight_map": {"a": 1}}"#, "weight_map.a is 1"),
        (r#"{"weight_map": {"a": "../b"}}"#, "names ../b, which is not a file beside the index"),
        (
            r#"{"weight_map": {"a": "b", "c": "b"}}"#,
            "names b for 2 tensors, and it is not in the folder; fetch it",
        ),
    ] {
        let folder = sharded();
        fs::write(folder.path().join(INDEX), index).unwrap();
        let error = error(folder.path());
        assert!(error.starts_with(&format!("F/{INDEX}: ")) && error.contains(says), "{error}");
    }
}

#[test]
fn a_tensor_is_taken_from_the_shard_that_the_index_names() {
    let folder = sharded();
    let open = |folder: &Path| Checkpoint::open(folder).unwrap().f32s(BIAS);
    let want = open(folder.path());
    // the other shard has one of that name too
    let bytes = [FIRST, SECOND].map(|name| fs::read(folder.path().join(name)).unwrap());
    let files = bytes.each_ref().map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    let other = usize::from(files[0].tensor(BIAS).is_ok());
    let zeros = vec![0; 8 * 4 * 4];
    let stray = TensorView::new(Dtype::F32, vec![8, 4], &zeros).unwrap();
    let tensors = files[other].tensors().into_iter().chain([(BIAS.to_owned(), stray)]);
    let new = folder.path().join("new");
    serialize_to_file(tensors, None, &new).unwrap();
    fs::rename(new, folder.path().join([FIRST, SECOND][other])).unwrap();
    assert_eq!(open(folder.path()), want);
}

#[test]
fn weights_of_another_kind_are_refused_with_the_command_that_converts_them() {
    for (file, option) in [
        ("pytorch_model.bin", ""),
        ("tf_model.h5", ", from_tf=True"),
        ("flax_model.msgpack", ", from_flax=True"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(fixtures().join("variants/umt5/config.json"), folder.path().join("config.json")).unwrap();
        fs::write(folder.path().join(file), "").unwrap();
        let error = error(folder.path());
        let command = format!("M.from_pretrained('F'{option}).save_pretrained('F')");
        assert!(error.contains(&format!("{file} is not read")) && error.contains(&command), "{error}");
    }
}

#[test]
fn the_bundled_model_keeps_the_fingerprint_that_prompts_know_it_by() {
    let checkpoint = Checkpoint::open(&root().join("models/t5-nano")).unwrap();
    assert_eq!(checkpoint.fingerprint(), FINGERPRINT);
}

/// Of models/t5-nano as the first release read it.
const FINGERPRINT: &str = "6d536514d36cd89a";
