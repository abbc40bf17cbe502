//! A cluster that is not there.

use crate::place::settings;
use knit_server::engine::kubernetes::KubernetesEngine;
use knit_server::store::Store;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

async fn opening(kubeconfig: &Path, folder: &Path) -> (String, Duration) {
    let store = Store::open_sqlite(&folder.join("state.db")).await.unwrap();
    let began = Instant::now();
    let error = KubernetesEngine::open(settings(Some(kubeconfig.to_owned()), "ours"), store).await.unwrap_err();
    (error.to_string(), began.elapsed())
}

#[tokio::test]
async fn an_engine_without_its_api_server_says_so_in_bounded_time() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: 'https://{nobody}'}}}}]\n\
         users: [{{name: u, user: {{token: secret-token}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    );
    std::fs::write(&kubeconfig, config).unwrap();
    let (error, took) = opening(&kubeconfig, folder.path()).await;
    assert!(error.contains(&format!("is the API server https://{nobody}/ up")), "{error}");
    assert!(!error.contains("secret-token"), "{error}");
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let (missing, _) = opening(&kubeconfig, folder.path()).await;
    std::fs::write(&kubeconfig, "apiVersion: v1\nkind: Config\n").unwrap();
    let (empty, _) = opening(&kubeconfig, folder.path()).await;
    for error in [missing, empty] {
        assert!(error.starts_with(&format!("reading the kubeconfig {}: ", kubeconfig.display())), "{error}");
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
