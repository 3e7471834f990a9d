//! `[drift]`: what is remembered over a restart.

use std::path::PathBuf;

use serde::Deserialize;

/// `[drift]`: may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Directory in which the counts of the last day survive a restart; nowhere when none.
    pub state: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_unless_a_directory_is_named() {
        let read = |text: &str| toml::from_str::<Drift>(text).map(|drift| drift.state);
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("state = \"drift\""), Ok(Some("drift".into())));
        assert!(read("state = 1").is_err() && read("stat = \"drift\"").is_err());
    }
}
