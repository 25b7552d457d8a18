//! Tags: who may lead, and whom others copy from.

use crate::member::Member;
use crate::wait::{always, seconds};
use crate::world::{Cluster, SOON, join};

#[test]
fn tags_decide_who_leads_and_who_is_copied() {
    let mut cluster = Cluster::prepare(2);
    cluster.members[1].set("PATRONI_TAGS", "{nofailover: true, clonefrom: true, rack: 7}");
    cluster.start_all();
    assert_eq!(cluster.whole(seconds(40)).0, 0, "a member that may not lead does not initialise");
    assert_eq!(cluster.seen(0, "m2")["tags"]["rack"], 7);

    let third = join(Member::new(cluster.folder.path(), "m3"), &cluster.etcd);
    cluster.members.push(third);
    cluster.members[2].start();
    cluster.whole(seconds(40));
    cluster.members[2].wait_log(SOON, "is a copy of replica 'm2'");

    cluster.members[2].kill();
    cluster.members[0].kill();
    always(seconds(8), "it may not lead", || {
        cluster.members[1].value("SELECT pg_is_in_recovery()").is_ok_and(|value| value == "t")
    });
    cluster.members[2].start();
    assert_eq!(cluster.whole(SOON).0, 2);
}
