//! `cargo xtask tidy`: rules of this repository that no compiler knows.
//!
//! What takes no build is also a test, so that `cargo test` finds it. Each check
//! returns sentences; an empty list is a clean tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use perf_bench::KpiTable;

use crate::workspace::{Outcome, Workspace, print_line};
use crate::{codegen, guests, layers};

/// Checks dependency edges against the layers, generated pages, the inventory of
/// unsafe code, stray debugging macros and ignored tests, that
/// docs/ARCHITECTURE.md mentions every crate and source file, the KPI table, the
/// reasons of dependencies, the README's quick start and links, and the hashes of
/// the guest programs.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask tidy             all checks
  cargo xtask tidy --no-build  without the generated pages, which need a build")]
pub(crate) struct Args {
    /// Leaves out what has to build the product.
    #[arg(long)]
    no_build: bool,
}

/// The rows the suites of the design ask for; a row that goes missing would
/// otherwise look like a target that was met.
const KPI_SUITES: &[(&str, usize)] = &[
    ("jit", 12),
    ("aot", 4),
    ("tlb", 3),
    ("cross_arch", 4),
    ("scheduler", 19),
    ("gc", 11),
    ("sandbox", 8),
    ("perf_bench", 3),
    ("system", 1),
    ("quality", 1),
];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<Outcome> {
    let mut problems = problems_without_build(workspace)?;
    let guests = guests::check(workspace.root())?;
    problems.extend(guests.problems.iter().cloned());
    print_line(&guests)?;
    if args.no_build {
        print_line("generated pages: not checked (--no-build)")?;
    } else {
        problems.extend(codegen::problems(workspace)?);
    }
    for problem in &problems {
        print_line(format_args!("tidy: {problem}"))?;
    }
    print_line(format_args!("tidy: {} problems", problems.len()))?;
    Ok(Outcome::from(problems.is_empty()))
}

fn problems_without_build(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    let mut problems = layers::problems(workspace.metadata())?;
    let sources = rust_sources(root)?;
    problems.extend(stray_macros(root, &sources)?);
    problems.extend(architecture(workspace, &sources)?);
    problems.extend(unsafe_inventory(root, &sources)?);
    problems.extend(kpi_table(root)?);
    problems.extend(dependency_reasons(root)?);
    problems.extend(readme(root)?);
    problems.extend(layers::peers_problems(&read(
        &root.join("benches/peers/Cargo.toml"),
    )?));
    Ok(problems)
}

/// Every `.rs` file that is ours.
fn rust_sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    let mut pending: Vec<PathBuf> = ["crates", "benches", "xtask"].map(|d| root.join(d)).into();
    while let Some(dir) = pending.pop() {
        let entries =
            fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    sources.sort();
    Ok(sources)
}

fn relative<'a>(root: &Path, path: &'a Path) -> std::borrow::Cow<'a, str> {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Left-over debugging, and tests that never run. Comments may speak of both.
fn stray_macros(root: &Path, sources: &[PathBuf]) -> Result<Vec<String>> {
    // Spelled in two parts so that this file does not find itself.
    let forbidden = [
        (concat!("dbg", "!("), "remove it"),
        (
            concat!("todo", "!("),
            "return an error that says what is missing",
        ),
        (
            concat!("unimplemented", "!("),
            "return an error that says what is missing",
        ),
        (
            concat!("#[ign", "ore"),
            "put slow tests behind RUN_SLOW_TESTS=1",
        ),
    ];
    let mut problems = Vec::new();
    for path in sources {
        for (index, line) in read(path)?.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (what, advice) in forbidden {
                if code.contains(what) {
                    let place = relative(root, path);
                    problems.push(format!("{place}:{}: {what}…: {advice}", index + 1));
                }
            }
        }
    }
    Ok(problems)
}

/// The code map names each crate and each file of the product crates.
fn architecture(workspace: &Workspace, sources: &[PathBuf]) -> Result<Vec<String>> {
    let root = workspace.root();
    let text = read(&root.join("docs/ARCHITECTURE.md"))?;
    let mut problems = Vec::new();
    let packages = workspace.metadata()["packages"].as_array();
    for package in packages.into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        if !text.contains(&format!("`{name}`")) {
            problems.push(format!("docs/ARCHITECTURE.md does not mention `{name}`"));
        }
    }
    for path in sources {
        let place = relative(root, path);
        let mut parts = place.split('/');
        let (Some("crates"), Some(krate), Some("src")) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let inside: Vec<&str> = parts.collect();
        let file = inside.join("/");
        let Some(section) = section_of(&text, krate) else {
            problems.push(format!("docs/ARCHITECTURE.md has no section about {krate}"));
            continue;
        };
        if !names_file(section, &file) {
            problems.push(format!(
                "docs/ARCHITECTURE.md: the code map of {krate} lacks {file}"
            ));
        }
    }
    problems.dedup();
    Ok(problems)
}

/// The part of the code map under the heading that names the crate.
fn section_of<'a>(text: &'a str, krate: &str) -> Option<&'a str> {
    let heading = format!("### `{krate}`");
    let start = text.find(&heading)? + heading.len();
    let rest = &text[start..];
    let end = rest.find("\n## ").unwrap_or(rest.len());
    let end = rest.find("\n### ").unwrap_or(end).min(end);
    Some(&rest[..end])
}

/// `interp/float.rs` is named as it stands or through its whole directory,
/// `interp/`.
fn names_file(section: &str, file: &str) -> bool {
    let mut name = file;
    loop {
        if section.contains(&format!("`{name}`")) {
            return true;
        }
        let trimmed = name.trim_end_matches('/');
        match trimmed.rfind('/') {
            Some(at) => name = &name[..=at],
            None => return false,
        }
    }
}

/// Files that hold unsafe code, as the declarations in the crates say, against
/// the table in docs/ARCHITECTURE.md; both directions.
fn unsafe_inventory(root: &Path, sources: &[PathBuf]) -> Result<Vec<String>> {
    let text = read(&root.join("docs/ARCHITECTURE.md"))?;
    let Some(start) = text.find("\n## Unsafe inventory") else {
        bail!("docs/ARCHITECTURE.md has no section \"Unsafe inventory\"");
    };
    let section = &text[start + 1..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let listed: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.ends_with(".rs"))
        .collect();
    let mut found = BTreeSet::new();
    for path in sources {
        let place = relative(root, path).into_owned();
        found.extend(unsafe_modules(&place, &read(path)?));
    }
    let mut problems = Vec::new();
    for place in &found {
        if !listed.contains(place.as_str()) {
            problems.push(format!(
                "{place} may hold unsafe code but is not on the inventory"
            ));
        }
    }
    for place in listed {
        if !found.contains(place) {
            problems.push(format!(
                "{place} is on the unsafe inventory but allows none"
            ));
        }
    }
    Ok(problems)
}

/// The files that the source at `place` allows unsafe code: a module declared
/// under the attribute, or the file itself.
fn unsafe_modules(place: &str, source: &str) -> Vec<String> {
    let (dir, file) = place.rsplit_once('/').unwrap_or(("", place));
    let stem = file.trim_end_matches(".rs");
    // `mod x;` in lib.rs, main.rs or mod.rs is beside them, elsewhere below.
    let base = match stem {
        "lib" | "main" | "mod" => dir.to_owned(),
        _ => format!("{dir}/{stem}"),
    };
    // Comments may speak of the attribute, and it may be broken over lines.
    let code: Vec<&str> = source
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .collect();
    let code = code.join(" ");
    let mut modules = Vec::new();
    for (at, opening) in code.match_indices("[allow(") {
        let attribute = &code[at + opening.len()..];
        if !attribute.trim_start().starts_with("unsafe_code") {
            continue;
        }
        // The item behind this attribute and any further ones.
        let mut item = attribute.find(")]").map_or("", |end| &attribute[end + 2..]);
        while let Some(next) = item.trim_start().strip_prefix("#[") {
            item = next.find(']').map_or("", |end| &next[end + 1..]);
        }
        let mut words = item.split_whitespace();
        let declared = match (words.next(), words.next(), words.next()) {
            (Some("mod"), Some(name), _) => name.strip_suffix(';'),
            (Some(visibility), Some("mod"), Some(name)) if visibility.starts_with("pub") => {
                name.strip_suffix(';')
            }
            _ => None,
        };
        modules.push(match declared {
            Some(name) => format!("{base}/{name}.rs"),
            None => place.to_owned(),
        });
    }
    modules
}

/// Parses, has the columns, and each suite has its rows.
fn kpi_table(root: &Path) -> Result<Vec<String>> {
    let path = root.join("benches/kpis.csv");
    let table = match KpiTable::parse(&read(&path)?) {
        Ok(table) => table,
        Err(error) => return Ok(vec![format!("benches/kpis.csv: {error}")]),
    };
    let mut problems = Vec::new();
    for (suite, n_rows) in KPI_SUITES {
        let found = table
            .rows()
            .iter()
            .filter(|row| row.suite == *suite)
            .count();
        if found != *n_rows {
            problems.push(format!(
                "benches/kpis.csv: suite {suite} has {found} rows, expected {n_rows} (KPI_SUITES in \
                 xtask/src/tidy.rs)"
            ));
        }
    }
    for row in table.rows() {
        if !KPI_SUITES.iter().any(|(suite, _)| *suite == row.suite) {
            problems.push(format!(
                "benches/kpis.csv: row {} is of suite {:?}, which KPI_SUITES in xtask/src/tidy.rs lacks",
                row.id, row.suite
            ));
        }
        if row.metric.is_empty() {
            problems.push(format!(
                "benches/kpis.csv: row {} does not say what it measures",
                row.id
            ));
        }
    }
    Ok(problems)
}

/// The quick start is two commands, and what the README links to is there.
fn readme(root: &Path) -> Result<Vec<String>> {
    let text = read(&root.join("README.md"))?;
    let mut problems = Vec::new();
    let n_commands = quick_start(&text).count();
    if n_commands != 2 {
        problems.push(format!(
            "README.md: \"Quick start\" has {n_commands} commands, and it promises two"
        ));
    }
    for target in links(&text).filter(|target| !root.join(target).exists()) {
        problems.push(format!("README.md: links to {target}, which is not there"));
    }
    Ok(problems)
}

/// The lines of the code blocks under that heading.
fn quick_start(text: &str) -> impl Iterator<Item = &str> {
    let section = text.split("\n## Quick start\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    // Between fences, every other part is code, behind the name of its language.
    let blocks = section.split("```").skip(1).step_by(2);
    blocks
        .flat_map(|block| block.lines().skip(1))
        .filter(|line| !line.trim().is_empty())
}

/// Files that a page links to, without places inside them.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Manifests whose dependencies need a reason, and the section they stand in:
/// benches/peers is a workspace of its own.
const MANIFESTS: [(&str, &str); 2] = [
    ("Cargo.toml", "[workspace.dependencies]"),
    ("benches/peers/Cargo.toml", "[dependencies]"),
];

/// Every dependency of others' making has its reason on the same line.
fn dependency_reasons(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (place, section) in MANIFESTS {
        let text = read(&root.join(place))?;
        let names = without_reason(&text, section);
        problems.extend(
            names.map(|name| format!("{place}: {name} has no comment that says what it is for")),
        );
    }
    Ok(problems)
}

fn without_reason<'a>(manifest: &'a str, section: &'a str) -> impl Iterator<Item = &'a str> {
    manifest
        .lines()
        .skip_while(move |line| line.trim() != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.trim_start().starts_with('#'))
        .filter(|line| !line.contains("path ="))
        .filter(|line| {
            line.rsplit_once(" # ")
                .is_none_or(|(_, why)| why.trim().is_empty())
        })
        .map(|line| line.split('=').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let workspace = Workspace::find().unwrap();
        assert_eq!(
            problems_without_build(&workspace).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn unsafe_declarations_name_their_files() {
        // In two parts, so that this file does not find itself.
        let attribute = concat!("#[allow(", "unsafe_code, reason = \"r\")]\n");
        let broken = concat!("#[allow(", "\n    unsafe_code,\n    reason = \"r\"\n)]\n");
        let check = |place: &str, source: String, expected: &str| {
            assert_eq!(unsafe_modules(place, &source), [expected]);
        };
        check(
            "c/src/lib.rs",
            format!("{attribute}pub mod access;"),
            "c/src/access.rs",
        );
        check(
            "c/src/lib.rs",
            format!("{broken}mod access;\nmod b;"),
            "c/src/access.rs",
        );
        check(
            "c/src/mem/mod.rs",
            format!("{attribute}pub(crate) mod map;"),
            "c/src/mem/map.rs",
        );
        check(
            "c/src/jit.rs",
            format!("{attribute}#[allow(x)]\nmod abi;"),
            "c/src/jit/abi.rs",
        );
        check(
            "c/src/enter.rs",
            format!("{attribute}fn f() {{}}"),
            "c/src/enter.rs",
        );
        let comment = format!("// {attribute}mod a;");
        assert_eq!(unsafe_modules("c/src/lib.rs", &comment), [""; 0]);
    }

    #[test]
    fn a_file_is_named_by_itself_or_its_directory() {
        let section = "| `interp/` | the reference |\n| `exit.rs` | answers |";
        assert!(names_file(section, "exit.rs"));
        assert!(names_file(section, "interp/float.rs"));
        assert!(!names_file(section, "jit/abi.rs"));
        assert!(!names_file(section, "mod.rs"));
    }

    #[test]
    fn commands_and_links_of_a_page_are_found() {
        let text = "# A\n```\nno\n```\n## Quick start\n\n```sh\none\n\ntwo\n```\n\
            See [a](docs/a.md#b), [c](https://c), [d](d).\n## B\n```\nno\n```\n";
        assert_eq!(quick_start(text).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/a.md", "d"]);
    }

    #[test]
    fn dependencies_need_a_reason() {
        let manifest = "[workspace.dependencies]\n# Group.\nours = { path = \"x\" }\n\
            a = \"1\" # why\nb = \"1\"\nc = { version = \"1\" } #\n\n[other]\nd = \"1\"\n";
        let found = without_reason(manifest, "[workspace.dependencies]");
        assert_eq!(found.collect::<Vec<_>>(), ["b", "c"]);
    }
}
