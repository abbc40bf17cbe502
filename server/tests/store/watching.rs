//! What a look at watched Runs finds, and when nothing more is to come.

use crate::world::{World, at, on_both, simple};
use knit_api::event::Cause;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_api::time::Timestamp;
use knit_server::store::{Look, RunQuery, Selection, Watched};
use std::collections::HashSet;

const EVER: Timestamp = Timestamp::from_micros(i64::MIN);
const NEVER: Timestamp = Timestamp::from_micros(i64::MAX);

fn any(query: RunQuery) -> Watched {
    Watched { query, of: Selection::Any }
}

fn of(of: Selection) -> Watched {
    Watched { query: RunQuery::default(), of }
}

fn caused_by(data: &DataId) -> Watched {
    of(Selection::Caused(Cause::Data(vec![data.clone()])))
}

fn ids(look: &Look) -> HashSet<RunId> {
    look.states.iter().map(|state| state.id.clone()).collect()
}

fn set(runs: &[&RunId]) -> HashSet<RunId> {
    runs.iter().map(|run| (*run).clone()).collect()
}

impl World {
    async fn look(&self, watched: &Watched, since: Timestamp) -> Look {
        self.store.look_at_runs(watched, since, 0, &HashSet::new()).await.unwrap()
    }

    async fn quiet(&self, watched: &Watched) -> bool {
        self.look(watched, NEVER).await.quiet
    }

    /// From raw to model to metrics.
    async fn pipeline(&self) -> [PlanId; 2] {
        [
            self.apply(&simple("train:v1", &[&["kind:raw"]], &[&["kind:model"]])).await,
            self.apply(&simple("validate:v1", &[&["kind:model"], &["kind:test"]], &[&["kind:metrics"]])).await,
        ]
    }
}

on_both! {
    async fn what_a_data_has_caused_is_all_that_is_downstream_of_it(world: World) {
        let [train, validate] = world.pipeline().await;
        let raw = world.push(&["kind:raw"]).await;
        let test = world.push(&["kind:test"]).await;
        world.project().await;
        let trained = world.only_run(&train).await;
        assert_eq!(ids(&world.look(&caused_by(&raw), EVER).await), set(&[&trained]));
        assert!(ids(&world.look(&caused_by(&test), EVER).await).is_empty());
        world.end(&trained, true).await;
        world.project().await;
        let validated = world.only_run(&validate).await;
        assert_eq!(ids(&world.look(&caused_by(&raw), EVER).await), set(&[&trained, &validated]));
        assert_eq!(ids(&world.look(&caused_by(&test), EVER).await), set(&[&validated]));
        let by_plan = |plan: &PlanId| of(Selection::Caused(Cause::Plans(vec![plan.clone()])));
        assert_eq!(ids(&world.look(&by_plan(&train), EVER).await), set(&[&trained, &validated]));
        assert_eq!(ids(&world.look(&by_plan(&validate), EVER).await), set(&[&validated]));
        // What is over and did not change lately is left out, and what is live stays.
        assert_eq!(ids(&world.look(&caused_by(&raw), NEVER).await), set(&[&validated]));
        let done = RunQuery { statuses: vec![S::Done], ..RunQuery::default() };
        let narrowed = Watched { query: done, ..caused_by(&raw) };
        assert_eq!(ids(&world.look(&narrowed, EVER).await), set(&[&trained]));

        let unknown = async |cause: Cause| world.store.unknown_cause(&cause).await.unwrap();
        assert_eq!(unknown(Cause::Data(vec![raw.clone(), "none".into()])).await.as_deref(), Some("none"));
        assert_eq!(unknown(Cause::Data(vec![raw])).await, None);
        assert_eq!(unknown(Cause::Plans(vec![train])).await, None);
        assert_eq!(unknown(Cause::Plans(vec!["none".into()])).await.as_deref(), Some("none"));
    }

    async fn nothing_is_quiet_between_the_end_of_a_run_and_the_next_projection(world: World) {
        let [train, validate] = world.pipeline().await;
        let test = world.push(&["kind:test"]).await;
        let plan = |id: &PlanId| any(RunQuery { plans: vec![id.clone()], ..RunQuery::default() });
        assert!(!world.quiet(&plan(&validate)).await, "a spark is left, though nothing comes of it");
        world.project().await;
        assert!(world.quiet(&plan(&validate)).await);

        let raw = world.push(&["kind:raw"]).await;
        let all = [caused_by(&raw), of(Selection::Caused(Cause::Plans(vec![train.clone()]))), any(RunQuery::default())];
        let quiet = async || {
            let mut quiet = Vec::new();
            for watched in &all {
                quiet.push(world.quiet(watched).await);
            }
            quiet
        };
        assert_eq!(quiet().await, [false; 3], "pushed, not projected");
        world.project().await;
        assert_eq!(quiet().await, [false; 3], "a Run waits");
        let run = world.only_run(&train).await;
        world.end(&run, true).await;
        assert_eq!(quiet().await, [false; 3], "the Run is done, what it made is not projected");
        assert!(world.quiet(&plan(&train)).await, "what follows is of another Plan");
        assert!(!world.quiet(&caused_by(&test)).await, "the test Data will be an input of the next Run");
        world.project().await;
        assert_eq!(quiet().await, [false; 3]);
        let next = world.only_run(&validate).await;
        assert!(!world.quiet(&any(RunQuery { inputs: vec![test.clone()], ..RunQuery::default() })).await);
        world.end(&next, false).await;
        assert_eq!(quiet().await, [true; 3]);
        world.store.retry(&next, at(900)).await.unwrap().unwrap();
        assert_eq!(quiet().await, [false; 3]);
    }

    async fn what_was_not_caused_keeps_nobody_waiting(world: World) {
        let [train, _] = world.pipeline().await;
        let raw = world.push(&["kind:raw"]).await;
        world.project().await;
        world.end(&world.only_run(&train).await, false).await;
        world.apply(&simple("other:v1", &[&["kind:other"]], &[])).await;
        let other = world.push(&["kind:other"]).await;
        assert!(world.quiet(&caused_by(&raw)).await, "the spark is of another Plan");
        assert!(!world.quiet(&caused_by(&other)).await);
        assert!(!world.quiet(&any(RunQuery::default())).await);
        let outputs = vec![other.clone()];
        assert!(world.quiet(&any(RunQuery { outputs, ..RunQuery::default() })).await);
        assert!(!world.quiet(&any(RunQuery { inputs: vec![other.clone()], ..RunQuery::default() })).await);
        world.project().await;
        assert!(world.quiet(&caused_by(&raw)).await);
        assert!(!world.quiet(&caused_by(&other)).await);
    }

    async fn data_in_the_making_may_still_cause_something_and_parked_runs_do_not(world: World) {
        let [train, _] = world.pipeline().await;
        world.push(&["kind:raw"]).await;
        world.project().await;
        let run = world.only_run(&train).await;
        let model = world.output(&run).await;
        assert!(!world.quiet(&caused_by(&model)).await);
        assert!(world.store.set_active(&train, false, world.now()).await.unwrap());
        assert_eq!(world.status(&run).await, S::Deactivated);
        assert!(world.quiet(&caused_by(&model)).await);
        let parked = world.look(&any(RunQuery::default()), NEVER).await;
        assert!(parked.quiet);
        assert_eq!(ids(&parked), set(&[&run]), "they are shown all the same");
    }

    async fn a_look_finds_what_lives_what_changed_and_what_was_told(world: World) {
        let [train, _] = world.pipeline().await;
        let mut runs = Vec::new();
        for _ in 0..4 {
            let data = world.push(&["kind:raw"]).await;
            world.project().await;
            let query = RunQuery { inputs: vec![data], ..RunQuery::default() };
            runs.push(world.store.find_runs(&query).await.unwrap()[0].summary.id.clone());
        }
        let [old, recent, live, ready] = &runs[..] else { panic!("four") };
        world.end(old, true).await;
        let since = world.now();
        world.end(recent, false).await;
        world.settle(ready, S::Ready).await;
        let plan = any(RunQuery { plans: vec![train], ..RunQuery::default() });
        let look = world.look(&plan, since).await;
        assert_eq!(ids(&look), set(&[recent, live, ready]));
        assert!(look.states.is_sorted_by_key(|state| state.updated_at));
        assert_eq!(ids(&world.look(&plan, NEVER).await), set(&[live, ready]));
        let told = set(&[old, live, &"erased".into()]);
        let look = world.store.look_at_runs(&plan, NEVER, 0, &told).await.unwrap();
        assert_eq!(ids(&look), set(&[old, live, ready]));
        for (ended, found) in [(1, &[live, ready, recent][..]), (9, &[live, ready, recent, old])] {
            let look = world.store.look_at_runs(&plan, NEVER, ended, &HashSet::new()).await.unwrap();
            assert_eq!(ids(&look), set(found), "{ended}");
        }
        let statuses = any(RunQuery { statuses: vec![S::Ready, S::Failed], ..RunQuery::default() });
        assert_eq!(ids(&world.look(&statuses, since).await), set(&[ready, recent]));
        let named = of(Selection::Named(vec![old.clone(), "none".into()]));
        let look = world.look(&named, NEVER).await;
        assert_eq!((ids(&look), look.quiet), (set(&[old]), true));

        let claim = world.claim_run(ready).await;
        world.store.give_back(&claim, at(0), "no room").await.unwrap();
        let before = world.look(&plan, NEVER).await;
        let state = before.states.iter().find(|state| state.id == *ready).unwrap();
        assert_eq!(state.reason.as_deref(), Some("no room"));
        let shown = world.store.runs(&[ready.clone(), "none".into(), old.clone()]).await.unwrap();
        assert_eq!(shown.iter().map(|run| &run.summary.id).collect::<HashSet<_>>(), [ready, old].into());
    }
}
