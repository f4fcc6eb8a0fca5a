//! What all routes that predict share: from a task's name and inputs to answers, whatever the wire format.

mod answer;
mod follow;
mod labels;
mod options;
mod resolve;
mod run;
mod shadow;

pub(super) use answer::{Answered, FinishReason, Prediction, Usage};
pub(super) use follow::{Event, Followed, Following};
pub(super) use options::{Ask, Options};
pub(super) use resolve::{card, cards, enter, too_many};
pub(super) use run::{Encoded, Run};
pub(super) use shadow::{Called, MAX_COMPARED, Shadow};
