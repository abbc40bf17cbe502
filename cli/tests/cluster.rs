//! `knit cluster`, towards a server that tells what it has and one that does not.

mod fake;

use fake::{Fake, Home, json};
use serde_json::json as value;

fn told() -> serde_json::Value {
    value!({
        "version": "0.1.0", "registry": {"host": "localhost:30503", "insecure": true}, "engine": "native",
        "nodes": [
            {"name": "n1", "labels": ["vram=large"],
             "taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}],
             "capacity": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}, "inUse": {"cpu": "1500m"}},
            {"name": "n2\u{1b}[2J", "labels": [], "taints": [], "capacity": {"cpu": "2", "memory": "8Gi"}, "inUse": {}},
        ],
        "defaultResources": {"cpu": "1", "memory": "1Gi"}, "workerNetwork": "none",
        "limits": {"logBytes": 1 << 30, "requestBytes": 4 << 20, "uploadBytes": 50_u64 << 30, "later": 1},
    })
}

#[test]
fn what_plans_may_ask_for_is_told_per_node_and_in_all() {
    let server = Fake::start(|request| match request.target.as_str() {
        "/api/server" => json(200, &value!({"version": "0.1.0", "capabilities": ["cluster"]})),
        "/api/cluster" => json(200, &told()),
        _ => json(404, &value!({"message": "Not Found"})),
    });
    let home = Home::of(&server.api_root(), None);
    let ended = home.knit(&["cluster"]);
    let shown: serde_json::Value = serde_json::from_str(&ended.text()).unwrap();
    assert_eq!(shown["apiRoot"], server.api_root());
    assert_eq!(shown["resources"]["cpu"], value!({"largest": "4", "total": "6"}));
    assert_eq!(shown["resources"]["nvidia.com/gpu"], value!({"largest": "2", "total": "2"}));
    assert_eq!(shown["nodes"], told()["nodes"]);
    assert_eq!(shown["registry"], told()["registry"]);
    let ended = home.knit(&["cluster", "-o", "table"]);
    for part in [
        "docker push localhost:30503/NAME:TAG",
        "up to 16Gi per Run, 24Gi in all; 1Gi for a Plan that does not ask",
        "up to 1Gi of each Run are kept",
        "cpu 4 (1500m in use), memory 16Gi, nvidia.com/gpu 2",
        "labels: vram=large",
        "taints: gpu=yes:NoSchedule",
        "containers reach nothing but themselves",
    ] {
        assert!(ended.text().contains(part), "{part} is missing: {}", ended.text());
    }
    assert!(!ended.text().contains('\u{1b}'), "{ended:?}");
}

#[test]
fn of_an_original_server_what_the_profile_knows_is_told() {
    let server = Fake::start(|_| json(404, &value!({"message": "Not Found"})));
    let home = Home::of(&server.api_root(), None);
    let store = std::fs::read_to_string(home.store()).unwrap();
    std::fs::write(home.store(), format!("{store}    registry: {{host: \"r.example:30503\", insecure: false}}\n"))
        .unwrap();
    let ended = home.knit(&["cluster"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let shown: serde_json::Value = serde_json::from_str(&ended.text()).unwrap();
    let registry = value!({"host": "r.example:30503", "insecure": false});
    assert_eq!(shown, value!({"apiRoot": server.api_root(), "registry": registry}));
    assert!(ended.stderr.contains("ask your administrator"), "{ended:?}");
    assert!(server.requests().is_empty(), "nothing new is sent to it: {:?}", server.requests());
}
