//! The trainer: prompt tuning, hierarchical structured pruning and rewinding, after "XPrompt: Exploring the
//! Extreme of Prompt Tuning" (Ma et al., EMNLP 2022).
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`task_file`] | what a task file may say |
//! | [`check`] | what is wrong with a task's data and template |
//! | [`data`], [`task_data`] | labelled rows as token ids, parted into what is tuned on, chosen by and reported on |
//! | [`setup`], [`plan`] | the loaded model, and how much a run of it holds |
//! | [`tuner`] | losses and prompt gradients of a batch, by the tuning graph |
//! | [`evaluate`], [`metric`] | answers by the engine's own scoring, and what they are measured by |
//! | [`optimizer`], [`batches`] | Adafactor; shuffled batches of similar length |
//! | [`initialize`], [`importance`] | where a prompt starts; what each token and piece contributes |
//! | [`race`] | candidates that tune side by side, each kept at its best |
//! | [`lab`], [`folder`] | tools of an experiment; what it keeps so that it can go on |
//! | [`log`], [`progress`] | what a program and what a person sees meanwhile |
//! | [`mod@line`], [`method`] | one task with one seed; the whole method and its controls over many |
//! | [`statistics`], [`findings`], [`summary`] | intervals; what was found, measured; its form as a file |
//! | [`superglue`] | the benchmark's files: rows, presets, submissions |
//! | [`deliver`], [`experiment`] | prompt files; everything from task files to results |
//! | [`steps`] | the method's stages one by one, from prompt file to prompt file |
//! | [`report`], [`table`], [`inspect`] | what a run found, as a page and for a terminal; a prompt file, for a terminal |

pub mod batches;
pub mod check;
pub mod data;
pub mod deliver;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod findings;
pub mod folder;
pub mod importance;
pub mod initialize;
pub mod inspect;
pub mod lab;
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
