//! The demo bundles, compiled in so that `dev` works from anywhere.

/// A file of a bundle: its name, its bytes.
type File = (&'static str, &'static [u8]);

macro_rules! bundle {
    ($name:literal, $($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../../../models/", $name, "/bundle/", $file)))),*]
    };
}

/// Name, version, files.
pub(super) const BUNDLES: [(&str, &str, &[File]); 2] = [
    (
        "breast-cancer",
        "1",
        bundle!(
            "breast-cancer",
            "README.md",
            "bom.cdx.json",
            "members/logistic.onnx",
            "model.json",
            "reference.json",
        ),
    ),
    (
        "icu-mortality",
        "1",
        bundle!(
            "icu-mortality",
            "README.md",
            "bom.cdx.json",
            "members/gbdt.onnx",
            "members/mlp.onnx",
            "model.json",
            "reference.json",
        ),
    ),
];

/// A synthetic patient that every screen passes.
pub(super) const PATIENT: &str =
    include_str!("../../../models/icu-mortality/examples/predicted.json");
