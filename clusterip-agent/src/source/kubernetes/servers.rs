//! The API servers: who we are to them, and which one is asked.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::{Instant, timeout};
use tower::{BoxError, ServiceBuilder};

use super::failure::{Cause, OWN_CERTIFICATE, explain};
use crate::config;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer begins; a server that lists much takes a while.
const ANSWER: Duration = Duration::from_secs(30);
/// A watch is quiet for minutes; a peer that is gone is found out by this, three times missed.
const KEEPALIVE: Duration = Duration::from_secs(10);
const MISSED: u32 = 3;
/// Who is not known looks this often, at most, whether it is somebody else by now.
const RENEW: Duration = Duration::from_secs(5);
const AGENT: &str = concat!("clusterip/", env!("CARGO_PKG_VERSION"));

/// A source that cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file does not lead to a server.
    #[error("read kubeconfig {}: {message}", .path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// This is no pod with a service account.
    #[error(
        "find the API server of the cluster that this is a pod of: {0}; is the service account's token mounted, and are \
         KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT set? Outside of a pod, use --kubeconfig"
    )]
    InCluster(String),
    /// Its certificates or addresses make no client.
    #[error("prepare to ask the API server {server}: {message}")]
    Client {
        /// Its address.
        server: String,
        /// Why.
        message: String,
    },
}

/// API servers that are asked in turn. Clones share which one is asked.
#[derive(Clone)]
pub struct Servers(Arc<Inner>);

struct Inner {
    identity: Identity,
    /// Theirs in place of the one that the source names.
    addresses: Vec<String>,
    all: RwLock<Arc<[Server]>>,
    /// The one that answered last.
    current: AtomicUsize,
    /// When the identity was read last.
    read: Mutex<Instant>,
}

/// A server, and who we are to it. At least one is there.
type Server = (String, Client);

/// Where it is read who we are.
enum Identity {
    Kubeconfig(PathBuf),
    InCluster,
}

impl Identity {
    async fn read(&self, addresses: &[String]) -> Result<Arc<[Server]>, OpenError> {
        let found = match self {
            Self::Kubeconfig(path) => kubeconfig(path).await?,
            Self::InCluster => {
                Config::incluster_env().map_err(|error| OpenError::InCluster(explain(&error)))?
            }
        };
        let named = [address_of(&found)];
        let addresses = if addresses.is_empty() {
            named.as_slice()
        } else {
            addresses
        };
        addresses
            .iter()
            .map(|address| Ok((address.clone(), client(found.clone(), address)?)))
            .collect()
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

impl Servers {
    /// Those of a source; `addresses` are theirs in place of the one that the source names. Nobody is asked yet.
    ///
    /// # Errors
    /// The file or the service account is missing or makes no sense; there is no such source of manifests.
    pub async fn open(source: config::Source<'_>, addresses: &[String]) -> Result<Self, OpenError> {
        let identity = match source {
            config::Source::Kubeconfig(path) => Identity::Kubeconfig(path.to_owned()),
            config::Source::InCluster | config::Source::Manifests(_) => Identity::InCluster,
        };
        let all = identity.read(addresses).await?;
        Ok(Self(Arc::new(Inner {
            identity,
            addresses: addresses.to_vec(),
            all: RwLock::new(all),
            current: AtomicUsize::new(0),
            read: Mutex::new(Instant::now()),
        })))
    }

    fn all(&self) -> Arc<[Server]> {
        // It is replaced as a whole.
        self.0
            .all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The address of the one that is asked.
    #[must_use]
    pub fn current(&self) -> String {
        let all = self.all();
        let place = self.0.current.load(Ordering::Relaxed);
        let server = all.get(place).or_else(|| all.first());
        server.map_or_else(String::new, |(name, _)| name.clone())
    }

    /// The namespace that this agent is of: of its service account, or of the kubeconfig's context.
    #[must_use]
    pub fn namespace(&self) -> String {
        let all = self.all();
        let first = all.first();
        first.map_or_else(String::new, |(_, client)| {
            client.default_namespace().to_owned()
        })
    }

    /// All their addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.all().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Reads again who we are: certificates in a kubeconfig are renewed in place, and nobody tells.
    async fn renew(&self) {
        {
            let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
            if read.elapsed() < RENEW {
                return;
            }
            *read = Instant::now();
        }
        match self.0.identity.read(&self.0.addresses).await {
            Ok(all) => {
                *self.0.all.write().unwrap_or_else(PoisonError::into_inner) = all;
                log::info!("the API server did not know this agent: its identity was read again");
            }
            Err(error) => {
                log::warn!(
                    "the API server does not know this agent, and its identity cannot be read again: {error}"
                );
            }
        }
    }

    pub(super) async fn put(&self, path: &str, json: Vec<u8>) -> Result<Response<Body>, Cause> {
        self.ask(&Method::PUT, path, Some(json.into())).await
    }

    /// Merges a part into an object (RFC 7386).
    pub(super) async fn patch(&self, path: &str, json: Vec<u8>) -> Result<Response<Body>, Cause> {
        self.ask(&Method::PATCH, path, Some(json.into())).await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Response<Body>, Cause> {
        self.ask(&Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, json: Vec<u8>) -> Result<Response<Body>, Cause> {
        self.ask(&Method::POST, path, Some(json.into())).await
    }

    /// The answer of the first one that has one, beginning with the one that had one last; if none has, why the last one
    /// has none. A server that says that it is not well is passed over as long as there is another.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        json: Option<Bytes>,
    ) -> Result<Response<Body>, Cause> {
        let all = self.all();
        let count = all.len();
        let first = self.0.current.load(Ordering::Relaxed);
        let mut outcome = Err(Cause::Unreachable("there is no API server".to_owned()));
        for place in (0..count).map(|step| (first + step) % count) {
            let Some((name, client)) = all.get(place) else {
                continue;
            };
            let request = request(method, path, json.clone())?;
            outcome = match timeout(ANSWER, client.send(request)).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(error)) => Err(Cause::unreachable(&error)),
                Err(_elapsed) => Err(Cause::Unreachable(format!(
                    "no answer for {} s",
                    ANSWER.as_secs()
                ))),
            };
            match &outcome {
                Ok(response) if count == 1 || !response.status().is_server_error() => {
                    if self.0.current.swap(place, Ordering::Relaxed) != place {
                        log::info!(server = name; "another API server is asked");
                    }
                    break;
                }
                Ok(response) => {
                    log::debug!(server = name, status:% = response.status(); "this API server is not well");
                }
                Err(cause) => {
                    log::debug!(server = name, cause:?; "this API server does not answer");
                }
            }
        }
        let is_unknown = match &outcome {
            Ok(response) => response.status() == StatusCode::UNAUTHORIZED,
            // A server that asks for certificates refuses those that have run out before it says anything.
            Err(Cause::Unreachable(why)) => why.contains(OWN_CERTIFICATE),
            Err(_) => false,
        };
        if is_unknown {
            self.renew().await;
        }
        outcome.map_err(|cause| match cause {
            Cause::Unreachable(why) if count > 1 => Cause::Unreachable(format!(
                "none of {count} API servers answers; the last one: {why}"
            )),
            cause => cause,
        })
    }
}

fn request(method: &Method, path: &str, json: Option<Bytes>) -> Result<Request<Body>, Cause> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(AGENT));
    if json.is_some() {
        let content = if *method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        builder = builder.header(CONTENT_TYPE, HeaderValue::from_static(content));
    }
    let body = json.map_or_else(Body::empty, |json| Body::from(json.to_vec()));
    builder
        .body(body)
        .map_err(|error| Cause::unreachable(&error))
}

async fn kubeconfig(path: &Path) -> Result<Config, OpenError> {
    let failed = |error: &(dyn std::error::Error + 'static)| OpenError::Kubeconfig {
        path: path.to_owned(),
        message: explain(error),
    };
    let file = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.map_err(|error| failed(&error))
}

fn address_of(config: &Config) -> String {
    config
        .cluster_url
        .to_string()
        .trim_end_matches('/')
        .to_owned()
}

fn client(mut config: Config, address: &str) -> Result<Client, OpenError> {
    let failed = |message: String| OpenError::Client {
        server: address.to_owned(),
        message,
    };
    config.cluster_url = address
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| failed(explain(&error)))?;
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE));
    connector.set_keepalive_retries(Some(MISSED));
    // What was sent and is not acknowledged keeps the keepalive from being sent.
    connector.set_tcp_user_timeout(Some(KEEPALIVE * (MISSED + 1)));
    let connector = config
        .rustls_https_connector_with_connector(connector)
        .map_err(|error| failed(explain(&error)))?;
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let auth = config
        .auth_layer()
        .map_err(|error| failed(explain(&error)))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// The text of a short answer; what is longer is cut off.
pub(super) async fn text(body: Body) -> Bytes {
    const MOST: usize = 64 << 10;
    let limited = http_body_util::Limited::new(body, MOST);
    let all = timeout(ANSWER, limited.collect()).await;
    all.ok()
        .and_then(Result::ok)
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default()
}
