//! The addresses of servers, and the secrets that they may contain.
//!
//! If an address cannot be parsed, the place of the password in it is unknown. So no part of such a text is ever shown;
//! of a parsed address only scheme, host and port are shown. The client gets the addresses without user, password and
//! token, which it would ignore there and show, and gets those separately.

use std::fmt;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

/// The addresses of the servers, and the identity of the user.
#[derive(Clone)]
pub(crate) struct Addresses {
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) identity: Option<Identity>,
}

/// The identity that an address contains.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Identity {
    User { name: String, password: String },
    Token(String),
}

const UNREADABLE: &str = "it cannot be read";

impl Addresses {
    /// Parses addresses that are separated by commas.
    ///
    /// # Errors
    ///
    /// Why the text cannot be used, without any part of it.
    pub(crate) fn read(text: &str) -> Result<Self, &'static str> {
        let mut servers = Vec::new();
        let mut identities = Vec::new();
        for address in text.split(',') {
            let (server, identity) = read_one(address.trim())?;
            servers.push(server);
            identities.push(identity);
        }
        let identity = identities.first().cloned().flatten();
        // If a password contains a comma, its end begins the next address and looks like another identity.
        if identities.iter().flatten().any(|other| Some(other) != identity.as_ref()) {
            return Err(
                "all its servers get the user and password of the first one, and others have other ones",
            );
        }
        Ok(Self { servers, identity })
    }
}

fn read_one(address: &str) -> Result<(ServerAddr, Option<Identity>), &'static str> {
    // The parser would silently drop some of these.
    if address.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("there is a space, a tab or a line break in it");
    }
    // The parser drops a trailing `:`. If a password contains commas, its parts may end so.
    if address.ends_with(':') {
        return Err("a port is missing");
    }
    let mut url = address.parse::<ServerAddr>().map_err(|_| UNREADABLE)?.into_inner();
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    let has_path = !matches!(url.path(), "" | "/") && !url.scheme().starts_with("ws");
    if has_path || url.query().is_some() || url.fragment().is_some() {
        return Err("something comes after the host and the port");
    }
    let decoded = |text| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| UNREADABLE);
    let identity = match (url.username(), url.password()) {
        ("", None) if address.contains('@') => return Err("it has an @ and no user"),
        ("", None) => None,
        ("", Some(_)) => return Err("it has a password and no user"),
        (token, None) => Some(Identity::Token(decoded(token)?)),
        (name, Some(password)) => Some(Identity::User { name: decoded(name)?, password: decoded(password)? }),
    };
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| UNREADABLE)?;
    Ok((ServerAddr::from_url(url).map_err(|_| UNREADABLE)?, identity))
}

impl fmt::Display for Addresses {
    /// Writes the addresses without their secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, server) in self.servers.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            let host = server.host();
            // The brackets of an IPv6 address are not part of the host.
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            write!(f, "{comma}{}://{host}:{}", server.scheme(), server.port())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(name: &str, password: &str) -> Identity {
        Identity::User { name: name.into(), password: password.into() }
    }

    fn read(text: &str) -> (String, Option<Identity>) {
        let addresses = Addresses::read(text).unwrap_or_else(|reason| panic!("{text:?}: {reason}"));
        (addresses.to_string(), addresses.identity)
    }

    #[test]
    fn user_password_and_token_are_taken_out() {
        assert_eq!(read("host"), ("nats://host:4222".into(), None));
        assert_eq!(read("nats://anna:s3cret@host:1"), ("nats://host:1".into(), Some(user("anna", "s3cret"))));
        assert_eq!(read("anna:s3c@ret@host"), ("nats://host:4222".into(), Some(user("anna", "s3c@ret"))));
        assert_eq!(
            read("tls://t0ken@host"),
            ("tls://host:4222".into(), Some(Identity::Token("t0ken".into())))
        );
        let text = "nats://a%40b:%2C%2F%3F%23%25%C3%A9@[::1]:7/";
        assert_eq!(read(text), ("nats://[::1]:7".into(), Some(user("a@b", ",/?#%\u{e9}"))));
        assert_eq!(
            read("nats://a:b@one, nats://a:b@two,three"),
            ("nats://one:4222,nats://two:4222,nats://three:4222".into(), Some(user("a", "b")))
        );
        assert_eq!(read("nats://anna:100%@host").1, Some(user("anna", "100%")));
    }

    /// Every part of a text may be a part of a password in the wrong place.
    #[test]
    fn what_is_ambiguous_is_refused() {
        for text in [
            "",
            ",",
            "nats://",
            "nats://anna:s3cret",
            "nats://anna:s3cret@",
            "nats://:s3cret@host",
            "nats://anna:1,s3cret@host",
            "nats://anna:12@one,s3cret@two",
            "one,anna:s3cret@two",
            "anna:,s3cret,@host",
            "anna:1,s3cret,@host",
            "anna:,s3cret",
            "@host",
            "nats://host?password=s3cret",
            "?password=s3cret",
            "nats://host#s3cret",
            "nats://anna:1/s3cret@host",
            "nats://anna:s3/cret@host",
            "nats://anna:s3 cret@host",
            "nats://anna:s3\ncret@host",
            "nats://anna:%FFs3cret@host",
            "http://anna:s3cret@host",
        ] {
            let Err(reason) = Addresses::read(text) else { panic!("{text:?} is read") };
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(name in "\\PC{1,12}", password in "\\PC{1,12}") {
            let encoded = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let url = format!("nats://{}:{}@host", encoded(&name), encoded(&password));
            prop_assert_eq!(read(&url).1, Some(user(&name, &password)));
        }
    }
}
