//! A writer inside a member's own container, on PostgreSQL's socket: what is still acknowledged there when the network
//! is gone. It leaves its acknowledgements in a file of the container and ends by itself after four minutes,
//! more than its scenario may take.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock;
use crate::cluster::Cluster;
use crate::docker::docker;
use crate::writer::Ack;

const LOOP: &str = r#"
echo $$ >"/tmp/$0.pid"
for ((seq = 1; SECONDS < 240; seq++)); do
    [ ! -e "/tmp/$0.halt" ] || exit 0
    if timeout 5 psql -XAtq -d postgres -c "INSERT INTO writes (writer, seq) VALUES ('$0', $seq)" 2>/dev/null; then
        echo "$seq $EPOCHREALTIME" >>"/tmp/$0.acks"
    else
        sleep 0.01
    fi
done
"#;

pub struct InsideWriter<'a> {
    cluster: &'a Cluster,
    member: String,
    key: String,
}

impl<'a> InsideWriter<'a> {
    /// Starts it and waits for its first acknowledgement.
    pub fn start(cluster: &'a Cluster, member: &str) -> Result<Self> {
        let writer = Self { cluster, member: member.to_owned(), key: format!("inside-{}", clock::now().as_nanos()) };
        docker(&["exec", "-d", "-u", "postgres", &cluster.container(member), "bash", "-c", LOOP, &writer.key])?;
        cluster.eventually(Duration::from_secs(10), "take a write inside its container", || writer.acks())?;
        Ok(writer)
    }

    pub fn acks(&self) -> Result<Vec<Ack>> {
        let lines = self.cluster.exec(&self.member, &["cat", &format!("/tmp/{}.acks", self.key)])?;
        lines.lines().map(parse).collect()
    }

    /// Whether the server inside takes writes, by its own word on its socket; one that is not there does not.
    pub fn is_on_a_primary(&self) -> Result<bool> {
        let ask = "timeout 5 psql -XAtq -d postgres -c 'SELECT pg_is_in_recovery()' || echo no answer";
        let container = self.cluster.container(&self.member);
        Ok(docker(&["exec", "-u", "postgres", &container, "sh", "-c", ask])? == "f")
    }

    /// Ends it and returns what was acknowledged. One that ended earlier has seen nothing since, which is an error.
    pub fn stop(self) -> Result<Vec<Ack>> {
        let alive = format!("kill -0 $(cat /tmp/{}.pid)", self.key);
        self.cluster.exec(&self.member, &["sh", "-c", &alive]).context("the writer inside did not live until now")?;
        self.cluster.exec(&self.member, &["touch", &format!("/tmp/{}.halt", self.key)])?;
        self.acks()
    }
}

fn parse(line: &str) -> Result<Ack> {
    let (seq, at) = line.split_once(' ').context("not an acknowledgement")?;
    Ok(Ack { seq: seq.parse()?, at: clock::from_shell(at)? })
}
