//! Collecting the Plans around a Plan: as a server of ours finds them, or asked for one by one.

use super::Graph;
use crate::project::Server;
use futures_util::{StreamExt as _, stream};
use knit_api::client::ClientError;
use knit_api::graph::{PlanWalk, Reach};
use knit_api::id::PlanId;
use knit_api::server::capability;

/// Questions that are under way at once.
const AT_ONCE: usize = 16;

/// The graph, and the Plans that are named but not there any more.
pub async fn collect(server: &Server, id: &PlanId, reach: Reach) -> Result<(Graph, Vec<PlanId>), ClientError> {
    if server.client.can(capability::LINEAGE).await? {
        return Ok((told(server, id, reach).await?, Vec::new()));
    }
    let start = server.by_id(id, async |id| server.client.plan(id).await).await?;
    let mut walk = PlanWalk::new(&start, reach);
    let (mut graph, mut missing) = (Graph::new(start), Vec::new());
    loop {
        let level = walk.level();
        if level.is_empty() {
            return Ok((graph, missing));
        }
        // At once, and in their order.
        let mut plans = stream::iter(level)
            .map(async |id| {
                let plan = server.client.plan(&id).await;
                (id, plan)
            })
            .buffered(AT_ONCE);
        while let Some((id, plan)) = plans.next().await {
            match plan {
                Ok(plan) => {
                    walk.look_at(&plan);
                    graph.add(plan);
                }
                Err(error) if error.status() == Some(404) => missing.push(id),
                Err(error) => return Err(error),
            }
        }
    }
}

async fn told(server: &Server, id: &PlanId, reach: Reach) -> Result<Graph, ClientError> {
    let mut plans = server.by_id(id, async |id| server.client.plan_graph(id, reach).await).await?;
    let Some(start) = plans.next().await? else {
        return Err(ClientError::NotUnderstood {
            url: server.client.root().to_string(),
            cause: "the graph has no Plan".to_owned(),
        });
    };
    let mut graph = Graph::new(start);
    while let Some(plan) = plans.next().await? {
        graph.add(plan);
    }
    Ok(graph)
}
