//! A workload to measure what the measures cost: whole requests, all of them predicted.

use std::{io, net::SocketAddr};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    Callers, SelftestError, callers,
    canary::{Marks, Model},
    patterns::Patterns,
    requests::{self, Request},
    traffic::Traffic,
};
use crate::{config::Config, inference::Runtime};

/// Connections that the workload keeps open.
const CONNECTIONS: usize = 8;
/// Different requests in it.
const REQUESTS: usize = 64;

/// Requests, and the connections that they are sent over, one after another.
pub struct Workload {
    requests: Vec<Request>,
    traffic: Traffic,
    sent: usize,
}

impl Workload {
    /// For the server at `address`, which serves what `config` says.
    pub fn new(
        config: &Config,
        runtime: &Runtime,
        address: SocketAddr,
        who: &Callers,
    ) -> Result<Self, SelftestError> {
        let mut rng = StdRng::seed_from_u64(1);
        let marks = Marks::draw(&mut rng);
        let mut patterns = Patterns::new(marks.identifier, marks.decimal);
        let mut models = config
            .models
            .iter()
            .map(|served| Model::read(&config.repository, served, runtime))
            .collect::<io::Result<Vec<_>>>()?;
        let mut requests = Vec::with_capacity(REQUESTS);
        for turn in 0..REQUESTS {
            let position = turn % models.len().max(1);
            if let Some(model) = models.get_mut(position) {
                requests.push(requests::whole(model, &marks, &mut rng, &mut patterns));
            }
        }
        let (caller, refused) = callers(who)?;
        let mut workload = Self {
            requests: Vec::new(),
            traffic: Traffic::open(address, caller, refused, CONNECTIONS)?,
            sent: 0,
        };
        // A few may go to review, for the members' disagreement: they are not sent again.
        for (turn, request) in requests.into_iter().enumerate() {
            workload.traffic.send(turn, &request)?;
            if workload.predicted() > workload.requests.len() {
                workload.requests.push(request);
            }
        }
        workload.traffic.tally.clear();
        Ok(workload)
    }

    fn predicted(&self) -> usize {
        let outcomes = self.traffic.tally.values().flatten();
        let predicted = outcomes.filter(|(outcome, _)| *outcome == "200 predicted");
        predicted.map(|(_, count)| *count).sum()
    }

    /// Sends `count` requests; every one must have been predicted.
    pub fn send(&mut self, count: usize) -> Result<(), SelftestError> {
        for _ in 0..count {
            if let Some(request) = self.requests.get(self.sent % self.requests.len().max(1)) {
                self.traffic.send(self.sent, request)?;
            }
            self.sent += 1;
        }
        if self.predicted() == self.sent {
            Ok(())
        } else {
            let tally = &self.traffic.tally;
            Err(io::Error::other(format!("not all were predicted: {tally:?}")).into())
        }
    }
}
