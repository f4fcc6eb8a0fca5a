//! How much memory may still be taken.

use std::fs;
use std::path::Path;

use super::NotMoved;

/// Where control groups are, and what their files are called.
struct Groups {
    root: &'static str,
    /// How the line of `/proc/self/cgroup` begins, behind its number.
    controller: &'static str,
    most: &'static str,
    used: &'static str,
    /// Pages of files among the used, which the system takes back when it needs them.
    of_files: [&'static str; 2],
}

const GROUPS: [Groups; 2] = [
    Groups {
        root: "/sys/fs/cgroup",
        controller: "",
        most: "memory.max",
        used: "memory.current",
        of_files: ["active_file", "inactive_file"],
    },
    Groups {
        root: "/sys/fs/cgroup/memory",
        controller: "memory",
        most: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        of_files: ["total_active_file", "total_inactive_file"],
    },
];

/// Whether so many bytes leave as many free, of the machine and of all control groups that the process is in.
pub(super) fn check(needed: u64) -> Result<(), NotMoved> {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| number(&text, "MemAvailable:"));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = GROUPS.iter().flat_map(|groups| groups.free(Path::new(groups.root), &own));
    let free = of_machine.map(|kib| kib << 10).into_iter().chain(of_groups).min().unwrap_or(0);
    if needed <= free / 2 { Ok(()) } else { Err(NotMoved::Short { needed: needed >> 20, free: free >> 20 }) }
}

/// The number behind a word that begins a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    words.find_map(|mut line| if line.next() == Some(word) { line.next()?.parse().ok() } else { None })
}

// === impl Groups ===

impl Groups {
    /// What is free in the process's group and in each above it that has a limit. `own` is `/proc/self/cgroup`. A container may
    /// see its own group as the root.
    fn free(&self, root: &Path, own: &str) -> Vec<u64> {
        let of_line = |line: &str| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            controllers.split(',').any(|name| name == self.controller).then(|| path.to_owned())
        };
        let Some(path) = own.lines().find_map(of_line) else { return Vec::new() };
        let all = Path::new(path.trim_start_matches('/')).ancestors();
        all.filter_map(|group| self.free_in(&root.join(group))).collect()
    }

    /// In one group; none if it has no limit.
    fn free_in(&self, group: &Path) -> Option<u64> {
        let file = |name: &str| fs::read_to_string(group.join(name)).ok();
        let of = |name: &str| file(name)?.trim().parse::<u64>().ok();
        let (most, used) = (of(self.most)?, of(self.used)?);
        let statistics = file("memory.stat").unwrap_or_default();
        let of_files: u64 = self.of_files.iter().filter_map(|name| number(&statistics, name)).sum();
        Some(most.saturating_sub(used.saturating_sub(of_files)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(group: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(group).unwrap();
        for (name, text) in files {
            fs::write(group.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_group_with_the_least_counts_without_what_its_files_take() {
        let root = tempfile::tempdir().unwrap();
        let [service, slice] =
            ["system.slice/xprompt.service", "system.slice"].map(|name| root.path().join(name));
        write(
            &service,
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "900\n"),
                ("memory.stat", "anon 500\nactive_file 100\ninactive_file 300\n"),
            ],
        );
        write(&slice, &[("memory.max", "max\n"), ("memory.current", "5\n")]);
        let own = "0::/system.slice/xprompt.service\n";
        assert_eq!(GROUPS[0].free(root.path(), own), [500]);
        write(&slice, &[("memory.max", "300\n")]);
        assert_eq!(GROUPS[0].free(root.path(), own), [500, 295], "groups above limit it too");
        assert!(GROUPS[1].free(root.path(), own).is_empty(), "of another version");
    }

    #[test]
    fn a_container_of_the_first_version_sees_its_group_as_the_root() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory.limit_in_bytes", "1000\n"),
                ("memory.usage_in_bytes", "400\n"),
                ("memory.stat", "total_active_file 20\n"),
            ],
        );
        let own = "12:cpu,cpuacct:/docker/5a\n5:memory:/docker/5a\n0::/other\n";
        assert_eq!(GROUPS[1].free(root.path(), own), [620]);
    }

    #[test]
    fn what_leaves_too_little_is_refused_in_words() {
        let error = check(1 << 60).unwrap_err().to_string();
        assert!(error.contains(&format!("a copy takes {} MiB", 1_u64 << 40)), "{error}");
        check(0).unwrap();
    }
}
