//! A store of a test's own, and short words for what tests do with it.

use knit_api::id::{DataId, PlanId, RunId};
use knit_api::plan::PlanSpec;
use knit_api::run::{Exit, RunStatus};
use knit_api::tag::{Tag, TagChange, UserTag};
use knit_api::time::Timestamp;
use knit_server::engine::{Sealed, Volume};
use knit_server::rules::plan::check;
use knit_server::store::{Claim, Registered, Settle, Store, Upload};
use sqlx::Connection as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) place: Place,
    clock: AtomicI64,
    _folder: Option<tempfile::TempDir>,
}

#[derive(Clone)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    pub(crate) async fn open(&self) -> Result<Store, knit_server::store::StoreError> {
        match self {
            Self::Sqlite(path) => Store::open_sqlite(path).await,
            Self::Postgres(url) => Store::open_postgres(url).await,
        }
    }

    /// Runs statements behind the store's back.
    pub(crate) async fn run(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
                let mut db = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
            Self::Postgres(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
        }
    }

    /// One number, read behind the store's back.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut db = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
            Self::Postgres(url) => {
                let mut db = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
            }
        }
    }
}

/// Each story is told on both databases.
macro_rules! on_both {
    ($(async fn $name:ident($world:ident: World) $story:block)*) => {
        $(mod $name {
            use super::*;

            async fn story($world: World) $story

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                story(World::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(world) = World::postgres().await {
                    story(world).await;
                }
            }
        })*
    };
}
pub(crate) use on_both;

/// The beginning of time in tests, in microseconds.
pub(crate) const EPOCH: i64 = 1_738_555_506_123_456;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(EPOCH + seconds * 1_000_000)
}

pub(crate) fn tags(texts: &[&str]) -> Vec<Tag> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn change(add: &[&str], remove: &[&str], remove_key: &[&str]) -> TagChange {
    let users = |texts: &[&str]| tags(texts).into_iter().map(UserTag).collect();
    let remove_key = remove_key.iter().map(|key| (*key).to_owned()).collect();
    TagChange { add: users(add), remove: users(remove), remove_key }
}

pub(crate) fn spec(json: &str) -> PlanSpec {
    check(knit_api::json::from_slice(json.as_bytes()).unwrap()).unwrap()
}

/// A Plan with these tags on its inputs and on its outputs.
pub(crate) fn simple(image: &str, inputs: &[&[&str]], outputs: &[&[&str]]) -> PlanSpec {
    let mounts = |kind: &str, lists: &[&[&str]]| {
        let mount = |(n, list): (usize, &&[&str])| serde_json::json!({"path": format!("/{kind}/{n}"), "tags": list});
        lists.iter().enumerate().map(mount).collect::<Vec<_>>()
    };
    let json = serde_json::json!({"image": image, "inputs": mounts("in", inputs), "outputs": mounts("out", outputs)});
    spec(&json.to_string())
}

pub(crate) fn sealed(digest: &str) -> Sealed {
    Sealed { digest: digest.to_owned(), entries: 3, bytes: 5_000_000_000, left_out: Vec::new() }
}

pub(crate) fn to(status: RunStatus, due: Timestamp) -> Settle {
    Settle { status, exit: None, due, reason: None, image_digest: None }
}

pub(crate) fn exit(code: u8, message: &str) -> Exit {
    Exit { code, message: message.to_owned() }
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Sqlite(folder.path().join("state.db"));
        Self::open(place, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let url = knit_tests::postgres::new_database()?;
        Some(Self::open(Place::Postgres(url), None).await)
    }

    async fn open(place: Place, folder: Option<tempfile::TempDir>) -> Self {
        let store = place.open().await.unwrap();
        Self { store, place, clock: AtomicI64::new(0), _folder: folder }
    }

    /// A second later each time.
    pub(crate) fn now(&self) -> Timestamp {
        at(self.clock.fetch_add(1, Ordering::Relaxed))
    }

    /// An upload a second after the last thing that happened.
    pub(crate) async fn push(&self, with: &[&str]) -> DataId {
        let data = DataId::new(uuid::Uuid::new_v4().to_string());
        let upload = Upload { volume: Volume::of(&data), data: data.clone(), sealed: sealed("d1"), tags: tags(with) };
        self.store.add_upload(&upload, self.now()).await.unwrap();
        data
    }

    pub(crate) async fn apply(&self, spec: &PlanSpec) -> PlanId {
        match self.store.register_plan(spec).await.unwrap() {
            Registered::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Projects until nothing is left; how many Runs that made.
    pub(crate) async fn project(&self) -> usize {
        let mut made = 0;
        loop {
            let plans = self.store.plans_to_project().await.unwrap();
            if plans.is_empty() {
                return made;
            }
            for plan in plans {
                made += self.store.project(&plan, self.now()).await.unwrap().made;
            }
        }
    }

    /// All Runs, or those of one Plan.
    pub(crate) async fn runs(&self, plan: Option<&PlanId>) -> Vec<knit_api::run::Run> {
        let query = knit_server::store::RunQuery { plans: plan.cloned().into_iter().collect(), ..Default::default() };
        self.store.find_runs(&query).await.unwrap()
    }

    /// The only Run of a Plan.
    pub(crate) async fn only_run(&self, plan: &PlanId) -> RunId {
        let runs = self.runs(Some(plan)).await;
        assert_eq!(runs.len(), 1);
        runs[0].summary.id.clone()
    }

    pub(crate) async fn status(&self, run: &RunId) -> RunStatus {
        self.store.run_status(run).await.unwrap().unwrap()
    }

    /// Claims everything due in this status.
    pub(crate) async fn claim(&self, status: RunStatus) -> Vec<Claim> {
        let now = self.now();
        let until = Timestamp::from_micros(now.micros() + 30_000_000);
        self.store.claim(&[status], "me", now, until, 10_000).await.unwrap()
    }

    /// Claims this Run alone, by making it the longest due.
    pub(crate) async fn claim_run(&self, run: &RunId) -> Claim {
        let status = self.status(run).await;
        self.store.hasten(run, at(-1000)).await.unwrap();
        let now = self.now();
        let until = Timestamp::from_micros(now.micros() + 30_000_000);
        let claims = self.store.claim(&[status], "me", now, until, 1).await.unwrap();
        assert_eq!(claims.iter().map(|claim| &claim.run).collect::<Vec<_>>(), [run], "in {status}");
        claims.into_iter().next().unwrap()
    }

    pub(crate) async fn settle(&self, run: &RunId, status: RunStatus) {
        let claim = self.claim_run(run).await;
        assert!(self.store.settle(&claim, &to(status, at(0)), self.now()).await.unwrap());
    }

    /// Takes a waiting Run to its end.
    pub(crate) async fn end(&self, run: &RunId, well: bool) {
        self.settle(run, if well { RunStatus::Completing } else { RunStatus::Aborting }).await;
        let claim = self.claim_run(run).await;
        let outputs = self.store.outputs(run).await.unwrap();
        let sealed: Vec<_> = outputs.into_iter().map(|(data, _)| (data, sealed("d2"))).collect();
        assert!(self.store.finish(&claim, &sealed, None, None, self.now()).await.unwrap());
    }

    /// The Data on the first output of a Run.
    pub(crate) async fn output(&self, run: &RunId) -> DataId {
        self.store.run(run).await.unwrap().unwrap().outputs[0].data.clone()
    }

    /// The paths of the inputs that a Data is nominated for.
    pub(crate) async fn nominated(&self, data: &DataId) -> Vec<String> {
        let data = self.store.data(data).await.unwrap().unwrap();
        data.nomination.into_iter().map(|nomination| nomination.mountpoint.path).collect()
    }
}
