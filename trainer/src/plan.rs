//! How much a run of a graph holds at once: planned from the model's size and the memory that it may take.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use xprompt::graph::{Activations, Arithmetic, DType, Kernels};
use xprompt::runtime::{Device, Model, RuntimeError};
use xprompt::t5::Config;

/// Share of the free memory that a run may take on a CPU.
const SHARE: usize = 2;

/// Memory that a run may take where the system does not say what is free.
const ASSUMED: usize = 4 << 30;

/// Memory of a GPU that a run may take where it is not asked what is free.
const GPU: usize = 16 << 30;

/// Share, in percent, that a run may take of what a GPU has free beside the weights. The rest is for what no plan counts:
/// logits, buffers of cuBLAS, and what allocators lose between tensors.
const GPU_SHARE: usize = 75;

/// Less does not compute a batch.
const GPU_LEAST: usize = 256 << 20;

/// The largest runs. On two cores, steps over short texts took 82 examples a second in runs of 2,048 positions and 71 in
/// runs of 8,192; a GPU wants large ones.
const ENOUGH: usize = 2048;
const ENOUGH_GPU: usize = 128 * 1024;

/// Positions that a GPU computes in the time that a run takes beside its positions: a tuning step of T5 Large takes 6 ms for
/// one example of 148 positions and 19 for 32 of them.
const RUN_GPU: usize = 1024;

/// How much more work a gradient is that computes activations again: 24 % for T5 Large, 28 % for XL.
const AGAIN_PERCENT: usize = 130;

/// Layers whose activations a gradient that computes them again holds at once, the decoder's among them: beside its streams
/// a step of T5 Large took as much as three layers do, one of XL as much as four.
const LAYERS_AT_ONCE: usize = 4;

/// What a run may hold. It is fixed once for a whole experiment, because sums over other batches round otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    bytes: usize,
    enough: usize,
    /// Devices that runs are spread over.
    devices: usize,
    /// Whether activations have 16 bits.
    half: bool,
    /// Whether fused kernels compute, which keep less.
    fused: bool,
    /// Whether attention is one of them, which keeps no scores.
    attention: bool,
}

/// What a graph keeps of each position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Every layer's activations, for the gradient.
    AllLayers,
    /// The residual stream of every layer, and the activations of a few layers.
    Streams,
    /// Those of the layer that is computed.
    OneLayer,
}

// === impl Plan ===

impl Plan {
    /// A plan for a device, within `bytes` of memory for activations if given.
    #[must_use]
    pub fn new(device: Device, bytes: Option<usize>) -> Self {
        let (usual, enough) = match device {
            Device::Cpu => (free_memory().map_or(ASSUMED, |free| free / SHARE), ENOUGH),
            Device::Cuda(_) => (GPU, ENOUGH_GPU),
        };
        let fused = device != Device::Cpu;
        Self { bytes: bytes.unwrap_or(usual), enough, devices: 1, half: false, fused, attention: false }
    }

    /// A plan for a model on its device and on others like it, within `bytes` of memory for activations if given; else
    /// within a share of what is free beside the weights.
    ///
    /// # Errors
    /// If a GPU does not hold the model.
    pub fn of(lanes: &[Model], bytes: Option<usize>) -> Result<Self, RuntimeError> {
        let rooms = lanes.iter().map(Model::room_beside_weights).collect::<Result<Vec<_>, _>>()?;
        let least = rooms.into_iter().flatten().min();
        let first = &lanes[0];
        let Arithmetic { kernels, floats } = first.arithmetic();
        let (half, attention) = (floats != DType::F32, kernels == Kernels::FusedAttention);
        let planned = Self::new(first.device(), bytes.or(least.map(share_of))).over(lanes.len());
        Ok(Self { half, attention, ..planned })
    }

    /// The same for runs that are spread over several devices, each with memory of its own.
    #[must_use]
    pub fn over(self, devices: usize) -> Self {
        Self { devices: devices.max(1), ..self }
    }

    /// Memory for activations, in MiB.
    #[must_use]
    pub fn mebibytes(self) -> usize {
        self.bytes >> 20
    }

    /// The same for runs of gradients, and what each does with activations: it computes them again where they do not fit, or
    /// where they would leave runs so small that the work done twice is less than the time that more runs take.
    #[must_use]
    pub fn gradient_runs(&self, config: &Config, lengths: &[usize]) -> Vec<(Range<usize>, Activations)> {
        let [kept, again] = [Keeps::AllLayers, Keeps::Streams].map(|keeps| self.runs(config, keeps, lengths));
        let padded = |run: &Range<usize>| run.len() * lengths[run.end - 1];
        let fits = |run: &Range<usize>| {
            padded(run) <= self.positions(config, Keeps::AllLayers, lengths[run.end - 1])
        };
        let cost = |runs: &[Range<usize>]| -> usize {
            let of_run = |run: &Range<usize>| {
                let percent = if fits(run) { 100 } else { AGAIN_PERCENT };
                padded(run) * percent + self.run_cost() * 100
            };
            runs.iter().map(of_run).sum()
        };
        let runs = if cost(&again) < cost(&kept) { again } else { kept };
        let planned = |run: Range<usize>| {
            let activations = if fits(&run) { Activations::Kept } else { Activations::Recomputed };
            (run, activations)
        };
        runs.into_iter().map(planned).collect()
    }

    /// What a run costs, in positions.
    fn run_cost(&self) -> usize {
        if self.fused { RUN_GPU } else { 0 }
    }

    /// Cuts sequences, given by their lengths in ascending order, into runs; each holds at least one. Several devices
    /// get runs of similar size, where there are enough sequences.
    #[must_use]
    pub fn runs(&self, config: &Config, keeps: Keeps, lengths: &[usize]) -> Vec<Range<usize>> {
        let memory = |length| self.positions(config, keeps, length);
        let least = cut(lengths, memory);
        if self.devices == 1 || lengths.is_empty() {
            return least;
        }
        let count = least.len().next_multiple_of(self.devices);
        let mut cap = lengths.iter().sum::<usize>().div_ceil(count);
        loop {
            let runs = cut(lengths, |length| memory(length).min(cap));
            // a cap that is too small leaves a rest behind the last full run
            if runs.len() <= count || runs.len() == lengths.len() {
                return runs;
            }
            cap += cap.div_ceil(32);
        }
    }

    /// Bytes of the activations that an encoder layer keeps of one position for its gradient, in a sequence of `length`.
    ///
    /// Standard operators on f32: about ten vectors of `d_model`, six of `d_ff`, and three rows of attention scores per
    /// head. For the bundled model's eight layers this gives 290 KB at length 100, where 320 KB were measured. Fused
    /// kernels keep less: this gives 39 KB a layer of T5 Large in bf16, 74 KB of XL and 147 KB of XXL, where a process took 30,
    /// 59 and 149 KB more for each position and layer.
    fn bytes_per_layer(self, config: &Config, length: usize) -> usize {
        let [width, wide, scores] = match (self.fused, self.attention) {
            (_, true) => [8, 4, 0],
            (true, false) => [8, 4, 1],
            (false, false) => [10, 6, 3],
        };
        let floats = width * config.d_model + wide * config.d_ff + scores * config.num_heads * length;
        floats * if self.half { 2 } else { 4 }
    }

    /// Positions that a run of sequences of `length` may hold.
    fn positions(&self, config: &Config, keeps: Keeps, length: usize) -> usize {
        let layer = self.bytes_per_layer(config, length);
        let bytes = match keeps {
            Keeps::AllLayers => config.num_layers * layer,
            Keeps::Streams => config.num_layers * self.bytes_of_streams(config) + LAYERS_AT_ONCE * layer,
            Keeps::OneLayer => layer,
        };
        (self.bytes / bytes.max(1)).min(self.enough)
    }

    /// Bytes of what norms normalise in an encoder layer, for one position: the stream before each of its two blocks.
    fn bytes_of_streams(&self, config: &Config) -> usize {
        2 * config.d_model * if self.half { 2 } else { 4 }
    }
}

/// The fewest runs whose padded positions stay within the limit for their longest sequence.
fn cut(lengths: &[usize], limit: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for end in 1..=lengths.len() {
        if lengths.get(end).is_none_or(|&length| (end + 1 - start) * length > limit(length)) {
            runs.push(start..end);
            start = end;
        }
    }
    runs
}

/// Memory for activations out of what is free beside the weights of a GPU.
fn share_of(room: usize) -> usize {
    (room / 100 * GPU_SHARE).max(GPU_LEAST)
}

/// Bytes that can be taken without swapping, as Linux estimates them.
fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    proptest! {
        #[test]
        fn runs_hold_every_sequence_once_and_in_order(
            mut lengths in proptest::collection::vec(1usize..2000, 0..100),
            mebibytes in 0usize..4000,
            gpu: bool,
            devices in 1usize..5,
        ) {
            lengths.sort_unstable();
            let device = if gpu { Device::Cuda(0) } else { Device::Cpu };
            let plan = Plan::new(device, Some(mebibytes << 20)).over(devices);
            let runs = plan.runs(&config(), Keeps::AllLayers, &lengths);
            prop_assert!(runs.iter().all(|run| !run.is_empty()));
            prop_assert!(runs.into_iter().flatten().eq(0..lengths.len()));
        }
    }

    fn config() -> Config {
        Config::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano")).unwrap()
    }

    #[test]
    fn runs_cover_all_sequences_within_the_memory() {
        let config = config();
        let plan = Plan::new(Device::Cpu, Some(100 << 20));
        let lengths: Vec<usize> = (1..200).map(|i| i * 3).collect();
        let runs = plan.runs(&config, Keeps::AllLayers, &lengths);
        assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..199).collect::<Vec<_>>());
        for run in runs.iter().filter(|run| run.len() > 1) {
            let length = lengths[run.end - 1];
            let bytes = run.len() * length * config.num_layers * plan.bytes_per_layer(&config, length);
            assert!(bytes <= 100 << 20, "{run:?}");
        }
        assert!(plan.runs(&config, Keeps::OneLayer, &lengths).len() < runs.len());
    }

    #[test]
    fn a_sequence_too_long_for_the_memory_runs_alone() {
        let runs = Plan::new(Device::Cpu, Some(1)).runs(&config(), Keeps::AllLayers, &[5, 5, 7]);
        assert_eq!(runs, [0..1, 1..2, 2..3]);
        assert!(Plan::new(Device::Cpu, None).runs(&config(), Keeps::AllLayers, &[]).is_empty());
    }

    proptest! {
        /// From any free memory, for texts of any lengths.
        #[test]
        fn activations_are_computed_again_just_where_they_do_not_fit(
            mut lengths in proptest::collection::vec(1usize..2000, 1..100),
            kibibytes in 1usize..4_000_000,
            gpu: bool,
            devices in 1usize..4,
        ) {
            lengths.sort_unstable();
            let config = config();
            let device = if gpu { Device::Cuda(0) } else { Device::Cpu };
            let plan = Plan::new(device, Some(kibibytes << 10)).over(devices);
            let runs = plan.gradient_runs(&config, &lengths);
            prop_assert!(runs.iter().flat_map(|(run, _)| run.clone()).eq(0..lengths.len()));
            for (run, activations) in runs {
                let longest = lengths[run.end - 1];
                let held = |keeps| run.len() * longest <= plan.positions(&config, keeps, longest);
                prop_assert_eq!(held(Keeps::AllLayers), activations == Activations::Kept);
                // nothing holds less than one sequence
                prop_assert!(held(Keeps::AllLayers) || held(Keeps::Streams) || run.len() == 1);
            }
        }
    }

    #[test]
    fn a_gpu_that_holds_two_examples_computes_again_to_hold_many_and_one_that_holds_most_does_not() {
        let config = Config { d_model: 4096, d_ff: 10240, num_heads: 64, num_layers: 24, ..config() };
        let lengths = [148; 32];
        let plan =
            |mebibytes: usize| Plan { half: true, ..Plan::new(Device::Cuda(0), Some(mebibytes << 20)) };
        let counted = |mebibytes| {
            let runs = plan(mebibytes).gradient_runs(&config, &lengths);
            let again =
                runs.iter().filter(|(_, activations)| *activations == Activations::Recomputed).count();
            (runs.len(), again)
        };
        assert_eq!(counted(40_000), (1, 0));
        let (runs, again) = counted(2_000);
        assert!(runs <= 4 && again == runs, "{again} of {runs}");
        assert_eq!(counted(1), (32, 32));
        // a processor gains nothing from larger runs
        let plan = Plan::new(Device::Cpu, Some(3 << 30));
        assert!(plan.gradient_runs(&config, &lengths).iter().all(|(_, a)| *a == Activations::Kept));
    }

    #[test]
    fn every_device_gets_a_run_of_similar_size() {
        let config = config();
        let lengths: Vec<usize> = (0..32).map(|i| 100 + i / 8).collect();
        for devices in 1..=8 {
            let plan = Plan::new(Device::Cuda(0), None).over(devices);
            let runs = plan.runs(&config, Keeps::AllLayers, &lengths);
            assert_eq!(runs.len(), devices);
            let sizes: Vec<usize> = runs.iter().map(ExactSizeIterator::len).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(most - least <= devices, "{sizes:?}");
        }
        let plan = Plan::new(Device::Cuda(0), None).over(8);
        assert_eq!(plan.runs(&config, Keeps::AllLayers, &[5, 6, 7]), [0..1, 1..2, 2..3]);
        // memory cuts into more runs than there are devices: still as many for each
        let plan = Plan::new(Device::Cpu, Some(20 << 20)).over(3);
        assert_eq!(plan.runs(&config, Keeps::AllLayers, &[60; 90]).len() % 3, 0);
    }

    #[test]
    fn memory_of_a_position_is_what_was_measured() {
        let config = config();
        let plan = Plan::new(Device::Cpu, None);
        assert!((250_000..350_000).contains(&(config.num_layers * plan.bytes_per_layer(&config, 100))));
        let large = Config { d_model: 1024, d_ff: 2816, num_heads: 16, ..config };
        let plan = Plan { half: true, attention: true, ..Plan::new(Device::Cuda(0), None) };
        assert!((36_000..42_000).contains(&plan.bytes_per_layer(&large, 148)));
    }

    #[test]
    fn a_gpu_gives_a_share_of_what_is_free_and_half_as_large_floats_make_runs_twice_as_large() {
        assert_eq!(share_of(40 << 30), (40 << 30) / 100 * 75);
        assert_eq!(share_of(0), GPU_LEAST);
        let config = config();
        let lengths = [100; 4096];
        let plan = Plan::new(Device::Cuda(0), Some(1 << 30));
        let longest = |plan: Plan| {
            let runs = plan.runs(&config, Keeps::AllLayers, &lengths);
            runs.iter().map(ExactSizeIterator::len).max().unwrap()
        };
        let (whole, half) = (longest(plan), longest(Plan { half: true, ..plan }));
        assert!(half == 2 * whole || half == 2 * whole + 1, "{whole} and {half}");
    }

    #[test]
    fn a_plan_reads_back_as_it_was_recorded() {
        let plan = Plan { half: true, ..Plan::new(Device::Cuda(0), Some(5 << 30)) }.over(3);
        let recorded = serde_json::to_value(plan).unwrap();
        assert_eq!(serde_json::from_value::<Plan>(recorded).unwrap(), plan);
    }
}
