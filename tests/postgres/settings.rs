//! Settings brought to servers that run, and what a probe costs.

use serde_json::json;
use tamada::core::local::{CloneFrom, CloneSource, Postgres, StartAs};
use tamada::postgres::{DesiredServer, Force, Instance, Probe};

use crate::support::{LIMIT, Node, desired, eventually, on_every_version, progress};

fn with(changes: serde_json::Value) -> DesiredServer {
    let mut desired = desired();
    desired.server.parameters.extend(changes.as_object().expect("a map").clone());
    desired
}

fn is_running(probe: &Probe) -> bool {
    matches!(probe.postgres, Postgres::Running(_))
}

#[test]
fn a_setting_is_reloaded_or_reported_as_pending_and_an_unknown_one_left_out() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        node.bootstrap().await;
        let wanted =
            with(json!({ "work_mem": "9MB", "max_connections": 41, "bogus_param": 1, "shared_buffers": "64kB" }));
        node.postgres.configure(&wanted, Force::No).await.expect("configured");
        assert_eq!(node.sql("SHOW work_mem"), "9MB");
        let pending = node.probe().await.facts.pending_restart;
        assert_eq!(pending.get("max_connections"), Some(&json!({ "old_value": "30", "new_value": "41" })));
        assert_eq!(pending.keys().collect::<Vec<_>>(), ["max_connections", "shared_buffers"]);
        let conf = std::fs::read_to_string(node.data_dir().join("postgresql.conf")).expect("read");
        assert!(!conf.contains("bogus_param"), "{conf}");
        node.postgres.restart(&StartAs::Primary, LIMIT, LIMIT).await.expect("restarted");
        assert_eq!(node.sql("SHOW max_connections"), "41");
        assert!(node.probe().await.facts.pending_restart.is_empty());
        node.postgres.configure(&desired(), Force::No).await.expect("configured");
        assert_eq!(node.sql("SHOW work_mem"), "4MB", "what is no longer set has its default");
    });
}

#[test]
fn a_standby_is_never_started_with_less_than_the_primary_had() {
    on_every_version(|bin| async move {
        let (primary, replica) = (Node::new("n1", &bin), Node::new("n2", &bin));
        primary.postgres.configure(&with(json!({ "max_connections": 60 })), Force::No).await.expect("configured");
        primary.postgres.bootstrap(progress()).await.expect("bootstrapped");
        replica.postgres.configure(&with(json!({ "max_connections": 35 })), Force::No).await.expect("configured");
        let source = CloneSource { name: "n1".into(), address: primary.address(), kind: CloneFrom::Leader };
        replica.postgres.clone_from(&source, progress()).await.expect("copied");
        replica.postgres.start(&StartAs::Standby(primary.as_upstream()), LIMIT).await.expect("started");
        assert_eq!(replica.sql("SHOW max_connections"), "60");
        let pending = replica.probe().await.facts.pending_restart;
        assert_eq!(pending.get("max_connections"), Some(&json!({ "old_value": "60", "new_value": "35" })));
    });
}

#[test]
fn a_probe_of_a_healthy_primary_costs_exactly_one_statement() {
    on_every_version(|bin| async move {
        let node = Node::new("n1", &bin);
        let log =
            json!({ "logging_collector": "on", "log_directory": "log", "log_filename": "all", "log_statement": "all" });
        node.postgres.configure(&with(log.clone()), Force::No).await.expect("configured");
        node.postgres.bootstrap(progress()).await.expect("bootstrapped");
        // The session that the probes share.
        eventually("a probe is answered", async || is_running(&node.postgres.probe(LIMIT).await)).await;
        let file = node.data_dir().join("log/all");
        node.sql("SELECT 'the first'");
        let mut answered = 0;
        for _ in 0..10 {
            // The server ends a statement that takes too long; a probe that gave up before it was sent would count none.
            answered += usize::from(is_running(&node.postgres.probe(LIMIT).await));
            node.postgres.configure(&with(log.clone()), Force::No).await.expect("configured");
        }
        node.sql("SELECT 'the last'");
        let text = || std::fs::read_to_string(&file).unwrap_or_default();
        eventually("the log is written", async || text().contains("'the last'")).await;
        let text = text();
        let (_, text) = text.split_once("'the first'").expect("logged");
        let (between, _) = text.split_once("'the last'").expect("logged");
        let statements = between.lines().filter(|line| line.contains("statement:") || line.contains("execute"));
        let count = statements.count() - 1;
        assert_eq!(count, 10, "{answered} were answered: {between}");
        assert!(answered > 0, "{between}");
    });
}

#[test]
fn callbacks_are_told_of_starts_and_role_changes() {
    on_every_version(|bin| async move {
        let told = tempfile::tempdir().expect("a folder");
        let file = told.path().join("told");
        let script = told.path().join("callback");
        std::fs::write(&script, format!("#!/bin/sh\necho \"$*\" >> {}\n", file.display())).expect("written");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("executable");
        let command = vec![script.to_string_lossy().into_owned(), "word".to_owned()];
        let node = Node::changed("n1", &bin, |config| {
            let callbacks = &mut config.postgres.callbacks;
            callbacks.on_start = command.clone();
            callbacks.on_stop = command.clone();
            callbacks.on_restart = command.clone();
            callbacks.on_reload = command.clone();
            callbacks.on_role_change = command.clone();
        });
        let mut expected = String::new();
        let mut is_told = async |line: &str| {
            expected += &format!("word {line} test\n");
            eventually(line, async || std::fs::read_to_string(&file).unwrap_or_default() == expected).await;
        };
        node.bootstrap().await;
        is_told("on_start primary").await;
        node.postgres.configure(&desired(), Force::Yes).await.expect("reloaded");
        is_told("on_reload primary").await;
        node.postgres.restart(&StartAs::Primary, LIMIT, LIMIT).await.expect("restarted");
        is_told("on_restart primary").await;
        node.stop().await;
        is_told("on_stop primary").await;
        node.postgres.start(&StartAs::Standby(tamada::core::local::Upstream::None), LIMIT).await.expect("started");
        is_told("on_role_change replica").await;
        node.postgres.promote(LIMIT).await.expect("promoted");
        is_told("on_role_change primary").await;
        let node = node.with_new_agent();
        node.probe().await;
        is_told("on_start primary").await;
    });
}
