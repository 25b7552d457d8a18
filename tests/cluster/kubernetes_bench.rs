//! Three members of ours, then three of Patroni, on the same kind of API server in Endpoints mode: what they ask of it at rest, how
//! long clients cannot write in a switchover, and when a lost leader's lock is taken. Prints one line a figure.
//!
//! `cargo test --release --test cluster -- --ignored --nocapture figures_of_`, with `LAB_PATRONI`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::beside_patroni::{Patroni, Timers};
use crate::kubernetes::{Kubernetes, Objects};
use crate::load::{Habit, TABLE, Writer, longest_gap, lost};
use crate::member::Member;
use crate::wait::{eventually, seconds, until};
use crate::world::{self, join};

const REST: Duration = seconds(180);
const SWITCHOVERS: usize = 5;
const LOSSES: usize = 3;
const USUAL: Timers = Timers { ttl: 30, loop_wait: 10, retry_timeout: 10 };
/// Patroni's least ttl.
const SHORT: Timers = Timers { ttl: 20, loop_wait: 10, retry_timeout: 5 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Patroni,
}

enum Node {
    Ours(Member),
    Patroni(Patroni),
}

impl Node {
    fn member(&self) -> &Member {
        match self {
            Node::Ours(member) => member,
            Node::Patroni(patroni) => &patroni.like,
        }
    }
}

/// A cluster of one kind. The members end before their network does.
struct Team {
    nodes: Vec<Node>,
    store: Kubernetes,
    _folder: tempfile::TempDir,
}

impl Team {
    fn start(kind: Kind, timers: Timers) -> Team {
        let (store, folder) = (Kubernetes::start(Objects::Endpoints), world::folder());
        let start = |at: usize| {
            let member = Member::new(folder.path(), &format!("m{at}"));
            match kind {
                Kind::Patroni => Node::Patroni(Patroni::start(member, &store, timers)),
                Kind::Ours => {
                    let mut member = join(member, &store);
                    timers.tell(&mut member);
                    member.start();
                    Node::Ours(member)
                }
            }
        };
        let nodes = (1..=3).map(start).collect();
        let team = Team { nodes, store, _folder: folder };
        team.leader();
        team
    }

    fn members(&self) -> Vec<&Member> {
        self.nodes.iter().map(Node::member).collect()
    }

    /// Waits until one is writable and the two others stream from it.
    fn leader(&self) -> usize {
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let look = || {
            let of = |sql| self.members().iter().map(|member| member.value(sql)).collect::<Vec<_>>();
            let found = of("SELECT pg_is_in_recovery()");
            let leader = found.iter().position(|it| it.as_deref() == Ok("f")).ok_or(format!("{found:?}"))?;
            // A copy that is being made streams too.
            if found.iter().filter(|it| it.as_deref() == Ok("t")).count() < 2 {
                return Err(format!("{found:?}"));
            }
            match self.members()[leader].value(streams)?.as_str() {
                "2" => Ok(leader),
                other => Err(format!("{other} stream")),
            }
        };
        eventually(seconds(120), "a whole cluster", look).0
    }
}

fn median(mut all: Vec<f64>) -> String {
    all.sort_by(f64::total_cmp);
    let each: Vec<String> = all.iter().map(|one| format!("{one:.2}")).collect();
    format!("median {:.2} of {}", all[all.len() / 2], each.join(" "))
}

/// What the API server is asked by a cluster in which nothing happens.
fn at_rest(kind: Kind, team: &Team) {
    let quiet = Instant::now();
    // What came with the start is over.
    until(seconds(60), "half a minute", || quiet.elapsed() >= seconds(30));
    team.store.api.clear_records();
    let began = Instant::now();
    until(REST + seconds(10), "the time is over", || began.elapsed() >= REST);
    let mut asked = std::collections::BTreeMap::<String, u32>::new();
    for record in team.store.api.records() {
        *asked.entry(format!("{} {}", record.asked.verb, record.asked.resource)).or_default() += 1;
    }
    let all: u64 = asked.values().map(|count| u64::from(*count)).sum();
    println!("{kind:?}: requests at rest in {REST:?}: {all}, {} an hour: {asked:?}", all * 3600 / REST.as_secs());
}

fn switchovers(kind: Kind, team: &Team) {
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    team.members()[team.leader()].must(TABLE);
    for round in 0..SWITCHOVERS {
        let from = team.leader();
        let to = (from + 1) % 3;
        let members = team.members();
        let first = i64::try_from(round).expect("small") * 1_000_000;
        let order: Vec<&Member> = (0..3).map(|at| members[(from + at) % 3]).collect();
        let writers = [
            Writer::start(&order, Habit::Roams, first),
            Writer::through(team.store.service(), &members, first + 500_000),
        ];
        let began = Instant::now();
        until(seconds(10), "writes", || began.elapsed() >= seconds(2));
        let body = json!({"leader": members[from].name, "candidate": members[to].name});
        let reply = members[from].send("POST", "/switchover", &body).expect("an answer");
        assert_eq!(reply.code, 200, "{}", reply.body);
        assert_eq!(team.leader(), to);
        let began = Instant::now();
        until(seconds(10), "writes", || began.elapsed() >= seconds(2));
        let [straight, by_service] = writers.map(Writer::stop);
        direct.push(longest_gap(&straight).as_secs_f64());
        through.push(longest_gap(&by_service).as_secs_f64());
        let acks: Vec<_> = straight.into_iter().chain(by_service).collect();
        assert_eq!(lost(&acks, members[to]), [0; 0]);
    }
    println!("{kind:?}: switchover, direct gap: {}", median(direct));
    println!("{kind:?}: switchover, gap through the Service: {}", median(through));
}

/// The leader's node is cut off: how long after the end of its lease another has the lock.
fn node_losses(kind: Kind, timers: Timers) {
    let mut late = Vec::new();
    for _ in 0..LOSSES {
        let team = Team::start(kind, timers);
        let leader = team.leader();
        let (name, place) = (team.members()[leader].name.clone(), team.members()[leader].place.expect("it has a pod"));
        // At no particular point of its loop.
        let begin = Instant::now();
        let moment = Duration::from_millis(u64::from(std::process::id()) % 10 * 1_000 + 500);
        until(seconds(20), "a moment of the loop", || begin.elapsed() >= moment);
        team.store.pods.cut_off(place);
        let mut renewed = team.store.renewed();
        until(seconds(90), "another has the lock", || match team.store.holder().is_some_and(|holder| holder == name) {
            true => {
                renewed = team.store.renewed();
                false
            }
            false => team.store.holder().is_some_and(|holder| !holder.is_empty()),
        });
        let taken = Timestamp::now().duration_since(renewed).as_secs_f64();
        late.push(taken - f64::from(timers.ttl));
    }
    println!("{kind:?}: node loss, ttl {}: lock taken after the lease's end: {}", timers.ttl, median(late));
}

fn figures(kind: Kind) {
    let team = Team::start(kind, USUAL);
    at_rest(kind, &team);
    switchovers(kind, &team);
    drop(team);
    node_losses(kind, SHORT);
    node_losses(kind, USUAL);
}

#[test]
#[ignore = "ten minutes; make bench"]
fn figures_of_ours() {
    figures(Kind::Ours);
}

#[test]
#[ignore = "needs Patroni and a quarter of an hour; make bench"]
fn figures_of_patroni() {
    figures(Kind::Patroni);
}
