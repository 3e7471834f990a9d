//! Spans of requests reach a real collector, in their callers' traces; a collector that is away
//! holds nobody up. That no value of a patient is in them is held in `canary`.

use std::{collections::BTreeSet, fs, net::TcpListener};

use vitalgate::trail::Stage;

use crate::harness::{
    BINARY, Collector, ICU_PATIENT, Server, Site, Span, Wire, admin, client, free_port, post,
    request, run_to_end, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What became of spans, by the server's own count.
fn spans_that(server: &Server, site: &Site, result: &str) -> u64 {
    let answer = admin(server, site, "ops", "GET", "/metrics");
    let text = String::from_utf8(answer.body).unwrap();
    let name = format!("vitalgate_trace_spans_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

fn of_trace<'s>(spans: &'s [Span], trace: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.trace == trace).collect()
}

#[test]
fn a_request_is_a_span_in_its_callers_trace() {
    let mut site = Site::administrable();
    let Some(collector) = Collector::start(&mut site) else {
        return;
    };
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut ask = |traceparent: &str, body: &str| {
        let traced = format!("traceparent: {traceparent}\r\n");
        let traced = if traceparent.is_empty() { "" } else { &traced };
        let headers = format!("Content-Type: application/json\r\n{traced}");
        wire.send(&request("POST", PREDICT, &headers, body.as_bytes()));
        let answer = wire.answer();
        answer.header("x-request-id").unwrap().to_owned()
    };
    let sampled = ask(&format!("00-{TRACE}-{PARENT}-01"), ICU_PATIENT);
    let unsampled = TRACE.replace('0', "1");
    ask(&format!("00-{unsampled}-{PARENT}-00"), ICU_PATIENT);
    let root = ask("", ICU_PATIENT);
    let rejected = ask("", "{\"observations\": {\"heart_rate\": \"x\"}}");
    wait_until("the spans to be collected", || {
        of_trace(&collector.spans(), &rejected).len() > 2
    });
    wait_until("the spans to be counted", || {
        spans_that(&server, &site, "sent") > 30
    });
    drop(wire);
    server.stop();
    // What the drain had still to send has arrived: the scrape above is a request too.
    let spans = collector.spans();
    assert!(
        spans.iter().any(|span| span.name == "read-metrics"),
        "{spans:?}"
    );
    assert!(of_trace(&spans, &unsampled).is_empty());

    for (id, trace, parent) in [(&sampled, TRACE, PARENT), (&root, root.as_str(), "")] {
        let of = of_trace(&spans, trace);
        let (span, stages): (Vec<&Span>, Vec<&Span>) = of
            .into_iter()
            .partition(|span| span.kind.ends_with("SERVER"));
        let [span] = span[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(
            (span.id.as_str(), span.parent.as_str()),
            (&id[..16], parent)
        );
        assert_eq!(span.name, "predict");
        for attribute in [
            "http.response.status_code: Int(200)",
            "vitalgate.disposition: Str(predicted)",
            "vitalgate.model.name: Str(icu-mortality)",
            "vitalgate.model.version: Str(1)",
            "vitalgate.caller: Str(clinician)",
            &format!("vitalgate.request.id: Str({id})"),
        ] {
            assert!(
                span.attributes.iter().any(|a| a == attribute),
                "{attribute}: {span:?}"
            );
        }
        // Every stage, but for the override that nobody asked for; one after the other.
        let stage_names = Stage::ALL.iter().map(|stage| stage.as_str());
        let mut expected: Vec<&str> = stage_names.filter(|name| *name != "confirm").collect();
        expected.push("record");
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, expected);
        let ids: BTreeSet<&str> = stages.iter().map(|stage| stage.id.as_str()).collect();
        assert_eq!(ids.len(), stages.len());
        assert!(stages.iter().all(|stage| stage.parent == span.id));
        assert_eq!(stages[0].start, span.start);
        assert!(stages.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(stages[stages.len() - 1].end, span.end);
    }
    let of = of_trace(&spans, &rejected);
    let span = of.iter().find(|span| span.parent.is_empty()).unwrap();
    let codes = span
        .attributes
        .iter()
        .find(|a| a.starts_with("vitalgate.codes"));
    assert!(codes.unwrap().contains("WRONG_TYPE"), "{span:?}");
    println!("{} spans collected", spans.len());
}

#[test]
fn a_collector_that_is_away_or_silent_holds_nobody_up() {
    // Nobody is there; or somebody is, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [free_port(), silent.local_addr().unwrap().port()] {
        let mut site = Site::administrable();
        let section = format!(
            "[telemetry.otlp]\nto = \"http://127.0.0.1:{port}/v1/traces\"\nplaintext = true\n\
             queue = 4\n\n"
        );
        site.config.push_str(&section);
        let mut server = Server::start(&site);
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        wait_until("a full queue", || {
            assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
            spans_that(&server, &site, "dropped") > 0
        });
        assert_eq!(server.health("/readyz").unwrap().0, 200);
        assert_eq!(spans_that(&server, &site, "sent"), 0);
        wait_until("the log to say so", || {
            server.log().contains("spans not collected")
        });
        drop(wire);
        server.stop();
        assert_eq!(server.log().matches("spans not collected").count(), 1);
    }
}

#[test]
fn the_files_that_reach_a_collector_are_checked() {
    let mut site = Site::new();
    site.config.push_str(
        "[telemetry.otlp]\nto = \"https://127.0.0.1:1/v1/traces\"\nca = \"none.pem\"\n\n",
    );
    let file = site.config_file();
    let check = ["check", "--config", file.to_str().unwrap()];
    let output = run_to_end(&check);
    assert_ne!(output.status.code(), Some(0), "{BINARY}");
    let said = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("none.pem"));
    fs::copy(site.path().join("ca.pem"), site.path().join("none.pem")).unwrap();
    assert_eq!(run_to_end(&check).status.code(), Some(0));
}
