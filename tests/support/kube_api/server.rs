//! One request: who asks, whether they may, what they get.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch::{Receiver, Sender};

use super::access::{Access, User};
use super::asked::{Asked, Query};
use super::controller::{self, Switch};
use super::delete::{self, DeleteOptions};
use super::discovery;
use super::patch;
use super::read;
use super::refusal::Refusal;
use super::resources::{self, Trait};
use super::shape::{self, Shape};
use super::store::{Store, key};
use super::table::Form;
use super::transport::{Body, Peer, whole};
use super::watch::{self, Ending, Watch};
use super::write::{self, Effect, Outcome, Part, Target};

const BODY_MAX: usize = 3 * 1024 * 1024;
const ENDPOINTS_WARNING: &str = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";

/// One request that was answered, or begun to be where it is a watch.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: Instant,
    pub user: String,
    pub asked: Asked,
    /// What stood behind the path's question mark.
    pub query: String,
    pub content_type: String,
    pub user_agent: String,
    pub code: u16,
}

pub struct State {
    pub store: Store,
    pub access: Access,
    pub records: Vec<Record>,
    /// How many times all watches were ended, and how the last time.
    pub endings: (u64, Ending),
    pub bookmark_every: Duration,
    /// A group that is not served in the version that members use.
    pub without: &'static str,
    pub controllers: controller::Switches,
}

pub struct Server {
    state: Mutex<State>,
    /// Counts changes and requests, and wakes whoever waits for one.
    count: Mutex<u64>,
    wake: Condvar,
    changed: Sender<()>,
}

/// An answer before it is a response.
enum Answer {
    Object(u16, Value),
    /// With warnings of fields that the kind has not.
    Warned(u16, Value, Vec<String>),
    Watch(Watch),
    Raw(u16, &'static str, Bytes),
}

impl Server {
    pub fn new(store: Store, bookmark_every: Duration, without: &'static str) -> Self {
        let state = State {
            store,
            access: Access::default(),
            records: Vec::new(),
            endings: (0, Ending::Clean),
            bookmark_every,
            without,
            controllers: controller::Switches { endpoints: Switch::Off, garbage: Switch::Off },
        };
        Server { state: Mutex::new(state), count: Mutex::new(0), wake: Condvar::new(), changed: Sender::new(()) }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn changed(&self) -> Receiver<()> {
        self.changed.subscribe()
    }

    /// Changes something, and wakes whoever waits for changes.
    pub fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let done = {
            let mut state = self.state();
            let done = work(&mut state);
            let switches = state.controllers;
            controller::run(&mut state.store, switches);
            done
        };
        self.wake();
        self.changed.send_replace(());
        done
    }

    fn wake(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.wake.notify_all();
    }

    /// Looks at each change until it is found or the time is over.
    pub fn wait(&self, limit: Duration, look: &mut dyn FnMut() -> bool) -> bool {
        let began = Instant::now();
        loop {
            let before = *self.count.lock().unwrap_or_else(PoisonError::into_inner);
            if look() {
                return true;
            }
            let Some(left) = limit.checked_sub(began.elapsed()) else { return false };
            let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.wake.wait_timeout_while(count, left, |count| *count == before));
        }
    }

    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let query_text = head.uri.query().unwrap_or_default().to_owned();
        let query = Query::parse(&query_text);
        let asked = Asked::read(&head.method, head.uri.path(), &query);
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let user = self.state().access.authenticate(authorization, peer.certificate);
        let answer = match &user {
            Ok(user) => self.serve(user, &asked, &query, &head.headers, body).await,
            Err(refusal) => Err(refusal.clone()),
        };
        let code = match &answer {
            Ok(Answer::Object(code, _) | Answer::Warned(code, ..) | Answer::Raw(code, ..)) => *code,
            Ok(Answer::Watch(_)) => 200,
            Err(refusal) => refusal.code,
        };
        let record = Record {
            at: Instant::now(),
            user: user.map_or(String::new(), |user| user.name),
            asked: asked.clone(),
            query: query_text,
            content_type: header(CONTENT_TYPE).to_owned(),
            user_agent: header(hyper::header::USER_AGENT).to_owned(),
            code,
        };
        self.state().records.push(record);
        self.wake();
        self.respond(&asked, answer)
    }

    fn respond(self: Arc<Self>, asked: &Asked, answer: Result<Answer, Refusal>) -> Response<Body> {
        let mut media = "application/json";
        let mut retry_after = None;
        let mut warnings = Vec::new();
        let (code, body) = match answer {
            Ok(Answer::Object(code, object)) => (code, whole(object.to_string())),
            Ok(Answer::Warned(code, object, unknown)) => {
                warnings = unknown;
                (code, whole(object.to_string()))
            }
            Ok(Answer::Raw(code, kind, bytes)) => {
                media = kind;
                (code, whole(bytes))
            }
            Ok(Answer::Watch(begun)) => (200, watch::stream(self, begun)),
            Err(refusal) => {
                retry_after = refusal.retry_after;
                (refusal.code, whole(refusal.status.to_string()))
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(code).expect("a code of HTTP");
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Ok(id) = HeaderValue::from_str(&super::new_uid()) {
            headers.insert("audit-id", id);
        }
        if asked.group.is_empty() && asked.resource == "endpoints" && ![401, 403].contains(&code) {
            headers.insert("warning", HeaderValue::from_static(ENDPOINTS_WARNING));
        }
        for field in warnings {
            let text = format!("299 - \"unknown field \\\"{field}\\\"\"");
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.append("warning", value);
            }
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    async fn serve(
        &self,
        user: &User,
        asked: &Asked,
        query: &Query,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        {
            let state = self.state();
            state.access.authorise(&state.store, user, asked)?;
        }
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| Refusal::too_large())?.to_bytes();
        if !asked.is_resource() {
            let found = discovery::answer(&asked.path, header(ACCEPT), self.state().without);
            return found.map_or_else(|| nothing_at(&asked.path), |(media, bytes)| Ok(Answer::Raw(200, media, bytes)));
        }
        if asked.group == "authorization.k8s.io" {
            check_media(header(CONTENT_TYPE))?;
            let state = self.state();
            return discovery::review(&state, user, asked, &body).map(|review| Answer::Object(201, review));
        }
        let resource = resources::find(&asked.group, &asked.version, &asked.resource);
        let Some(resource) = resource.filter(|found| found.group.is_empty() || found.group != self.state().without)
        else {
            return nothing_at(&asked.path);
        };
        let part = match asked.subresource.as_str() {
            "token" if asked.resource == "serviceaccounts" && asked.verb == "create" => {
                return self.new_token(asked, &body).map(|answer| Answer::Object(201, answer));
            }
            "" => Part::Main,
            "status" if resource.is(Trait::Status) => Part::Status,
            _ => return Err(Refusal::unknown_resource()),
        };
        let is_try = !query.text("dryRun").is_empty();
        let is_by_name = !["list", "watch", "deletecollection"].contains(&asked.verb.as_str());
        let target = Target {
            resource,
            namespace: if resource.is(Trait::Cluster) { String::new() } else { asked.namespace.clone() },
            name: if is_by_name || asked.path.ends_with(&format!("/{}", asked.name)) {
                asked.name.clone()
            } else {
                String::new()
            },
            part,
            effect: if is_try { Effect::Try } else { Effect::Commit },
        };
        let form = Form::accepted(header(ACCEPT), query)?;
        match asked.verb.as_str() {
            "get" | "list" | "watch" => self.read(asked, target, query, form),
            _ => {
                let unknown = unknown_fields(asked, &target, query, &body)?;
                match self.write(asked, &target, query, header(CONTENT_TYPE), &body, &form)? {
                    Answer::Object(code, object) => Ok(Answer::Warned(code, object, unknown)),
                    other => Ok(other),
                }
            }
        }
    }

    /// A TokenRequest: `kubectl create token`.
    fn new_token(&self, asked: &Asked, body: &[u8]) -> Result<Value, Refusal> {
        let mut request: Value =
            serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("json parse error: {error}")))?;
        let seconds = request["spec"]["expirationSeconds"].as_u64().unwrap_or(3600);
        let resource = resources::named("serviceaccounts");
        let mut state = self.state();
        if state.store.get(&key(resource, &asked.namespace, &asked.name)).is_none() {
            return Err(Refusal::not_found(resource, &asked.name));
        }
        let token = super::random_letters(40);
        let user = User::service_account(&asked.namespace, &asked.name);
        state.access.add_token(&token, user, Some(Instant::now() + Duration::from_secs(seconds)));
        let expires = jiff::Timestamp::now() + Duration::from_secs(seconds);
        let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        request["status"] = json!({"token": token, "expirationTimestamp": expires});
        Ok(request)
    }

    fn read(&self, asked: &Asked, target: Target, query: &Query, form: Form) -> Result<Answer, Refusal> {
        let state = self.state();
        Ok(match asked.verb.as_str() {
            "get" => {
                let object = read::get(&state.store, &target, query)?;
                Answer::Object(200, form.object(target.resource, &object))
            }
            "list" => Answer::Object(200, read::list(&state.store, &target, query, &form)?),
            _ => Answer::Watch(Watch::begin(&state, target, query, form)?),
        })
    }

    fn write(
        &self,
        asked: &Asked,
        target: &Target,
        query: &Query,
        media: &str,
        body: &[u8],
        form: &Form,
    ) -> Result<Answer, Refusal> {
        let resource = target.resource;
        match asked.verb.as_str() {
            _ if target.namespace.is_empty() && !resource.is(Trait::Cluster) => Err(Refusal::method_not_allowed()),
            "create" if target.name.is_empty() => {
                check_media(media)?;
                let made = self.change(|state| write::create(&mut state.store, target, body))?;
                Ok(Answer::Object(201, form.object(resource, &made)))
            }
            "update" if !target.name.is_empty() => {
                check_media(media)?;
                let (object, outcome) = self.change(|state| write::update(&mut state.store, target, body))?;
                let code = if outcome == Outcome::Created { 201 } else { 200 };
                Ok(Answer::Object(code, form.object(resource, &object)))
            }
            "patch" if !target.name.is_empty() => {
                let kind = patch::kind(media)?;
                let object = self.change(|state| write::patch(&mut state.store, target, kind, body))?;
                Ok(Answer::Object(200, form.object(resource, &object)))
            }
            "delete" | "deletecollection" => self.delete(asked, target, query, body),
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    fn delete(&self, asked: &Asked, target: &Target, query: &Query, body: &[u8]) -> Result<Answer, Refusal> {
        let (mut options, effect) = DeleteOptions::read(body)?;
        let mut target = target.clone();
        if effect == Effect::Try {
            target.effect = Effect::Try;
        }
        if let Some(seconds) = query.number("gracePeriodSeconds") {
            options.grace_seconds = i64::try_from(seconds).ok();
        }
        if asked.verb == "delete" {
            let answer = self.change(|state| delete::delete(&mut state.store, &target, &options))?;
            return Ok(Answer::Object(200, answer));
        }
        let selector = query.selector().map_err(Refusal::bad_request)?;
        self.change(|state| {
            let deleted = delete::delete_collection(&mut state.store, &target, &selector, &options)?;
            let metadata = json!({"resourceVersion": state.store.revision().to_string()});
            Ok(Answer::Object(200, read::plain_list(target.resource, metadata, &deleted)))
        })
    }
}

/// The answer to a path that leads nowhere.
fn nothing_at(path: &str) -> Result<Answer, Refusal> {
    if discovery::is_in_group(path) {
        return Err(Refusal::unknown_resource());
    }
    Ok(Answer::Raw(404, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n")))
}

/// What a client is warned of, unless it wants it refused or ignored.
fn unknown_fields(asked: &Asked, target: &Target, query: &Query, body: &[u8]) -> Result<Vec<String>, Refusal> {
    let mut found = Vec::new();
    let validation = query.text("fieldValidation");
    let has_object = ["create", "update", "patch"].contains(&asked.verb.as_str());
    if validation == "Ignore" || !has_object {
        return Ok(found);
    }
    if let Ok(document) = serde_json::from_slice(body) {
        shape::unknown(&Shape::Object(target.resource.fields), &document, "", &mut found);
    }
    if validation != "Strict" || found.is_empty() {
        return Ok(found);
    }
    let errors: Vec<String> = found.iter().map(|field| format!("unknown field {field:?}")).collect();
    let why = format!("strict decoding error: {}", errors.join(", "));
    if asked.verb == "patch" {
        return Err(patch::misfit(body, &why));
    }
    let (kind, version) = (target.resource.kind, target.resource.version);
    Err(Refusal::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")))
}

/// Objects come as JSON.
fn check_media(media: &str) -> Result<(), Refusal> {
    match media.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => Ok(()),
        _ => Err(Refusal::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}
