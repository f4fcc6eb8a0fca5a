use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use xprompt::engine::{Answer, BatchReport, Engine, EngineError, Observer, Options, ReadyTask, Request};
use xprompt::runtime::Model;

use crate::prompts::{free_text, lab, topics, tweets};

/// Remembers which threads computed.
#[derive(Default)]
struct Threads(Mutex<HashSet<ThreadId>>);

impl Observer for Threads {
    fn batch(&self, _: &BatchReport) {
        self.0.lock().unwrap().insert(std::thread::current().id());
    }

    fn dropped(&self, _: &'static str) {}
}

fn tasks() -> Vec<Arc<ReadyTask>> {
    let ready = |file| ReadyTask::new(file, "1".into(), &lab().tokenizer, lab().model.config()).unwrap();
    [tweets(), topics(), free_text()].map(|file| Arc::new(ready(file))).into()
}

/// Requests of all tasks and many lengths, one a batch, so that no batch mate can change the rounding.
async fn answers(devices: usize) -> (Vec<Answer>, usize) {
    let threads = Arc::new(Threads::default());
    let observer: Arc<dyn Observer> = Arc::clone(&threads) as _;
    let models: Vec<Model> = vec![lab().model.clone(); devices];
    let engine = Engine::start(&models, Options { max_batch: 1, ..Options::default() }, &observer).unwrap();
    let tasks = tasks();
    let request = |i: usize| Request {
        task: Arc::clone(&tasks[i % tasks.len()]),
        text: (0..5 + i % 40).map(|at| 200 + (at * i) as u32 % 500).collect(),
        deadline: None,
    };
    let replies: Vec<_> = (0..90).map(|i| engine.submit(request(i)).unwrap()).collect();
    let mut answers = Vec::new();
    for reply in replies {
        answers.push(reply.await.unwrap().unwrap().answer);
    }
    let count = threads.0.lock().unwrap().len();
    (answers, count)
}

#[tokio::test]
async fn several_devices_behind_one_queue_answer_as_one_does() {
    let (one, threads) = answers(1).await;
    assert_eq!(threads, 1);
    let (three, threads) = answers(3).await;
    assert!(threads > 1, "they share the work");
    assert_eq!(one, three);
}

#[tokio::test]
async fn a_device_that_keeps_failing_is_named_and_given_up_and_the_last_one_is_kept() {
    let observer: Arc<dyn Observer> = Arc::new(Threads::default());
    let models = vec![lab().model.clone(); 2];
    let engine = Engine::start(&models, Options::default(), &observer).unwrap();
    let task = &tasks()[0];
    let ask = async |text: Vec<u32>| {
        let request = Request { task: Arc::clone(task), text, deadline: None };
        engine.submit(request).unwrap().await.unwrap()
    };
    assert!(engine.is_running());
    // an id that names a prompt row which is not there: only a mistake of the program makes one
    let beyond = lab().model.config().vocab_size as u32 + 1000;
    for _ in 0..12 {
        let Err(EngineError::Failed(words)) = ask(vec![beyond]).await else { panic!("it did not fail") };
        assert!(words.starts_with("cpu: ") && words.contains("Gather"), "{words}");
    }
    // its thread ends when its sessions are gone
    crate::prompts::eventually("a device is missing", || !engine.is_running()).await;
    assert!(ask(vec![300, 301, 1]).await.is_ok(), "the other goes on");
    engine.stop();
}
