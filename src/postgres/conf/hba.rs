//! Whether a `pg_hba.conf` that somebody else wrote lets replicas in. Includes are not followed: a file that has any is
//! left as it is.

/// The text with a line for replicas at its end; `None` when it has one for other hosts already.
pub fn with_replication(text: &str, role: &str) -> Option<String> {
    if text.lines().any(|line| is_include(line) || admits(line, role)) {
        return None;
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let role = role.replace('"', "\"\"");
    Some(format!(
        "{text}{end}\n# Added for the members of the cluster.\nhost replication \"{role}\" all scram-sha-256\n"
    ))
}

fn is_include(line: &str) -> bool {
    line.trim_start().starts_with("include") || line.split_whitespace().nth(1).is_some_and(|word| word.starts_with('@'))
}

/// A line for replication from other hosts that this role may be meant by, whatever its method: who refuses replicas
/// has decided so.
fn admits(line: &str, role: &str) -> bool {
    let mut words = line.split_whitespace();
    let (Some(kind), Some(databases), Some(roles), Some(address)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let names = |list: &str, wanted: &str| list.split(',').any(|name| name.trim_matches('"') == wanted);
    let is_meant = names(roles, role) || names(roles, "all") || roles.contains(['+', '/', '@']);
    let is_local = address.starts_with("127.") || address.starts_with("::1") || address == "localhost";
    kind.starts_with("host") && databases.split(',').any(|name| name == "replication") && is_meant && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_INITDB: &str = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nlocal replication all peer\n\
                             host replication all 127.0.0.1/32 scram-sha-256\nhost replication all ::1/128 trust\n";

    #[test]
    fn a_single_servers_file_gets_a_line_for_replicas_once() {
        let image = format!("{BY_INITDB}\nhost all all all scram-sha-256\n");
        for text in ["", "local all all peer", BY_INITDB, &image] {
            let extended = with_replication(text, "a\"b").expect("replicas are kept out");
            assert!(extended.starts_with(text), "{extended}");
            assert!(extended.ends_with("\nhost replication \"a\"\"b\" all scram-sha-256\n"), "{extended}");
        }
        let extended = with_replication(&image, "replicator").expect("replicas are kept out");
        assert_eq!(with_replication(&extended, "replicator"), None);
        assert!(with_replication(&extended, "another").is_some());
    }

    #[test]
    fn a_file_that_speaks_of_replicas_is_left_alone() {
        for line in [
            "host replication replicator 10.0.0.0/8 md5",
            "hostssl\tall,replication  all  all  cert",
            "host replication \"replicator\" samenet trust",
            "host replication +replicas all scram-sha-256",
            "host replication all all reject",
            "include_dir hba.d",
            "host @databases all all md5",
        ] {
            assert_eq!(with_replication(&format!("{BY_INITDB}{line}\n"), "replicator"), None, "{line}");
        }
        assert!(with_replication("# host replication all all trust\n", "replicator").is_some());
    }
}
