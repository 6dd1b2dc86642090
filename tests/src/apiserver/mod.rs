//! An API server in this process: lists and watches as Kubernetes has them, over real connections, and everything that may go
//! wrong with them.
//!
//! It has versions, bookmarks, pages, selectors, 410 and lists that a watch begins with; it breaks connections, refuses and
//! is slow when a test wants that. `curl` and `kubectl` work with it: `kubectl --server http://ADDRESS get services -A`.
//!
//! ```text
//! store: objects and what happened to them   serve: requests   watch: what happens, line by line   fault: what goes wrong
//! ```
#![expect(
    clippy::indexing_slicing,
    reason = "in JSON a field that is not there reads as null, and is made by being written"
)]

mod discovery;
mod fault;
pub mod objects;
mod resource;
mod selector;
mod serve;
mod store;
mod tls;
mod watch;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch as channel},
};

use self::{
    fault::Manners,
    resource::Target,
    store::{Change, Key, Store},
    tls::TlsListener,
    watch::Signals,
};
pub use self::{
    fault::{Answer, Fault, Streaming},
    tls::{CA, Certificate, Identity, Tls},
};
use crate::Namespace;

/// What requests, watches and the test share.
#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    manners: Mutex<Manners>,
    requests: Mutex<Vec<String>>,
    /// When it was asked first.
    first: OnceLock<Instant>,
    signals: channel::Sender<Signals>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed leaves whole values behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    fn manners(&self) -> MutexGuard<'_, Manners> {
        locked(&self.manners)
    }

    fn note(&self, request: String) {
        self.first.get_or_init(Instant::now);
        locked(&self.requests).push(request);
    }

    fn signals(&self) -> channel::Receiver<Signals> {
        self.signals.subscribe()
    }

    /// Changes the store, and tells all watches.
    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store();
        let result = change(&mut store);
        let version = store.version();
        drop(store);
        self.signals
            .send_modify(|signals| signals.version = version);
        result
    }
}

/// A server, running or stopped. Its objects outlive it. Stopped when dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    namespace: Option<Namespace>,
    tls: Option<Tls>,
    address: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Dropping it is the signal to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server shows in what its clients did not get.
            drop(thread.join());
        }
    }
}

impl ApiServer {
    /// Starts one on the loopback of this namespace.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start() -> Result<Self> {
        Self::start_at(None, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), None)
    }

    /// Starts one at an address of this namespace.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start_on(address: SocketAddr) -> Result<Self> {
        Self::start_at(None, address, None)
    }

    /// Starts one that speaks TLS, with a certificate from [`CA`].
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start_tls(certificate: Certificate) -> Result<Self> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let tls = Tls {
            certificate,
            wants_certificate: false,
        };
        Self::start_at(None, address, Some(tls))
    }

    /// The same, and it talks to nobody who shows no certificate from [`CA`].
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start_mutual_tls() -> Result<Self> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let tls = Tls {
            certificate: Certificate::Good,
            wants_certificate: true,
        };
        Self::start_at(None, address, Some(tls))
    }

    /// Starts one that speaks TLS on the loopback of a namespace.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start_tls_in(namespace: &Namespace, certificate: Certificate) -> Result<Self> {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let tls = Tls {
            certificate,
            wants_certificate: false,
        };
        Self::start_at(Some(namespace.clone()), address, Some(tls))
    }

    /// Starts one at an address of a namespace.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start_in(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        Self::start_at(Some(namespace.clone()), address, None)
    }

    fn start_at(
        namespace: Option<Namespace>,
        address: SocketAddr,
        tls: Option<Tls>,
    ) -> Result<Self> {
        let mut server = Self {
            shared: Arc::new(Shared {
                store: Mutex::default(),
                manners: Mutex::default(),
                requests: Mutex::default(),
                first: OnceLock::new(),
                signals: channel::channel(Signals::default()).0,
            }),
            namespace,
            tls,
            address,
            running: None,
        };
        server.resume()?;
        Ok(server)
    }

    /// Starts it again after [`ApiServer::stop`], where it was.
    ///
    /// # Errors
    /// The port is taken.
    pub fn resume(&mut self) -> Result<()> {
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = mpsc::channel();
        let (address, tls) = (self.address, self.tls);
        let routes = Router::new()
            .fallback(serve::answer)
            .with_state(self.shared.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let opened = listen(address, tls, routes).await;
                let failed = opened.is_err();
                // Who started this waits for it.
                drop(ready.send(opened));
                if !failed {
                    // Ends with an error when the sender is dropped: that is the signal.
                    drop(stopped.await);
                }
            });
            // Connections do not outlive it.
            runtime.shutdown_timeout(Duration::from_secs(1));
            Ok(())
        };
        let name = "API server".to_owned();
        let thread = match &self.namespace {
            Some(namespace) => namespace.thread(name, work),
            None => std::thread::Builder::new().name(name).spawn(work),
        };
        let running = Running {
            stop: Some(stop),
            thread: Some(thread.context("start the API server's thread")?),
        };
        self.address = listening
            .recv()
            .context("the API server's thread ended")?
            .with_context(|| format!("listen on {address}"))?;
        self.running = Some(running);
        Ok(())
    }

    /// Stops it: its port is closed, and with it all connections.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Where it answers.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A file that leads to it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn kubeconfig(&self) -> Result<NamedTempFile> {
        kubeconfig(&self.url())
    }

    /// Creates an object, or replaces it.
    ///
    /// # Errors
    /// It has no name, or is of a kind that this server does not have.
    pub fn put(&self, object: Value) -> Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let resource = Target::of(kind).with_context(|| format!("no such kind: {kind}"))?;
        let text = |field: &str| object["metadata"][field].as_str().map(str::to_owned);
        let name = text("name").context("an object without a name")?;
        let namespace = text("namespace").unwrap_or_default();
        ensure!(
            namespace.is_empty() != resource.has_namespace,
            "{kind} {name}: the namespace is missing or too much"
        );
        let key = Key {
            resource: resource.name.to_owned(),
            namespace,
            name,
        };
        self.shared.change(|store| store.put(key, object));
        Ok(())
    }

    /// Puts what is no good object in an object's place, as it is.
    pub fn put_raw(&self, resource: &str, namespace: &str, name: &str, object: Value) {
        let key = key(resource, namespace, name);
        self.shared.change(|store| store.put(key, object));
    }

    /// Removes an object, if it is there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let key = key(resource, namespace, name);
        self.shared.change(|store| store.remove(&key));
    }

    /// The objects of a resource.
    #[must_use]
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let store = self.shared.store();
        store
            .all(resource)
            .map(|object| object.as_ref().clone())
            .collect()
    }

    /// What it was asked so far: verb, resource and query of each request.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }

    /// When it was asked first.
    #[must_use]
    pub fn first_request(&self) -> Option<Instant> {
        self.shared.first.get().copied()
    }

    /// Forgets what it was asked.
    pub fn forget_requests(&self) {
        locked(&self.shared.requests).clear();
    }

    /// From now on something goes wrong.
    pub fn fail(&self, fault: Fault) {
        self.shared.manners().faults.push(fault);
    }

    /// From now on nothing goes wrong.
    pub fn recover(&self) {
        self.shared.manners().faults.clear();
    }

    /// How it does lists that a watch begins with.
    pub fn set_streaming(&self, streaming: Streaming) {
        self.shared.manners().streaming = streaming;
    }

    /// Who has another token is not known from now on.
    pub fn set_token(&self, token: &str) {
        self.shared.manners().token = Some(token.to_owned());
    }

    /// Watches that begin from now on wait so long between two lines.
    pub fn set_pause(&self, pause: Duration) {
        self.shared.manners().pause = Some(pause);
    }

    /// Pages of lists are no longer than this.
    pub fn set_page(&self, objects: usize) {
        self.shared.manners().page = Some(objects);
    }

    /// Breaks all watches off.
    pub fn cut(&self) {
        self.shared.signals.send_modify(|signals| signals.cuts += 1);
    }

    /// Ends all watches, as a server does from time to time.
    pub fn end_watches(&self) {
        self.shared.signals.send_modify(|signals| signals.ends += 1);
    }

    /// Forgets what happened until now: whoever was away has to list again.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// Sends a bookmark to all watches.
    pub fn bookmark(&self) {
        self.shared.change(|store| store.note(Change::Bookmark));
    }

    /// Sends a line that is none to the watches of a resource.
    pub fn say(&self, resource: &str, text: &str) {
        let (resource, text) = (resource.to_owned(), text.into());
        self.shared
            .change(|store| store.note(Change::Line { resource, text }));
    }

    /// The version of everything as it is now.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.store().version()
    }

    /// How many watches there are.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.signals.receiver_count()
    }
}

/// A kubeconfig that leads to a server, which it trusts if [`CA`] does.
///
/// # Errors
/// The file system refused.
pub fn kubeconfig(url: &str) -> Result<NamedTempFile> {
    let file = NamedTempFile::new().context("make a kubeconfig")?;
    write_kubeconfig(file.path(), url, "secret")?;
    Ok(file)
}

/// The same at a place and with a token of one's own.
///
/// # Errors
/// The file system refused.
pub fn write_kubeconfig(path: &Path, url: &str, token: &str) -> Result<()> {
    write_user(path, url, &format!("token: {token}"))
}

/// The same with a certificate in a token's place.
///
/// # Errors
/// The file system refused.
pub fn write_identity(path: &Path, url: &str, identity: Identity) -> Result<()> {
    let (certificate, key) = identity.pem();
    let [certificate, key] = [certificate, key].map(|it| base64(it.as_bytes()));
    let user = format!("client-certificate-data: {certificate}, client-key-data: {key}");
    write_user(path, url, &user)
}

fn write_user(path: &Path, url: &str, user: &str) -> Result<()> {
    let authority = base64(CA.as_bytes());
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: \"{url}\", certificate-authority-data: {authority}}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
         users: [{{name: test, user: {{{user}}}}}]\n"
    );
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let byte = |place: usize| u32::from(part.get(place).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let digit = DIGITS.get(usize::try_from(digit).unwrap_or_default());
            text.push(match digit {
                Some(digit) if place <= part.len() => char::from(*digit),
                _ => '=',
            });
        }
    }
    text
}

fn key(resource: &str, namespace: &str, name: &str) -> Key {
    Key {
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

async fn listen(address: SocketAddr, tls: Option<Tls>, routes: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    match tls {
        None => drop(tokio::spawn(
            async move { axum::serve(listener, routes).await },
        )),
        Some(tls) => {
            let listener = TlsListener::new(listener, tls)?;
            drop(tokio::spawn(
                async move { axum::serve(listener, routes).await },
            ));
        }
    }
    Ok(address)
}
