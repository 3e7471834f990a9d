//! What is sent, and what has to come back.

use std::fs;

use anyhow::{Context, Error, anyhow};
use memchr::memmem;

use crate::{
    arguments::Requests,
    connection::{Answer, Client},
};

/// The kinds of request, in the order in which they are sent.
pub(crate) struct Mix {
    pub(crate) cases: Vec<Case>,
    /// Indices into `cases`, each as often as its share, spread evenly.
    order: Vec<usize>,
    may_shed: bool,
}

/// One kind of request.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Vec<u8>,
    expected: Expected,
}

/// The answer that the server gave before the run, without what differs each time.
struct Expected {
    status: u16,
    steady: Vec<u8>,
    varying: Vec<String>,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    /// The server said that it has no room, and when to come again.
    Shed,
    Wrong,
}

impl Mix {
    /// Reads the bodies, and asks for each once to know its answer.
    pub(crate) fn learn(client: &Client, requests: &Requests) -> Result<Self, Error> {
        let mut shares = Vec::new();
        let mut cases = Vec::new();
        for text in &requests.mix {
            let (name, share, body) = entry(text, requests)?;
            let request = message(requests, body.as_deref());
            let mut connection = client.connect().context("cannot connect")?;
            let answer = connection
                .exchange(&request)
                .with_context(|| format!("no answer to `{name}`"))?;
            if let Some(status) = status(&name).filter(|status| *status != answer.status) {
                return Err(anyhow!(
                    "`{name}` has to be answered with {status}, and is with {}: {}",
                    answer.status,
                    String::from_utf8_lossy(answer.body)
                ));
            }
            let varying = requests.varying.clone();
            let expected = Expected {
                status: answer.status,
                steady: steady(answer.body, &varying),
                varying,
            };
            shares.push(share);
            cases.push(Case {
                name,
                request,
                expected,
            });
        }
        Ok(Self {
            cases,
            order: spread(&shares),
            may_shed: requests.may_shed,
        })
    }

    /// The kind of the `number`th request.
    pub(crate) fn index(&self, number: u64) -> usize {
        let length = self.order.len().max(1) as u64;
        let place = usize::try_from(number % length).unwrap_or(0);
        self.order.get(place).copied().unwrap_or(0)
    }

    /// What an answer is, to a request of one kind.
    pub(crate) fn judge(&self, case: &Case, answer: &Answer<'_>) -> Verdict {
        if case.expected.is(answer) {
            Verdict::Right
        } else if self.may_shed && matches!(answer.status, 429 | 503) && answer.has_retry_after {
            Verdict::Shed
        } else {
            Verdict::Wrong
        }
    }
}

impl Case {
    /// The status that every answer has to have.
    pub(crate) fn status(&self) -> u16 {
        self.expected.status
    }
}

impl Expected {
    fn is(&self, answer: &Answer<'_>) -> bool {
        answer.status == self.status && steady(answer.body, &self.varying) == self.steady
    }
}

/// A body without the text values of some members, whatever their depth.
fn steady(body: &[u8], varying: &[String]) -> Vec<u8> {
    let mut kept = body.to_vec();
    for member in varying {
        let start = format!("\"{member}\":\"");
        let Some(found) = memmem::find(&kept, start.as_bytes()) else {
            continue;
        };
        let from = found + start.len();
        let length = kept.iter().skip(from).position(|&byte| byte == b'"');
        kept.drain(from..from + length.unwrap_or(0));
    }
    kept
}

/// The status of every answer to a kind of request that is known by its name. What a server
/// answers at first is taken for right, and a refusal is quickly made: two servers do not compare
/// when one of them only refuses.
fn status(name: &str) -> Option<u16> {
    match name {
        "predicted" | "review" | "get" => Some(200),
        "malformed" => Some(400),
        "rejected" => Some(422),
        _ => None,
    }
}

/// `NAME=SHARE[:FILE]`.
fn entry(text: &str, requests: &Requests) -> Result<(String, u32, Option<Vec<u8>>), Error> {
    let wrong = || anyhow!("--mix takes NAME=SHARE[:FILE], not `{text}`");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (share, file) = match rest.split_once(':') {
        Some((share, file)) => (share, file.into()),
        None if name == "malformed" => (rest, requests.bodies.join("predicted.json")),
        None => (rest, requests.bodies.join(format!("{name}.json"))),
    };
    let share = share.parse().map_err(|_| wrong())?;
    if name == "get" {
        return Ok((name.to_owned(), share, None));
    }
    let mut body = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    if name == "malformed" {
        body.truncate(body.len() / 2);
    }
    Ok((name.to_owned(), share, Some(body)))
}

fn message(requests: &Requests, body: Option<&[u8]>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: localhost\r\n", requests.path);
    for header in &requests.header {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if let Some(body) = body {
        head.push_str("Content-Type: application/json\r\nContent-Length: ");
        head.push_str(&body.len().to_string());
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut message = head.into_bytes();
    message.extend_from_slice(body.unwrap_or_default());
    message
}

/// Each index as often as its share, as far apart as may be (smooth weighted round robin).
fn spread(shares: &[u32]) -> Vec<usize> {
    let total: u32 = shares.iter().sum();
    let mut credit: Vec<i64> = vec![0; shares.len()];
    (0..total)
        .map(|_| {
            for (credit, share) in credit.iter_mut().zip(shares) {
                *credit += i64::from(*share);
            }
            let most = (0..credit.len()).max_by_key(|&i| credit.get(i).copied());
            let chosen = most.unwrap_or(0);
            if let Some(credit) = credit.get_mut(chosen) {
                *credit -= i64::from(total);
            }
            chosen
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{spread, steady};

    #[test]
    fn shares_are_kept_and_spread() {
        let order = spread(&[3, 1]);
        assert_eq!(order.len(), 4);
        assert_eq!(order.iter().filter(|&&i| i == 1).count(), 1);
        assert_ne!(spread(&[2, 2]), [0, 0, 1, 1]);
    }

    #[test]
    fn what_varies_is_not_compared_and_all_else_is() {
        let varying = ["id".to_owned()];
        let one = steady(br#"{"id":"a1","p":0.1}"#, &varying);
        assert_eq!(one, steady(br#"{"id":"b","p":0.1}"#, &varying));
        assert_ne!(one, steady(br#"{"id":"a1","p":0.2}"#, &varying));
    }
}
