//! Where a printer is.
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// IPP's port.
const PORT: u16 = 631;

/// How a printer or a print service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A Unix socket.
    Socket(PathBuf),
    /// A host and its port.
    Port(String, u16),
}

impl Service {
    /// This machine's CUPS: its socket if there is one, which needs no network and no login.
    #[must_use]
    pub fn local() -> Self {
        let socket = Path::new("/run/cups/cups.sock");
        if socket.exists() {
            Self::Socket(socket.to_owned())
        } else {
            Self::Port("localhost".into(), PORT)
        }
    }

    fn is_local(host: &str, port: u16) -> bool {
        port == PORT && ["localhost", "127.0.0.1", "::1"].contains(&host)
    }
}

/// What is knocked at.
pub enum Door<'a> {
    Socket(&'a Path),
    Port(&'a str, u16),
}

/// A printer, or the service itself, and how it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    service: Service,
    host: String,
    port: u16,
    path: String,
}

impl Place {
    /// Of an address like `ipp://localhost/printers/NAME`.
    pub fn parse(uri: &str) -> Result<Self> {
        let (host, port, path) = parts(uri)?;
        let service = if Service::is_local(&host, port) {
            Service::local()
        } else {
            Service::Port(host.clone(), port)
        };
        Ok(Self {
            service,
            host,
            port,
            path,
        })
    }

    /// Of such an address, at this service.
    pub fn at(service: &Service, uri: &str) -> Result<Self> {
        let (host, port, path) = parts(uri)?;
        Ok(Self {
            service: service.clone(),
            host,
            port,
            path,
        })
    }

    /// The service itself.
    pub fn root(service: &Service) -> Self {
        let (host, port) = match service {
            Service::Socket(_) => ("localhost".to_owned(), PORT),
            Service::Port(host, port) => (host.clone(), *port),
        };
        Self {
            service: service.clone(),
            host,
            port,
            path: "/".into(),
        }
    }

    pub fn door(&self) -> Door<'_> {
        match &self.service {
            Service::Socket(path) => Door::Socket(path),
            Service::Port(host, port) => Door::Port(host, *port),
        }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// As HTTP's `Host` says it.
    pub fn host(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == PORT {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// As IPP says it.
    pub fn uri(&self) -> String {
        format!("ipp://{}{}", self.host(), self.path)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.service {
            Service::Socket(path) => write!(f, "{} at {}", self.uri(), path.display()),
            Service::Port(..) => f.write_str(&self.uri()),
        }
    }
}

/// Host, port and path. What goes into HTTP's head is checked here, letter by letter.
fn parts(uri: &str) -> Result<(String, u16, String)> {
    let bad = |why| Error::Uri {
        uri: uri
            .chars()
            .filter(|letter| !letter.is_control())
            .take(200)
            .collect(),
        why,
    };
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| bad("it has no scheme"))?;
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "ipp" => PORT,
        "http" => 80,
        "ipps" | "https" => {
            return Err(bad("TLS is not spoken; let the host's CUPS print there"));
        }
        _ => return Err(bad("its scheme is not ipp")),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains('@') {
        return Err(bad("it has a password, which is not used"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or_else(|| bad("its host has no end"))?;
            (host, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| bad("its port is no number"))?,
        None => usual,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return Err(bad("its host is no name"));
    }
    if path.len() > 1000 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("its path has letters that an address does not have"));
    }
    Ok((host.to_owned(), port, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        for (uri, host, path) in [
            (
                "ipp://printer.example/ipp/print",
                "printer.example",
                "/ipp/print",
            ),
            ("ipp://printer:8631/ipp", "printer:8631", "/ipp"),
            ("http://[fe80::1]:631/", "[fe80::1]", "/"),
            ("IPP://host", "host", "/"),
        ] {
            let place = Place::parse(uri).unwrap();
            assert_eq!((place.host().as_str(), place.path()), (host, path), "{uri}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for uri in [
            "",
            "printer",
            "ipps://host/",
            "file:///etc/passwd",
            "ipp:///x",
            "ipp://ho st/",
            "ipp://host:x/",
            "ipp://me:secret@host/",
            "ipp://host/a\r\nX: y",
            "ipp://[::1/",
        ] {
            assert!(matches!(Place::parse(uri), Err(Error::Uri { .. })), "{uri}");
        }
    }
}
