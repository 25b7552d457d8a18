//! The command line on Kubernetes, with no configuration: outside of a pod by a kubeconfig, inside by the service account.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde_json::{Value, json};
use tamada::config::StateObjects;
use tamada::core::lock_seen::LockSeen;
use tamada::core::policy::Timing;
use tamada::dcs::kubernetes::KubernetesDcs;
use tamada::dcs::{Content, Dcs, Expect, Key};

use super::command::{self, Ended};
use super::kube_api::{KubeApi, Options, Rule};
use super::kubernetes_config;
use super::server::LIMIT;

const MODES: [StateObjects; 3] = [StateObjects::Endpoints, StateObjects::ConfigMaps, StateObjects::Leases];

struct World {
    api: KubeApi,
    folder: tempfile::TempDir,
}

impl World {
    fn open() -> Self {
        let namespaces = ["demo", "other", "empty"].map(str::to_owned).to_vec();
        let api = KubeApi::start(Options { namespaces, ..Options::loopback() });
        World { api, folder: tempfile::tempdir().expect("there is room") }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.api.kubeconfig(self.folder.path(), self.api.admin(), "demo")
    }

    /// A cluster of this scope, whose one member leads and has gone without a word.
    async fn cluster(&self, namespace: &str, scope: &str, state: StateObjects) {
        let (name, labels) = (format!("{scope}-0"), json!({"application": "patroni", "cluster-name": scope}));
        self.api.put_pod(namespace, &name, "10.244.0.1", &labels);
        let mut config = kubernetes_config::by_default(state, self.kubeconfig());
        config.namespace = Some(namespace.to_owned());
        let member = KubernetesDcs::member(&config, scope, name.as_str().into(), Timing::default(), None);
        let record = json!({"conn_url": "postgres://10.244.0.1:5432/postgres", "api_url": "http://127.0.0.1:1/patroni",
                            "state": "running", "role": "primary", "version": "4.1.5", "timeline": 1});
        member.snapshot(LIMIT).await.expect("the server answers");
        let dynamic = Content::Json(json!({"loop_wait": 1}));
        member.replace(Key::Config, dynamic, Expect::Anything, LIMIT).await.expect("written");
        assert!(member.acquire(LockSeen::default(), LIMIT).await.expect("the server answers").is_held());
        member.publish(&record, LIMIT).await.expect("written");
        if state == StateObjects::Leases && self.api.serves("endpointslices") {
            let slice = format!("{scope}-primary");
            self.api.wait_until(LIMIT, ("endpointslices", namespace, &slice), |slice| slice.is_some()).await;
        }
    }

    async fn outside(&self, arguments: &str) -> Ended {
        self.typing(arguments, "").await
    }

    async fn typing(&self, arguments: &str, input: &str) -> Ended {
        let environment = vec![("KUBECONFIG".into(), self.kubeconfig().into())];
        let arguments = arguments.split_whitespace().map(OsString::from).collect();
        command::run(arguments, environment, input).await.expect("joined")
    }

    /// In a pod of this service account, beside a kubeconfig that leads nowhere.
    async fn inside(&self, token: &str, arguments: &str) -> Ended {
        const MOUNT: &str = r#"mount -t tmpfs tmpfs /run && mkdir -p /var/run/secrets/kubernetes.io &&
            cp -r "$1" /var/run/secrets/kubernetes.io/serviceaccount && shift && exec "$0" "$@""#;
        let account = self.folder.path().join("account");
        std::fs::create_dir_all(&account).expect("there is room");
        self.api.write_service_account(&account, token, "demo");
        let address = self.api.address();
        let environment = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
            ("KUBECONFIG", "/nonexistent".to_owned()),
            ("HOSTNAME", "demo-0".to_owned()),
            ("PGDATA", "/nonexistent/data".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.into(), value.into())).to_vec();
        let words: Vec<&OsStr> =
            [account.as_os_str()].into_iter().chain(arguments.split_whitespace().map(OsStr::new)).collect();
        command::run_in(MOUNT, &words, environment).await.expect("joined")
    }
}

/// Cluster, member and role of each row.
fn rows(ended: &Ended) -> Vec<[String; 3]> {
    let rows: Value = serde_json::from_str(&ended.out).expect("it is JSON");
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| ["Cluster", "Member", "Role"].map(|field| text(row, field))).collect()
}

fn row(scope: &str) -> [String; 3] {
    [scope.to_owned(), format!("{scope}-0"), "Leader".to_owned()]
}

#[tokio::test]
async fn outside_of_a_pod_a_kubeconfig_is_enough() {
    for state in MODES {
        let world = World::open();
        world.cluster("demo", "demo", state).await;
        let listed = world.outside("list -f json").await;
        assert_eq!((listed.code, rows(&listed)), (0, vec![row("demo")]), "{state:?}");
        // The kind of objects may be told, too, and need not be looked for.
        assert_eq!(world.outside("--scope demo list").await.code, 0);
    }
}

#[tokio::test]
async fn inside_of_a_pod_the_service_account_is_enough() {
    for (state, resource, group) in [
        (StateObjects::Endpoints, "endpoints", ""),
        (StateObjects::ConfigMaps, "configmaps", ""),
        (StateObjects::Leases, "leases", "coordination.k8s.io"),
    ] {
        let world = World::open();
        world.cluster("demo", "demo", state).await;
        let rule = |resource: &str, group: &str| Rule::new(&[resource], &["list"]).of_group(group).in_namespace("demo");
        let rules = vec![rule(resource, group), rule("configmaps", ""), rule("pods", "")];
        let token = world.api.service_account("demo", "members", rules);
        let listed = world.inside(&token, "list -f json").await;
        assert_eq!((listed.code, rows(&listed)), (0, vec![row("demo")]), "{state:?}");
    }
}

#[tokio::test]
async fn several_scopes_are_listed_and_other_commands_say_which_there_are() {
    let world = World::open();
    world.cluster("demo", "one", StateObjects::Endpoints).await;
    world.cluster("demo", "two", StateObjects::Leases).await;
    world.cluster("other", "three", StateObjects::ConfigMaps).await;
    let listed = world.outside("list -f json").await;
    assert_eq!((listed.code, rows(&listed)), (0, vec![row("one"), row("two")]));
    let tables = world.outside("list").await.out;
    assert!(tables.contains("Cluster: one") && tables.contains("Cluster: two"), "{tables}");
    let refused = world.outside("pause").await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("one, two") && refused.err.contains("--scope"), "{}", refused.err);
    assert_eq!(rows(&world.outside("--scope two list -f json").await), [row("two")]);
    assert_eq!(rows(&world.outside("-n other list -f json").await), [row("three")]);
    assert_eq!(rows(&world.outside("list -f json --namespace other --context test").await), [row("three")]);
    // The member's API is asked, which does not answer.
    let paused = world.outside("pause --scope one").await;
    assert_eq!(paused.code, 69);
    assert!(paused.err.contains("no member can be reached"), "{}", paused.err);
}

#[tokio::test]
async fn what_is_not_found_is_told_with_what_to_set() {
    let world = World::open();
    world.cluster("demo", "demo", StateObjects::ConfigMaps).await;
    for (arguments, words) in [
        ("-n empty list", ["no cluster in the namespace empty", "application=patroni,cluster-name", "--namespace"]),
        ("-n nowhere list", ["namespaces \"nowhere\" not found", "--namespace", "PATRONI_KUBERNETES_NAMESPACE"]),
        ("--scope nobody list", ["no cluster in the namespace demo", "cluster-name=nobody", "--scope"]),
        ("--context prod list", ["kubeconfig", "prod", "cannot be asked"]),
    ] {
        let ended = world.outside(arguments).await;
        assert!(matches!(ended.code, 1 | 69), "{arguments}: {}", ended.code);
        assert!(words.iter().all(|word| ended.err.contains(word)), "{arguments}: {}", ended.err);
    }
    let nothing = command::run(vec!["list".into()], vec![("HOME".into(), "/nonexistent".into())], "");
    let nothing = nothing.await.expect("joined");
    assert_eq!(nothing.code, 64);
    let words = ["PATRONI_ETCD3_HOSTS", "-c FILE", "serviceaccount", "KUBECONFIG", "~/.kube/config"];
    assert!(words.iter().all(|word| nothing.err.contains(word)), "{}", nothing.err);
}

#[tokio::test]
async fn a_missing_right_is_told_by_verb_and_resource() {
    let world = World::open();
    world.cluster("demo", "demo", StateObjects::ConfigMaps).await;
    let nobody = world.api.service_account("demo", "nobody", Vec::new());
    let ended = world.inside(&nobody, "list").await;
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("cannot list resource \"endpoints\""), "{}", ended.err);
    // It sees that there is one, and cannot read it.
    let half = Rule::new(&["configmaps"], &["list"]).in_namespace("demo");
    let half = world.api.service_account("demo", "half", vec![half]);
    let ended = world.inside(&half, "list").await;
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("cannot list resource \"pods\""), "{}", ended.err);
}

#[tokio::test]
async fn a_context_inside_of_a_pod_is_refused() {
    let world = World::open();
    let token = world.api.service_account("demo", "members", Vec::new());
    let ended = world.inside(&token, "list --context test").await;
    assert_eq!(ended.code, 64);
    assert!(ended.err.contains("--context"), "{}", ended.err);
}

#[tokio::test]
async fn a_cluster_is_removed_and_what_lies_beside_it_stays() {
    for state in MODES {
        let world = World::open();
        world.cluster("demo", "demo", state).await;
        world.cluster("demo", "demo2", state).await;
        let labels = json!({"application": "patroni", "cluster-name": "demo"});
        world.api.put("configmaps", "demo", json!({"metadata": {"name": "demo-settings", "labels": labels}}));
        world.api.put("configmaps", "demo", json!({"metadata": {"name": "demo-sync"}}));
        let service = json!({"metadata": {"name": "demo", "labels": labels}, "spec": {"clusterIP": "None"}});
        world.api.put("services", "demo", service);
        let mut kinds = vec!["configmaps", "endpoints", "leases", "services", "pods"];
        kinds.extend(world.api.serves("endpointslices").then_some("endpointslices"));
        let all = || -> Vec<(&str, String)> {
            let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let of = |kind: &&'static str| {
                let kind = *kind;
                world.api.list(kind, "demo").into_iter().map(move |object| (kind, name(&object)))
            };
            kinds.iter().flat_map(of).collect()
        };
        let before = all();
        let ended = world.typing("remove demo", "demo\nYes I am aware\ndemo-0\n").await;
        assert_eq!(ended.code, 0, "{state:?}");
        let mut gone = match state {
            StateObjects::Endpoints => vec![("endpoints", "demo"), ("endpoints", "demo-config")],
            StateObjects::ConfigMaps => vec![("configmaps", "demo-config"), ("configmaps", "demo-leader")],
            StateObjects::Leases => {
                vec![("configmaps", "demo-config"), ("leases", "demo"), ("endpointslices", "demo-primary")]
            }
        };
        gone.retain(|(kind, _)| kinds.contains(kind));
        let mut expected = before.clone();
        expected.retain(|(kind, name)| !gone.contains(&(*kind, name.as_str())));
        assert_eq!(expected.len() + gone.len(), before.len(), "{before:?}");
        assert_eq!(all(), expected, "{state:?}");
        assert_eq!(rows(&world.outside("--scope demo2 list -f json").await), [row("demo2")]);
    }
}
