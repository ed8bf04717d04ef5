//! Who is let in: the Host and Origin that a request names, the token or the cookie that it brings, and what every answer says of itself.

use std::net::IpAddr;

use axum::{
    Form,
    extract::{Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST,
            LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE, UPGRADE, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
        uri::Authority,
    },
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use serde::Deserialize;

use super::listen::{Door, Key};

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is served without a token, since the page that asks for one needs it.
const OPEN: [&str; 3] = ["/style.css", "/icon.svg", "/token"];

/// Goes on to the page itself. A redirection would still be the request of another site that led here, which gets no strict cookie.
const WELCOME: &str = "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=\"0; url=/\"><title>acdclip monitor</title>";

/// Who is let in.
#[derive(Clone)]
pub(super) struct Guard {
    key: Option<Key>,
    /// Whether nobody but users of this machine can reach it.
    is_of_this_machine: bool,
    cookie_name: String,
    is_secure: bool,
}

/// A token in the address.
#[derive(Deserialize)]
pub(super) struct Given {
    token: Option<String>,
}

impl Guard {
    pub(super) fn new(door: &Door) -> Self {
        Self {
            key: door.key.clone(),
            is_of_this_machine: door.is_of_this_machine(),
            // Browsers tell apart cookies of hosts, not of ports.
            cookie_name: format!("acdclip-{}", door.address.port()),
            is_secure: door.tls.is_some(),
        }
    }

    fn set_cookie(&self, key: &Key) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!(
            "{}={}; Path=/; HttpOnly; SameSite=Strict{secure}",
            self.cookie_name,
            key.cookie()
        )
    }

    fn has_cookie(&self, key: &Key, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(COOKIE).iter();
        cookies
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, value)| name == self.cookie_name && key.fits_cookie(value))
    }
}

/// Checks a request before anything else sees it, and marks the answer.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match admit(&guard, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Browsers hide the origin of a form from its own server too where nobody is told.
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

fn admit(guard: &Guard, request: &Request) -> Result<(), Box<Response>> {
    let refuse = |status, why: String| Err(Box::new((status, format!("{why}\n")).into_response()));
    let headers = request.headers();
    let Some(host) = host(request) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "wanted a Host header, found none".into(),
        );
    };
    // Another site's name that was made to mean this machine.
    if guard.is_of_this_machine && !is_this_machine(&host) {
        let why = format!(
            "wanted a request to localhost or a loopback address, found one to {}",
            host.host()
        );
        return refuse(StatusCode::MISDIRECTED_REQUEST, why);
    }
    let changes = request.method() != Method::GET || headers.contains_key(UPGRADE);
    if changes
        && let Some(origin) = headers.get(ORIGIN)
        && !is_own(origin, &host)
    {
        let why = "wanted a request of this page, found one of another".into();
        return refuse(StatusCode::FORBIDDEN, why);
    }
    match &guard.key {
        Some(key) if !OPEN.contains(&request.uri().path()) => admit_with(guard, key, request),
        _ => Ok(()),
    }
}

fn admit_with(guard: &Guard, key: &Key, request: &Request) -> Result<(), Box<Response>> {
    let headers = request.headers();
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if bearer.is_some_and(|token| key.fits(token)) || guard.has_cookie(key, headers) {
        return Ok(());
    }
    let given = Query::<Given>::try_from_uri(request.uri());
    let given = given.ok().and_then(|Query(given)| given.token);
    if given.as_deref().is_some_and(|token| key.fits(token)) {
        let cookie = [(SET_COOKIE, guard.set_cookie(key))];
        return Err(Box::new((cookie, Html(WELCOME)).into_response()));
    }
    let is_wrong = bearer.is_some() || given.is_some();
    Err(Box::new(refusal(request.uri(), is_wrong)))
}

/// A page that asks for the token for whoever wants the page, a line for anything else.
fn refusal(uri: &Uri, is_wrong: bool) -> Response {
    let found = if is_wrong { "another" } else { "none" };
    if uri.path() == "/" {
        let page = include_str!("page/token.html").replace(
            "{{problem}}",
            if is_wrong {
                "That is not the token."
            } else {
                ""
            },
        );
        return (StatusCode::UNAUTHORIZED, Html(page)).into_response();
    }
    let why = format!("wanted the token of this monitor, found {found}\n");
    let scheme = [(axum::http::header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, scheme, why).into_response()
}

/// Takes the token from the page that asks for it.
pub(super) async fn take_token(State(guard): State<Guard>, Form(given): Form<Given>) -> Response {
    let is_right = |key: &&Key| given.token.as_deref().is_some_and(|token| key.fits(token));
    match guard.key.as_ref().filter(is_right) {
        Some(key) => {
            let headers = [
                (SET_COOKIE, guard.set_cookie(key)),
                (LOCATION, "/".to_owned()),
            ];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        None => refusal(&Uri::from_static("/"), true),
    }
}

fn host(request: &Request) -> Option<Authority> {
    let header = request.headers().get(HOST);
    let named = header.and_then(|host| host.as_bytes().try_into().ok());
    named.or_else(|| request.uri().authority().cloned())
}

/// A name without a port may be forwarded from another one.
fn is_this_machine(host: &Authority) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_own(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let named = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    named.is_some_and(|named| named.eq_ignore_ascii_case(host.as_str()))
}

/// An answer of a kind of text.
pub(super) fn text(kind: &'static str, body: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind)], body)
}
