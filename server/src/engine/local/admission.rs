//! Which workers may execute at once: what each demands of cpu and memory, against what this machine
//! has and what others hold. Only computes.

use crate::rules::plan::{DEFAULT_CPU_MILLIS, DEFAULT_MEMORY_BYTES, LEAST_MEMORY_BYTES};
use knit_api::plan::{OnNode, Resources};
use knit_api::quantity::Quantity;

/// What a worker holds without saying so.
pub(super) const DEFAULT: Room = Room { cpu_millis: DEFAULT_CPU_MILLIS, memory_bytes: DEFAULT_MEMORY_BYTES };

/// An amount of what workers compete for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of a cpu.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Room {
    /// Both added up.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// As a Plan would ask for it.
    pub fn resources(self) -> Resources {
        let Self { cpu_millis, memory_bytes } = self;
        let memory = if memory_bytes > 0 && memory_bytes.is_multiple_of(1024) {
            format!("{}Ki", memory_bytes / 1024)
        } else {
            memory_bytes.to_string()
        };
        [("cpu", format!("{cpu_millis}m")), ("memory", memory)]
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), amount.parse().ok()?)))
            .collect()
    }
}

/// Why a worker is not admitted; each holds a sentence part for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Others hold what it needs.
    NotNow(String),
    /// This machine does not have what it needs.
    Never(String),
}

/// What a Plan asks for; the reason when this machine can never give it, however large it is.
pub fn demand(resources: &Resources, on_node: &OnNode) -> Result<Room, String> {
    if let Some(label) = on_node.must.first() {
        return Err(format!("must run on a node labelled {label}, this machine has no labels"));
    }
    let mut room = DEFAULT;
    for (name, quantity) in resources {
        let amount = |value: i128| u64::try_from(value).map_err(|_| format!("{name} {quantity} is below zero"));
        match name.as_str() {
            "cpu" => room.cpu_millis = amount(quantity.millis())?,
            "memory" => room.memory_bytes = amount(quantity.units())?,
            _ if quantity.units() <= 0 => {}
            _ => return Err(format!("needs {name} {quantity}, this machine offers only cpu and memory")),
        }
    }
    if room.memory_bytes < LEAST_MEMORY_BYTES {
        let asked = bytes(room.memory_bytes);
        return Err(format!("memory {asked} is too little, a container needs at least {}", bytes(LEAST_MEMORY_BYTES)));
    }
    Ok(room)
}

/// Whether `demand` fits on a machine of `capacity`, of which others hold `held`.
pub fn admit(capacity: Room, held: Room, demand: Room) -> Result<(), Refusal> {
    if demand.cpu_millis > capacity.cpu_millis {
        return Err(Refusal::Never(format!(
            "needs cpu {}, this machine has {}",
            cpus(demand.cpu_millis),
            cpus(capacity.cpu_millis)
        )));
    }
    if demand.memory_bytes > capacity.memory_bytes {
        return Err(Refusal::Never(format!(
            "needs memory {}, this machine has {}",
            bytes(demand.memory_bytes),
            bytes(capacity.memory_bytes)
        )));
    }
    let free_cpu = capacity.cpu_millis.saturating_sub(held.cpu_millis);
    if demand.cpu_millis > free_cpu {
        return Err(Refusal::NotNow(format!(
            "waits for cpu {}, of {} other workers leave {}",
            cpus(demand.cpu_millis),
            cpus(capacity.cpu_millis),
            cpus(free_cpu)
        )));
    }
    let free_memory = capacity.memory_bytes.saturating_sub(held.memory_bytes);
    if demand.memory_bytes > free_memory {
        return Err(Refusal::NotNow(format!(
            "waits for memory {}, of {} other workers leave {}",
            bytes(demand.memory_bytes),
            bytes(capacity.memory_bytes),
            bytes(free_memory)
        )));
    }
    Ok(())
}

/// Milli-cpus as people write them.
fn cpus(millis: u64) -> String {
    format!("{millis}m").parse::<Quantity>().map_or_else(|_| format!("{millis}m"), |quantity| quantity.to_string())
}

/// Bytes as people write them: exact when a binary suffix fits, else rounded down to whole MiB.
pub(in crate::engine) fn bytes(value: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match value {
        0 => "0".to_owned(),
        _ if value.is_multiple_of(GIB) => format!("{}Gi", value / GIB),
        _ if value >= MIB => format!("{}Mi", value / MIB),
        _ if value.is_multiple_of(1024) => format!("{}Ki", value / 1024),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(pairs: &[(&str, &str)]) -> Resources {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_demand_is_what_the_plan_says_or_the_default() {
        for (pairs, cpu_millis, memory_bytes) in [
            (&[][..], 1000, 1 << 30),
            (&[("cpu", "0.5")], 500, 1 << 30),
            (&[("memory", "64Mi")], 1000, 64 << 20),
            (&[("cpu", "2"), ("memory", "1G")], 2000, 1_000_000_000),
            (&[("cpu", "0"), ("nvidia.com/gpu", "0")], 0, 1 << 30),
        ] {
            let expected = Room { cpu_millis, memory_bytes };
            assert_eq!(demand(&resources(pairs), &OnNode::default()), Ok(expected), "{pairs:?}");
        }
    }

    #[test]
    fn an_amount_is_told_as_what_can_be_asked_for() {
        for (cpu_millis, memory_bytes) in [(2500, 8_138_444 << 10), (0, 0), (1, 1023), (64_000, 1 << 40)] {
            let room = Room { cpu_millis, memory_bytes };
            let told = room.resources();
            assert_eq!(told["cpu"].millis(), i128::from(cpu_millis), "{told:?}");
            assert_eq!(told["memory"].units(), i128::from(memory_bytes), "{told:?}");
        }
        let whole = Room { cpu_millis: 2000, memory_bytes: 4 << 30 };
        assert_eq!(demand(&whole.resources(), &OnNode::default()), Ok(whole));
        assert_eq!(admit(whole, Room::default(), whole), Ok(()));
    }

    #[test]
    fn what_this_machine_can_never_give_is_said() {
        for (pairs, said) in [
            (&[("nvidia.com/gpu", "1")][..], "needs nvidia.com/gpu 1, this machine offers only cpu and memory"),
            (&[("cpu", "-1")], "cpu -1 is below zero"),
            (&[("memory", "-1Gi")], "memory -1Gi is below zero"),
            (&[("memory", "1Mi")], "memory 1Mi is too little, a container needs at least 6Mi"),
        ] {
            assert_eq!(demand(&resources(pairs), &OnNode::default()), Err(said.to_owned()), "{pairs:?}");
        }
        let on_node = OnNode { must: vec!["vram=large".parse().unwrap()], ..OnNode::default() };
        let said = "must run on a node labelled vram=large, this machine has no labels";
        assert_eq!(demand(&Resources::new(), &on_node), Err(said.to_owned()));
    }

    #[test]
    fn a_worker_is_admitted_when_both_cpu_and_memory_are_free() {
        const GIB: u64 = 1 << 30;
        let capacity = Room { cpu_millis: 2000, memory_bytes: 4 * GIB };
        let never = |text: &str| Err(Refusal::Never(text.to_owned()));
        let not_now = |text: &str| Err(Refusal::NotNow(text.to_owned()));
        for (held, wanted, verdict) in [
            ((0, 0), (2000, 4 * GIB), Ok(())),
            ((1000, GIB), (1000, 3 * GIB), Ok(())),
            ((0, 0), (8000, GIB), never("needs cpu 8, this machine has 2")),
            ((2000, 0), (8000, GIB), never("needs cpu 8, this machine has 2")),
            ((0, 0), (1000, 8 * GIB), never("needs memory 8Gi, this machine has 4Gi")),
            ((1500, 0), (1000, GIB), not_now("waits for cpu 1, of 2 other workers leave 500m")),
            ((1, 3 * GIB), (1000, 2 * GIB), not_now("waits for memory 2Gi, of 4Gi other workers leave 1Gi")),
            ((9000, 0), (1, GIB), not_now("waits for cpu 1m, of 2 other workers leave 0")),
        ] {
            let room = |(cpu_millis, memory_bytes)| Room { cpu_millis, memory_bytes };
            assert_eq!(admit(capacity, room(held), room(wanted)), verdict, "{held:?} {wanted:?}");
        }
    }
}
