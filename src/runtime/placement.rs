//! Where the nodes of a graph compute, read out of ONNX Runtime's profile of a run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::RuntimeError;

/// Elements of the largest tensor that counts as shape arithmetic.
const SHAPE_ARITHMETIC: u64 = 4096;

/// A node that computed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name, after ONNX Runtime's optimizations.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// ONNX Runtime's name of what computed it, such as `CUDAExecutionProvider`.
    pub provider: String,
    /// How long it took in that run, in microseconds.
    pub microseconds: u64,
    /// Types and shapes of the tensors that it read and wrote.
    pub tensors: Vec<(String, Vec<u64>)>,
}

/// An event of a profile.
#[derive(Deserialize)]
struct Event {
    cat: String,
    name: String,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: Map<String, Value>,
}

// === impl Placed ===

impl Placed {
    /// The nodes in the profiles of a folder, where sessions of a [profiled](super::Model::profiled) model left them.
    ///
    /// # Errors
    /// If the folder or a profile cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Self>, RuntimeError> {
        let mut nodes = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
            let path = entry.map_err(|error| unreadable(folder, &error))?.path();
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            nodes.extend(of_profile(&text).map_err(|error| unreadable(&path, &error))?);
        }
        Ok(nodes)
    }

    /// Whether the processor computed it.
    #[must_use]
    pub fn is_on_cpu(&self) -> bool {
        self.provider == "CPUExecutionProvider"
    }

    /// Whether it computes nothing but shapes and positions: whole numbers or booleans, and few of them. ONNX Runtime
    /// puts that on the processor beside a GPU on purpose.
    #[must_use]
    pub fn is_shape_arithmetic(&self) -> bool {
        // the operator that takes a shape reads a tensor of any type, but not its elements
        let tensors =
            if self.op == "Shape" { self.tensors.get(1..).unwrap_or_default() } else { &self.tensors[..] };
        tensors.iter().all(|(of, shape)| {
            matches!(of.as_str(), "int64" | "int32" | "bool")
                && shape.iter().product::<u64>() <= SHAPE_ARITHMETIC
        })
    }

    /// Whether it copies between the memories of the processor and a GPU.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.op.starts_with("Memcpy")
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = self.provider.trim_end_matches("ExecutionProvider");
        write!(f, "{provider:<5} {:>7} us  {:<30} {}", self.microseconds, self.op, self.node)?;
        for (of, shape) in &self.tensors {
            write!(f, " {of}{shape:?}")?;
        }
        Ok(())
    }
}

/// The nodes in a profile's text, in the order of their first run.
fn of_profile(text: &str) -> Result<Vec<Placed>, serde_json::Error> {
    let events: Vec<Event> = serde_json::from_str(text)?;
    let mut nodes: Vec<Placed> = Vec::new();
    for Event { cat, name, dur, args } in events {
        let (Some(provider), Some(node)) = (args.get("provider"), name.strip_suffix("_kernel_time")) else {
            continue;
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let provider = text(Some(provider));
        if cat != "Node" || provider.is_empty() || nodes.iter().any(|known| known.node == node) {
            continue;
        }
        let tensors =
            ["input_type_shape", "output_type_shape"].iter().flat_map(|key| tensors(args.get(*key)));
        nodes.push(Placed {
            node: node.to_owned(),
            op: text(args.get("op_name")),
            provider,
            microseconds: dur,
            tensors: tensors.collect(),
        });
    }
    Ok(nodes)
}

/// The tensors in `[{"float": [2, 3]}, {"int64": []}]`.
fn tensors(list: Option<&Value>) -> Vec<(String, Vec<u64>)> {
    let entries = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).flatten();
    let sizes = |shape: &Value| shape.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    entries.map(|(of, shape)| (of.clone(), sizes(shape))).collect()
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> RuntimeError {
    RuntimeError::Ort(format!("its profile {} cannot be read: {error}", path.display()))
}

/// A name for a profile, to which ONNX Runtime adds the time in seconds.
pub(super) fn new_profile(folder: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    folder.join(format!("session-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as ONNX Runtime 1.31.1 writes them.
    #[test]
    fn a_profile_tells_where_each_node_ran_and_on_what() {
        let text = r#"[
            {"cat": "Session", "pid": 1, "tid": 1, "dur": 7, "ts": 1, "ph": "X", "name": "model_run", "args": {}},
            {"cat": "Node", "dur": 14, "name": "n4_Concat_kernel_time", "args": {
                "op_name": "Concat", "provider": "CPUExecutionProvider", "node_index": "4",
                "input_type_shape": [{"int64": [1]}, {"int64": []}], "output_type_shape": [{"int64": [2]}]}},
            {"cat": "Node", "dur": 2, "name": "n1_Shape_kernel_time", "args": {
                "op_name": "Shape", "provider": "CPUExecutionProvider",
                "input_type_shape": [{"float16": [32, 4000]}], "output_type_shape": [{"int64": [2]}]}},
            {"cat": "Node", "dur": 90, "name": "n5_Add_kernel_time", "args": {
                "op_name": "Add", "provider": "CPUExecutionProvider",
                "input_type_shape": [{"int64": [148, 148]}], "output_type_shape": [{"int64": [148, 148]}]}},
            {"cat": "Node", "dur": 3, "name": "n6_Gemm_kernel_time", "args": {
                "op_name": "Gemm", "provider": "CUDAExecutionProvider",
                "input_type_shape": [{"float": [2, 3]}], "output_type_shape": [{"float": [2, 3]}]}},
            {"cat": "Node", "dur": 9, "name": "n6_Gemm_kernel_time", "args": {
                "op_name": "Gemm", "provider": "CUDAExecutionProvider"}}
        ]"#;
        let nodes = of_profile(text).unwrap();
        let about: Vec<_> = nodes
            .iter()
            .map(|node| (node.node.as_str(), node.is_on_cpu(), node.is_shape_arithmetic()))
            .collect();
        let want = [
            ("n4_Concat", true, true),
            ("n1_Shape", true, true),
            ("n5_Add", true, false),
            ("n6_Gemm", false, false),
        ];
        assert_eq!(about, want, "each node once; 148 by 148 positions are more than shape arithmetic");
        assert_eq!(
            nodes[3].to_string(),
            "CUDA        3 us  Gemm                           n6_Gemm float[2, 3] float[2, 3]"
        );
    }
}
