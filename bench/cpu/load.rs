//! A client that posts texts of mixed tasks over kept connections: a number of them all the time, or at a rate.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to post, with {task} in it.
    #[arg(long)]
    url: String,
    /// JSON lines {"task", "body"}, posted in turn.
    #[arg(long)]
    requests: PathBuf,
    /// Requests under way at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests a second, at random times; without it each connection posts as soon as it was answered.
    #[arg(long)]
    rate: Option<f64>,
    /// With a rate: all gaps are the same.
    #[arg(long, requires = "rate")]
    even: bool,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Request {
    task: String,
    body: Value,
}

/// The seconds that an answer took, or why there is none.
type Answer = Result<f64, String>;

/// What every connection shares.
struct Shared {
    client: reqwest::Client,
    requests: Vec<(String, String)>,
    next: AtomicUsize,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&arguments.requests)
        .with_context(|| arguments.requests.display().to_string())?;
    let requests = text.lines().map(|line| {
        let Request { task, body } = serde_json::from_str(line)?;
        Ok((arguments.url.replace("{task}", &task), body.to_string()))
    });
    let shared = Arc::new(Shared {
        client: reqwest::Client::builder().no_proxy().pool_max_idle_per_host(4096).build()?,
        requests: requests.collect::<anyhow::Result<_>>()?,
        next: AtomicUsize::new(0),
    });
    anyhow::ensure!(!shared.requests.is_empty(), "{}: no request", arguments.requests.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    let answers = runtime.block_on(async {
        match arguments.rate {
            Some(rate) => at_rate(&shared, rate, arguments.even, arguments.seconds).await,
            None => all_the_time(&shared, arguments.connections, arguments.seconds).await,
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let (mut times, mut why) = (Vec::new(), BTreeMap::<String, usize>::new());
    for answer in answers {
        match answer {
            Ok(time) => times.push(time),
            Err(reason) => *why.entry(reason).or_default() += 1,
        }
    }
    anyhow::ensure!(!times.is_empty(), "no request was answered: {why:?}");
    times.sort_by(f64::total_cmp);
    let at = |share: f64| 1000.0 * times[((times.len() - 1) as f64 * share) as usize];
    let line = json!({
        "answered": times.len(), "failed": why.values().sum::<usize>(), "why": why, "per_s": times.len() as f64 / seconds,
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
    });
    println!("{line}");
    Ok(())
}

async fn all_the_time(shared: &Arc<Shared>, connections: usize, seconds: f64) -> Vec<Answer> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let connection = |_| {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while Instant::now() < end {
                answers.push(shared.post(Instant::now()).await);
            }
            answers
        })
    };
    let connections: Vec<_> = (0..connections).map(connection).collect();
    let mut answers = Vec::new();
    for connection in connections {
        answers.extend(connection.await.unwrap_or_default());
    }
    answers
}

/// Times run from when a request was due, so that a server that falls behind does not look good.
async fn at_rate(shared: &Arc<Shared>, rate: f64, even: bool, seconds: f64) -> Vec<Answer> {
    let start = Instant::now();
    let gaps = super::worker::random_rows((2.0 * rate * seconds) as usize + 16);
    let mut due = 0.0;
    let mut posted = Vec::new();
    for gap in gaps {
        // exponential gaps from numbers between -1 and 1
        due += if even { 1.0 } else { -(0.5 - 0.499_999 * f64::from(gap)).ln() } / rate;
        if due > seconds {
            break;
        }
        let due = start + Duration::from_secs_f64(due);
        tokio::time::sleep_until(due.into()).await;
        let shared = Arc::clone(shared);
        posted.push(tokio::spawn(async move { shared.post(due).await }));
    }
    let mut answers = Vec::new();
    for post in posted {
        answers.push(post.await.unwrap_or_else(|error| Err(error.to_string())));
    }
    answers
}

// === impl Shared ===

impl Shared {
    /// Posts the next request, whose time runs from `start`.
    async fn post(&self, start: Instant) -> Answer {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let (url, body) = &self.requests[next % self.requests.len()];
        let post = self.client.post(url).header("content-type", "application/json").body(body.clone());
        let answer = post.send().await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().as_str().to_owned());
        }
        answer.bytes().await.map_err(|error| error.to_string())?;
        Ok(start.elapsed().as_secs_f64())
    }
}
