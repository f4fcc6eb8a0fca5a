use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Version};

use crate::prompts::tweets;
use crate::server_process::{Process, command, fails};

/// Writes a new certificate for localhost and gives it.
fn certificate(folder: &Path) -> Certificate {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    Certificate::from_pem(cert.pem().as_bytes()).unwrap()
}

fn client(trusted: Certificate) -> reqwest::ClientBuilder {
    Client::builder().no_proxy().tls_certs_only([trusted])
}

fn start(prompts: &Path, files: &Path) -> Process {
    tweets().write(&prompts.join("tweets.safetensors")).unwrap();
    let mut command = command(prompts);
    command.arg("--tls-cert").arg(files.join("cert.pem")).arg("--tls-key").arg(files.join("key.pem"));
    command.args(["--read-timeout", "500ms"]);
    let mut process = Process::start(command);
    process.ignore_log();
    process
}

fn url(process: &Process, path: &str) -> String {
    format!("https://localhost:{}{path}", process.address.rsplit(':').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_speaks_both_versions_of_http_and_takes_a_new_certificate() {
    let (prompts, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = certificate(files.path());
    let process = start(prompts.path(), files.path());
    let predict = async |client: &Client| {
        let call = client.post(url(&process, "/tasks/tweets/predict")).body("{\"input\": \"x\"}");
        let answer = call.send().await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.version()))
    };
    let first = client(old.clone()).build().unwrap();
    assert_eq!(predict(&first).await.unwrap(), (200, Version::HTTP_2));
    let http1 = client(old.clone()).http1_only().build().unwrap();
    assert_eq!(predict(&http1).await.unwrap(), (200, Version::HTTP_11));

    // a broken pair leaves the certificate that is known
    std::fs::write(files.path().join("cert.pem"), "no certificate").unwrap();
    let reloads = async |client: &Client, outcome: &str, count: usize| {
        let line = format!("xprompt_reloads_total{{outcome=\"{outcome}\",what=\"certificate\"}} {count}");
        let start = Instant::now();
        loop {
            let text = client.get(url(&process, "/metrics")).send().await.unwrap().text().await.unwrap();
            if text.lines().any(|other| other == line) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "not {line}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    reloads(&first, "failed", 1).await;
    assert_eq!(predict(&client(old.clone()).build().unwrap()).await.unwrap().0, 200);

    let new = certificate(files.path());
    let start = Instant::now();
    // each look at a new connection; the two files may be seen one after the other
    while predict(&client(new.clone()).build().unwrap()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(predict(&client(old).build().unwrap()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_speak_tls_and_idle_ones_are_let_go() {
    let (prompts, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trusted = certificate(files.path());
    let process = start(prompts.path(), files.path());
    let mut plain = TcpStream::connect(&process.address).unwrap();
    plain.write_all(b"GET /tasks HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // one that never begins
    let mut silent = TcpStream::connect(&process.address).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);

    // an HTTP/2 connection that asks for nothing more is closed
    let kept = client(trusted).build().unwrap();
    let text = async || kept.get(url(&process, "/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(text().await.contains("xprompt_tls_handshake_failures_total 2"));
    let http1 = client(certificate_of(files.path())).http1_only().pool_max_idle_per_host(0).build().unwrap();
    let start = Instant::now();
    loop {
        let text = http1.get(url(&process, "/metrics")).send().await.unwrap().text().await.unwrap();
        if text.lines().any(|line| line == "xprompt_http_connections 1") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(text().await.contains("xprompt_build_info"));
}

fn certificate_of(files: &Path) -> Certificate {
    Certificate::from_pem(&std::fs::read(files.join("cert.pem")).unwrap()).unwrap()
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    certificate(folder.path());
    std::fs::copy(path("key.pem"), path("other-key.pem")).unwrap();
    certificate(folder.path());
    std::fs::write(path("empty.pem"), "").unwrap();
    for (cert, key, words) in [
        ("none.pem", "key.pem", "none.pem cannot be read"),
        ("empty.pem", "key.pem", "empty.pem: holds no certificate"),
        ("cert.pem", "empty.pem", "empty.pem: no private key"),
        ("cert.pem", "other-key.pem", "cannot be used"),
    ] {
        let mut command = command(folder.path());
        let line = fails(command.arg("--tls-cert").arg(path(cert)).arg("--tls-key").arg(path(key)));
        assert!(line.contains(words), "{line}");
    }
}
