//! What a proxy does wrong, and with which requests.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;

/// How an answer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It never comes.
    Hang,
    /// The connection is reset.
    Reset,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The request is passed on, but its answer is lost: what it writes is written.
    LoseAnswer(Loss),
    /// The request is not passed on and gets no answer.
    LoseRequest(Loss),
    /// The request is passed on after this time, even when its sender has given up by then.
    Delay(Duration),
    /// The request is not passed on and gets this answer, with Retry-After in seconds.
    Answer(u16, Option<u32>),
    /// The answer breaks off after so many bytes of its body.
    Truncate(usize),
    /// Nothing more is delivered of an answer, watches that run included, while its connection stays open. It stays
    /// so for these answers when the rule is taken away.
    Silence,
    /// Each part of an answer comes so much later, of watches that run too.
    DelayEvents(Duration),
}

impl Fault {
    /// Whether it is a state in which answers are, and not something that happens to single requests.
    fn is_lasting(&self) -> bool {
        matches!(self, Fault::Silence | Fault::DelayEvents(_))
    }
}

/// Which requests.
#[derive(Clone, Default, Debug)]
pub struct When {
    method: Option<Method>,
    /// Where path and query hold this.
    part: String,
    /// So many pass before.
    after: u32,
    /// So many at most; not for what is lasting.
    times: Option<u32>,
}

impl When {
    pub fn any() -> Self {
        When::default()
    }

    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Whose path with its query holds this: `/configmaps/demo-leader`, `watch=`.
    pub fn path(mut self, part: &str) -> Self {
        part.clone_into(&mut self.part);
        self
    }

    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    pub fn times(mut self, requests: u32) -> Self {
        self.times = Some(requests);
        self
    }

    pub fn once(self) -> Self {
        self.times(1)
    }

    fn fits(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method) && path.contains(&self.part)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleId(u64);

struct Rule {
    id: RuleId,
    when: When,
    fault: Fault,
    /// How many requests it fitted, and how many it was done to.
    seen: u32,
    hits: u32,
}

#[derive(Default)]
pub struct Faults {
    rules: Mutex<(u64, Vec<Rule>)>,
    hit: Condvar,
}

impl Faults {
    fn rules(&self) -> MutexGuard<'_, (u64, Vec<Rule>)> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, when: When, fault: Fault) -> RuleId {
        let mut rules = self.rules();
        rules.0 += 1;
        let id = RuleId(rules.0);
        rules.1.push(Rule { id, when, fault, seen: 0, hits: 0 });
        id
    }

    pub fn remove(&self, id: RuleId) {
        self.rules().1.retain(|rule| rule.id != id);
    }

    pub fn clear(&self) {
        self.rules().1.clear();
    }

    /// What happens to this request: the first rule's that has not been done often enough.
    pub fn of_request(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut rules = self.rules();
        for rule in rules.1.iter_mut().filter(|rule| !rule.fault.is_lasting() && rule.when.fits(method, path)) {
            rule.seen += 1;
            if rule.seen <= rule.when.after || rule.when.times.is_some_and(|times| rule.hits >= times) {
                continue;
            }
            rule.hits += 1;
            self.hit.notify_all();
            return Some(rule.fault.clone());
        }
        None
    }

    /// In which state an answer is of which a part has come.
    pub fn of_answer(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut rules = self.rules();
        let rule = rules.1.iter_mut().find(|rule| rule.fault.is_lasting() && rule.when.fits(method, path))?;
        rule.hits += 1;
        self.hit.notify_all();
        Some(rule.fault.clone())
    }

    pub fn hits(&self, id: RuleId) -> u32 {
        self.rules().1.iter().find(|rule| rule.id == id).map_or(0, |rule| rule.hits)
    }

    /// Blocks until it was done so often.
    pub fn wait_for_hits(&self, limit: Duration, id: RuleId, hits: u32) {
        let began = Instant::now();
        let mut rules = self.rules();
        loop {
            let rule = rules.1.iter().find(|rule| rule.id == id).expect("a rule that is there");
            if rule.hits >= hits {
                return;
            }
            let left = limit.checked_sub(began.elapsed());
            let left = left.unwrap_or_else(|| panic!("{:?} came {} times in {limit:?}", rule.fault, rule.hits));
            rules = self.hit.wait_timeout(rules, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
