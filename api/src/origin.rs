//! Which Host and Origin a request may carry: the guard against DNS rebinding and against other sites' pages.
//!
//! A page of another site can make a browser send requests here, but not without its own `Origin`; a page whose
//! name was rebound to this address sends that name as `Host`. Both are looked at on every method, because a GET
//! of ours may tell much and a `text/plain` POST needs no preflight.

use crate::Problem;
use poem::http::StatusCode;
use std::net::IpAddr;

/// The names under which this server is reached.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    names: Vec<String>,
    /// Bound to every address: then any address will do, for rebinding needs a name.
    any_address: bool,
}

impl Hosts {
    /// `localhost`, the loopback addresses, the bound address, and these names.
    pub(crate) fn new(bound: IpAddr, names: &[String]) -> Hosts {
        let own = ["localhost".into(), "127.0.0.1".into(), "::1".into(), bound.to_string()];
        let names = own.into_iter().chain(names.iter().map(|n| n.to_ascii_lowercase())).collect();
        Hosts { names, any_address: bound.is_unspecified() }
    }

    /// Passes a request with this Host, and this Origin if it came from a page.
    pub(crate) fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), Problem> {
        let host = host.ok_or_else(|| Problem::bad("the request has no Host"))?;
        let name = name_of(host).ok_or_else(|| Problem::bad("the Host is not readable"))?;
        let known = self.names.contains(&name) || (self.any_address && name.parse::<IpAddr>().is_ok());
        if !known {
            let text = "this server is not known under that name: add it to the allowed hosts if it is yours";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", text));
        }
        let Some(origin) = origin else { return Ok(()) };
        let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "wrong_origin", "pages of other sites can't use this API"))
    }
}

/// The name in `name`, `name:port`, `[address]` or `[address]:port`, in lower case.
fn name_of(authority: &str) -> Option<String> {
    let (name, rest) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = rest.strip_prefix(':').unwrap_or(rest);
    let readable = !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    readable.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> Option<u16> {
        let hosts = Hosts::new("127.0.0.1".parse().unwrap(), &["hive.example".into()]);
        hosts.check(Some(host), origin).err().map(|p| p.status().as_u16())
    }

    #[test]
    fn our_own_names_pass_with_any_port() {
        for host in ["localhost", "LOCALHOST:4892", "127.0.0.1:1", "[::1]:4892", "[::1]", "hive.example:443"] {
            assert_eq!(check(host, None), None, "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in
            ["evil.example", "evil.example:4892", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"]
        {
            assert_eq!(check(host, None), Some(421), "{host}");
        }
        for host in ["", ":80", "[::1", "localhost:80@evil", "user@localhost:x"] {
            assert!(check(host, None).is_some(), "{host}");
        }
    }

    #[test]
    fn only_a_page_from_here_may_ask() {
        assert_eq!(check("localhost:4892", Some("http://localhost:4892")), None);
        for origin in ["null", "", "http://evil.example", "http://localhost:1", "http://127.0.0.1:4892", "file://"] {
            assert_eq!(check("localhost:4892", Some(origin)), Some(403), "{origin}");
        }
    }

    #[test]
    fn bound_everywhere_any_address_will_do_but_no_name() {
        let hosts = Hosts::new("0.0.0.0".parse().unwrap(), &[]);
        assert!(hosts.check(Some("192.168.1.7:4892"), None).is_ok());
        assert!(hosts.check(Some("evil.example"), None).is_err());
    }
}
