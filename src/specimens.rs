//! Synthetic patients and variants of the demonstration models, for tests only.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::bundle::model::ModelSpec;

const ICU: &[u8] = include_bytes!("../models/icu-mortality/bundle/model.json");
const BREAST: &[u8] = include_bytes!("../models/breast-cancer/bundle/model.json");

/// 20 features of intensive care, two networks.
pub(crate) fn icu() -> Arc<ModelSpec> {
    static SPEC: LazyLock<Arc<ModelSpec>> = LazyLock::new(|| ModelSpec::parse(ICU).unwrap());
    Arc::clone(&SPEC)
}

/// 30 features of cell nuclei, one network.
pub(crate) fn breast() -> Arc<ModelSpec> {
    static SPEC: LazyLock<Arc<ModelSpec>> = LazyLock::new(|| ModelSpec::parse(BREAST).unwrap());
    Arc::clone(&SPEC)
}

/// The intensive care model after an edit of its `model.json`.
pub(crate) fn icu_with(edit: impl FnOnce(&mut Value)) -> Result<Arc<ModelSpec>, String> {
    let mut model = serde_json::from_slice(ICU).unwrap();
    edit(&mut model);
    ModelSpec::parse(&serde_json::to_vec(&model).unwrap()).map_err(|e| e.to_string())
}

/// A request body, kept as text so that it can be broken in ways no JSON writer allows.
#[derive(Clone)]
pub(crate) struct Body {
    observations: Vec<(String, String)>,
    beside: String,
}

impl Body {
    /// A patient that no screen of [`icu`] objects to.
    pub(crate) fn icu() -> Self {
        Self::known_answer(ICU)
    }

    /// A patient that no screen of [`breast`] objects to.
    pub(crate) fn breast() -> Self {
        Self::known_answer(BREAST)
    }

    fn known_answer(model: &[u8]) -> Self {
        let model: Value = serde_json::from_slice(model).unwrap();
        let features = model["features"].as_array().unwrap();
        let inputs = model["known_answers"][1]["inputs"].as_array().unwrap();
        let name = |f: &Value| f["name"].as_str().unwrap().to_owned();
        Self {
            observations: features
                .iter()
                .zip(inputs)
                .map(|(f, v)| (name(f), v.to_string()))
                .collect(),
            beside: String::new(),
        }
    }

    /// With this JSON text as the feature's value.
    pub(crate) fn with(mut self, feature: &str, json: &str) -> Self {
        let at = self.observations.iter().position(|(k, _)| k == feature);
        json.clone_into(&mut self.observations[at.unwrap()].1);
        self
    }

    /// Without the feature.
    pub(crate) fn without(mut self, feature: &str) -> Self {
        self.observations.retain(|(k, _)| k != feature);
        self
    }

    /// With one more member of `observations`, whether it is there already or not.
    pub(crate) fn plus(mut self, key: &str, json: &str) -> Self {
        self.observations.push((key.to_owned(), json.to_owned()));
        self
    }

    /// With this JSON text (members) beside `observations`.
    pub(crate) fn beside(mut self, members: &str) -> Self {
        self.beside.push_str(", ");
        self.beside.push_str(members);
        self
    }

    /// As it is sent.
    pub(crate) fn text(&self) -> String {
        let observations: Vec<String> = self
            .observations
            .iter()
            .map(|(key, value)| format!("\"{key}\": {value}"))
            .collect();
        format!(
            "{{\"observations\": {{{}}}{}}}",
            observations.join(", "),
            self.beside
        )
    }

    /// As it is sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.text().into_bytes()
    }
}
