//! Sends the requests over many connections that stay open.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::ClientConfig;

use super::{
    client::{Answer, Wire},
    requests::{Delivery, Request},
};

/// Answers by kind of request, then by outcome.
pub type Tally = BTreeMap<&'static str, BTreeMap<String, usize>>;

/// One connection in so many belongs to the principal that may not predict.
const REFUSED_EVERY: usize = 8;
/// Kinds of request, and the answer that some of them must get from every model.
const DUE: [(&str, &str); 7] = [
    ("whole", "200 predicted"),
    ("split", "200 predicted"),
    ("review", "200 review"),
    ("atypical", "200 review"),
    ("overridden", "200 predicted"),
    ("rejected", "422 rejected"),
    ("refused role", "403 refused"),
];
/// How long the server discards what a refused peer still sends.
const LINGER: Duration = Duration::from_secs(3);

/// The connections of a run.
pub(super) struct Traffic {
    address: SocketAddr,
    /// May predict.
    caller: Arc<ClientConfig>,
    /// May not.
    refused: Arc<ClientConfig>,
    open: Vec<Option<Wire>>,
    stalled: Vec<Wire>,
    pub(super) tally: Tally,
    /// Every model, kind of request and outcome that there was.
    seen: BTreeSet<(String, &'static str, String)>,
}

impl Traffic {
    pub(super) fn open(
        address: SocketAddr,
        caller: Arc<ClientConfig>,
        refused: Arc<ClientConfig>,
        connections: usize,
    ) -> io::Result<Self> {
        let mut traffic = Self {
            address,
            caller,
            refused,
            open: (0..connections).map(|_| None).collect(),
            stalled: Vec::new(),
            tally: Tally::new(),
            seen: BTreeSet::new(),
        };
        traffic.reopen()?;
        Ok(traffic)
    }

    /// Those of `requests` whose kind was never answered as it is meant to be, by model: what
    /// such an answer leaves behind was not seen.
    pub(super) fn unreached(&self, requests: &[Request]) -> BTreeSet<String> {
        let due = requests.iter().filter_map(|request| {
            let (_, outcome) = DUE.iter().find(|(kind, _)| *kind == request.kind)?;
            let due = (request.model.clone(), request.kind, (*outcome).to_owned());
            Some(due).filter(|due| !self.seen.contains(due))
        });
        due.map(|(model, kind, outcome)| format!("{model}: {kind}: {outcome}"))
            .collect()
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.open.iter().flatten().count()
    }

    /// Opens every connection that was closed.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        for index in 0..self.open.len() {
            self.take(index).map(|wire| self.put(index, wire))?;
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> io::Result<Wire> {
        let kept = self.open.get_mut(index).and_then(Option::take);
        if let Some(wire) = kept.filter(Wire::is_open) {
            return Ok(wire);
        }
        let config = if index.is_multiple_of(REFUSED_EVERY) {
            &self.refused
        } else {
            &self.caller
        };
        Wire::open(self.address, config)
    }

    fn put(&mut self, index: usize, wire: Wire) {
        if let Some(slot) = self.open.get_mut(index) {
            *slot = Some(wire);
        }
    }

    /// Sends a request on one of the connections: `turn` says which.
    pub(super) fn send(&mut self, turn: usize, request: &Request) -> io::Result<()> {
        let groups = (self.open.len() / REFUSED_EVERY).max(1);
        let index = if request.refused {
            turn % groups * REFUSED_EVERY
        } else {
            let others = (self.open.len() - groups).max(1);
            let other = turn % others;
            other / (REFUSED_EVERY - 1) * REFUSED_EVERY + other % (REFUSED_EVERY - 1) + 1
        };
        let bytes = &request.bytes;
        match &request.delivery {
            Delivery::Aborted(until) => {
                let mut wire = self.take(index)?;
                wire.send(bytes.get(..*until).unwrap_or_default())?;
                self.count(request.kind, "aborted".to_owned());
            }
            Delivery::Stalled(until) => {
                let mut wire = Wire::open(self.address, &self.caller)?;
                wire.send(bytes.get(..*until).unwrap_or_default())?;
                self.stalled.push(wire);
            }
            Delivery::Pieces(cuts) => {
                let mut wire = self.take(index)?;
                // A server that answers before the end need not read the rest.
                let sent = deliver(&mut wire, bytes, cuts);
                let mut answer = wire.answer(request.head)?;
                if sent.is_err() && answer.is_none() {
                    sent?;
                }
                if request.kind == "overridden"
                    && let Some(token) = answer.as_ref().and_then(Answer::review_token)
                {
                    wire.send(&request.overriding(&token))?;
                    answer = wire.answer(false)?;
                }
                let outcome = answer.as_ref().map(Answer::outcome);
                let outcome = outcome.unwrap_or("closed".to_owned());
                let seen = (request.model.clone(), request.kind, outcome.clone());
                self.seen.insert(seen);
                self.count(request.kind, outcome);
                match answer {
                    // What was sent behind a request must not be taken for the next one.
                    Some(answer) if !answer.closes && request.kind != "pipelined" => {
                        self.put(index, wire);
                    }
                    _ => wire.close(),
                }
            }
        }
        Ok(())
    }

    /// Waits until the server has given up on what stalled, and has nothing more in hand.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        for mut wire in std::mem::take(&mut self.stalled) {
            let outcome = wire.answer(false)?.map(|a| a.outcome());
            self.count("timed out", outcome.unwrap_or("closed".to_owned()));
            wire.close();
        }
        thread::sleep(LINGER);
        Ok(())
    }

    fn count(&mut self, kind: &'static str, outcome: String) {
        *self
            .tally
            .entry(kind)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
    }
}

fn deliver(wire: &mut Wire, bytes: &[u8], cuts: &[usize]) -> io::Result<()> {
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        wire.send(bytes.get(from..cut).unwrap_or_default())?;
        from = cut;
        if from < bytes.len() {
            // Long enough to be read on its own.
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
