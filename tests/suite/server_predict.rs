use serde_json::{Value, json};

use crate::prompts::{Server, Setup, free_text, topics, tweets};

/// The promise of the README: what an input gets does not depend on its batch mates beyond this, in probability.
const TOLERANCE: f64 = 1e-4;

async fn start() -> Server {
    Server::start(&[("tweets", tweets()), ("topics", topics()), ("say", free_text())], Setup::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_input_gets_every_labels_probability_and_the_version_that_answered() {
    let server = start().await;
    let (status, answer) = server.predict("tweets", json!({"input": "what a lovely morning"})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["task"], "tweets");
    assert_eq!(answer["version"].as_str(), server.version("tweets").as_deref());
    let [prediction] = answer["predictions"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    let scores: Vec<(&String, f64)> =
        prediction["scores"].as_object().unwrap().iter().map(|(k, v)| (k, v.as_f64().unwrap())).collect();
    assert_eq!(scores.len(), 3);
    assert!(scores.is_sorted_by(|a, b| a.1 >= b.1), "highest first: {scores:?}");
    assert!((scores.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-5, "{scores:?}");
    assert_eq!(prediction["label"], *scores[0].0);
    assert_eq!(prediction["score"], scores[0].1);
    assert_eq!(answer["usage"]["prompt_tokens"], 8, "10 tokens, every fifth pruned");
    assert_eq!(answer["usage"]["output_tokens"], 0);
    assert!(answer["usage"]["input_tokens"].as_u64().unwrap() > 5);

    let (_, answer) = server.predict("tweets", json!({"input": "what a lovely morning", "top_k": 1})).await;
    assert_eq!(answer["predictions"][0]["scores"].as_object().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_is_one_input() {
    let server = start().await;
    let text = "der Mörtel bröckelt, es ist \"schade\"\n";
    let (_, by_json) = server.predict("tweets", json!({"input": text})).await;
    for content_type in ["text/plain", "text/plain; charset=UTF-8"] {
        let url = format!("{}/tasks/tweets/predict", server.url);
        let response = server.client.post(url).header("content-type", content_type).body(text).send().await;
        let by_text: Value = response.unwrap().json().await.unwrap();
        assert_eq!(by_text, by_json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_input_of_a_list_is_an_error_in_its_own_place_and_the_others_are_answered() {
    let server = start().await;
    let good = json!({"title": "Cup final", "text": "two goals"});
    let inputs =
        json!([good, "a text", {"title": "x"}, {"title": "y", "text": "z ".repeat(500)}, good, null]);
    let (status, answer) = server.predict("topics", json!({"inputs": inputs})).await;
    assert_eq!(status, 200, "{answer}");
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 6);
    for i in [0, 4] {
        assert!(predictions[i]["label"].is_string(), "{answer}");
    }
    for (i, words) in [(1, "several fields"), (2, "no field \"text\""), (3, "takes 64"), (5, "null")] {
        let error = &predictions[i]["error"];
        assert_eq!((error["code"].as_str(), error["status"].as_u64()), (Some("bad_input"), Some(422)));
        assert!(error["detail"].as_str().unwrap().contains(words), "{error}");
    }
    assert_eq!(answer["usage"]["prompt_tokens"], 2 * 4, "only answered inputs count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_input_is_cut_only_when_the_caller_allows_it_and_says_so() {
    let server = start().await;
    let long = "word ".repeat(200);
    let (status, answer) = server.predict("tweets", json!({"input": long})).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("bad_input")), "{answer}");
    let (status, answer) =
        server.predict("tweets", json!({"inputs": [long, "short"], "truncate": true})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["predictions"][0]["truncated"], true);
    assert_eq!(answer["predictions"][1].get("truncated"), None);
    // well over what is tokenized where the request is read
    let (status, _) =
        server.predict("tweets", json!({"input": "word ".repeat(50_000), "truncate": true})).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn free_text_tasks_answer_with_text_and_why_it_ended() {
    let server = start().await;
    let (status, answer) = server.predict("say", json!({"inputs": ["the cat sat", "on the mat"]})).await;
    assert_eq!(status, 200, "{answer}");
    let tokens = answer["usage"]["output_tokens"].as_u64().unwrap();
    assert!((0..=16).contains(&tokens));
    for prediction in answer["predictions"].as_array().unwrap() {
        assert!(prediction["text"].is_string(), "{answer}");
        assert!(["stop", "length"].contains(&prediction["finish_reason"].as_str().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_composition_of_a_batch_gives_each_input_the_scores_it_gets_alone() {
    let server = start().await;
    let texts: Vec<String> =
        (0..24).map(|i| format!("tweet {i} {}", "so good ".repeat(i * i % 19))).collect();
    let fields = |text: &String| json!({"title": "news", "text": text});
    let mut alone = Vec::new();
    for text in &texts {
        alone.push(server.predict("tweets", json!({"input": text})).await.1["predictions"][0].clone());
        alone
            .push(server.predict("topics", json!({"input": fields(text)})).await.1["predictions"][0].clone());
    }
    // single inputs of both tasks and whole lists at once: the scheduler mixes them as it likes
    let one = |i: usize| {
        let (server, text) = (&server, &texts[i / 2]);
        async move {
            match i % 2 {
                0 => server.predict("tweets", json!({"input": text})).await,
                _ => server.predict("topics", json!({"input": fields(text)})).await,
            }
        }
    };
    let tweet_list = server.predict("tweets", json!({"inputs": texts}));
    let (singles, list) = tokio::join!(futures_join((0..48).map(one)), tweet_list);
    let mut worst: f64 = 0.0;
    let mut compare = |got: &Value, want: &Value| {
        for (label, want) in want["scores"].as_object().unwrap() {
            let apart = (got["scores"][label].as_f64().unwrap() - want.as_f64().unwrap()).abs();
            assert!(apart <= TOLERANCE, "{label}: {got} alone {want}");
            worst = worst.max(apart);
        }
    };
    for (i, (status, answer)) in singles.iter().enumerate() {
        assert_eq!(*status, 200, "{answer}");
        compare(&answer["predictions"][0], &alone[i]);
    }
    for (i, prediction) in list.1["predictions"].as_array().unwrap().iter().enumerate() {
        compare(prediction, &alone[2 * i]);
    }
    let (_, metrics) = crate::server_metrics::scrape(&server).await;
    let mixed = metrics.iter().find(|line| line.starts_with("xprompt_batch_tasks_bucket{le=\"1\"}")).unwrap();
    let all = metrics.iter().find(|line| line.starts_with("xprompt_batch_tasks_count")).unwrap();
    println!("largest difference {worst:.1e}; {mixed}; {all}");
}

/// Runs futures side by side.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
