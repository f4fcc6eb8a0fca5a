//! TensorBoard's event file: `Event` messages (protobuf) in the frames of a TFRecord file.

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

/// CRC-32C (Castagnoli).
static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes of a frame before its message: the length and its checksum.
const HEADER: usize = 12;

/// What the first event of a file has to say.
const VERSION: &str = "brain.Event:2";

/// The part of `event.proto` that scalars need.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `Summary` of `summary.proto`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The frame that a file starts with.
pub(super) fn start(time: f64) -> Vec<u8> {
    frame(&Record { wall_time: time, file_version: Some(VERSION.into()), ..Record::default() })
}

/// A frame with values by tag.
pub(super) fn scalars(time: f64, step: usize, values: Vec<(String, f32)>) -> Vec<u8> {
    let value = values.into_iter().map(|(tag, value)| Scalar { tag, simple_value: Some(value) }).collect();
    frame(&Record {
        wall_time: time,
        step: step as i64,
        summary: Some(Summary { value }),
        ..Record::default()
    })
}

/// How many bytes the whole frames at the start of a file are.
pub(super) fn whole_records(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = whole_frame(&bytes[end..]) {
        end += length;
    }
    end
}

fn frame(record: &Record) -> Vec<u8> {
    let message = record.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let parts = [&length[..], &masked(&length), &message, &masked(&message)];
    parts.concat()
}

/// Bytes of the frame that some bytes start with, if it is whole.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    let end = length.checked_add(HEADER)?;
    let message = bytes.get(HEADER..end)?;
    (bytes.get(end..)?.first_chunk() == Some(&masked(message))).then_some(end + 4)
}

/// The checksum as TFRecord keeps it: turned and shifted, so that files may hold files.
fn masked(bytes: &[u8]) -> [u8; 4] {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By TensorBoard's own writer: `tests/fixtures/tfevents.py`.
    const THEIRS: &[u8] = include_bytes!("../../../tests/fixtures/expected/tensorboard.tfevents");

    /// The events of that script.
    fn ours() -> Vec<u8> {
        let values = |values: &[(&str, f32)]| values.iter().map(|&(tag, x)| (tag.into(), x)).collect();
        let accuracy = "rte/seed-42/tuning/choose/accuracy";
        [
            scalars(1_700_000_000.25, 0, values(&[(accuracy, 0.5)])),
            scalars(1_700_000_001.5, 50, values(&[("rte/seed-42/tuning/loss", 0.718_75), (accuracy, 0.0)])),
            scalars(1_700_000_002.125, 70_000, values(&[("rte/seed-42/token pruning/30 %/loss", -1.5e-7)])),
            scalars(1_700_000_003.001, 3, values(&[("größe", 1e30)])),
        ]
        .concat()
    }

    #[test]
    fn scalars_are_the_bytes_that_tensorboard_writes() {
        let first = whole_frame(THEIRS).unwrap();
        assert_eq!(THEIRS[first..], ours());
    }

    /// TensorBoard's own writer names itself in the first event as well (`source_metadata`), as its last field.
    #[test]
    fn the_first_event_begins_as_tensorboards_does() {
        let start = start(1_700_000_000.0);
        let theirs = &THEIRS[HEADER..whole_frame(THEIRS).unwrap() - 4];
        let ours = &start[HEADER..start.len() - 4];
        let rest = theirs.strip_prefix(ours).expect("the same time and version");
        assert!(rest.ends_with(b"tensorboard.summary.writer.event_file_writer"));
        assert_eq!(rest[0], 10 << 3 | 2, "one more field of tag 10");
    }

    #[test]
    fn whole_records_end_where_a_file_is_torn_or_damaged() {
        assert_eq!(whole_records(THEIRS), THEIRS.len());
        let first = whole_frame(THEIRS).unwrap();
        let second = first + whole_frame(&THEIRS[first..]).unwrap();
        for torn in [first, first + 1, first + HEADER, second - 1] {
            assert_eq!(whole_records(&THEIRS[..torn]), first, "cut at {torn}");
        }
        let mut damaged = THEIRS.to_vec();
        damaged[first + HEADER] ^= 1;
        assert_eq!(whole_records(&damaged), first);
        assert_eq!(whole_records(&[0xff; 40]), 0, "a length beyond any file");
    }
}
