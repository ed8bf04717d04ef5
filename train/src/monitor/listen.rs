//! Where the page is served and who may see it: anybody on this machine, or whoever has the token, over TLS, from elsewhere.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use socket2::SockRef;
use subtle::ConstantTimeEq;

use crate::outcome::{Failure, Outcome};

/// Letters of a token, at least.
const SHORTEST_TOKEN: usize = 16;
/// Bytes that wait in the system for a viewer: what lies there is old when it is seen.
const SEND_BUFFER: usize = 128 << 10;
/// A viewer who takes nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to listen, on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct ListenArgs {
    /// Address and port of the page; port 0 for a free one. Anywhere but on this machine it wants a token and TLS.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// What whoever wants to see the page has to know; other users of this machine can read it in the list of processes, --token-file is safer.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token in its first line.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificate for TLS and those up to its authority, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve others without TLS: who listens on the network sees the picture and the token.
    #[arg(long, conflicts_with = "tls_cert")]
    insecure: bool,
}

/// A place to listen at, and who is let in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) key: Option<Key>,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

impl ListenArgs {
    /// Checks who would be let in, and only then listens.
    pub(super) fn open(&self) -> Outcome<Door> {
        let key = self.token()?.as_deref().map(Key::new);
        let at = self.listen;
        if !at.ip().is_loopback() {
            if key.is_none() {
                return Err(Failure::Arguments(format!(
                    "--listen {at}: wanted --token-file or --token, since others can reach that address, found neither; \
                     without them listen on 127.0.0.1"
                )));
            }
            if self.tls_cert.is_none() && !self.insecure {
                return Err(Failure::Arguments(format!(
                    "--listen {at}: wanted --tls-cert and --tls-key, since others can reach that address, found neither; \
                     --insecure does without"
                )));
            }
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Arc::new(tls(cert, key)?)),
            _ => None,
        };
        let failed = |e| {
            Failure::Arguments(format!(
                "--listen {at}: {e}; wanted a free port of this machine"
            ))
        };
        let listener = TcpListener::bind(at).map_err(failed)?;
        // Connections inherit both.
        let socket = SockRef::from(&listener);
        socket.set_send_buffer_size(SEND_BUFFER).map_err(failed)?;
        #[cfg(target_os = "linux")]
        socket
            .set_tcp_user_timeout(Some(PATIENCE))
            .map_err(failed)?;
        Ok(Door {
            address: listener.local_addr().map_err(failed)?,
            listener,
            key,
            tls,
        })
    }

    fn token(&self) -> Outcome<Option<String>> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(Failure::io(path))?;
                text.lines().next().unwrap_or_default().trim().to_owned()
            }
            (None, None) => return Ok(None),
        };
        let length = token.chars().count();
        if length < SHORTEST_TOKEN {
            return Err(Failure::Arguments(format!(
                "wanted a token of {SHORTEST_TOKEN} letters or more, found {length}; `openssl rand -hex 16` makes one"
            )));
        }
        Ok(Some(token))
    }
}

impl Door {
    /// Whether nobody but users of this machine can reach it.
    pub(super) fn is_of_this_machine(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Where a browser finds it.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", self.address)
    }
}

fn tls(cert: &Path, key: &Path) -> Outcome<ServerConfig> {
    let wrong = |path, e: &dyn std::fmt::Display| {
        Failure::wrong_file(path, &format!("{e}; wanted a file in PEM"))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(cert, &e))?;
    if chain.is_empty() {
        return Err(wrong(cert, &"found no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|e| wrong(cert, &e))?;
    // WebSockets of HTTP/2 would need an extension of it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is to be known to be let in. Kept and compared as hashes, in a time that says nothing of how much was right.
#[derive(Clone)]
pub(super) struct Key {
    token: [u8; 32],
    cookie: String,
}

impl Key {
    fn new(token: &str) -> Self {
        let cookie = Sha256::digest(format!("acdclip monitor {token}"));
        Self {
            token: Sha256::digest(token).into(),
            cookie: cookie.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// Whether that is the token.
    pub(super) fn fits(&self, token: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(token).into();
        given.ct_eq(&self.token).into()
    }

    /// Whether that is what a browser is given to keep.
    pub(super) fn fits_cookie(&self, value: &str) -> bool {
        value.as_bytes().ct_eq(self.cookie.as_bytes()).into()
    }

    /// What a browser is given to keep. The token cannot be computed from it.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_its_token_and_its_cookie_alone() {
        let key = Key::new("a token of some length");
        assert!(key.fits("a token of some length") && !key.fits("a token of some lengtH"));
        assert!(key.fits_cookie(key.cookie()));
        assert!(!key.fits_cookie("") && !key.fits_cookie("a token of some length"));
        assert!(!key.fits(key.cookie()));
    }
}
