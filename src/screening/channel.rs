//! The ways in which a row can be odd. They are kept apart to the end: one sum of them did worse
//! on unseen patients than each with a share of the flags.

/// How many channels there are.
pub const CHANNELS: usize = 4;

/// One way of being odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A network takes some of the values for replaced.
    Replaced,
    /// One value is surprising given the others.
    Surprise,
    /// All values together are rare.
    Density,
    /// No typical patient is near.
    Prototype,
}

impl Channel {
    /// In the order of every list of scores.
    pub const ALL: [Self; CHANNELS] = [
        Self::Replaced,
        Self::Surprise,
        Self::Density,
        Self::Prototype,
    ];

    /// As answers, records and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Surprise => "surprise",
            Self::Density => "density",
            Self::Prototype => "prototype",
        }
    }
}
