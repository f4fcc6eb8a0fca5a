//! The trainer: prompt tuning, hierarchical structured pruning and rewinding, after "XPrompt: Exploring the
//! Extreme of Prompt Tuning" (Ma et al., EMNLP 2022).
//!
//! A room uses only rooms above it:
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`summary`], [`report`], [`table`], [`inspect`] | what a run found, as a file, a page and a table; a prompt file, for a terminal |
//! | [`example`], [`metric`] | one labelled text; what answers are measured by |
//! | [`superglue`] | the benchmark's files: rows, presets, submissions |
//! | [`task_file`] | what a task file may say |
//! | [`data`], [`check`] | files as examples, divided into splits; what is wrong with a task's data and template |
//! | [`plan`], [`lanes`] | how much a run of the model holds; runs spread over devices |
//! | [`tuner`], [`importance`] | losses and prompt gradients of a batch; what each token and piece contributes |
//! | [`evaluate`], [`agreement`] | answers by the engine's own scoring; how far two ways of computing them are apart |
//! | [`setup`], [`initialize`] | the loaded model; where a prompt starts |
//! | [`optimizer`], [`batches`] | Adafactor; shuffled batches of similar length |
//! | [`statistics`] | intervals by bootstrap |
//! | [`log`], [`folder`], [`progress`] | what a program sees meanwhile; what a run keeps to go on; what a person sees |
//! | [`error`] | why a run ended early |
//! | [`task_data`] | a task's examples, parted into what is tuned on, chosen by and reported on |
//! | [`identity`] | what makes a run what it is: only the same run goes on in its folder |
//! | [`lab`], [`race`] | the tools of an experiment; candidates that tune side by side, each kept at its best |
//! | [`mod@line`], [`method`] | one task with one seed; the whole method and its controls over many |
//! | [`findings`], [`deliver`] | everything measured again, as a summary; prompt files |
//! | [`experiment`] | everything from task files to results |
//! | [`steps`] | the method's stages one by one, from prompt file to prompt file |
//! | [`foreign`] | soft prompts of other programs as files: PEFT's adapters, NumPy's arrays |

pub mod agreement;
pub mod batches;
pub mod check;
pub mod data;
pub mod deliver;
pub mod error;
pub mod evaluate;
pub mod example;
pub mod experiment;
pub mod findings;
pub mod folder;
pub mod foreign;
pub mod identity;
pub mod importance;
pub mod initialize;
pub mod inspect;
pub mod lab;
pub mod lanes;
pub mod line;
pub mod log;
pub mod method;
pub mod metric;
pub mod optimizer;
pub mod plan;
pub mod progress;
pub mod race;
pub mod report;
pub mod setup;
pub mod statistics;
pub mod steps;
pub mod summary;
pub mod superglue;
pub mod table;
pub mod task_data;
pub mod task_file;
pub mod tuner;

/// This program and its version, as files that it writes state it.
pub const PRODUCER: &str = concat!("xprompt-trainer ", env!("CARGO_PKG_VERSION"));
