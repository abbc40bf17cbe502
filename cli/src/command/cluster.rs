//! `knit cluster`: what the server has to offer to those who write Plans.

use crate::project::{Project, Server};
use crate::terminal::{ExitCode, Failure, Output, Show, Table, note};
use knit_api::cluster::{Cluster as Told, Node};
use knit_api::quantity::Quantity;
use knit_api::server::{Registry, capability};
use serde::Serialize;
use std::collections::BTreeMap;

/// Show what the server offers: registry, resources, nodes, limits.
///
/// That is: where images are pushed to, how much of which resource a Plan may ask for, on the largest node and in
/// all, which labels its on_node may name, what the network of containers is, and how long logs may be.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  knit cluster -o yaml")]
pub struct Cluster {
    #[command(flatten)]
    output: Output,
}

/// What is known of a server: of an original one no more than its address.
#[derive(Serialize)]
struct Known<'a> {
    #[serde(rename = "apiRoot")]
    api_root: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<&'a Registry>,
    /// By name, what all nodes have of a resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    resources: BTreeMap<&'a str, Amount>,
    #[serde(flatten)]
    told: Option<Rest<'a>>,
}

/// A resource on all nodes.
#[derive(Serialize)]
struct Amount {
    /// The most that one Run can have: that of the largest node.
    largest: Quantity,
    /// Of all nodes together.
    total: String,
}

/// What only a server of ours tells.
#[derive(Serialize)]
struct Rest<'a> {
    version: &'a str,
    engine: &'a str,
    nodes: &'a [Node],
    #[serde(rename = "defaultResources")]
    default_resources: &'a knit_api::plan::Resources,
    #[serde(rename = "workerNetwork")]
    worker_network: &'a str,
    limits: &'a knit_api::cluster::Limits,
}

impl Cluster {
    /// Asks, and prints what there is to say.
    pub async fn run(self, project: &Project) -> Result<ExitCode, Failure> {
        let server = project.server()?;
        let told = ask(&server).await?;
        let registry = match &server.found().profile.registry {
            // How this user reaches it stands above how the server sees itself.
            Some(registry) => Some(registry),
            None => told.as_ref().and_then(|told| told.registry.as_ref()),
        };
        let known = Known {
            api_root: server.client.root().as_str(),
            registry,
            resources: told.as_ref().map(|told| amounts(&told.nodes)).unwrap_or_default(),
            told: told.as_ref().map(|told| Rest {
                version: &told.version,
                engine: &told.engine,
                nodes: &told.nodes,
                default_resources: &told.default_resources,
                worker_network: &told.worker_network,
                limits: &told.limits,
            }),
        };
        Show {
            value: &known,
            table: &|| table(&known, &server),
            names: &|| told.iter().flat_map(|told| &told.nodes).map(|node| node.name.clone()).collect(),
        }
        .print(self.output.format)?;
        if told.is_none() {
            note("this server tells no more of itself: ask your administrator which resources and labels there are");
        }
        Ok(ExitCode::Ok)
    }
}

/// What the server tells; `None` when it is not made for this question.
async fn ask(server: &Server) -> Result<Option<Told>, Failure> {
    let failed = |e: &knit_api::client::ClientError| server.failed("cannot ask the server what it has to offer", e);
    if !server.client.can(capability::CLUSTER).await.map_err(|e| failed(&e))? {
        return Ok(None);
    }
    server.client.cluster().await.map(Some).map_err(|e| failed(&e))
}

/// The largest and the sum of each resource over all nodes.
fn amounts(nodes: &[Node]) -> BTreeMap<&str, Amount> {
    let mut millis: BTreeMap<&str, i128> = BTreeMap::new();
    let mut largest: BTreeMap<&str, Quantity> = BTreeMap::new();
    for (name, amount) in nodes.iter().flat_map(|node| &node.capacity) {
        let sum = millis.entry(name).or_default();
        *sum = sum.saturating_add(amount.millis());
        let most = largest.entry(name).or_insert(*amount);
        if amount.millis() > most.millis() {
            *most = *amount;
        }
    }
    let amount = |(name, largest): (_, Quantity)| {
        let sum: i128 = millis.get(name).copied().unwrap_or_default();
        let total = match sum / 1000 {
            _ if sum % 1000 != 0 => format!("{sum}m"),
            bytes if bytes >= 1 << 20 && bytes % 1024 == 0 => format!("{}Ki", bytes / 1024),
            whole => whole.to_string(),
        };
        (name, Amount { largest, total: total.parse::<Quantity>().map_or(total, |total| total.to_string()) })
    };
    largest.into_iter().map(amount).collect()
}

fn table(known: &Known, server: &Server) -> Table {
    let mut table = Table::new().whole("PART").column("DETAIL");
    table.row(["API", format!("{} ({})", known.api_root, server.found()).as_str()]);
    let registry = known.registry.map_or_else(
        || "unknown: ask your administrator".to_owned(),
        |Registry { host, insecure }| {
            let how = if *insecure { " (plain HTTP)" } else { "" };
            format!("{host}{how}; docker push {host}/NAME:TAG, or knit image push; in a Plan: image: NAME:TAG")
        },
    );
    table.row(["registry", registry.as_str()]);
    let Some(rest) = &known.told else { return table };
    table.row(["version", rest.version]);
    table.row(["network", network(rest.worker_network)]);
    let limits = rest.limits;
    table.row(["logs", format!("up to {} of each Run are kept", bytes(limits.log_bytes.into())).as_str()]);
    if let Some(upload) = limits.upload_bytes {
        table.row(["uploads", format!("up to {}, which the disk has free now", bytes(upload.into())).as_str()]);
    }
    for (name, amount) in &known.resources {
        let total = amount.total.parse().map_or_else(|_| amount.total.clone(), |total: Quantity| shown(name, &total));
        let usual = rest.default_resources.get(*name);
        let usual =
            usual.map_or_else(String::new, |usual| format!("; {} for a Plan that does not ask", shown(name, usual)));
        let detail = format!("up to {} per Run, {total} in all{usual}", shown(name, &amount.largest));
        table.row([*name, detail.as_str()]);
    }
    for node in rest.nodes {
        table.row([format!("node {}", node.name).as_str(), of_node(node).as_str()]);
    }
    table
}

fn of_node(node: &Node) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "none".to_owned() } else { words.join(" ") };
    let resources = node.capacity.iter().map(|(name, amount)| {
        let held = node.in_use.get(name).filter(|held| held.millis() > 0);
        let held = held.map_or_else(String::new, |held| format!(" ({} in use)", shown(name, held)));
        format!("{name} {}{held}", shown(name, amount))
    });
    format!(
        "{}\nlabels: {}\ntaints: {}",
        resources.collect::<Vec<_>>().join(", "),
        list(node.labels.iter().map(ToString::to_string).collect()),
        list(node.taints.iter().map(ToString::to_string).collect()),
    )
}

fn network(name: &str) -> &str {
    match name {
        "none" => "none: containers reach nothing but themselves",
        "host" => "that of the host",
        "cluster" => "that of the cluster, as its administrator made it",
        other => other,
    }
}

/// An amount as people say it: memory and disk in the largest binary unit, rounded down, so that it can be asked for.
fn shown(name: &str, amount: &Quantity) -> String {
    match name {
        "memory" | "ephemeral-storage" => bytes(amount.units()),
        _ => amount.to_string(),
    }
}

fn bytes(amount: i128) -> String {
    const UNITS: [(&str, u32); 5] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10), ("", 0)];
    let fits = |&&(_, bits): &&(&str, u32)| amount >= 100 << bits || (amount >= 1 << bits && amount % (1 << bits) == 0);
    let (unit, bits) = UNITS.iter().find(fits).unwrap_or(&("", 0));
    format!("{}{unit}", amount >> bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, pairs: &[(&str, &str)]) -> Node {
        let capacity = pairs.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect();
        Node { name: name.to_owned(), labels: vec![], taints: vec![], capacity, in_use: BTreeMap::new() }
    }

    #[test]
    fn resources_are_told_by_the_largest_node_and_in_all() {
        let nodes = [node("a", &[("cpu", "2500m"), ("memory", "4Gi")]), node("b", &[("cpu", "4"), ("gpu", "1")])];
        let amounts = amounts(&nodes);
        let said = |name: &str| (amounts[name].largest.to_string(), amounts[name].total.clone());
        assert_eq!(said("cpu"), ("4".to_owned(), "6500m".to_owned()));
        assert_eq!(said("memory"), ("4Gi".to_owned(), "4Gi".to_owned()));
        assert_eq!(said("gpu"), ("1".to_owned(), "1".to_owned()));
    }

    #[test]
    fn bytes_are_rounded_down_to_what_can_be_asked_for() {
        for (amount, said) in [
            (0, "0"),
            (1023, "1023"),
            (1 << 30, "1Gi"),
            ((1 << 30) + 1, "1024Mi"),
            (40 << 30, "40Gi"),
            ((40 << 30) + 1, "40960Mi"),
        ] {
            assert_eq!(bytes(amount), said);
        }
    }
}
