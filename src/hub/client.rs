//! Requests: who we are to whom, where redirects lead, what a status means.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::address::{bare, follow, origin};
use super::retry::{Retry, Trouble, asked_wait};
use super::{Environment, HubError};

/// How often one request may be sent elsewhere.
const REDIRECTS: usize = 10;
/// The longest JSON that is read.
const LONGEST_JSON: u64 = 64 << 20;
/// How often a list is asked for while there is no connection.
const BLIND: u32 = 3;
/// How often a waiting thread looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// What we ask the Hub with.
#[derive(Debug)]
pub(super) struct Client<'a> {
    agent: Agent,
    pub(super) environment: &'a Environment,
    /// The model that is asked about, for messages.
    pub(super) model: String,
    pub(super) retry: Retry,
    /// Says that every request should end.
    pub(super) stop: &'a AtomicBool,
}

/// What is asked of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The headers that the Hub itself sends; a redirect to another host is the answer.
    Headers,
    /// The contents from this byte on, wherever they are.
    From(u64),
}

impl<'a> Client<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        model: String,
        retry: Retry,
        stop: &'a AtomicBool,
    ) -> Result<Self, HubError> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = &environment.certificates {
            let wrong = |why: String| HubError::Certificates {
                path: path.clone(),
                why,
            };
            let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(wrong("it has no certificate".to_owned()));
            }
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, since the token must not go along.
            .max_redirects(0)
            .user_agent(concat!("trestle/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(environment.patience))
            .timeout_recv_response(Some(environment.patience))
            .timeout_per_read(Some(environment.patience))
            .timeout_per_write(Some(environment.patience))
            .tls_config(tls.build());
        Ok(Self {
            agent: config.build().into(),
            environment,
            model,
            retry,
            stop,
        })
    }

    /// Ends every request in flight.
    pub(super) fn shut_down(&self) {
        self.stop.store(true, Relaxed);
        self.agent.clone().shutdown();
    }

    /// An error if the requests should end.
    pub(super) fn check_stop(&self) -> Result<(), HubError> {
        if self.stop.load(Relaxed) {
            return Err(HubError::Stopped);
        }
        Ok(())
    }

    /// Waits, unless it should stop.
    pub(super) fn pause(&self, wait: Duration) -> Result<(), HubError> {
        let begin = Instant::now();
        while begin.elapsed() < wait {
            self.check_stop()?;
            thread::sleep(LOOK.min(wait));
        }
        Ok(())
    }

    /// Does `what` until it works, fails for good, or has been tried often enough: without any connection only [`BLIND`] times, since nobody sees
    /// that we wait.
    pub(super) fn persist<T>(
        &self,
        mut what: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            match what() {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error, asked)) => {
                    failures += 1;
                    let attempts = match error {
                        HubError::Unreachable { .. } => self.retry.attempts.min(BLIND),
                        _ => self.retry.attempts,
                    };
                    if failures >= attempts {
                        return Err(error.after(failures));
                    }
                    self.pause(asked.unwrap_or_else(|| self.retry.wait(failures)))?;
                }
            }
        }
    }

    /// The JSON at an address of the endpoint.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        what: &str,
    ) -> Result<T, HubError> {
        let bytes = self.persist(|| {
            let mut response = self.ask(Ask::From(0), url, what)?;
            let body = response.body_mut().with_config().limit(LONGEST_JSON);
            body.read_to_vec().map_err(|error| self.broken(url, error))
        })?;
        serde_json::from_slice(&bytes).map_err(|error| HubError::Answer {
            url: bare(url),
            why: format!("the answer is not what the Hub says: {error}"),
        })
    }

    /// Asks an address, following redirects, and gives an answer whose status is a success, or 416 if a later part was asked for, or a redirect
    /// if only the headers were. `what` says in messages what was asked for.
    pub(super) fn ask(&self, ask: Ask, url: &str, what: &str) -> Result<Response<Body>, Trouble> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            self.check_stop()?;
            let own = self.is_own(&url);
            let mut request = match ask {
                Ask::Headers => self.agent.head(&url),
                Ask::From(_) => self.agent.get(&url),
            };
            if let (true, Some(token)) = (own, &self.environment.token) {
                request = request.header("authorization", token.header());
            }
            if let Ask::From(start @ 1..) = ask {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| self.broken(&url, error))?;
            let status = response.status().as_u16();
            let location = header(&response, "location");
            match (status, location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    let Some(next) = follow(&url, location) else {
                        return Err(Trouble::Final(HubError::Answer {
                            url: bare(&url),
                            why: format!("it sends us to {}", bare(location)),
                        }));
                    };
                    if ask == Ask::Headers && !self.is_own(&next) {
                        return Ok(response);
                    }
                    url = next;
                }
                (200 | 206, _) => return Ok(response),
                (416, _) if matches!(ask, Ask::From(1..)) => return Ok(response),
                _ => return Err(self.refused(&response, &url, what)),
            }
        }
        Err(Trouble::Final(HubError::Answer {
            url: bare(&url),
            why: format!("it sends us elsewhere more than {REDIRECTS} times"),
        }))
    }

    /// Whether an address is the endpoint's: only there the token goes.
    fn is_own(&self, url: &str) -> bool {
        let own = origin(&self.environment.endpoint);
        own.is_some() && own == origin(url)
    }

    /// What a status other than success means.
    fn refused(&self, response: &Response<Body>, url: &str, what: &str) -> Trouble {
        let endpoint = bare(&self.environment.endpoint);
        let message = words(header(response, "x-error-message").unwrap_or(""));
        let code = header(response, "x-error-code").unwrap_or("");
        let status = response.status().as_u16();
        let asked = asked_wait(
            header(response, "retry-after"),
            header(response, "ratelimit"),
        );
        let own = self.is_own(url);
        let not_found = |what: String| {
            Trouble::Final(HubError::NotFound {
                what,
                endpoint: endpoint.clone(),
                message: message.clone(),
            })
        };
        let other = HubError::Status {
            url: bare(url),
            status,
            message: message.clone(),
            attempts: 1,
        };
        match status {
            401 | 403 if own => Trouble::Final(HubError::Forbidden {
                id: self.model.clone(),
                endpoint,
                status,
                message,
                with_token: self.environment.token.is_some(),
            }),
            404 if own && code == "RepoNotFound" => not_found(format!("model {}", self.model)),
            404 if own => not_found(what.to_owned()),
            429 => {
                let error = HubError::TooManyRequests {
                    endpoint,
                    seconds: asked.map(|wait| wait.as_secs()),
                };
                match asked {
                    Some(wait) if wait > self.retry.longest_asked => Trouble::Final(error),
                    asked => Trouble::Passing(error, asked),
                }
            }
            // A store's signed address may have expired: the next attempt gets a new one.
            401 | 403 => Trouble::Passing(other, None),
            408 | 425 | 500.. => Trouble::Passing(
                other,
                asked.filter(|wait| *wait <= self.retry.longest_asked),
            ),
            _ => Trouble::Final(other),
        }
    }

    /// What a connection that failed means.
    pub(super) fn broken(&self, url: &str, error: ureq::Error) -> Trouble {
        if self.stop.load(Relaxed) {
            return Trouble::Final(HubError::Stopped);
        }
        let (passes, why) = match &error {
            // rustls: a certificate that we do not trust, or no TLS at all.
            ureq::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => {
                let url = bare(url);
                return Trouble::Final(HubError::Tls {
                    url,
                    why: io.to_string(),
                });
            }
            ureq::Error::Io(io) => (true, io.to_string()),
            ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_) => (true, error.to_string()),
            _ => (false, error.to_string()),
        };
        let unreachable = HubError::Unreachable {
            url: bare(url),
            why,
            attempts: 1,
        };
        if passes {
            Trouble::Passing(unreachable, None)
        } else {
            Trouble::Final(unreachable)
        }
    }
}

/// A header as text.
pub(super) fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// A server's words, fit for a terminal.
fn words(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(200).collect()
}
