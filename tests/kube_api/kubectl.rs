//! kubectl, which nobody wrote for this server.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::client::{LIMIT, server};
use crate::kube_api::{KubeApi, Rule, User};

struct Kubectl {
    api: KubeApi,
    home: tempfile::TempDir,
    config: PathBuf,
}

/// Ends with its value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Kubectl {
    fn new() -> Self {
        let api = server();
        let home = tempfile::tempdir().expect("a folder");
        let config = api.kubeconfig(home.path(), api.admin(), "demo");
        Kubectl { api, home, config }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(words).args(["--request-timeout", "10s"]);
        command.env("KUBECONFIG", &self.config).env("HOME", self.home.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("kubectl is installed (tests/setup)")
    }

    /// Its standard output.
    fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "kubectl {words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Its complaint.
    fn must_not(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "kubectl {words:?}: {output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    fn write(&self, name: &str, object: &Value) -> String {
        let file = self.home.path().join(name);
        std::fs::write(&file, object.to_string()).expect("it can be written");
        file.to_str().expect("UTF-8").to_owned()
    }

    fn object(&self, resource: &str, name: &str) -> Value {
        self.api.get(resource, "demo", name).as_deref().cloned().unwrap_or_default()
    }
}

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "labels": {"app": "x"}}, "data": {"a": value}})
}

#[test]
fn it_gets_what_there_is() {
    let kubectl = Kubectl::new();
    kubectl.api.put_pod("demo", "demo-0", "10.0.0.1", &json!({"role": "primary"}));
    let subsets = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 5432}]}]);
    kubectl.api.put("endpoints", "demo", json!({"metadata": {"name": "demo"}, "subsets": subsets}));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let pods = kubectl.must(&["get", "pods", "-l", "role=primary"]);
    assert_eq!(words(&pods)[..9], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "demo-0", "1/1", "Running", "0"]);
    let endpoints = kubectl.must(&["get", "ep"]);
    assert_eq!(words(&endpoints)[..5], ["NAME", "ENDPOINTS", "AGE", "demo", "10.0.0.1:5432"]);
    let ip = kubectl.must(&["get", "pod/demo-0", "-o", "jsonpath={.status.podIP}"]);
    assert_eq!(ip, "10.0.0.1");
    let yaml = kubectl.must(&["get", "pods", "-o", "yaml", "--all-namespaces"]);
    assert!(yaml.contains("podIP: 10.0.0.1"), "{yaml}");
    let complaint = kubectl.must_not(&["get", "cm", "nothing"]);
    assert!(complaint.contains("Error from server (NotFound): configmaps \"nothing\" not found"), "{complaint}");
    assert!(kubectl.must(&["version"]).contains(&kubectl.api.release()));
}

#[test]
fn it_applies_and_applies_again() {
    let kubectl = Kubectl::new();
    let spec = json!({"serviceName": "s", "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]},
    }});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": spec});
    let list = |value: &str| json!({"apiVersion": "v1", "kind": "List", "items": [map(value), set]});
    let file = kubectl.write("list.json", &list("1"));
    let said = kubectl.must(&["apply", "-f", &file]);
    assert_eq!(said, "configmap/m created\nstatefulset.apps/s created\n");
    kubectl.write("list.json", &list("2"));
    let said = kubectl.must(&["apply", "-f", &file]);
    assert_eq!(said, "configmap/m configured\nstatefulset.apps/s unchanged\n");
    assert_eq!(kubectl.object("configmaps", "m")["data"], json!({"a": "2"}));
    let before = kubectl.api.revision();
    let said = kubectl.must(&["apply", "--validate=false", "-f", &file]);
    assert_eq!(said, "configmap/m unchanged\nstatefulset.apps/s unchanged\n");
    assert_eq!(kubectl.api.revision(), before);
    // What is no longer in the file goes.
    let mut bare = map("2");
    bare["metadata"] = json!({"name": "m"});
    let file = kubectl.write("map.json", &bare);
    kubectl.must(&["apply", "-f", &file]);
    assert_eq!(kubectl.object("configmaps", "m")["metadata"].get("labels"), None);
    let mut broken = map("2");
    broken["metadata"]["labels"] = json!({"app": "a b"});
    let file = kubectl.write("map.json", &broken);
    let complaint = kubectl.must_not(&["apply", "-f", &file]);
    assert!(complaint.contains("a valid label must be an empty string or consist of"), "{complaint}");
}

#[test]
fn it_patches_in_three_ways() {
    let kubectl = Kubectl::new();
    kubectl.api.put("configmaps", "demo", map("1"));
    let patch =
        |kind: &str, patch: Value| kubectl.must(&["patch", "cm", "m", "--type", kind, "-p", &patch.to_string()]);
    patch("strategic", json!({"data": {"b": "2"}}));
    patch("merge", json!({"data": {"a": null}}));
    patch("json", json!([{"op": "add", "path": "/data/c", "value": "3"}]));
    assert_eq!(kubectl.object("configmaps", "m")["data"], json!({"b": "2", "c": "3"}));
    let said = patch("strategic", json!({"data": {"b": "2"}}));
    assert_eq!(said, "configmap/m patched (no change)\n");
    kubectl.must(&["annotate", "cm", "m", "leader=demo-0"]);
    kubectl.must(&["label", "cm", "m", "app-"]);
    let metadata = &kubectl.object("configmaps", "m")["metadata"];
    assert_eq!((&metadata["annotations"], metadata.get("labels")), (&json!({"leader": "demo-0"}), None));
    let wrong = json!([{"op": "test", "path": "/data/b", "value": "9"}]).to_string();
    let complaint = kubectl.must_not(&["patch", "cm", "m", "--type", "json", "-p", &wrong]);
    assert!(complaint.starts_with("The request is invalid"), "{complaint}");
}

#[test]
fn it_watches_and_deletes() {
    let kubectl = Kubectl::new();
    kubectl.api.put("configmaps", "demo", map("1"));
    let mut watch = Command::new("kubectl");
    watch.args(["get", "cm", "-w", "-o", "jsonpath={.metadata.name}={.data.a}{\"\\n\"}"]);
    watch.env("KUBECONFIG", &kubectl.config).env("HOME", kubectl.home.path());
    watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut watch = Running(watch.spawn().expect("kubectl is installed (tests/setup)"));
    let (sender, lines) = mpsc::channel();
    let output = BufReader::new(watch.0.stdout.take().expect("it is piped"));
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    assert_eq!(lines.recv_timeout(LIMIT).as_deref(), Ok("m=1"));
    kubectl.api.wait_for_request(LIMIT, "the watch", |record| record.asked.verb == "watch");
    kubectl.must(&["patch", "cm", "m", "-p", "{\"data\":{\"a\":\"2\"}}"]);
    assert_eq!(lines.recv_timeout(LIMIT).as_deref(), Ok("m=2"));
    let said = kubectl.must(&["delete", "cm", "m"]);
    assert!(said.starts_with("configmap \"m\" deleted"), "{said}");
    kubectl.api.put_pod("demo", "p", "10.0.0.1", &json!({"a": "b"}));
    kubectl.must(&["delete", "pods", "-l", "a=b"]);
    assert!(kubectl.api.get("pods", "demo", "p").is_none());
}

#[test]
fn it_says_what_a_user_may_not() {
    let mut kubectl = Kubectl::new();
    let token = kubectl.api.service_account("demo", "demo", vec![Rule::new(&["pods"], &["get"])]);
    kubectl.config = kubectl.api.kubeconfig(kubectl.home.path(), &token, "demo");
    let complaint = kubectl.must_not(&["get", "pods"]);
    let expected = "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:demo:demo\" cannot \
                    list resource \"pods\" in API group \"\" in the namespace \"demo\"";
    assert!(complaint.contains(expected), "{complaint}");
    let user = User::new("jo", &["system:masters"]);
    let leaf = kubectl.api.authority().issue_user(&user.name, &["system:masters"]);
    kubectl.config = kubectl.api.kubeconfig_for(kubectl.home.path(), &leaf, "demo");
    kubectl.must(&["get", "pods"]);
}
