//! The files in `completions/`: a script per shell and a man page per command, made from the grammar alone, so that
//! they are the same on every machine.

use super::script::{Shell, script};
use std::io;
use std::path::Path;

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Below `completions/`, with `/`.
    pub path: String,
    /// What stands in it.
    pub content: String,
}

/// All files for a program, by path.
///
/// # Errors
/// None that text in memory could have.
pub fn pages(mut grammar: clap::Command) -> io::Result<Vec<Page>> {
    let program = grammar.get_name().to_owned();
    let mut pages = Vec::new();
    for shell in Shell::ALL {
        let path = match shell {
            Shell::Bash => format!("{program}.bash"),
            Shell::Zsh => format!("_{program}"),
            Shell::Fish => format!("{program}.fish"),
            Shell::Powershell => format!("{program}.ps1"),
            Shell::Elvish => format!("{program}.elv"),
        };
        pages.push(Page { path, content: script(shell, &program)? });
    }
    grammar.build();
    add_manual(&grammar, &program, &mut pages)?;
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pages)
}

/// The man page of a command, and those of the commands below it.
fn add_manual(command: &clap::Command, name: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    let mut bytes = Vec::new();
    // `knit-data-push`, as the other pages refer to it.
    let titled = command.clone().display_name(name.to_owned());
    clap_mangen::Man::new(titled)
        .title(name)
        .manual("Knit")
        .source(format!("Knit {}", knit_api::VERSION))
        .render(&mut bytes)?;
    let content = String::from_utf8(bytes).map_err(io::Error::other)?;
    pages.push(Page { path: format!("man/{name}.1"), content });
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        add_manual(below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    Ok(())
}

/// Compares the files in `completions/` with what the grammar says; with `KNIT_REGENERATE=1` writes them instead. For
/// the tests of both programs.
///
/// # Panics
/// When a file is stale, missing, or there for a command that is no more.
#[doc(hidden)]
pub fn pages_are_fresh(grammar: clap::Command) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../completions");
    let program = grammar.get_name().to_owned();
    let pages = pages(grammar).unwrap_or_else(|e| panic!("the pages of {program}: {e}"));
    let stale = stale(&folder, &program, &pages);
    if stale.is_empty() {
        return;
    }
    if std::env::var_os("KNIT_REGENERATE").is_some_and(|value| !value.is_empty()) {
        for path in &stale {
            let content = pages.iter().find(|page| page.path == *path).map(|page| page.content.as_str());
            write(&folder.join(path), content).unwrap_or_else(|e| panic!("{}: {e}", folder.join(path).display()));
        }
        return;
    }
    panic!(
        "completions/ is stale, see \"How to change it\" in the README; run\n  \
         KNIT_REGENERATE=1 cargo test -p knit-cli -p knit-admin --lib --bins man_pages\n{}",
        stale.join("\n")
    );
}

/// The files of a program that are missing, differ, or should not be there; by path.
fn stale(folder: &Path, program: &str, pages: &[Page]) -> Vec<String> {
    let differs = |page: &&Page| std::fs::read_to_string(folder.join(&page.path)).ok().as_ref() != Some(&page.content);
    let mut stale: Vec<String> = pages.iter().filter(differs).map(|page| page.path.clone()).collect();
    let manuals = std::fs::read_dir(folder.join("man")).into_iter().flatten().flatten();
    let of_program = |name: &String| name.strip_prefix(program).is_some_and(|rest| rest.starts_with(['.', '-']));
    let names = manuals.filter_map(|entry| entry.file_name().into_string().ok()).filter(of_program);
    stale.extend(names.map(|name| format!("man/{name}")).filter(|path| !pages.iter().any(|page| page.path == *path)));
    stale
}

/// Writes a file, or removes it when nothing shall stand in it.
fn write(path: &Path, content: Option<&str>) -> io::Result<()> {
    let Some(content) = content else { return std::fs::remove_file(path) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Knit;
    use clap::CommandFactory as _;

    #[test]
    fn completions_and_man_pages_are_what_the_grammar_says() {
        pages_are_fresh(Knit::command());
    }

    #[test]
    fn a_page_that_is_missing_differs_or_is_left_over_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let page = |path: &str| Page { path: path.to_owned(), content: "x\n".to_owned() };
        let pages = [page("knit.bash"), page("man/knit.1"), page("man/knit-data.1")];
        for page in &pages[..2] {
            write(&folder.path().join(&page.path), Some(&page.content)).unwrap();
        }
        for path in ["man/knit-gone.1", "man/knitctl.1"] {
            write(&folder.path().join(path), Some("")).unwrap();
        }
        assert_eq!(stale(folder.path(), "knit", &pages), ["man/knit-data.1", "man/knit-gone.1"]);
        write(&folder.path().join("knit.bash"), Some("y\n")).unwrap();
        assert!(stale(folder.path(), "knit", &pages).contains(&"knit.bash".to_owned()));
    }
}
