//! From a [`Graph`] to the bytes of an ONNX model.

use std::collections::HashSet;

use prost::Message;

use super::builder::{Graph, Info, Source, Value};
use super::fused::FUSED_DOMAIN;
use super::op::DType;
use super::proto::{
    Dimension, DimensionValue, EXTERNAL, GraphProto, Model, NodeProto, OperatorSet, StringEntry, TensorProto,
    TensorShape, TensorType, TypeProto, ValueInfo, attribute,
};
use super::shape::Dim;

const IR_VERSION: i64 = 10;
const OPSET: i64 = 21;

/// A tensor inside a file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The file's name, relative to the folder that the session is told.
    pub location: String,
    /// Where the tensor begins, in bytes from the start of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its element type in the file. It is cast when the model is loaded, unless the graph computes in it.
    pub dtype: DType,
}

/// Where a model gets a weight from.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightSource {
    /// A checkpoint's file, read in place, and cast if it holds another type than the graph computes in.
    File(External),
    /// The session, as a tensor in memory under the weight's name; of a weight that is joined all parts are. ONNX wants a place all the same; it is
    /// not read, unless the runtime folds the weight into a constant: do that to [`WeightSource::Inline`] only.
    Session(External),
    /// The model itself.
    Inline(Vec<f32>),
}

impl Graph {
    /// The graph as a serialized ONNX `ModelProto`, with each weight of the checkpoint from where `source` says by its name
    /// and shape.
    #[must_use]
    pub fn to_model(&self, source: impl Fn(&str, &[usize]) -> WeightSource) -> Vec<u8> {
        let source = |weight: Value| source(&self.values[weight.0].name, &self.fixed_shape(weight));
        let read: HashSet<&str> = self.weights().map(|weight| weight.name).collect();
        let mut made = Vec::new();
        let mut initializer = Vec::new();
        let inline = |bytes: Vec<u8>, info: &Info| TensorProto {
            raw_data: bytes,
            ..tensor(&info.name, info.dtype, info)
        };
        for (i, info) in self.values.iter().enumerate() {
            initializer.push(match &info.source {
                Source::Constant(bytes) => inline(bytes.clone(), info),
                Source::Weight => match source(Value(i)) {
                    // only a part of another, which the session has whole
                    WeightSource::Session(_) if !read.contains(info.name.as_str()) => continue,
                    WeightSource::Inline(xs) => inline(info.dtype.bytes_of(&xs), info),
                    WeightSource::File(place) if place.dtype != info.dtype => {
                        let stored = format!("{}.stored", info.name);
                        made.push(cast(&stored, info));
                        external(tensor(&stored, place.dtype, info), &place)
                    }
                    WeightSource::File(place) | WeightSource::Session(place) => {
                        external(tensor(&info.name, info.dtype, info), &place)
                    }
                },
                Source::Joined(parts) => match source(parts[0]) {
                    WeightSource::Session(place) => external(tensor(&info.name, info.dtype, info), &place),
                    WeightSource::Inline(_) | WeightSource::File(_) => {
                        made.push(concat(parts.iter().map(|part| &self.values[part.0]), info));
                        continue;
                    }
                },
                Source::Input | Source::Node => continue,
            });
        }
        let graph = GraphProto {
            name: "xprompt".into(),
            node: made.into_iter().chain(self.node_protos()).collect(),
            initializer,
            input: self.values.iter().filter(|info| info.source == Source::Input).map(value_info).collect(),
            output: self
                .outputs
                .iter()
                .map(|(name, value)| {
                    let info = &self.values[value.0];
                    value_info(&Info { name: name.clone(), ..info.clone() })
                })
                .collect(),
        };
        let opset = |domain: &str, version| OperatorSet { domain: domain.into(), version };
        let mut opset_import = vec![opset("", OPSET), opset("com.microsoft", 1)];
        if self.has_own_operators() {
            opset_import.push(opset(FUSED_DOMAIN, 1));
        }
        Model { ir_version: IR_VERSION, producer_name: "xprompt".into(), graph: Some(graph), opset_import }
            .encode_to_vec()
    }

    /// Whether a runtime needs this project's kernels to run it.
    #[must_use]
    pub fn has_own_operators(&self) -> bool {
        self.nodes.iter().any(|node| node.op.onnx().0 == FUSED_DOMAIN)
    }

    /// The nodes in order, and behind them the copies that give outputs their names.
    fn node_protos(&self) -> impl Iterator<Item = NodeProto> {
        let name = |value: Value| self.values[value.0].name.clone();
        let nodes = self.nodes.iter().enumerate().map(move |(i, node)| {
            let (domain, op_type, attribute) = node.op.onnx();
            NodeProto {
                input: node.inputs.iter().map(|&x| name(x)).collect(),
                output: node.outputs.iter().map(|&y| name(y)).collect(),
                name: format!("n{i}_{op_type}"),
                op_type: op_type.into(),
                attribute,
                domain: domain.into(),
            }
        });
        nodes.chain(self.outputs.iter().map(move |(output, value)| NodeProto {
            input: vec![name(*value)],
            output: vec![output.clone()],
            name: format!("output_{output}"),
            op_type: "Identity".into(),
            ..NodeProto::default()
        }))
    }
}

fn dims(shape: &[Dim]) -> Vec<i64> {
    shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => *size as i64,
            other => unreachable!("a stored tensor has a fixed shape, not {other}"),
        })
        .collect()
}

fn tensor(name: &str, dtype: DType, info: &Info) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims(&info.shape),
        data_type: dtype.onnx(),
        ..TensorProto::default()
    }
}

fn external(tensor: TensorProto, place: &External) -> TensorProto {
    let entry = |key: &str, value: String| StringEntry { key: key.into(), value };
    TensorProto {
        data_location: EXTERNAL,
        external_data: vec![
            entry("location", place.location.clone()),
            entry("offset", place.offset.to_string()),
            entry("length", place.length.to_string()),
        ],
        ..tensor
    }
}

fn cast(from: &str, to: &Info) -> NodeProto {
    NodeProto {
        input: vec![from.into()],
        output: vec![to.name.clone()],
        name: format!("cast_{}", to.name),
        op_type: "Cast".into(),
        attribute: vec![attribute::int("to", i64::from(to.dtype.onnx()))],
        ..NodeProto::default()
    }
}

fn concat<'a>(parts: impl Iterator<Item = &'a Info>, to: &Info) -> NodeProto {
    NodeProto {
        input: parts.map(|part| part.name.clone()).collect(),
        output: vec![to.name.clone()],
        name: format!("join_{}", to.name),
        op_type: "Concat".into(),
        attribute: vec![attribute::int("axis", 0)],
        ..NodeProto::default()
    }
}

fn value_info(info: &Info) -> ValueInfo {
    let dim = info
        .shape
        .iter()
        .map(|dim| {
            let value = match dim {
                Dim::Fixed(size) => DimensionValue::Size(*size as i64),
                other => DimensionValue::Name(other.to_string()),
            };
            Dimension { value: Some(value) }
        })
        .collect();
    let tensor_type = TensorType { elem_type: info.dtype.onnx(), shape: Some(TensorShape { dim }) };
    ValueInfo { name: info.name.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
