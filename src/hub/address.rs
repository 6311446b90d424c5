//! Addresses: how they are built, joined and compared.

use ureq::http::Uri;

/// The scheme, host and port of an address, in lower case and with the port spelled out.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = uri.port_u16().unwrap_or(usual);
    Some((scheme, host.to_ascii_lowercase(), port))
}

/// Where a `location` header leads from `url`; none if it is no http address.
fn join(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let joined = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let path = path.split(['?', '#']).next().unwrap_or("");
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{scheme}://{authority}{folder}{location}")
    };
    origin(&joined).map(|_| joined)
}

/// Where a redirect from `url` may lead us: any http address, but not from https to http.
pub(super) fn follow(url: &str, location: &str) -> Option<String> {
    let is_secret = |url: &str| origin(url).is_some_and(|(scheme, ..)| scheme == "https");
    join(url, location).filter(|next| is_secret(next) || !is_secret(url))
}

/// An address fit for a message: without its query, which may hold a signature, and without a user's name and password.
pub(super) fn bare(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

/// A text as one part of a path; `/` is kept if `slashes`.
pub(super) fn escape(text: &str, slashes: bool) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (slashes && byte == b'/') {
            escaped.push(byte as char);
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let is = |scheme: &str, host: &str, port| Some((scheme.to_owned(), host.to_owned(), port));
        assert_eq!(
            origin("https://HuggingFace.co/a?b"),
            is("https", "huggingface.co", 443)
        );
        assert_eq!(origin("http://a:8080"), is("http", "a", 8080));
        assert_eq!(
            origin("https://huggingface.co@evil.com/x"),
            is("https", "evil.com", 443)
        );
        assert_eq!(origin("ftp://a/b"), None);
        assert_eq!(origin("a/b"), None);
    }

    #[test]
    fn a_location_is_read_from_where_it_was_said() {
        let join = |location| join("https://a.b:1/x/y?q=/z", location);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(join("http://c/d?e"), is("http://c/d?e"));
        assert_eq!(join("//c/d"), is("https://c/d"));
        assert_eq!(join("/d"), is("https://a.b:1/d"));
        assert_eq!(join("d"), is("https://a.b:1/x/d"));
        assert_eq!(join("file:///etc/passwd"), None);
        assert_eq!(super::join("http://a", "d"), is("http://a/d"));
    }

    #[test]
    fn a_query_is_kept_out_of_messages() {
        assert_eq!(bare("https://a/b?Signature=secret"), "https://a/b");
        assert_eq!(bare("https://me:secret@a:1/b@c"), "https://a:1/b@c");
        assert_eq!(bare("https://me:secret@a"), "https://a");
    }

    #[test]
    fn a_redirect_does_not_leave_tls() {
        assert_eq!(follow("https://a/b", "http://a/c"), None);
        assert_eq!(follow("https://a/b", "HTTP://c"), None);
        for (url, location) in [
            ("https://a/b", "https://c/d"),
            ("http://a/b", "http://c/d"),
            ("http://a/b", "https://c/d"),
        ] {
            assert_eq!(follow(url, location).as_deref(), Some(location));
        }
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(escape("a b/c#d", true), "a%20b/c%23d");
    }
}
