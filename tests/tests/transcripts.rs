//! The pages of `tests/transcripts`: what each command prints, and that none is left out.

use clap::{Command, CommandFactory as _};
use knit_cli::args::Knit;
use knit_tests::able::{BUSYBOX, ROOT};
use knit_tests::{Ran, Transcript, World, able};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

/// The page that is not run but written: what `--help` says.
const HELP: &str = "help.md";

/// One test per page, so that they run side by side and fail by name.
macro_rules! pages {
    ($($name:ident => $file:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            check($file);
        })*

        #[test]
        fn every_page_is_run() {
            let known = BTreeSet::from([HELP.to_owned(), $($file.to_owned()),*]);
            let there = std::fs::read_dir(folder()).expect("the pages are there");
            let there = there.map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned());
            assert_eq!(there.filter(|name| name.ends_with(".md")).collect::<BTreeSet<_>>(), known);
        }
    };
}

pages! {
    the_beginning_is_as_the_page_says => "begin.md",
    the_server_of_this_machine_is_as_the_page_says => "knitctl.md",
    what_the_server_offers_is_as_the_page_says => "cluster.md",
    completion_is_as_the_page_says => "completion.md",
    looking_into_data_is_as_the_page_says => "contents.md",
    data_is_as_the_page_says => "data.md",
    explanations_are_as_the_page_says => "explain.md",
    extensions_are_as_the_page_says => "extension.md",
    graphs_are_as_the_page_says => "graph.md",
    images_are_as_the_page_says => "image.md",
    forms_of_results_are_as_the_page_says => "output.md",
    plans_are_as_the_page_says => "plan.md",
    changes_of_plans_are_as_the_page_says => "plan-change.md",
    profiles_are_as_the_page_says => "profile.md",
    runs_are_as_the_page_says => "run.md",
    templates_are_as_the_page_says => "template.md",
    waiting_and_watching_are_as_the_page_says => "watch.md",
}

fn check(file: &str) {
    if !able(&[ROOT, BUSYBOX]) {
        return;
    }
    let world = World::start();
    world.busybox();
    Transcript::read(&folder().join(file)).check(&world);
}

/// `--help` of a program or command in a terminal of 80 columns, and of all commands below it; and the words of those
/// that have none below them.
fn help(world: &World, words: &[String], page: &mut String, leaves: &mut Vec<String>) {
    let mut command = world.command(world.program(&words[0]));
    command.args(&words[1..]).arg("--help").env("COLUMNS", "80");
    let text = Ran::run(command).ok().text();
    // Its empty lines are indented.
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {}: {line}", words.join(" "));
    }
    let _ = write!(page, "\n## {}\n\n```text\n{text}\n```\n", words.join(" "));
    let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Long descriptions go on further to the right.
    let names = commands.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let mut names = names.filter_map(|line| line.split_whitespace().next()).peekable();
    if names.peek().is_none() {
        leaves.push(words.join(" "));
    }
    for name in names {
        help(world, &[words, &[name.to_owned()]].concat(), page, leaves);
    }
}

#[test]
fn the_help_of_every_command_is_as_the_page_says() {
    let world = World::new();
    let mut page =
        "# Help\n\nWhat `--help` says of each command; `-h` says it in short. This page is written by a test, see \
                    \"How to change it\" in the README.\n"
            .to_owned();
    for program in ["knit", "knitctl"] {
        help(&world, &[program.to_owned()], &mut page, &mut Vec::new());
    }
    let file = folder().join(HELP);
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if page != kept && std::env::var_os("KNIT_TESTS_UPDATE").is_some() {
        std::fs::write(&file, &page).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        return;
    }
    let differs = page.lines().zip(kept.lines()).find(|(now, then)| now != then);
    assert!(page == kept, "{} is stale (KNIT_TESTS_UPDATE=1 writes it): {differs:?}", file.display());
}

/// The commands in the tables of the README that have a program as their title: `| `noun verb`, `verb`, ... | ... |`.
fn listed_commands(readme: &str) -> Vec<String> {
    let mut program = None;
    let mut listed = Vec::new();
    for line in readme.lines() {
        let cell = line.strip_prefix('|').and_then(|line| line.split('|').next()).unwrap_or_default().trim();
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        match (names.as_slice(), program) {
            _ if !line.starts_with('|') => program = None,
            ([name], None) if *name == "knit" || *name == "knitctl" => program = Some(*name),
            (names, Some(program)) => {
                let noun = names.first().and_then(|first| first.split_once(' ')).map(|(noun, _)| noun);
                listed.extend(names.iter().map(|name| match noun {
                    Some(noun) if !name.contains(' ') => format!("{program} {noun} {name}"),
                    _ => format!("{program} {name}"),
                }));
            }
            _ => {}
        }
    }
    listed.sort();
    listed
}

#[test]
fn the_readme_lists_every_command_once() {
    let world = World::new();
    let mut all = Vec::new();
    for program in ["knit", "knitctl"] {
        help(&world, &[program.to_owned()], &mut String::new(), &mut all);
    }
    all.sort();
    let readme = folder().join("../../README.md");
    let readme = std::fs::read_to_string(&readme).unwrap_or_else(|e| panic!("{}: {e}", readme.display()));
    assert_eq!(listed_commands(&readme), all);
}

/// A command without further commands: its words, and its flags with all their spellings.
struct Leaf {
    words: Vec<String>,
    flags: Vec<Vec<String>>,
}

fn leaves(command: &Command, words: &[String], into: &mut Vec<Leaf>) {
    let mut deeper = command.get_subcommands().filter(|command| !command.is_hide_set()).peekable();
    if deeper.peek().is_some() {
        for command in deeper {
            leaves(command, &[words, &[command.get_name().to_owned()]].concat(), into);
        }
        return;
    }
    let flags =
        command.get_arguments().filter(|flag| !flag.is_positional() && !flag.is_hide_set() && !flag.is_global_set());
    let flags = flags.map(|flag| {
        let mut spellings: Vec<String> = flag.get_short().map(|short| format!("-{short}")).into_iter().collect();
        spellings.extend(flag.get_long().map(|long| format!("--{long}")));
        spellings
    });
    into.push(Leaf { words: words.to_owned(), flags: flags.collect() });
}

#[test]
fn every_command_and_every_flag_stands_on_a_page() {
    let mut all = Vec::new();
    leaves(&Knit::command(), &["knit".to_owned()], &mut all);
    let shown: Vec<String> = Transcript::all(&folder()).iter().flat_map(Transcript::commands).collect();
    let shown: Vec<Vec<&str>> = shown
        .iter()
        .flat_map(|line| line.split(['|', ';', '\n', '(', ')', '&']))
        .map(|one| one.split_whitespace().collect())
        .collect();
    let mut missing = Vec::new();
    for leaf in &all {
        let uses = |line: &&Vec<&str>| {
            line.iter().position(|word| *word == "knit").is_some_and(|at| {
                line[at..].iter().zip(&leaf.words).filter(|(a, b)| a == b).count() == leaf.words.len()
            })
        };
        let lines: Vec<&Vec<&str>> = shown.iter().filter(uses).collect();
        if lines.is_empty() {
            missing.push(leaf.words.join(" "));
            continue;
        }
        for spellings in &leaf.flags {
            let has = |word: &str| spellings.iter().any(|flag| word == flag || word.starts_with(&format!("{flag}=")));
            if !lines.iter().any(|line| line.iter().any(|word| has(word))) {
                missing.push(format!("{} {}", leaf.words.join(" "), spellings.join("|")));
            }
        }
    }
    assert!(missing.is_empty(), "no page shows:\n{}", missing.join("\n"));
}
