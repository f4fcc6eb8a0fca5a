use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::server_process::{Process, command};
use crate::support::root;

/// The server started by a program that gets its command line.
fn started_by(program: &mut Command) -> Process {
    let server = command(&root().join("prompts"));
    program.arg(server.get_program()).args(server.get_args()).current_dir(root());
    Process::start(std::mem::replace(program, Command::new("true")))
}

async fn assert_answers(process: &Process) {
    let url = format!("http://{}/tasks/tweet-sentiment/predict", process.address);
    let answers = (0..8).map(|i| {
        let body = json!({"input": format!("what a lovely day number {i}")});
        let sent = reqwest::Client::new().post(&url).json(&body).send();
        async { assert_eq!(sent.await.unwrap().status(), 200) }
    });
    futures_util::future::join_all(answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_computing_thread_for_each_core_that_the_process_may_use() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first: String = allowed.trim().chars().take_while(char::is_ascii_digit).collect();
    let process = started_by(Command::new("taskset").args(["--cpu-list", &first]));
    assert_eq!(process.threads, 1);
    assert_answers(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_groups_quota_bounds_the_computing_threads() {
    let group = match Group::of_one_core() {
        Ok(group) => group,
        Err(error) => return eprintln!("not tried: no right to make a control group ({error})"),
    };
    let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let process = started_by(Command::new("sh").args(["-c", &join, "sh"]));
    assert_eq!(process.threads, 1);
    assert_answers(&process).await;
}

/// A control group that may use as much processor time as one core has.
struct Group(PathBuf);

// === impl Group ===

impl Group {
    fn of_one_core() -> std::io::Result<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let named = |controller: &str| {
            let of = |line: &str| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                let has = controllers.split(',').any(|name| name == controller);
                has.then(|| path.trim_start_matches('/').to_owned())
            };
            own.lines().find_map(of)
        };
        let name = format!("xprompt-test-{}", std::process::id());
        let (parent, file, quota) = match named("cpu") {
            Some(path) => (Path::new("/sys/fs/cgroup/cpu").join(path), "cpu.cfs_quota_us", "100000"),
            None => {
                (Path::new("/sys/fs/cgroup").join(named("").unwrap_or_default()), "cpu.max", "100000 100000")
            }
        };
        let group = Self(parent.join(name));
        std::fs::create_dir(&group.0)?;
        std::fs::write(group.0.join(file), quota)?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}
