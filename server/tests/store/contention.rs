//! Everything at once: many tasks change the same few Data, Plans and Runs; afterwards every fact must
//! agree with every other.

use crate::world::{Place, World, change, on_both, sealed, simple, to};
use crate::wrong::WRONG;
use knit_api::id::{DataId, PlanId, RunId};
use knit_api::run::RunStatus as S;
use knit_api::time::Timestamp;
use knit_server::store::{Registered, RunQuery, Store};
use std::sync::Mutex;

const TASKS: u64 = 16;
const STEPS: u64 = 40;
/// So few tags that everything meets everything.
const KEYS: u64 = 12;
const VALUES: u64 = 5;

/// SplitMix64: the same steps for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }

    fn tags(&mut self, count: u64) -> Vec<String> {
        (0..count).map(|_| format!("k{}:v{}", self.below(KEYS), self.below(VALUES))).collect()
    }

    fn one_of<T: Clone>(&mut self, all: &Mutex<Vec<T>>) -> Option<T> {
        let all = all.lock().unwrap();
        let index = self.below(all.len().max(1) as u64) as usize;
        all.get(index).cloned()
    }
}

/// What tasks know of each other's doing.
#[derive(Default)]
struct Shared {
    data: Mutex<Vec<DataId>>,
    plans: Mutex<Vec<PlanId>>,
    ended: Mutex<Vec<RunId>>,
    settled: Mutex<u64>,
}

fn texts(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).collect()
}

async fn step(world: &World, store: &Store, shared: &Shared, owner: &str, chance: &mut Chance) {
    match chance.below(100) {
        0..30 => {
            let data = world.push(&texts(&chance.tags(4))).await;
            shared.data.lock().unwrap().push(data);
        }
        30..52 => {
            let Some(data) = chance.one_of(&shared.data) else { return };
            let (add, remove) = (chance.tags(2), chance.tags(6));
            let keys = [format!("k{}", chance.below(KEYS))];
            let keys = if chance.below(4) == 0 { texts(&keys) } else { Vec::new() };
            store.change_tags(&data, &change(&texts(&add), &texts(&remove), &keys)).await.unwrap();
        }
        52..58 => {
            let inputs: Vec<Vec<String>> = (0..=chance.below(2)).map(|_| chance.tags(1)).collect();
            let inputs: Vec<Vec<&str>> = inputs.iter().map(|tags| texts(tags)).collect();
            let inputs: Vec<&[&str]> = inputs.iter().map(Vec::as_slice).collect();
            let out = if chance.below(2) == 0 { chance.tags(2) } else { vec!["made:here".to_owned()] };
            let image = format!("image{}:v1", chance.below(1000));
            let spec = simple(&image, &inputs, &[&texts(&out), &[]]);
            if let Registered::New(plan) = store.register_plan(&spec).await.unwrap() {
                shared.plans.lock().unwrap().push(plan);
            }
        }
        58..72 => {
            let Some(plan) = chance.one_of(&shared.plans) else { return };
            store.project(&plan, world.now()).await.unwrap();
        }
        72..95 => drive(world, store, shared, owner, chance).await,
        95..98 => {
            let Some(run) = chance.one_of(&shared.ended) else { return };
            let _ = store.retry(&run, world.now()).await.unwrap();
        }
        _ => {
            let Some(run) = chance.one_of(&shared.ended) else { return };
            let _ = store.remove_run(&run, world.now()).await.unwrap();
        }
    }
}

/// Claims a few Runs and takes each a step further.
async fn drive(world: &World, store: &Store, shared: &Shared, owner: &str, chance: &mut Chance) {
    let now = world.now();
    let until = Timestamp::from_micros(now.micros() + 3_600_000_000);
    let statuses = [S::Waiting, S::Completing, S::Aborting];
    for claim in store.claim(&statuses, owner, now, until, 3).await.unwrap() {
        let settled = if claim.status == S::Waiting {
            let next = if chance.below(5) == 0 { S::Aborting } else { S::Completing };
            store.settle(&claim, &to(next, now), world.now()).await.unwrap()
        } else {
            let outputs = store.outputs(&claim.run).await.unwrap();
            let sealed: Vec<_> = outputs.iter().map(|(data, _)| (data.clone(), sealed("d"))).collect();
            let finished = store.finish(&claim, &sealed, None, None, world.now()).await.unwrap();
            shared.data.lock().unwrap().extend(outputs.into_iter().map(|(data, _)| data));
            shared.ended.lock().unwrap().push(claim.run.clone());
            finished
        };
        assert!(settled, "a claim was lost");
        *shared.settled.lock().unwrap() += 1;
    }
}

on_both! {
    async fn nothing_is_lost_doubled_or_stale(world: World) {
        // A second process of the same installation, where there may be one.
        let other = match &world.place {
            Place::Sqlite(_) => world.store.clone(),
            Place::Postgres(url) => Store::open_postgres(url).await.unwrap(),
        };
        let (world, shared) = (std::sync::Arc::new(world), std::sync::Arc::new(Shared::default()));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let (world, shared) = (world.clone(), shared.clone());
            let store = if task % 2 == 0 { world.store.clone() } else { other.clone() };
            tasks.spawn(async move {
                let mut chance = Chance(task);
                for _ in 0..STEPS {
                    step(&world, &store, &shared, &format!("task {task}"), &mut chance).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        world.project().await;
        for (what, sql) in WRONG {
            assert_eq!(world.place.number(sql).await, 0, "{what}");
        }
        let runs = world.store.find_runs(&RunQuery::default()).await.unwrap();
        assert!(runs.len() > 300, "{} Runs are too few to tell anything", runs.len());
        assert!(*shared.settled.lock().unwrap() > 30);
        if let Place::Postgres(_) = &world.place {
            let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
            assert_eq!(world.place.number(deadlocks).await, 0);
        }
    }
}
