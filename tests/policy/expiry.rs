//! What becomes of a model that serves when its policy expires.

use time::format_description::well_known::Rfc3339;
use vitalgate::clock;

use super::*;

/// A site with the certificates and keys that `dev` makes.
fn site() -> Site {
    let site = Site::new();
    let dev = dev::start(&site.path("dev"));
    drop(dev);
    for file in ["ca.pem", "server.pem", "server.key", "clients", "keys"] {
        let (from, to) = (site.path("dev").join(file), site.path(file));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
    site
}

/// Status and body of a request with no observations: 422 when it is judged.
fn predict(site: &Site, running: &Running) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "-sS",
            "--cacert",
            "ca.pem",
            "--cert",
            "clients/clinician.pem",
        ])
        .args([
            "--key",
            "clients/clinician.key",
            "-w",
            "\n%{http_code}",
            "--data",
            "{}",
        ])
        .args(["-H", "Content-Type: application/json"])
        .arg(format!(
            "https://{}/v1/models/{MODEL}/predict",
            running.data
        ))
        .current_dir(site.0.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn readiness(running: &Running) -> String {
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg(format!("http://{}/readyz", running.health))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Long enough for the server to start.
fn shortly() -> String {
    let soon = clock::utc() + Duration::from_secs(6);
    soon.format(&Rfc3339).unwrap()
}

#[test]
fn stop_ends_predictions_and_keep_does_not() {
    let site = site();
    for (what, status, ready, log) in [
        ("stop", "503", "503", "predictions are refused"),
        ("keep", "422", "200", "models go on"),
    ] {
        let serial = if what == "stop" { 1 } else { 2 };
        site.release(
            serial,
            &format!("--on-expiry {what} --expires {}", shortly()),
        );
        let running = Running::start(&site);
        let (before, body) = predict(&site, &running);
        assert_eq!(before, "422", "{body}");
        assert_eq!(readiness(&running), "200");
        running.line("expires within 1 day");
        running.line(log);
        let (after, body) = predict(&site, &running);
        assert_eq!(after, status, "{body}");
        assert_eq!(body.contains("POLICY_EXPIRED"), what == "stop");
        assert_eq!(readiness(&running), ready);
        drop(running);
        // Either way, nothing is loaded any more.
        site.serve().says(1, &["expired", "nothing new is loaded"]);
    }
}
