//! Measures how long a server takes for the first pages of lists and for candidates, on a store that `fill-store` has
//! filled: each question many times, with other values each time.

use knit_api::candidate::Kind;
use knit_api::run::RunStatus;
use knit_api::tag::Tag;
use knit_api::time::Timestamp;
use knit_server::store::{DataQuery, PlanQuery, RunQuery, Store, StoreError, Window};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
Usage: time-lists TIMES http API_ROOT [TOKEN]   asks a server over HTTP
       time-lists TIMES store STORE             asks a store, the file of a SQLite database or a PostgreSQL URL

Prints for each question, on a line of its own and separated by tabs: its name, the median and the 99th percentile
in milliseconds.
";
/// Things on a page.
const PAGE: usize = 50;

/// A question: as it is put over HTTP and as it is put to the store.
struct Question {
    name: &'static str,
    path: String,
    ask: Ask,
}

enum Ask {
    Data(DataQuery, bool),
    Plans(PlanQuery),
    Runs(RunQuery, bool),
    Candidates(Kind, String),
}

/// Ids that questions are asked about.
struct Known {
    data: Vec<String>,
    plans: Vec<String>,
    runs: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [times, how, place, token @ ..] = arguments.as_slice() else { return usage() };
    let (Ok(times @ 1..), 0..=1) = (times.parse::<usize>(), token.len()) else { return usage() };
    let measured = match how.as_str() {
        "http" => over_http(times, place, token.first().map(String::as_str)).await,
        "store" if token.is_empty() => in_store(times, place).await.map_err(|cause| cause.to_string()),
        _ => return usage(),
    };
    if let Err(cause) = measured {
        // Nobody is left to tell when standard error is gone, too.
        let _ = writeln!(io::stderr(), "time-lists: cannot measure {place}: {cause}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let _ = write!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

async fn over_http(times: usize, root: &str, token: Option<&str>) -> Result<(), String> {
    let client = knit_api::client::connections(&root.parse().map_err(|cause| format!("{cause}"))?);
    let client = client.build().map_err(|cause| cause.to_string())?;
    let get = async |path: &str| {
        let mut request = client.get(format!("{root}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = async { request.send().await?.error_for_status()?.bytes().await };
        answer.await.map_err(|cause| format!("{path}: {cause}"))
    };
    let ids = async |kind: Kind| {
        let found = get(&format!("/candidates/{kind}?limit=200")).await?;
        let found: Vec<knit_api::candidate::Candidate> =
            knit_api::json::from_slice(&found).map_err(|cause| cause.to_string())?;
        Ok::<_, String>(found.into_iter().map(|one| one.value).collect())
    };
    let known = Known { data: ids(Kind::Data).await?, plans: ids(Kind::Plans).await?, runs: ids(Kind::Runs).await? };
    let mut laps = Laps::default();
    for n in 0..=times {
        for question in questions(&known, n) {
            let begun = Instant::now();
            get(&question.path).await?;
            laps.add(n, question.name, begun.elapsed());
        }
    }
    laps.print()
}

async fn in_store(times: usize, place: &str) -> Result<(), StoreError> {
    let store = if place.starts_with("postgres") {
        Store::open_postgres(place).await?
    } else {
        Store::open_sqlite(Path::new(place)).await?
    };
    let ids = async |kind: Kind| {
        let found = store.candidates(kind, "", 200).await?;
        Ok::<_, StoreError>(found.into_iter().map(|one| one.value).collect())
    };
    let known = Known { data: ids(Kind::Data).await?, plans: ids(Kind::Plans).await?, runs: ids(Kind::Runs).await? };
    let window = |reverse| Window { after: None, reverse, limit: PAGE };
    let mut laps = Laps::default();
    for n in 0..=times {
        for question in questions(&known, n) {
            let begun = Instant::now();
            match &question.ask {
                Ask::Data(query, reverse) => drop(store.page_of_data(query, &window(*reverse)).await?),
                Ask::Plans(query) => drop(store.page_of_plans(query, &window(false)).await?),
                Ask::Runs(query, reverse) => drop(store.page_of_runs(query, &window(*reverse)).await?),
                Ask::Candidates(kind, prefix) => drop(store.candidates(*kind, prefix, PAGE).await?),
            }
            laps.add(n, question.name, begun.elapsed());
        }
    }
    store.close().await;
    laps.print().map_err(|cause| StoreError::Failed { what: "printing", cause })
}

/// All questions, with the values of this time.
fn questions(known: &Known, n: usize) -> Vec<Question> {
    let mut questions = Vec::new();
    let tag = |text: String| Tag::split(&text).expect("it has a colon");
    let mut data = |name, tags: &[String], more: &str, wanted: DataQuery, reverse| {
        let mut path = format!("/data?limit={PAGE}{more}");
        for text in tags {
            path = format!("{path}&tag={}", text.replace('#', "%23"));
        }
        let tags = tags.iter().cloned().map(tag).collect();
        questions.push(Question { name, path, ask: Ask::Data(DataQuery { tags, ..wanted }, reverse) });
    };
    let all = DataQuery::default;
    let id = &known.data[n % known.data.len()];
    data("Data, oldest first", &[], "", all(), false);
    data("Data, newest first", &[], "&reverse", all(), true);
    data("Data of a tag on one", &[format!("name:upload-{n}")], "", all(), false);
    data("Data of a tag on 50", &[format!("source:{n}")], "", all(), false);
    data("Data of a tag on 1000", &[format!("project:{}", n % 50)], "", all(), false);
    data("Data of a tag on 2500", &[format!("shard:{}", n % 20)], "&reverse", all(), true);
    data("Data of a tag on half of all", &["type:dataset".to_owned()], "", all(), false);
    data("Data of two tags on 1000", &[format!("project:{}", n % 50), format!("batch:{}", n % 40)], "", all(), false);
    let apart = ["type:dataset".to_owned(), "type:model".to_owned()];
    data("Data of two common tags that none has both of", &apart, "", all(), false);
    let rare = [format!("source:{n}"), "type:dataset".to_owned()];
    data("Data of a common tag and a tag on 50", &rare, "&reverse", all(), true);
    let now = Timestamp::parse_strict("2020-01-01T00:00:00Z").expect("it is a time");
    let since = DataQuery { since: Some(now), ..all() };
    data("Data since a time", &[], "&since=2020-01-01T00:00:00Z", since, false);
    let ready = DataQuery { transient: Some(false), ..all() };
    data("Data that are ready, newest first", &[], "&transient=false&reverse", ready, true);
    let unready = DataQuery { transient: Some(true), ..all() };
    data("Data that are not ready", &[], "&transient=true", unready, false);
    data("Data that failed", &["knit#transient:failed".to_owned()], "", all(), false);
    data("Data by id", &[format!("knit#id:{id}")], "", all(), false);

    let mut runs = |name, more: String, wanted: RunQuery, reverse| {
        questions.push(Question { name, path: format!("/runs?limit={PAGE}{more}"), ask: Ask::Runs(wanted, reverse) });
    };
    let all = RunQuery::default;
    let plan = || known.plans[n % known.plans.len()].clone();
    runs("Runs, oldest first", String::new(), all(), false);
    runs("Runs, newest first", "&reverse".to_owned(), all(), true);
    runs("Runs of a Plan", format!("&plan={}", plan()), RunQuery { plans: vec![plan().into()], ..all() }, false);
    let failed = RunQuery { plans: vec![plan().into()], statuses: vec![RunStatus::Failed], ..all() };
    runs("Runs of a Plan that failed", format!("&plan={}&status=failed", plan()), failed, false);
    runs(
        "Runs that failed",
        "&status=failed&reverse".to_owned(),
        RunQuery { statuses: vec![RunStatus::Failed], ..all() },
        true,
    );
    let two = vec![RunStatus::Done, RunStatus::Failed];
    runs("Runs that are over", "&status=done,failed".to_owned(), RunQuery { statuses: two, ..all() }, false);
    runs(
        "Runs that use a Data",
        format!("&knitIdInput={id}"),
        RunQuery { inputs: vec![id.as_str().into()], ..all() },
        false,
    );
    runs(
        "Runs that made a Data",
        format!("&knitIdOutput={id}"),
        RunQuery { outputs: vec![id.as_str().into()], ..all() },
        false,
    );
    let since = RunQuery { since: Some(now), ..all() };
    runs("Runs since a time", "&since=2020-01-01T00:00:00Z".to_owned(), since, false);

    let mut plans = |name, more: String, wanted: PlanQuery| {
        questions.push(Question { name, path: format!("/plans?limit={PAGE}{more}"), ask: Ask::Plans(wanted) });
    };
    let all = PlanQuery::default;
    let set = |text: String| [Tag::split(&text).expect("it has a colon")].into();
    plans("Plans", String::new(), all());
    plans("Plans that are inactive", "&active=false".to_owned(), PlanQuery { active: Some(false), ..all() });
    let image = format!("image-{}", n % 40);
    let query = PlanQuery { image: Some(image.parse().expect("it is an image")), ..all() };
    plans("Plans of an image", format!("&image={image}"), query);
    let stage = format!("stage:{}", n % 1000);
    plans("Plans by a tag of an input", format!("&in_tag={stage}"), PlanQuery { in_tags: set(stage), ..all() });
    plans(
        "Plans by a tag of all outputs",
        "&out_tag=type:model".to_owned(),
        PlanQuery { out_tags: set("type:model".to_owned()), ..all() },
    );

    let mut candidates = |name, kind, prefix: &str| {
        let path = format!("/candidates/{kind}?prefix={prefix}");
        questions.push(Question { name, path, ask: Ask::Candidates(kind, prefix.to_owned()) });
    };
    candidates("candidates: newest Data", Kind::Data, "");
    candidates("candidates: Data by a beginning", Kind::Data, &id[..=(n % 4)]);
    candidates("candidates: latest Runs", Kind::Runs, "");
    candidates("candidates: Runs by a beginning", Kind::Runs, &known.runs[n % known.runs.len()][..=(n % 4)]);
    candidates("candidates: Plans by a beginning", Kind::Plans, &known.plans[n % known.plans.len()][..=(n % 4)]);
    candidates("candidates: tags", Kind::Tags, "");
    candidates("candidates: tags by a beginning", Kind::Tags, ["pro", "name:upload-1", "source:9", "b"][n % 4]);
    candidates("candidates: names of Plans", Kind::PlanNames, &format!("plan-{}", n % 10));
    questions
}

/// How long each question took, in the order in which they are asked.
#[derive(Default)]
struct Laps(Vec<(&'static str, Vec<Duration>)>);

impl Laps {
    /// The first time of each does not count: statements are prepared then.
    fn add(&mut self, n: usize, name: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, laps)) => laps.push(took),
            None if n == 0 => self.0.push((name, Vec::new())),
            None => self.0.push((name, vec![took])),
        }
    }

    fn print(self) -> Result<(), String> {
        let mut out = io::stdout().lock();
        for (name, mut laps) in self.0 {
            laps.sort();
            let at = |share: usize| laps[(laps.len() - 1) * share / 100].as_secs_f64() * 1000.0;
            writeln!(out, "{name}\t{:.2}\t{:.2}", at(50), at(99)).map_err(|cause| cause.to_string())?;
        }
        Ok(())
    }
}
