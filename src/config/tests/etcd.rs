//! Where etcd is, and who is trusted there.

use super::super::*;
use super::cluster;

#[test]
fn etcd_is_reached_as_it_is_told() {
    type Case = (&'static [(&'static str, &'static str)], &'static str, Scheme, Option<&'static str>, Switch);
    let cases: [Case; 4] = [
        (&[("PATRONI_ETCD3_HOST", "e"), ("PATRONI_ETCD3_PORT", "99")], "e:99", Scheme::Http, None, Switch::Off),
        (
            &[("PATRONI_ETCD3_HOSTS", "[::1]:1,[::2]:2"), ("PATRONI_ETCD3_PROTOCOL", "https")],
            "[::1]:1 [::2]:2",
            Scheme::Https,
            None,
            Switch::Off,
        ),
        (
            &[("PATRONI_ETCD3_URL", "https://u:p%40w@e:1"), ("PATRONI_ETCD3_HOSTS", "other")],
            "e:1",
            Scheme::Https,
            Some("u p@w"),
            Switch::Off,
        ),
        (
            &[("PATRONI_ETCD3_PROXY", "http://p"), ("PATRONI_ETCD3_URL", "https://e:1")],
            "p:2379",
            Scheme::Http,
            None,
            Switch::On,
        ),
    ];
    for (changes, endpoints, scheme, user, use_proxies) in cases {
        let mut changes = changes.to_vec();
        if !changes.iter().any(|(name, _)| *name == "PATRONI_ETCD3_HOSTS") {
            changes.push(("PATRONI_ETCD3_HOSTS", ""));
        }
        let DcsConfig::Etcd3(etcd) = cluster(&changes).unwrap().dcs else { panic!("no etcd") };
        let found: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), endpoints);
        assert_eq!((etcd.scheme, etcd.use_proxies), (scheme, use_proxies));
        let found = etcd.username.zip(etcd.password).map(|(user, password)| format!("{user} {}", password.expose()));
        assert_eq!(found.as_deref(), user);
    }
}

#[test]
fn tls_that_verifies_nobody_is_warned_about() {
    let warned = |vars: &[(&str, &str)], name: &str| {
        let config = cluster(vars).unwrap();
        config.warnings.iter().any(|warning| warning.starts_with(name))
    };
    let ca = "PATRONI_ETCD3_CACERT is not set";
    assert!(warned(&[("PATRONI_ETCD3_PROTOCOL", "https")], ca));
    assert!(!warned(&[("PATRONI_ETCD3_PROTOCOL", "https"), ("PATRONI_ETCD3_CACERT", "/ca")], ca));
    assert!(!warned(&[], ca), "plain HTTP was asked for");
    for role in ["SUPERUSER", "REPLICATION"] {
        let (mode, root) = (format!("PATRONI_{role}_SSLMODE"), format!("PATRONI_{role}_SSLROOTCERT"));
        assert!(warned(&[(&root, "/ca")], &mode), "{role}");
        assert!(warned(&[(&root, "/ca"), (&mode, "allow")], &mode), "{role}");
        assert!(!warned(&[(&root, "/ca"), (&mode, "verify-full")], &mode), "{role}");
        assert!(!warned(&[], &mode), "{role}");
    }
}
