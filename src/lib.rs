//! xprompt serves many text tasks on one frozen T5. A task is an *XPrompt*: a soft prompt that was tuned,
//! pruned (whole tokens, then pieces of the remaining tokens) and rewound, after "XPrompt: Exploring the
//! Extreme of Prompt Tuning" (Ma et al., EMNLP 2022).
//!
//! Rooms, each of which knows only those before it:
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`graph`] | typed ONNX graphs and reverse-mode gradients |
//! | [`fingerprint`] | short names for bytes |
//! | [`memory`] | mapped files, in huge pages if they may |
//! | [`prompt`] | the XPrompt tensor: rows, masks, file format |
//! | [`t5`] | the frozen model: configuration, mapped weights, its computation as graphs |
//! | [`task`] | what makes text into a prediction: template, labels as a trie |
//! | [`exchange`] | soft prompts of other programs: PEFT's adapters, NumPy's arrays |
//! | [`hub`] | models of the Hugging Face hub, fetched into the cache that Python has too |
//! | [`runtime`] | ONNX Runtime: finding the library, sessions |
//! | [`engine`] | scoring and generation over batches, and the scheduler that fills them |
//! | [`store`] | where prompts live, and noticing when they change |
//! | [`server`] | HTTP |

pub mod engine;
pub mod exchange;
pub mod fingerprint;
pub mod graph;
pub mod hub;
pub mod memory;
pub mod prompt;
pub mod runtime;
pub mod server;
pub mod store;
pub mod t5;
pub mod task;
