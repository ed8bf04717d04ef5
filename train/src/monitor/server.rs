//! The server: which path answers with what, on a runtime of its own beside the pipeline.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::Html,
    routing::{any, delete, get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use tokio::runtime::{Builder, Runtime};

use super::{
    api, feed,
    guard::{self, Guard, text},
    hub::Hub,
    listen::Door,
    webrtc::signal,
};
use crate::outcome::{Failure, Outcome};

/// Bytes of a request's body, at most.
const LONGEST_BODY: usize = 16 << 10;
/// How long a request may take to say what it wants.
const HURRY: Duration = Duration::from_secs(10);
/// How long pages are told of the end.
const FAREWELL: Duration = Duration::from_millis(1500);

/// The server at work.
pub(super) struct Serving {
    runtime: Runtime,
    handle: Handle<SocketAddr>,
}

impl Serving {
    /// Serves the hub's page to whoever is let in.
    pub(super) fn start(door: Door, hub: &Arc<Hub>) -> Outcome<Self> {
        let failed =
            |e: std::io::Error| Failure::Arguments(format!("the page cannot be served: {e}"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("acdclip:page")
            .enable_all()
            .build()
            .map_err(failed)?;
        let handle = Handle::new();
        let service = router(Guard::new(&door), Arc::clone(hub)).into_make_service();
        let entered = runtime.enter();
        let mut server = axum_server::from_tcp(door.listener)
            .map_err(failed)?
            .handle(handle.clone())
            .first_request_timeout(HURRY);
        drop(entered);
        server.http_builder().http1().header_read_timeout(HURRY);
        // It ends when it is told to; what else could end it is of single connections.
        match door.tls {
            Some(tls) => {
                let acceptor =
                    axum_server::tls_rustls::RustlsAcceptor::new(RustlsConfig::from_config(tls));
                runtime.spawn(server.acceptor(acceptor).serve(service));
            }
            None => {
                runtime.spawn(server.serve(service));
            }
        }
        Ok(Self { runtime, handle })
    }

    /// Tells the pages of the end, and closes them.
    pub(super) fn stop(self) {
        // A page gets its update within that time, and a picture that nobody takes holds nothing up.
        std::thread::sleep(FAREWELL / 3);
        self.handle.graceful_shutdown(Some(FAREWELL / 3));
        self.runtime.shutdown_timeout(FAREWELL / 3);
    }
}

fn router(guard: Guard, hub: Arc<Hub>) -> Router {
    let token = Router::new()
        .route("/token", post(guard::take_token))
        .with_state(guard.clone());
    Router::new()
        .route("/", get(async || Html(include_str!("page/index.html"))))
        .route(
            "/page.js",
            get(async || {
                text(
                    "text/javascript; charset=utf-8",
                    include_str!("page/page.js"),
                )
            }),
        )
        .route(
            "/picture.js",
            get(async || {
                text(
                    "text/javascript; charset=utf-8",
                    include_str!("page/picture.js"),
                )
            }),
        )
        .route(
            "/chart.js",
            get(async || {
                text(
                    "text/javascript; charset=utf-8",
                    include_str!("page/chart.js"),
                )
            }),
        )
        .route(
            "/style.css",
            get(async || text("text/css; charset=utf-8", include_str!("page/style.css"))),
        )
        .route(
            "/icon.svg",
            get(async || text("image/svg+xml", include_str!("page/icon.svg"))),
        )
        .route("/live.mjpeg", get(feed::live))
        .route("/api/webrtc", post(signal::offer))
        .route("/api/webrtc/{id}", delete(signal::leave))
        .route("/api/webrtc/{id}/answer", post(signal::answer))
        .route("/api/updates", any(feed::updates))
        .route("/api/state", get(api::state))
        .route("/api/picture.jpg", get(api::picture))
        .route("/api/events/{id}/peak.jpg", get(api::event_picture))
        .route("/api/events/{id}/jump", post(api::jump))
        .route("/api/settings", post(api::set))
        .with_state(hub)
        .merge(token)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn_with_state(guard, guard::check))
}
