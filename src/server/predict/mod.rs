//! `POST /tasks/{task}/predict`: from a body to answers.

mod answer;
mod call;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use self::answer::Answered;
pub(super) use self::answer::{Prediction, Usage};
pub(super) use self::call::Call;
use super::lease::{answers, lease};
use super::metrics::Stage;
use super::shadow::Shadow;
use super::traffic::Refused;
use super::{Code, Problem, Service, body, trace};
use crate::engine::{EngineError, Observer as _, ReadyTask, Reply, Request};

/// Bytes of text that are cut into tokens where the request is read; more would hold up other requests.
const INLINE_BYTES: usize = 4 << 10;

/// An input as the engine reads it.
struct Encoded {
    text: Vec<u32>,
    truncated: bool,
}

/// An input's way through the engine.
type Waiting = oneshot::Receiver<Result<Reply, EngineError>>;

/// Answers the inputs of a call, all by the version that is active at its start.
pub(super) async fn predict(
    State(service): State<Arc<Service>>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answered>, Problem> {
    let deadline = Instant::now() + service.limits.request_time;
    let limits = &service.limits;
    let _call = service.traffic.enter(limits.requests).map_err(|refused| match refused {
        Refused::Draining => Problem::new(Code::Draining, "the server is stopping and takes no more calls"),
        Refused::Full => {
            Problem::new(Code::Overloaded, format!("{} calls are in flight already", limits.requests))
        }
    })?;
    let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    answers(&service, &name)?;
    let format = call::Format::of(headers.get(header::CONTENT_TYPE))?;
    let body = body::read(body, limits.body_bytes, limits.read_time).await?;
    let call = Call::parse(format, body, limits.inputs)?;
    let task = lease(&service, &name, call.version(), &headers).await?;
    call.check(&name, &task)?;
    let (many, top_k) = (call.many, call.top_k);
    let shadow = Shadow::of(&service, &name, &task, &call);

    let start = Instant::now();
    let encoded = encode(&service, Arc::clone(&task), call).await?;
    service.metrics.stage(Stage::Tokenize, start.elapsed());
    trace::tokenized(start);
    if let [Err(problem)] = encoded.as_slice()
        && !many
    {
        return Err(problem.clone());
    }

    admit(&service, encoded.iter().filter(|encoded| encoded.is_ok()).count())?;
    // all are queued before one is waited for, so that they can share batches
    let mut waiting = Vec::with_capacity(encoded.len());
    for encoded in encoded {
        waiting.push(match encoded {
            Ok(encoded) => Ok(submit(&service, &task, encoded, deadline)?),
            Err(problem) => Err(problem),
        });
    }
    let mut answered = Answered::new(name, &task, waiting.len());
    for waiting in waiting {
        let prediction = match waiting {
            Ok((waiting, tokens, truncated)) => {
                let reply = wait(waiting, deadline).await?;
                service.metrics.stage(Stage::Queue, reply.queued);
                service.metrics.stage(Stage::Run, reply.ran);
                trace::computed(&reply);
                answered.count(&reply, tokens, &task);
                Prediction::of(reply.answer, &task, &service.tokenizer, top_k, truncated)?
            }
            Err(problem) => Prediction::failed(problem),
        };
        service.metrics.predicted(&answered.task, &prediction);
        answered.predictions.push(prediction);
    }
    service.metrics.tokens(&answered.usage);
    if let Some(shadow) = shadow {
        shadow.compare(&service, &answered.predictions);
    }
    Ok(Json(answered))
}

async fn encode(
    service: &Arc<Service>,
    task: Arc<ReadyTask>,
    call: Call,
) -> Result<Vec<Result<Encoded, Problem>>, Problem> {
    let encode_all = {
        let service = Arc::clone(service);
        move |inputs: &[Value]| {
            inputs.iter().map(|input| encode_one(&service, &task, input, call.truncate)).collect()
        }
    };
    if call.bytes <= INLINE_BYTES {
        return Ok(encode_all(&call.inputs));
    }
    tokio::task::spawn_blocking(move || encode_all(&call.inputs)).await.map_err(|error| {
        Problem::new(Code::Internal, format!("cutting the inputs into tokens failed: {error}"))
    })
}

fn encode_one(
    service: &Service,
    task: &ReadyTask,
    input: &Value,
    truncate: bool,
) -> Result<Encoded, Problem> {
    match task.encode(input, &service.tokenizer, truncate) {
        Ok((text, truncated)) => Ok(Encoded { text, truncated }),
        Err(error) => Err(Problem::new(Code::BadInput, error.to_string())),
    }
}

/// Refuses a call that the queue has no room for before a part of it is computed in vain.
fn admit(service: &Service, inputs: usize) -> Result<(), Problem> {
    let (waiting, limit) = (service.engine.waiting(), service.engine.options().max_queue);
    if waiting + inputs <= limit {
        return Ok(());
    }
    service.metrics.dropped("overloaded");
    let detail = format!("{waiting} inputs are waiting, the queue takes {limit}, and the call has {inputs}");
    Err(Problem::new(Code::Overloaded, detail))
}

fn submit(
    service: &Service,
    task: &Arc<ReadyTask>,
    encoded: Encoded,
    deadline: Instant,
) -> Result<(Waiting, usize, bool), Problem> {
    let Encoded { text, truncated } = encoded;
    let tokens = text.len();
    let request = Request { task: Arc::clone(task), text, deadline: Some(deadline) };
    let waiting = service.engine.submit(request).inspect_err(|error| {
        if matches!(error, EngineError::Overloaded(_)) {
            service.metrics.dropped("overloaded");
        }
    })?;
    Ok((waiting, tokens, truncated))
}

async fn wait(waiting: Waiting, deadline: Instant) -> Result<Reply, Problem> {
    match timeout_at(deadline.into(), waiting).await {
        Ok(Ok(reply)) => Ok(reply?),
        Ok(Err(_)) => Err(Problem::new(
            Code::Internal,
            "the engine ended without an answer; the server's log says more",
        )),
        Err(_) => Err(EngineError::Deadline.into()),
    }
}
