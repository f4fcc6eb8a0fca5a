//! The trainer: prompt tuning, hierarchical structured pruning and rewinding, after "XPrompt: Exploring the
//! Extreme of Prompt Tuning" (Ma et al., EMNLP 2022).
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`task_file`] | what a task file may say |
//! | [`data`] | labelled rows as token ids |
//! | [`tuner`] | losses and prompt gradients of a batch, by the tuning graph |
//! | [`plan`] | how many examples a run holds |
//! | [`optimizer`] | Adafactor |
//! | [`batches`] | shuffled batches of similar length |
//! | [`evaluate`] | metrics, by the engine's own scoring |
//! | [`initialize`] | where a prompt starts |
//! | [`importance`] | what each token and piece contributes |
//! | [`tuning`] | one stage of prompt tuning, kept at its best |
//! | [`metric`] | what a task is measured by |
//! | [`method`] | the whole method |
//! | [`summary`] | what a run found, as a file |
//! | [`report`] | what a run found, as a page |
//! | [`inspect`] | a prompt file, as text for a terminal |
//! | [`setup`] | the loaded model that all of it works on |
//! | [`progress`] | what a person sees meanwhile |

pub mod batches;
pub mod data;
pub mod evaluate;
pub mod importance;
pub mod initialize;
pub mod inspect;
pub mod method;
pub mod metric;
pub mod optimizer;
pub mod plan;
pub mod progress;
pub mod report;
pub mod setup;
pub mod summary;
pub mod task_file;
pub mod tuner;
pub mod tuning;
