//! Two servers and a real store: a budget is one budget, also while the store is away.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Server, Site, Store, Wire, admin, change, client, icu_patients, post, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const BUDGET: u64 = 60;

struct Replicas {
    site: Site,
    servers: [Server; 2],
    store: Store,
}

impl Replicas {
    fn start() -> Option<Self> {
        let mut site = Site::administrable();
        let of_role = "[budgets.clinician]\nrows_per_day = \"unlimited\"\n\
                       requests_per_second = 1000000\nburst = 1000000\n\
                       concurrent_requests = 1000000\npatterns = \"shadow\"\n";
        let budget = format!("[budgets.clinician]\nrows_per_day = {BUDGET}\n");
        site.configure(of_role, &budget);
        let store = Store::start(&site)?;
        store.configure(&mut site, 2);
        let first = Server::start(&site);
        // The second has a log and incident controls of its own, and all else in common.
        site.configure("directory = \"audit\"", "directory = \"audit-2\"");
        site.configure("state = \"admin\"", "state = \"admin-2\"");
        let config = site.path().join("second.toml");
        fs::write(&config, &site.config).unwrap();
        let mut command = std::process::Command::new(crate::harness::BINARY);
        command.arg("serve").arg("--config").arg(&config);
        let second = Server::start_command(command, &site.path().join("audit-2"));
        let servers = [first, second];
        Some(Self {
            site,
            servers,
            store,
        })
    }

    fn wires(&self) -> [Wire; 2] {
        let clinician = client(&self.site, "clinician");
        [0, 1].map(|i| Wire::open(&self.servers[i], &clinician))
    }

    fn metric(&self, server: usize, name: &str) -> f64 {
        let answer = admin(&self.servers[server], &self.site, "ops", "GET", "/metrics");
        let text = String::from_utf8(answer.body).unwrap();
        let line = text
            .lines()
            .find(|l| l.split(['{', ' ']).next() == Some(name));
        line.unwrap_or_else(|| panic!("{name}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn wait_for_store(&self, up: bool) {
        for server in [0, 1] {
            wait_until("the servers to notice", || {
                (self.metric(server, "vitalgate_shared_store_up") > 0.5) == up
            });
        }
    }
}

fn ask(wire: &mut Wire, patient: &Value) -> Answer {
    post(wire, PREDICT, patient.to_string().as_bytes())
}

/// Patients of whom no two are near each other and none is flagged would be too much to ask: these
/// are the synthetic ones, and a caller in shadow mode would not be slowed.
fn patients() -> Vec<Value> {
    icu_patients()
}

/// Answered, and refused for want of budget.
fn tally(answers: &[Answer]) -> (usize, usize) {
    let answered = answers.iter().filter(|a| a.status == 200).count();
    let refused = answers
        .iter()
        .filter(|a| a.status == 429 && a.code() == "BUDGET_EXHAUSTED");
    (answered, refused.count())
}

#[test]
fn a_budget_is_spent_once_over_replicas_and_outages() {
    let Some(mut replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    let mut wires = replicas.wires();
    let patients = patients();
    let mut fresh = patients.iter();
    // Alternating: every answer counts down the same budget.
    for left in (40..BUDGET).rev() {
        let wire = &mut wires[usize::from(left % 2 == 0)];
        let answer = ask(wire, fresh.next().unwrap());
        assert_eq!(answer.status, 200, "{}", answer.head);
        let field = answer.header("ratelimit").unwrap().to_owned();
        assert!(
            field.contains(&format!("\"rows\";r={left};")),
            "{left}: {field}"
        );
    }
    // A row that the other server answered is free here.
    for wire in &mut wires {
        let again = ask(wire, &patients[0]);
        assert!(
            again
                .header("ratelimit")
                .unwrap()
                .contains("\"rows\";r=40;")
        );
    }
    // Without the store each goes on within its half of the 40 that are left.
    replicas.store.kill();
    let mut apart = Vec::new();
    for wire in &mut wires {
        let answers: Vec<Answer> = (0..25).map(|_| ask(wire, fresh.next().unwrap())).collect();
        apart.push(tally(&answers));
    }
    assert_eq!(apart, [(20, 5), (20, 5)]);
    replicas.wait_for_store(false);
    // It comes back without its memory, and has again what was spent.
    replicas.store.forget();
    replicas.store.restart();
    replicas.wait_for_store(true);
    for wire in &mut wires {
        let refused = ask(wire, fresh.next().unwrap());
        assert_eq!(
            (refused.status, refused.code()),
            (429, "BUDGET_EXHAUSTED".to_owned())
        );
        assert_eq!(
            ask(wire, &patients[0]).status,
            200,
            "what was answered is free"
        );
    }
    for server in &replicas.servers {
        let events: Vec<Value> = server
            .records()
            .iter()
            .filter_map(|r| r.get("events").cloned())
            .flat_map(|e| e.as_array().unwrap().clone())
            .collect();
        for event in ["store-away", "store-back"] {
            assert!(events.contains(&json!(event)), "{event}: {events:?}");
        }
        assert!(server.log().contains("THE SHARED STORE IS AWAY"));
    }
    // Of patients and callers the store has keyed hashes only.
    let written = replicas.store.written();
    let holds = |text: &str| written.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds("vitalgate:{"));
    for word in ["clinician", "icu-mortality", "heart_rate", "88.0"] {
        assert!(!holds(word), "{word}");
    }
}

#[test]
fn quarantine_and_release_are_everywhere() {
    let Some(mut replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    let [one, other] = &replicas.servers;
    let site = &replicas.site;
    let status = |server: &Server| {
        let mut wire = Wire::open(server, &client(site, "clinician"));
        ask(&mut wire, &patients()[0]).status
    };
    assert_eq!(status(other), 200);
    let quarantine = "/admin/v1/callers/clinician/quarantine";
    assert_eq!(
        change(one, site, "ops", quarantine, "stolen laptop").status,
        200
    );
    assert_eq!(status(one), 403);
    wait_until("the other server to hear of it", || status(other) == 403);
    let model = "/admin/v1/models/icu-mortality/quarantine";
    assert_eq!(change(other, site, "ops", model, "drift").status, 200);
    let release = "/admin/v1/callers/clinician/release";
    assert_eq!(
        change(other, site, "ops", release, "laptop found").status,
        200
    );
    wait_until("the first to hear of both", || status(one) == 503);
    // What happens while the store is away is told when it is back.
    replicas.store.kill();
    let release = "/admin/v1/models/icu-mortality/release";
    assert_eq!(
        change(
            &replicas.servers[0],
            &replicas.site,
            "ops",
            release,
            "mended"
        )
        .status,
        200
    );
    replicas.store.restart();
    let site = &replicas.site;
    let status = |server: &Server| {
        let mut wire = Wire::open(server, &client(site, "clinician"));
        ask(&mut wire, &patients()[0]).status
    };
    wait_until("both to have released it", || {
        replicas.servers.iter().all(|server| status(server) == 200)
    });
}

/// One server alone saw the budget spent; the other has heard of it when the store dies.
#[test]
fn a_server_that_never_asked_gives_no_fresh_share() {
    let Some(mut replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    let (mut wires, patients) = (replicas.wires(), patients());
    let mut fresh = patients.iter();
    for _ in 0..BUDGET {
        assert_eq!(ask(&mut wires[0], fresh.next().unwrap()).status, 200);
    }
    wait_until("the first server to tell", || {
        let name = replicas.store.ask(&["keys", "vitalgate:spent:*"]);
        let told = replicas.store.ask(&["hvals", name.trim()]);
        told.trim() == BUDGET.to_string()
    });
    // The other one listens twice a second.
    std::thread::sleep(std::time::Duration::from_secs(3));
    replicas.store.kill();
    for wire in &mut wires {
        for _ in 0..3 {
            let refused = ask(wire, fresh.next().unwrap());
            assert_eq!(refused.code(), "BUDGET_EXHAUSTED");
        }
    }
}

/// Strikes that one server remembers do not come back over a release of another, though the store
/// was away when it was made.
#[test]
fn a_release_is_not_undone_by_what_another_server_remembers() {
    let Some(mut replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    let (mut wires, patients) = (replicas.wires(), patients());
    let mut patient = patients[0].clone();
    for turn in 0..12usize {
        patient["observations"]["heart_rate"] = json!(70 + turn);
        ask(&mut wires[turn % 2], &patient);
    }
    let limited = |answer: &Answer| answer.json()["prediction"]["limited"] == "bands-only";
    for (turn, wire) in wires.iter_mut().enumerate() {
        assert!(limited(&ask(wire, &patients[1 + turn])), "{turn}");
    }
    replicas.store.kill();
    replicas.wait_for_store(false);
    let (one, site) = (&replicas.servers[0], &replicas.site);
    let release = "/admin/v1/callers/clinician/release";
    assert_eq!(change(one, site, "ops", release, "a drill").status, 200);
    replicas.store.restart();
    replicas.wait_for_store(true);
    // Both servers tell the store what they know within a second.
    std::thread::sleep(std::time::Duration::from_secs(3));
    for (turn, wire) in wires.iter_mut().enumerate() {
        let answer = ask(wire, &patients[5 + turn]);
        assert!(
            answer.json()["prediction"]["probability"].is_number(),
            "{turn}"
        );
    }
}

#[test]
fn a_refused_password_is_tried_again() {
    let Some(replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    replicas.store.take_password(true);
    replicas.wait_for_store(false);
    // Long enough to be refused again.
    std::thread::sleep(std::time::Duration::from_secs(3));
    replicas.wait_for_store(false);
    replicas.store.take_password(false);
    replicas.wait_for_store(true);
    let mut wires = replicas.wires();
    assert_eq!(ask(&mut wires[0], &patients()[0]).status, 200);
}

#[test]
fn a_store_that_is_flushed_gives_nothing_back() {
    let Some(replicas) = Replicas::start() else {
        return;
    };
    replicas.wait_for_store(true);
    let (mut wires, patients) = (replicas.wires(), patients());
    let mut fresh = patients.iter();
    for _ in 0..BUDGET / 2 {
        for wire in &mut wires {
            assert_eq!(ask(wire, fresh.next().unwrap()).status, 200);
        }
    }
    let (one, site) = (&replicas.servers[0], &replicas.site);
    let caller = "/admin/v1/callers/ehr/quarantine";
    assert_eq!(change(one, site, "ops", caller, "drill").status, 200);
    let holds = || {
        let held = replicas.store.ask(&["hkeys", "vitalgate:stopped"]);
        held.contains("caller ehr")
    };
    wait_until("the store to know", holds);
    replicas.store.command(&["flushall"]);
    wait_until("the hold to be written back", holds);
    wait_until("all rows to be written back", || {
        let name = replicas.store.ask(&["keys", "*:rows:*"]);
        replicas.store.ask(&["scard", name.trim()]).trim() == "60"
    });
    replicas.wait_for_store(true);
    for wire in &mut wires {
        assert_eq!(ask(wire, fresh.next().unwrap()).code(), "BUDGET_EXHAUSTED");
    }
}

#[test]
fn a_store_that_is_away_at_the_start_keeps_nobody_out() {
    let mut site = Site::administrable();
    let Some(mut store) = Store::start(&site) else {
        return;
    };
    store.configure(&mut site, 3);
    store.kill();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(ask(&mut wire, &patients()[0]).status, 200);
    assert!(server.log().contains("THE SHARED STORE IS AWAY"));
}
