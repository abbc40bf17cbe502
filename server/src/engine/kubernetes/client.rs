//! Every call to the API server: each has a time limit, and is repeated with back-off where that can help (429, 409,
//! 5xx, a lost connection). Nothing hangs for ever, and every error says what failed, on what, why and what to do.

use crate::clock;
use crate::engine::EngineError;
use crate::settings::Cluster;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use knit_api::label::MANAGER;
use kube::api::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::{ObjectList, Request, Status};
use kube::runtime::watcher;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::error::Error as _;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// What making one connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one watch lives, in seconds: a connection that died without a word is noticed soon after.
pub(super) const WATCH: u32 = 60;
/// How long nothing may come on the connection of one: a little longer than it lives.
const SILENCE: Duration = Duration::from_secs(75);
/// The first pause; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause that nobody asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Objects in one page of a list.
const PAGE: u32 = 250;
/// The largest answer that is read.
const LARGEST_ANSWER: usize = 64 << 20;

/// Something that the cluster has objects of.
pub(super) trait Kind:
    kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
}

/// A client of one namespace. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    /// For what is neither a single call nor a watch: port-forwards.
    pub(super) kube: kube::Client,
    /// For watches: a connection on which nothing comes for longer than a watch may be silent is given up.
    watching: kube::Client,
    pub(super) namespace: String,
    /// Where it goes, for errors.
    whereto: Arc<Whereto>,
    limits: Limits,
}

/// How long things may take.
#[derive(Clone, Copy)]
struct Limits {
    /// One call with all its repetitions.
    call: Duration,
    /// One attempt: a connection on which nothing comes any more is given up for another.
    attempt: Duration,
    /// A look at the cluster, at the start and when somebody asks whether it is well.
    look: Duration,
}

const LIMITS: Limits =
    Limits { call: Duration::from_secs(20), attempt: Duration::from_secs(8), look: Duration::from_secs(10) };

/// What errors name.
struct Whereto {
    server: String,
    credentials: String,
}

/// What came of asking for an object.
#[derive(Debug)]
pub(super) enum Made<K> {
    /// It was not there; now it is.
    New(K),
    /// One of that name was there, and is as it was.
    Found(K),
}

/// How an object is deleted.
#[derive(Clone, Debug, Default)]
pub(super) struct Delete {
    /// Only the object that has it; another of that name is left alone.
    pub(super) uid: Option<String>,
    /// What becomes of that which it owns; none for the kind's default.
    pub(super) propagation: Option<PropagationPolicy>,
    /// Seconds that a Pod may take to end. 0 only forgets a Pod: its processes may live on.
    pub(super) grace: Option<u32>,
}

/// What came of a wish to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    /// It is gone, or going.
    Asked,
    /// There was none of that name, or only another one.
    Gone,
}

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub(super) struct ApiError {
    what: String,
    why: Why,
    advice: String,
}

#[derive(Debug)]
enum Why {
    /// The API server says no.
    Refused(Box<Status>),
    /// It did not answer, or not what one can make sense of.
    NoAnswer(String),
}

/// One attempt that did not work.
struct Failed {
    why: Why,
    /// Whether it may work the next time.
    passing: bool,
    /// How long the API server wants to be left alone.
    after: Option<Duration>,
}

/// What is being done, on what, and where: for requests and for errors.
struct Call<'a> {
    verb: &'static str,
    /// As a participle.
    doing: &'static str,
    kind: &'a str,
    name: Option<&'a str>,
    namespace: Option<&'a str>,
    /// As permissions name it: `jobs.batch`.
    resource: String,
    /// Whether a conflict is with somebody else's write at the same time.
    conflicts_pass: bool,
    limit: Duration,
}

impl Client {
    /// Reads the kubeconfig (or what a Pod is given) and asks the API server whether it lets us in.
    pub(super) async fn connect(settings: &Cluster) -> Result<Self, EngineError> {
        let client = Self::prepare(settings).await?;
        client.check().await?;
        Ok(client)
    }

    async fn prepare(settings: &Cluster) -> Result<Self, EngineError> {
        let (mut config, credentials) = credentials(settings.kubeconfig.as_deref()).await?;
        config.connect_timeout = Some(CONNECT);
        // Calls have limits of their own, and are repeated here.
        config.default_retry = false;
        let whereto = Arc::new(Whereto { server: config.cluster_url.to_string(), credentials });
        let build = |config| {
            kube::Client::try_from(config).map_err(|cause| EngineError::Failed {
                what: format!("preparing to talk to {} with {}", whereto.server, whereto.credentials),
                cause: chain(&cause),
            })
        };
        let kube = build(config.clone())?;
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        let watching = build(config)?;
        Ok(Self { kube, watching, namespace: settings.namespace.clone(), whereto, limits: LIMITS })
    }

    /// Whether the API server answers and lets us in.
    pub(super) async fn check(&self) -> Result<(), EngineError> {
        let mut call = self.on::<k8s_openapi::api::batch::v1::Job>("list", "looking for", None);
        call.limit = self.limits.look;
        let request = Request::new(self.path::<k8s_openapi::api::batch::v1::Job>())
            .list(&ListParams::default().limit(1))
            .map_err(|cause| call.unsendable(&cause))?;
        self.ask(&call, request).await?;
        Ok(())
    }

    /// The objects of our namespace, for what is not a single call.
    pub(super) fn api<K>(&self) -> kube::Api<K>
    where
        K: Kind + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        kube::Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// The objects of our namespace, to be watched.
    pub(super) fn watched_api<K>(&self) -> kube::Api<K>
    where
        K: Kind + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        kube::Api::namespaced(self.watching.clone(), &self.namespace)
    }

    /// The object of that name, if there is one.
    pub(super) async fn get<K: Kind>(&self, name: &str) -> Result<Option<K>, ApiError> {
        self.get_in(Some(&self.namespace), name).await
    }

    /// The object of that name which belongs to no namespace, if there is one.
    pub(super) async fn get_of_cluster<K: Kind>(&self, name: &str) -> Result<Option<K>, ApiError> {
        self.get_in(None, name).await
    }

    async fn get_in<K: Kind>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, ApiError> {
        let call = Call { namespace, ..self.on::<K>("get", "reading", Some(name)) };
        let request = Request::new(K::url_path(&(), namespace)).get(name, &GetParams::default());
        match self.ask_for(&call, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the object unless one of its name is there, which may be what an earlier call has made.
    pub(super) async fn create<K: Kind>(&self, object: &K) -> Result<Made<K>, ApiError> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let call = self.on::<K>("create", "creating", Some(name));
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let body = serde_json::to_vec(object).map_err(|cause| call.unsendable(&cause))?;
        // One that is there may go between the two questions: then it is asked for again, but not for ever.
        for _ in 0..3 {
            match self.ask_for(&call, Request::new(self.path::<K>()).create(&parameters, body.clone())).await {
                Ok(made) => return Ok(Made::New(made)),
                Err(error) if error.is_already_there() => {}
                Err(error) => return Err(error),
            }
            if let Some(found) = self.get(name).await? {
                return Ok(Made::Found(found));
            }
        }
        let why = Why::NoAnswer("others make and remove it all the time".to_owned());
        Err(ApiError { what: call.to_string(), why, advice: String::new() })
    }

    /// Merges this into the object of that name.
    pub(super) async fn patch<K: Kind>(&self, name: &str, merge: &serde_json::Value) -> Result<K, ApiError> {
        let mut call = self.on::<K>("patch", "changing", Some(name));
        call.conflicts_pass = true;
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.ask_for(&call, Request::new(self.path::<K>()).patch(name, &parameters, &Patch::Merge(merge))).await
    }

    /// Deletes the object of that name.
    pub(super) async fn delete<K: Kind>(&self, name: &str, how: &Delete) -> Result<Deleted, ApiError> {
        let mut call = self.on::<K>("delete", "deleting", Some(name));
        call.conflicts_pass = true;
        let parameters = DeleteParams {
            grace_period_seconds: how.grace,
            propagation_policy: how.propagation.clone(),
            preconditions: how.uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        let request =
            Request::new(self.path::<K>()).delete(name, &parameters).map_err(|cause| call.unsendable(&cause))?;
        match self.ask(&call, request).await {
            Ok(_) => Ok(Deleted::Asked),
            Err(error) if error.is_not_found() || error.is_another() => Ok(Deleted::Gone),
            Err(error) => Err(error),
        }
    }

    /// Waits until none of these objects of our namespace is so; false when the time is over. It knows of what was
    /// there before it was called.
    pub(super) async fn until_none<K>(&self, these: watcher::Config, deadline: Instant, is: impl Fn(&K) -> bool) -> bool
    where
        K: Kind + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let mut watch = pin!(watcher(self.watched_api::<K>(), these.timeout(WATCH)));
        let (mut left, mut listed, mut failures) = (HashSet::new(), false, 0);
        while let Ok(Some(event)) = timeout_at(deadline, watch.next()).await {
            match event {
                Ok(watcher::Event::Init) => {
                    listed = false;
                    left.clear();
                }
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    let uid = object.meta().uid.clone();
                    if is(&object) {
                        left.insert(uid)
                    } else {
                        left.remove(&uid)
                    };
                }
                Ok(watcher::Event::Delete(object)) => drop(left.remove(&object.meta().uid)),
                Ok(watcher::Event::InitDone) => listed = true,
                Err(error) => {
                    tracing::debug!(%error, "a wait for the cluster goes on");
                    sleep(jittered(pause(failures))).await;
                    failures += 1;
                }
            }
            if listed && left.is_empty() {
                return true;
            }
        }
        false
    }

    /// All objects of our namespace that have these labels.
    pub(super) async fn list<K: Kind>(&self, labels: &str) -> Result<Vec<K>, ApiError> {
        self.list_in(Some(&self.namespace), &ListParams::default().labels(labels)).await
    }

    /// All objects of the cluster that these fields select.
    pub(super) async fn list_everywhere<K: Kind>(&self, fields: &str) -> Result<Vec<K>, ApiError> {
        let fields = Some(fields.to_owned()).filter(|fields| !fields.is_empty());
        self.list_in(None, &ListParams { field_selector: fields, ..ListParams::default() }).await
    }

    async fn list_in<K: Kind>(&self, namespace: Option<&str>, which: &ListParams) -> Result<Vec<K>, ApiError> {
        let call = Call { namespace, ..self.on::<K>("list", "listing", None) };
        let path = K::url_path(&(), namespace);
        let mut all = Vec::new();
        let mut page = which.clone().limit(PAGE);
        let mut restarts = 0;
        loop {
            let list: ObjectList<K> = match self.ask_for(&call, Request::new(&path).list(&page)).await {
                Ok(list) => list,
                // The next page has expired, as what changes fast does: from the beginning.
                Err(error) if error.is_gone() && restarts < 3 => {
                    restarts += 1;
                    page.continue_token = None;
                    all.clear();
                    continue;
                }
                Err(error) => return Err(error),
            };
            all.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    fn path<K: Kind>(&self) -> String {
        K::url_path(&(), Some(&self.namespace))
    }

    fn on<'a, K: Kind>(&'a self, verb: &'static str, doing: &'static str, name: Option<&'a str>) -> Call<'a> {
        let (plural, group) = (K::plural(&()), K::group(&()));
        let resource = if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") };
        Call {
            verb,
            doing,
            kind: kind_of::<K>(),
            name,
            namespace: Some(&self.namespace),
            resource,
            conflicts_pass: false,
            limit: self.limits.call,
        }
    }

    async fn ask_for<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, ApiError> {
        let request = request.map_err(|cause| call.unsendable(&cause))?;
        let answer = self.ask(call, request).await?;
        serde_json::from_slice(&answer).map_err(|cause| {
            let why = format!("{} answers what is no {}: {cause}", self.whereto.server, call.kind);
            ApiError { what: call.to_string(), why: Why::NoAnswer(why), advice: String::new() }
        })
    }

    /// Asks until there is an answer that holds, or the call's time is over.
    async fn ask(&self, call: &Call<'_>, request: http::Request<Vec<u8>>) -> Result<Bytes, ApiError> {
        let deadline = clock::deadline(call.limit);
        let mut tries = 0;
        loop {
            let failed =
                match timeout_at(deadline.min(clock::deadline(self.limits.attempt)), self.attempt(&request)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(failed)) => failed,
                    Err(_) => Failed::lost("it does not answer in time".to_owned()),
                };
            let passing = failed.passing || (call.conflicts_pass && failed.is_conflict());
            let pause = failed.after.unwrap_or_default().max(jittered(pause(tries)));
            if !passing || !fits(pause, deadline) {
                return Err(self.explain(call, failed.why));
            }
            tracing::debug!(call = %call, tries, why = %failed.why, "the API server is asked again");
            sleep(pause).await;
            tries += 1;
        }
    }

    async fn attempt(&self, request: &http::Request<Vec<u8>>) -> Result<Bytes, Failed> {
        let response = self.kube.send(request.clone().map(kube::client::Body::from)).await.map_err(Failed::unsent)?;
        let code = response.status();
        let after = retry_after(response.headers());
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|cause| Failed::lost(format!("its answer broke off: {cause}")))?.to_bytes();
        if code.is_success() { Ok(body) } else { Err(Failed::refused(code, after, &body)) }
    }

    /// Says what can be done about it.
    fn explain(&self, call: &Call<'_>, why: Why) -> ApiError {
        let advice = match &why {
            Why::NoAnswer(_) => {
                format!("is the API server {} up, and can it be reached from here?", self.whereto.server)
            }
            Why::Refused(status) => match status.code {
                401 => format!("the credentials are those of {}", self.whereto.credentials),
                403 if is_permission(status) => {
                    let place = call.namespace.map_or("the cluster".to_owned(), |name| format!("namespace {name}"));
                    format!(
                        "grant `{}` on `{}` in {place} to the account of this server, \
                         as examples/kubernetes/rbac.yaml does",
                        call.verb, call.resource
                    )
                }
                403 if is_quota(status) => "remove what uses the quota up, or raise it".to_owned(),
                404 if names_namespace(status) => format!("create the namespace {}", self.namespace),
                _ => String::new(),
            },
        };
        ApiError { what: call.to_string(), why, advice }
    }
}

/// Where the API server is, what it knows us by, and in words where that stands.
async fn credentials(kubeconfig: Option<&Path>) -> Result<(kube::Config, String), EngineError> {
    let Some(path) = kubeconfig else {
        let config = kube::Config::incluster().map_err(|cause| EngineError::Failed {
            what: "reading the service account of this Pod".to_owned(),
            cause: format!("{}; outside of a cluster name a file with --kubeconfig", chain(&cause)),
        })?;
        return Ok((config, "the service account of this Pod".to_owned()));
    };
    let failed = |cause: KubeconfigError| EngineError::Failed {
        what: format!("reading the kubeconfig {}", path.display()),
        cause: format!("{}; name another file with --kubeconfig, or none inside a Pod", chain(&cause)),
    };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?;
    Ok((config, path.display().to_string()))
}

impl ApiError {
    fn code(&self) -> u16 {
        match &self.why {
            Why::Refused(status) => status.code,
            Why::NoAnswer(_) => 0,
        }
    }

    /// There is no such object.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 404 && !names_namespace(status))
    }

    /// One of that name is there.
    pub(super) fn is_already_there(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 409 && status.reason == "AlreadyExists")
    }

    /// The one of that name is another one.
    fn is_another(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 409 && is_another(status))
    }

    /// What was asked for was there, and has expired.
    fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// This server lacks the right to do it.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 403 && is_permission(status))
    }

    /// A quota is used up.
    pub(super) fn is_quota(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 403 && is_quota(status))
    }

    /// Why, without what was being done.
    pub(super) fn cause(&self) -> String {
        if self.advice.is_empty() { self.why.to_string() } else { format!("{}; {}", self.why, self.advice) }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.cause())
    }
}

impl std::error::Error for ApiError {}

impl From<ApiError> for EngineError {
    fn from(error: ApiError) -> Self {
        let cause = error.cause();
        match error.why {
            Why::NoAnswer(_) => Self::Unavailable { what: error.what, cause },
            Why::Refused(_) => Self::Failed { what: error.what, cause },
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => {
                let said = if status.message.is_empty() { &status.reason } else { &status.message };
                write!(f, "the API server refuses it ({}): {said}", status.code)
            }
            Self::NoAnswer(cause) => f.write_str(cause),
        }
    }
}

impl Call<'_> {
    fn unsendable(&self, cause: &dyn std::error::Error) -> ApiError {
        ApiError { what: self.to_string(), why: Why::NoAnswer(cause.to_string()), advice: String::new() }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{} {} {name}", self.doing, self.kind)?,
            None => write!(f, "{} {}s", self.doing, self.kind)?,
        }
        match self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl Failed {
    fn lost(cause: String) -> Self {
        Self { why: Why::NoAnswer(cause), passing: true, after: None }
    }

    /// A request that did not get through. Certificates and credentials do not become better by asking again.
    fn unsent(cause: kube::Error) -> Self {
        let lasting = matches!(cause, kube::Error::Auth(_) | kube::Error::BuildRequest(_)) || is_certificate(&cause);
        Self { why: Why::NoAnswer(chain(&cause)), passing: !lasting, after: None }
    }

    fn refused(code: StatusCode, after: Option<Duration>, body: &[u8]) -> Self {
        // Proxies on the way, and an API server that is busy, answer plain text.
        let mut status: Status = serde_json::from_slice(body).unwrap_or_else(|_| {
            let said: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
            Status::failure(if said.is_empty() { code.canonical_reason().unwrap_or_default() } else { &said }, "")
        });
        status.code = code.as_u16();
        let hint = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let after = after.or(hint.map(|seconds| Duration::from_secs(seconds.into())));
        let passing = code == StatusCode::TOO_MANY_REQUESTS
            || code == StatusCode::REQUEST_TIMEOUT
            || (code.is_server_error() && code != StatusCode::NOT_IMPLEMENTED);
        Self { why: Why::Refused(status.boxed()), passing, after }
    }

    fn is_conflict(&self) -> bool {
        matches!(&self.why, Why::Refused(status) if status.code == 409 && !is_another(status))
    }
}

/// The kind, as errors name it.
fn kind_of<K: Kind>() -> &'static str {
    // The names of k8s-openapi's kinds are constants behind this `Cow`.
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "object",
    }
}

fn is_permission(status: &Status) -> bool {
    status.message.contains(" cannot ")
}

fn is_quota(status: &Status) -> bool {
    status.message.contains("exceeded quota")
}

fn is_another(status: &Status) -> bool {
    status.message.contains("UID in precondition")
}

fn names_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// `Retry-After` in seconds, which is all that API servers send.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The pause after this many failures, for the cautious and the unlucky alike.
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

/// Between half of it and all of it, so that those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Each of these states is seeded anew.
    let random = std::hash::RandomState::new().build_hasher().finish();
    pause / 2 + (pause / 2).mul_f64(random as f64 / u64::MAX as f64)
}

/// Whether something can still be done after the pause.
fn fits(pause: Duration, deadline: Instant) -> bool {
    clock::deadline(pause) < deadline
}

/// An error with everything that caused it, each thing once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        next = cause.source();
    }
    said
}

fn is_certificate(error: &kube::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = inner.is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some_and(is_about_certificates));
        if found || cause.downcast_ref::<rustls::Error>().is_some_and(is_about_certificates) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn is_about_certificates(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}

#[cfg(test)]
mod tests;
