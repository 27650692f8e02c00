//! What a head says, as far as a printer and its clients need to know it: bytes in, values out.
use super::Framing;
use httparse::{Header, Status};

/// Fields of a head.
const FIELDS: usize = 64;

/// Why HTTP cannot go on. The connection ends.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection failed, or nothing came in time.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The head did not come in time.
    #[error("the head comes too slowly")]
    TooSlow,
    /// The head does not end.
    #[error("the head is too long")]
    HeadTooLong,
    /// This is not HTTP/1, or not as one may write it.
    #[error("{0}")]
    Bad(&'static str),
    /// A coding of the body that nobody needs.
    #[error("a transfer coding other than chunked")]
    Coding,
    /// Something is expected that is not known.
    #[error("an expectation other than 100-continue")]
    Expectation,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub host: Option<String>,
    pub content_type: Option<String>,
    pub framing: Framing,
    /// The client waits for leave to send the body.
    pub expects: bool,
    /// The connection may serve another request.
    pub keep: bool,
}

/// A response's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub framing: Framing,
}

impl Request {
    pub fn parse(head: &[u8]) -> Result<Self, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        if !matches!(request.parse(head), Ok(Status::Complete(_))) {
            return Err(Fault::Bad("this is not HTTP/1"));
        }
        let minor = request.version.unwrap_or_default();
        let method = match request.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        };
        let fields = Fields(request.headers);
        let host = fields.one("host")?;
        if minor > 0 && host.is_none() {
            return Err(Fault::Bad("a request of HTTP/1.1 without a host"));
        }
        let expects = match fields.one("expect")? {
            Some(what) if what.eq_ignore_ascii_case("100-continue") => true,
            Some(_) => return Err(Fault::Expectation),
            None => false,
        };
        // Nobody who cannot speak 1.1 waits for it.
        let expects = expects && minor > 0;
        Ok(Self {
            method,
            path: path_of(request.path.unwrap_or_default()).to_owned(),
            host: host.map(str::to_owned),
            content_type: fields.one("content-type")?.map(str::to_owned),
            framing: fields.framing(minor)?.unwrap_or(Framing::Length(0)),
            expects,
            keep: fields.keeps(minor),
        })
    }
}

impl Response {
    pub fn parse(head: &[u8]) -> Result<Self, Fault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        if !matches!(response.parse(head), Ok(Status::Complete(_))) {
            return Err(Fault::Bad("this is not HTTP/1"));
        }
        let minor = response.version.unwrap_or_default();
        let fields = Fields(response.headers);
        Ok(Self {
            status: response.code.unwrap_or_default(),
            framing: fields.framing(minor)?.unwrap_or(Framing::UntilClosed),
        })
    }
}

/// Some clients name the whole address; what matters is the path.
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

struct Fields<'a>(&'a [Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        (self.0.iter())
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| std::str::from_utf8(field.value).ok().map(str::trim))
    }

    /// A field that may be there once.
    fn one(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(Some(value)), None) => Ok(Some(value)),
            _ => Err(Fault::Bad("a field that is there twice, or is no text")),
        }
    }

    fn framing(&self, minor: u8) -> Result<Option<Framing>, Fault> {
        let length = self.one("content-length")?;
        let coding = self.one("transfer-encoding")?;
        match (length, coding) {
            (None, None) => Ok(None),
            // Two who disagree about where a request ends can be played against each other.
            (Some(_), Some(_)) => Err(Fault::Bad("both a length and a transfer coding")),
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") && minor > 0 => {
                Ok(Some(Framing::Chunked))
            }
            (None, Some(_)) => Err(Fault::Coding),
            (Some(length), None) => {
                let right = (1..=19).contains(&length.len())
                    && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = right.then(|| length.parse().ok()).flatten();
                let length = length.ok_or(Fault::Bad("a length that is no number"))?;
                Ok(Some(Framing::Length(length)))
            }
        }
    }

    fn keeps(&self, minor: u8) -> bool {
        let says = |what: &str| {
            (self.all("connection").flatten())
                .flat_map(|value| value.split(','))
                .any(|option| option.trim().eq_ignore_ascii_case(what))
        };
        !says("close") && (minor > 0 || says("keep-alive"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Result<Request, Fault> {
        Request::parse(head.replace('\n', "\r\n").as_bytes())
    }

    #[test]
    fn a_request_of_cups_is_understood() {
        let head = "POST /ipp/print HTTP/1.1\nContent-Type: application/ipp\nHost: localhost:631\n\
                    Transfer-Encoding: chunked\nUser-Agent: CUPS/2.4.2\nExpect: 100-continue\n\n";
        assert_eq!(
            request(head).unwrap(),
            Request {
                method: Method::Post,
                path: "/ipp/print".into(),
                host: Some("localhost:631".into()),
                content_type: Some("application/ipp".into()),
                framing: Framing::Chunked,
                expects: true,
                keep: true,
            }
        );
    }

    #[test]
    fn versions_and_options_decide_about_keeping() {
        let keeps = |head: &str| request(head).unwrap().keep;
        assert!(keeps("GET / HTTP/1.1\nHost: a\n\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\nHost: a\nConnection: upgrade, Close\n\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\n\n"));
        assert!(keeps("GET / HTTP/1.0\nConnection: Keep-Alive\n\n"));
    }

    #[test]
    fn a_target_may_be_a_whole_address() {
        let path = |target: &str| {
            let head = format!("GET {target} HTTP/1.1\nHost: a\n\n");
            request(&head).unwrap().path
        };
        assert_eq!(path("http://localhost:8631/ipp/print?x"), "/ipp/print");
        assert_eq!(path("ipp://localhost"), "/");
        assert_eq!(path("*"), "*");
    }

    #[test]
    fn what_two_could_read_differently_is_refused() {
        for fields in [
            "Content-Length: 3\nTransfer-Encoding: chunked\n",
            "Content-Length: 3\nContent-Length: 4\n",
            "Content-Length: +3\n",
            "Content-Length: \n",
            "Content-Length: 99999999999999999999\n",
            "Host: b\n",
        ] {
            let head = format!("POST / HTTP/1.1\nHost: a\n{fields}\n");
            assert!(matches!(request(&head), Err(Fault::Bad(_))), "{fields}");
        }
        let head = "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n";
        assert!(matches!(request(head), Err(Fault::Coding)));
        let head = "POST / HTTP/1.1\nHost: a\nExpect: 200-ok\n\n";
        assert!(matches!(request(head), Err(Fault::Expectation)));
        assert!(matches!(request("GET / HTTP/1.1\n\n"), Err(Fault::Bad(_))));
        assert!(matches!(
            request("GET / HTTP/2.0\nHost: a\n\n"),
            Err(Fault::Bad(_))
        ));
    }

    #[test]
    fn too_many_fields_are_refused() {
        let fields = "A: b\n".repeat(FIELDS);
        assert!(request(&format!("GET / HTTP/1.1\nHost: a\n{fields}\n")).is_err());
    }

    #[test]
    fn a_response_may_end_with_the_connection() {
        let response = Response::parse(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert_eq!(
            (response.status, response.framing),
            (200, Framing::UntilClosed)
        );
    }
}
