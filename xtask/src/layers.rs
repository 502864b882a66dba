//! Which crate may use which: the one table. Its picture and its reasons are in
//! docs/ARCHITECTURE.md and docs/decisions/0001-layers.md.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Crate, and all of ours it may depend on, for tests and builds too.
const MAY_USE: &[(&str, &[&str])] = &[
    ("vm-core", &[]),
    ("coroutine-scheduler", &[]),
    ("perf-bench", &[]),
    ("async-executor", &["vm-core"]),
    (
        "vm-runtime",
        &["vm-core", "async-executor", "coroutine-scheduler"],
    ),
    (
        "vm-benches",
        &[
            "vm-core",
            "async-executor",
            "coroutine-scheduler",
            "perf-bench",
            "vm-runtime",
        ],
    ),
    ("xtask", &["perf-bench"]),
];

/// Compares `cargo metadata --no-deps` with the table: one sentence per problem.
pub(crate) fn problems(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        seen.insert(name);
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            problems.push(format!(
                "{name}: no row in xtask/src/layers.rs says what it may depend on"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Ours have a path; the public crate async-executor has none.
            let Some(_) = dependency["path"].as_str() else {
                continue;
            };
            let used = dependency["name"].as_str().unwrap_or_default();
            if !allowed.contains(&used) {
                problems.push(format!(
                    "{name} depends on {used}, which no layer allows; a new edge needs a decision record"
                ));
            }
        }
        // An empty list of registries is how cargo says `publish = false`.
        if package["publish"]
            .as_array()
            .is_none_or(|list| !list.is_empty())
        {
            problems.push(format!("{name}: publish is not false"));
        }
    }
    for (name, _) in MAY_USE {
        if !seen.contains(name) {
            problems.push(format!(
                "{name} has a row in xtask/src/layers.rs but is no package"
            ));
        }
    }
    Ok(problems)
}

/// What the workspace of other schedulers, which cargo's data of this one does
/// not show, may use of ours.
const PEERS_MAY_USE: &[&str] = &["coroutine-scheduler"];

/// Looks at the manifest of benches/peers: one sentence per problem.
pub(crate) fn peers_problems(manifest: &str) -> Vec<String> {
    let place = "benches/peers/Cargo.toml";
    let mut problems = Vec::new();
    if !manifest.lines().any(|line| line.trim() == "[workspace]") {
        problems.push(format!("{place} is no workspace of its own"));
    }
    for line in manifest.lines().filter(|line| line.contains("path =")) {
        let used = line.split('=').next().unwrap_or_default().trim();
        if !PEERS_MAY_USE.contains(&used) {
            problems.push(format!("{place}: depends on {used}, which no layer allows"));
        }
    }
    if !manifest
        .lines()
        .any(|line| line.trim() == "publish = false")
    {
        problems.push(format!("{place}: publish is not false"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;
    use serde_json::json;

    #[test]
    fn the_workspace_keeps_to_its_layers() {
        let workspace = Workspace::find().unwrap();
        assert_eq!(
            problems(workspace.metadata()).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_edge_that_no_layer_allows_is_named() {
        let metadata = json!({"packages": [{
            "name": "vm-core",
            "publish": [],
            "dependencies": [
                {"name": "libc"},
                {"name": "perf-bench", "path": "/somewhere", "kind": "dev"},
            ],
        }]});
        let problems = problems(&metadata).unwrap();
        assert!(
            problems[0].contains("vm-core depends on perf-bench"),
            "{problems:?}"
        );
    }

    #[test]
    fn peers_use_the_scheduler_alone() {
        let good = "[workspace]\npublish = false\ncoroutine-scheduler = { path = \"x\" }\n";
        assert_eq!(peers_problems(good), Vec::<String>::new());
        let bad = "publish = false\nvm-runtime = { path = \"x\" }\n";
        let problems = peers_problems(bad);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[1].contains("vm-runtime"), "{problems:?}");
    }
}
