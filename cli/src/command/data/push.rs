//! `knit data push`: folders and files become Data.

use crate::args;
use crate::project::{Project, Server};
use crate::terminal::progress::Progress;
use crate::terminal::{ExitCode, Failure, Format, Look, TableOutput, failure, note, print};
use crate::watch::WaitFlags;
use knit_api::bundle::{self, Observer, PackOptions};
use knit_api::client::{Class, UploadError};
use knit_api::data::Data;
use knit_api::event::Cause;
use knit_api::tag::Tag;
use std::path::{Path, PathBuf};

/// How many Data are waited for with one request: their ids stand in its URL.
const CAUSES_AT_ONCE: usize = 500;

/// Register folders or files as Data.
///
/// Each SOURCE becomes one Data: a folder with all that is in it, or a single file. One that cannot be pushed does not
/// keep the others from it. The tags of the environment file (knitenv) are added to those given here.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  # Register a folder with two tags
  knit data push -t project:digits -t type:dataset ./dataset

  # Register each folder with its own name as a tag, and print the ids alone
  knit data push -n -t project:digits -o name ./train ./test")]
pub struct Push {
    /// Give the Data this tag; repeat it for several
    #[arg(short, long = "tag", value_name = "KEY:VALUE", value_parser = Tag::parse_user, allow_hyphen_values = true)]
    tags: Vec<Tag>,
    /// Give each Data the tag name:LAST-PART-OF-SOURCE, as in name:train for ./train
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    name: bool,
    /// Replace links by what they lead to
    #[arg(short = 'L', long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = args::switch, action = clap::ArgAction::Set)]
    dereference: bool,
    /// Folders and files
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    output: TableOutput,
}

impl Push {
    /// Pushes one after the other. One that fails does not keep the others from being pushed, unless
    /// the server itself is the trouble.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let look = self.output.of(&super::columns())?;
        let common = common_tags(&self.tags, project)?;
        let server = project.server()?;
        self.wait.check(&server).await?;
        let mut pushed: Vec<Data> = Vec::new();
        let mut incomplete = false;
        let mut failures: Vec<Failure> = Vec::new();
        for source in &self.sources {
            match self.push(&server, source, &common).await {
                Ok(one) => {
                    incomplete |= one.untagged;
                    print_one(&one.data, &look, pushed.is_empty())?;
                    pushed.push(one.data);
                }
                Err(Stop { failure, hopeless }) => {
                    failures.push(failure);
                    if hopeless {
                        break;
                    }
                }
            }
        }
        if matches!(look.format(), Format::Table | Format::Wide) && !pushed.is_empty() {
            print(&super::table(&pushed.iter().collect::<Vec<_>>()).render_as(&look.view()))?;
        }
        let Err(failure) = self.wait(&server, &pushed).await else {
            return self.outcome(failures, pushed.len(), incomplete);
        };
        failures.iter().for_each(failure::report);
        Err(failure)
    }

    /// Waits for what comes of the pushed Data, if that is asked for: of so many at a time as one request can name.
    async fn wait(&self, server: &Server, pushed: &[Data]) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for some in pushed.chunks(CAUSES_AT_ONCE) {
            let what = match some {
                [one] => format!("the Data {}", one.id),
                many => format!("the {} Data", many.len()),
            };
            let cause = Cause::Data(some.iter().map(|data| data.id.clone()).collect());
            let waited = self.wait.wait(server, cause, &what).await;
            match (&outcome, waited) {
                (Ok(()), waited) => outcome = waited,
                (Err(_), Err(failure)) => failure::report(&failure),
                (Err(_), Ok(())) => {}
            }
        }
        outcome
    }

    /// What pushing comes to.
    fn outcome(&self, mut failures: Vec<Failure>, pushed: usize, incomplete: bool) -> Result<ExitCode, Failure> {
        match (failures.len(), pushed) {
            (0, _) if incomplete => Ok(ExitCode::Partial),
            (0, _) => Ok(ExitCode::Ok),
            (1, 0) => Err(failures.remove(0)),
            (_, done) => {
                failures.iter().for_each(failure::report);
                let all = self.sources.len();
                let exit = if done > 0 { ExitCode::Partial } else { failures[0].exit_code() };
                Err(Failure::new(format!("{done} of {all} sources are pushed")).exit(exit))
            }
        }
    }

    async fn push(&self, server: &Server, source: &Path, common: &[Tag]) -> Result<Pushed, Stop> {
        let shown = source.display().to_string();
        let what = format!("cannot push {shown}");
        let mut tags = common.to_vec();
        if self.name {
            let name = name_of(source).map_err(|why| Stop::one(Failure::new(&what).why(why)))?;
            add(&mut tags, Tag::new("name", name));
        }
        std::fs::metadata(source).map_err(|e| Stop::one(Failure::new(&what).why(e)))?;
        let form = server.client.upload_form().await.map_err(|e| Stop::all(server.failed(&what, &e)))?;
        let progress = Progress::bytes(&format!("pushing {shown}"), None);
        let (path, options, watch) = (
            source.to_owned(),
            PackOptions { dereference: self.dereference, ..PackOptions::default() },
            Watch { progress: progress.clone() },
        );
        let pack = move |out: &mut dyn std::io::Write| {
            let mut watch = watch;
            bundle::pack(&path, form, out, &options, &mut watch).map(drop)
        };
        let outcome = server.client.upload(form, &tags, pack).await;
        progress.clear();
        match outcome {
            Ok(data) => {
                note(&format!("registered: {shown} -> knit#id:{}", data.id));
                Ok(Pushed { data, untagged: false })
            }
            Err(UploadError::Tag { data, error }) => {
                failure::report(
                    &server
                        .failed(format!("{shown} is registered as {}, but without its tags", data.id), &error)
                        .advice(tag_command(&data, &tags)),
                );
                Ok(Pushed { data: *data, untagged: true })
            }
            Err(UploadError::Pack(error)) => {
                let advice = match &error {
                    bundle::Error::LinkLoop { .. } => "push without --dereference, or remove the link",
                    _ => "",
                };
                Err(Stop::one(Failure::new(what).why(error).advice(advice)))
            }
            Err(UploadError::Send(error)) => {
                let hopeless = matches!(error.class(), Class::Network | Class::NotAuthorised);
                Err(Stop { failure: server.failed(what, &error), hopeless })
            }
        }
    }
}

/// One source that is there now.
struct Pushed {
    data: Data,
    untagged: bool,
}

/// One source that is not.
struct Stop {
    failure: Failure,
    /// The next source would fare no better.
    hopeless: bool,
}

impl Stop {
    fn one(failure: Failure) -> Self {
        Self { failure, hopeless: false }
    }

    fn all(failure: Failure) -> Self {
        Self { failure, hopeless: true }
    }
}

/// Shows how much of the content has been read.
struct Watch {
    progress: Progress,
}

impl Observer for Watch {
    fn bytes(&mut self, count: u64) {
        self.progress.add(count);
    }
}

/// The given tags, then those of the environment file; each once.
fn common_tags(given: &[Tag], project: &Project) -> Result<Vec<Tag>, Failure> {
    let mut tags = Vec::new();
    for tag in given {
        add(&mut tags, tag.clone());
    }
    for tag in project.environment()?.tags {
        if tag.is_system() {
            note(&format!(
                "left out the tag {tag} of the environment file: keys starting with knit# belong to the system"
            ));
        } else {
            add(&mut tags, tag);
        }
    }
    Ok(tags)
}

fn add(tags: &mut Vec<Tag>, tag: Tag) {
    if !tags.contains(&tag) {
        tags.push(tag);
    }
}

/// The last part of a path; `.` and `..` are looked up, because they are names of nothing.
fn name_of(source: &Path) -> Result<String, String> {
    let named = match source.file_name() {
        Some(_) => source.to_owned(),
        None => std::fs::canonicalize(source).map_err(|e| e.to_string())?,
    };
    let name = named.file_name().ok_or("it has no name that --name could use")?;
    name.to_str().map(str::to_owned).ok_or_else(|| "its name is not UTF-8, so --name cannot use it".to_owned())
}

/// The command that gives a Data its tags after all.
fn tag_command(data: &Data, tags: &[Tag]) -> String {
    let mut command = "knit data tag".to_owned();
    for tag in tags {
        command.push_str(" --add '");
        command.push_str(&tag.to_string().replace('\'', "'\\''"));
        command.push('\'');
    }
    format!("{command} {}", data.id)
}

/// Prints each Data as soon as it is there; tables wait for all.
fn print_one(data: &Data, look: &Look, first: bool) -> Result<(), Failure> {
    if look.format() == Format::Yaml && !first {
        print("---\n")?;
    }
    match look.format() {
        Format::Table | Format::Wide => Ok(()),
        _ => super::print(data, look),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_by_the_last_part_of_its_path() {
        assert_eq!(name_of(Path::new("d/train/")).unwrap(), "train");
        assert_eq!(name_of(Path::new("a.txt")).unwrap(), "a.txt");
        let here = std::env::current_dir().unwrap();
        assert_eq!(name_of(Path::new(".")).unwrap(), here.file_name().unwrap().to_str().unwrap());
        assert!(name_of(Path::new("/")).is_err());
    }

    #[test]
    fn tags_stand_once_and_in_the_order_given() {
        let mut tags = vec![Tag::new("b", "1")];
        add(&mut tags, Tag::new("a", "1"));
        add(&mut tags, Tag::new("b", "1"));
        assert_eq!(tags, [Tag::new("b", "1"), Tag::new("a", "1")]);
    }
}
