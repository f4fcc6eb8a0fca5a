use serde_json::{Value, json};

use crate::prompts::{Server, Setup, calibrated, free_text, tweets};

async fn start() -> Server {
    let prompts = [("tweets", tweets()), ("calibrated", calibrated()), ("say", free_text())];
    Server::start(&prompts, Setup::default()).await
}

fn scores(answer: &Value) -> Vec<(String, f64)> {
    let scores = answer["predictions"][0]["scores"].as_object().unwrap_or_else(|| panic!("{answer}"));
    let mut scores: Vec<_> = scores.iter().map(|(label, p)| (label.clone(), p.as_f64().unwrap())).collect();
    scores.sort_by(|a, b| a.0.cmp(&b.0));
    scores
}

fn assert_near(got: &[(String, f64)], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for ((label, got), want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4, "{label}: {got} for {want}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calibration_divides_by_what_the_model_says_to_content_free_inputs() {
    let server = start().await;
    let ask = |input: &str, options: Value| {
        let mut body = json!({"input": input});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let server = &server;
        async move { server.predict("calibrated", body).await }
    };
    let text = "the match was lost";
    let plain = scores(&ask(text, json!({})).await.1);
    let nothing = [scores(&ask("N/A", json!({})).await.1), scores(&ask("", json!({})).await.1)];
    let (status, answer) = ask(text, json!({"calibrate": true})).await;
    assert_eq!(status, 200, "{answer}");
    let quotients: Vec<f64> =
        (0..3).map(|i| plain[i].1 / ((nothing[0][i].1 + nothing[1][i].1) / 2.0)).collect();
    let total: f64 = quotients.iter().sum();
    let want: Vec<f64> = quotients.iter().map(|q| q / total).collect();
    assert_near(&scores(&answer), &want);

    // bad and "bad sport" part at a second choice, good at the first
    let roots: Vec<f64> =
        plain.iter().map(|(label, p)| if label == "good" { *p } else { p.sqrt() }).collect();
    let total: f64 = roots.iter().sum();
    let want: Vec<f64> = roots.iter().map(|root| root / total).collect();
    assert_near(&scores(&ask(text, json!({"normalize": true})).await.1), &want);

    let (status, answer) = server.predict("tweets", json!({"input": "x", "calibrate": true})).await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")));
    assert!(answer["detail"].as_str().unwrap().contains("content_free"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_threshold_the_task_abstains_and_still_shows_the_scores() {
    let server = start().await;
    let (_, answer) = server.predict("tweets", json!({"input": "a day", "abstain_below": 0})).await;
    let sure = answer["predictions"][0]["score"].as_f64().unwrap();
    assert!(answer["predictions"][0].get("abstained").is_none());
    let body = json!({"input": "a day", "abstain_below": sure + 1e-3});
    let (status, answer) = server.predict("tweets", body).await;
    assert_eq!(status, 200);
    let prediction = &answer["predictions"][0];
    assert_eq!(prediction["label"], Value::Null);
    assert_eq!(prediction["abstained"], true);
    assert!((prediction["score"].as_f64().unwrap() - sure).abs() < 1e-5);
    assert_eq!(prediction["scores"].as_object().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_do_not_fit_are_refused_by_name() {
    let server = start().await;
    for (task, options, words) in [
        ("tweets", json!({"temperatur": 1}), "`temperatur`"),
        ("tweets", json!({"temperature": 1}), "temperature is for tasks that answer with free text"),
        ("tweets", json!({"num_beams": 2}), "num_beams is for"),
        ("tweets", json!({"top_k": "3"}), "top_k: invalid type"),
        ("tweets", json!({"top_k": -1}), "top_k: invalid value"),
        ("tweets", json!({"abstain_below": 1.5}), "abstain_below is 1.5"),
        ("tweets", json!({"stream": true}), "stream is for tasks that answer with free text"),
        ("tweets", json!({"stream": 1}), "stream: invalid type"),
        ("say", json!({"normalize": true}), "normalize is for tasks with labels"),
        ("say", json!({"max_new_tokens": 0}), "allows 1 to 8"),
        ("say", json!({"max_new_tokens": 9}), "allows 1 to 8"),
        ("say", json!({"temperature": 2.5}), "temperature is 2.5"),
        ("say", json!({"temperature": -0.1}), "temperature is -0.1"),
        ("say", json!({"top_p": 0}), "top_p is 0"),
        ("say", json!({"top_p": 1.1}), "top_p is 1.1"),
        ("say", json!({"sample_top_k": 0}), "sample_top_k is 0"),
        ("say", json!({"num_beams": 0}), "num_beams is 0"),
        ("say", json!({"num_beams": 17}), "1 to 16"),
        ("say", json!({"num_beams": 2, "temperature": 0.5}), "ask for one"),
        ("say", json!({"length_penalty": 1}), "num_beams"),
        ("say", json!({"num_beams": 2, "length_penalty": 99}), "length_penalty is 99"),
        ("say", json!({"seed": -1}), "seed: invalid value"),
    ] {
        let mut body = json!({"input": "x"});
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let (status, answer) = server.predict(task, body).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")), "{options}");
        assert!(answer["detail"].as_str().unwrap().contains(words), "{options}: {answer}");
    }
    let (_, answer) = server.predict("say", json!({"inputs": ["x"], "stream": true})).await;
    assert!(answer["detail"].as_str().unwrap().contains("one input"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_repeats_a_drawn_text_in_any_company_and_is_named_where_none_was_given() {
    let server = start().await;
    let text = |answer: &Value, i: usize| answer["predictions"][i]["text"].as_str().unwrap().to_owned();
    let drawn = json!({"input": "the cat", "temperature": 1.5});
    let (status, first) = server.predict("say", drawn.clone()).await;
    assert_eq!(status, 200, "{first}");
    let seed = first["seed"].as_u64().unwrap();
    let repeat =
        json!({"inputs": ["a dog and a dog and a dog", "the cat"], "temperature": 1.5, "seed": seed});
    let (_, again) = server.predict("say", repeat).await;
    assert_eq!(text(&again, 1), text(&first, 0));
    let mut texts = std::collections::BTreeSet::new();
    for _ in 0..8 {
        texts.insert(text(&server.predict("say", drawn.clone()).await.1, 0));
    }
    assert!(texts.len() > 1, "every call has a seed of its own: {texts:?}");

    let (_, greedy) = server.predict("say", json!({"input": "the cat"})).await;
    assert!(greedy.get("seed").is_none());
    let (_, cold) = server.predict("say", json!({"input": "the cat", "temperature": 0, "top_p": 0.5})).await;
    assert_eq!(text(&cold, 0), text(&greedy, 0));
    let (_, short) = server.predict("say", json!({"input": "the cat", "max_new_tokens": 2})).await;
    assert!(short["usage"]["output_tokens"].as_u64().unwrap() <= 2);
    assert!(text(&greedy, 0).starts_with(&text(&short, 0)));
    let (status, beams) = server
        .predict("say", json!({"inputs": ["the cat", "x"], "num_beams": 4, "length_penalty": 0.5}))
        .await;
    assert_eq!(status, 200, "{beams}");
}
