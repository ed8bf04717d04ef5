//! A browser's answer to an offer: taken apart, checked, and put together anew, so that webrtcbin reads nothing that a viewer has written.

use std::{fmt::Write, net::IpAddr};

/// The number of the video's packets, in every offer.
pub(super) const PAYLOAD: u8 = 96;

/// Ways to reach a browser that are tried, at most.
const MOST_CANDIDATES: usize = 32;

/// Attributes of the offer that say how packets of a number are.
const OF_PACKETS: [&str; 3] = ["rtpmap", "fmtp", "rtcp-fb"];

/// What counts of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    user: String,
    password: String,
    fingerprint: String,
    setup: String,
    payloads: Vec<u8>,
    candidates: Vec<String>,
}

/// What stands behind `a=name:`, of each such line.
fn attributes<'a>(sdp: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter_map(move |line| {
        let attribute = line.trim_end().strip_prefix("a=")?;
        attribute.strip_prefix(name)?.strip_prefix(':')
    })
}

fn one<'a>(
    sdp: &'a str,
    name: &'a str,
    is_right: impl Fn(&str) -> bool,
) -> Result<&'a str, String> {
    let found = attributes(sdp, name).next();
    found
        .filter(|value| is_right(value))
        .ok_or_else(|| match found {
            Some(_) => format!("wanted a={name} as RFC 8839 and RFC 8122 write it, found another"),
            None => format!("wanted a={name}, found none"),
        })
}

fn is_of_ice(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '+' || letter == '/';
    lengths.contains(&text.len()) && text.chars().all(is_letter)
}

fn is_fingerprint(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
    text.split_once(' ').is_some_and(|(hash, pairs)| {
        let count = pairs.split(':').filter(|pair| is_pair(pair)).count();
        let bytes = match hash {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return false,
        };
        count == bytes && pairs.len() == 3 * bytes - 1
    })
}

/// A candidate over UDP whose address is one. A browser that hides its own behind a name (.local) is found by where its packets come from.
fn candidate(text: &str) -> Option<String> {
    let words: Vec<_> = text.split_ascii_whitespace().take(8).collect();
    let [
        foundation,
        "1",
        protocol,
        priority,
        address,
        port,
        "typ",
        kind,
    ] = words[..]
    else {
        return None;
    };
    let is_right = is_of_ice(foundation, 1..=32)
        && protocol.eq_ignore_ascii_case("udp")
        && ["host", "srflx", "prflx", "relay"].contains(&kind);
    let (priority, address, port) = (
        priority.parse::<u32>().ok()?,
        address.parse::<IpAddr>().ok()?,
        port.parse::<u16>().ok().filter(|&port| port > 0)?,
    );
    // Of the others where they were seen from the inside says nothing here.
    is_right.then(|| format!("{foundation} 1 UDP {priority} {address} {port} typ {kind}"))
}

impl Answer {
    /// Reads one to an offer of ours; says what is wrong with it.
    pub(super) fn parse(sdp: &str) -> Result<Self, String> {
        let mut media = sdp.lines().filter(|line| line.starts_with("m="));
        let words: Vec<_> = media
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ["m=video", port, "UDP/TLS/RTP/SAVPF", payloads @ ..] = &words[..] else {
            return Err("wanted an answer in SDP that takes the video, found none".into());
        };
        if media.next().is_some() {
            return Err("wanted one m= line, found more".into());
        }
        let payloads: Vec<u8> = payloads.iter().filter_map(|n| n.parse().ok()).collect();
        let is_taken = sdp
            .lines()
            .any(|line| matches!(line.trim_end(), "a=recvonly" | "a=sendrecv"));
        if *port == "0" || !is_taken || !payloads.contains(&PAYLOAD) {
            return Err(
                "wanted an answer that takes the video as it is offered, found one that does not"
                    .into(),
            );
        }
        Ok(Self {
            user: one(sdp, "ice-ufrag", |text| is_of_ice(text, 4..=256))?.into(),
            password: one(sdp, "ice-pwd", |text| is_of_ice(text, 22..=256))?.into(),
            fingerprint: one(sdp, "fingerprint", is_fingerprint)?.into(),
            setup: one(sdp, "setup", |text| matches!(text, "active" | "passive"))?.into(),
            payloads,
            candidates: attributes(sdp, "candidate")
                .filter_map(candidate)
                .take(MOST_CANDIDATES)
                .collect(),
        })
    }

    /// The answer to `offer` in our own words.
    pub(super) fn sdp(&self, offer: &str) -> String {
        let of = |name| attributes(offer, name).next().unwrap_or_default();
        let mid = of("mid");
        let offered = |payload: &&u8| {
            attributes(offer, "rtpmap").any(|map| map.starts_with(&format!("{payload} ")))
        };
        let payloads: Vec<_> = self.payloads.iter().filter(offered).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mid}\r\nm=video 9 UDP/TLS/RTP/SAVPF"
        );
        // Nothing fails to be written to a text.
        let mut write = |text: std::fmt::Arguments<'_>| {
            let _ = sdp.write_fmt(text);
        };
        for payload in &payloads {
            write(format_args!(" {payload}"));
        }
        write(format_args!(
            "\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        ));
        for payload in &payloads {
            for name in OF_PACKETS {
                let is_of_it = |value: &&str| value.starts_with(&format!("{payload} "));
                for value in attributes(offer, name).filter(is_of_it) {
                    write(format_args!("a={name}:{value}\r\n"));
                }
            }
        }
        let Self {
            user,
            password,
            fingerprint,
            setup,
            ..
        } = self;
        write(format_args!(
            "a=setup:{setup}\r\na=ice-ufrag:{user}\r\na=ice-pwd:{password}\r\na=fingerprint:{fingerprint}\r\n"
        ));
        for candidate in &self.candidates {
            write(format_args!("a=candidate:{candidate}\r\n"));
        }
        sdp
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:video0\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
                         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";

    fn answer() -> String {
        format!(
            "v=0\r\no=- 4 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE video0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 99\r\n\
             c=IN IP4 0.0.0.0\r\na=ice-ufrag:Ab+/\r\na=ice-pwd:0123456789abcdefghijkl\r\na=fingerprint:sha-256 {}\r\na=setup:active\r\n\
             a=mid:video0\r\na=recvonly\r\na=evil:1\r\na=candidate:1 1 udp 2113937151 0f.local 5000 typ host generation 0\r\n\
             a=candidate:2 1 udp 21 192.0.2.7 5001 typ srflx raddr 10.0.0.1 rport 9\r\n",
            ["0A"; 32].join(":")
        )
    }

    #[test]
    fn what_counts_is_said_again_and_nothing_else() {
        let sdp = Answer::parse(&answer()).unwrap().sdp(OFFER);
        assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), "{sdp}");
        assert!(sdp.contains("a=candidate:2 1 UDP 21 192.0.2.7 5001 typ srflx\r\n"));
        assert!(sdp.contains("a=rtcp-fb:96 nack pli\r\n") && sdp.contains("a=ice-ufrag:Ab+/\r\n"));
        for gone in ["evil", ".local", "10.0.0.1", "99", "97"] {
            assert!(!sdp.contains(gone), "{gone} in {sdp}");
        }
        assert_eq!(Answer::parse(&sdp).unwrap().sdp(OFFER), sdp);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            ("m=video", "m=audio", "takes the video"),
            ("m=video 9", "m=video 0", "does not"),
            ("a=recvonly", "a=inactive", "does not"),
            ("SAVPF 96", "SAVPF 98", "does not"),
            ("a=ice-ufrag:Ab+/\r\n", "", "a=ice-ufrag, found none"),
            ("ijkl", "", "a=ice-pwd"),
            ("0A:0A", "0A:0G", "a=fingerprint"),
            ("sha-256", "md5", "a=fingerprint"),
            ("a=setup:active", "a=setup:actpass", "a=setup"),
            ("t=0 0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "found more"),
        ] {
            let wrong = Answer::parse(&answer().replacen(from, to, 1)).unwrap_err();
            assert!(wrong.contains(named), "{from}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(text in "(?s).*", at in 0usize..600, letter in any::<char>()) {
            prop_assert!(Answer::parse(&text).is_err());
            let mut mangled: Vec<char> = answer().chars().collect();
            let at = at % mangled.len();
            mangled[at] = letter;
            let mangled: String = mangled.into_iter().collect();
            if let Ok(read) = Answer::parse(&mangled) {
                let sdp = read.sdp(OFFER);
                prop_assert!(sdp.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')), "{}", sdp);
            }
        }
    }
}
