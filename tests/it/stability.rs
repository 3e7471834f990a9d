//! A prediction that hangs on measurement uncertainty says so, and what follows is the bundle's to
//! say.

use serde_json::{Value, json};

use crate::harness::{Server, Site, Wire, client, icu_patients, model_source, post, request};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// Serves the model with this policy for what is unstable.
fn serve(policy: &str) -> (Site, Server) {
    let mut site = Site::without_models();
    let mut files = model_source("icu-mortality");
    let mut model: Value = serde_json::from_slice(&files["model.json"]).unwrap();
    model["stability"] = json!({"policy": policy});
    files.insert("model.json".to_owned(), model.to_string().into_bytes());
    site.add_bundle("icu-mortality", 1, files);
    let server = Server::start(&site);
    (site, server)
}

/// The answers to every synthetic patient.
fn answers(site: &Site, server: &Server) -> Vec<Value> {
    let mut wire = Wire::open(server, &client(site, "clinician"));
    let patients = icu_patients();
    let answers = patients.iter();
    answers
        .map(|patient| post(&mut wire, PREDICT, patient.to_string().as_bytes()).json())
        .collect()
}

fn unstable(answers: &[Value]) -> Vec<usize> {
    let named = |answer: &Value| {
        let reasons = answer["reasons"].as_array();
        reasons.is_some_and(|r| r.iter().any(|r| r["code"] == "UNSTABLE"))
    };
    (0..answers.len()).filter(|i| named(&answers[*i])).collect()
}

/// Who gets no prediction learns nothing of its bands, in no language.
fn no_band_is_named(server: &Server, site: &Site, patient: &Value) {
    for language in ["en", "de"] {
        let mut wire = Wire::open(server, &client(site, "clinician"));
        let headers = format!("Content-Type: application/json\r\nAccept-Language: {language}\r\n");
        wire.send(&request(
            "POST",
            PREDICT,
            &headers,
            patient.to_string().as_bytes(),
        ));
        let answer = wire.answer().json();
        assert_eq!(answer["reasons"][0]["code"], "UNSTABLE", "{answer}");
        let mut text = answer;
        // Random text, in which any letters may stand.
        text["review"]["token"] = json!("");
        let text = text.to_string();
        // "very low" and "very high" are found by these too.
        for band in ["low", "moderate", "high"] {
            assert!(!text.contains(band), "{band} is in {text}");
        }
    }
}

#[test]
fn what_is_unstable_is_annotated_reviewed_or_not_looked_for() {
    let (site, mut server) = serve("annotate");
    let annotated = answers(&site, &server);
    let found = unstable(&annotated);
    println!("{} of {} unstable", found.len(), annotated.len());
    assert!(!found.is_empty() && found.len() < annotated.len() / 2);
    for &index in &found {
        let answer = &annotated[index];
        assert_eq!(answer["disposition"], "predicted", "{answer}");
        assert_eq!(answer["screening"]["robustness"], "unstable");
        let (band, range) = (
            &answer["prediction"]["band"],
            &answer["prediction"]["range"],
        );
        assert_ne!(range[0], range[1], "{answer}");
        let bands = ["very low", "low", "moderate", "high", "very high"];
        let place = |band: &Value| bands.iter().position(|b| *b == band).unwrap();
        assert!((place(&range[0])..=place(&range[1])).contains(&place(band)));
        assert!(answer.get("scores").is_none());
    }
    for answer in &annotated {
        if answer["disposition"] == "predicted" && answer.get("reasons").is_none() {
            assert_eq!(answer["screening"]["robustness"], "pass", "{answer}");
            assert!(answer["prediction"].get("range").is_none());
        }
    }
    server.stop();
    let record = &server.records()[found[0]];
    assert_eq!(record["codes"], json!(["UNSTABLE"]));
    assert!(record["stages_us"]["stability"].is_number());

    let (site, server) = serve("review");
    let reviewed = answers(&site, &server);
    assert_eq!(unstable(&reviewed), found);
    for &index in &found {
        let answer = &reviewed[index];
        assert_eq!(answer["disposition"], "review", "{answer}");
        assert_eq!(answer["screening"]["robustness"], "review");
        assert_eq!(answer["screening"]["agreement"], "pass");
        assert!(answer.get("prediction").is_none() && answer["review"]["token"].is_string());
    }
    no_band_is_named(&server, &site, &icu_patients()[found[0]]);

    let (site, server) = serve("off");
    let off = answers(&site, &server);
    assert!(unstable(&off).is_empty());
    assert_eq!(off[found[0]]["screening"]["robustness"], "not_configured");
}
