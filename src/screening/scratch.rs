//! Working memory of the comparison.

use zeroize::Zeroize;

/// A thread's working memory. It holds what derives from a patient's values until
/// [`Scratch::wipe`].
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) z: Vec<f32>,
    pub(super) missing: Vec<f32>,
    pub(super) centred: Vec<f32>,
    pub(super) y: Vec<f32>,
    pub(super) input: Vec<f32>,
    pub(super) hidden: [Vec<f32>; 2],
    pub(super) products: Vec<f32>,
    pub(super) log_joint: Vec<f32>,
    pub(super) peak: Vec<f32>,
    pub(super) surprise: Vec<f32>,
    pub(super) white: Vec<f32>,
}

impl Scratch {
    /// Everything in it, for who looks for traces of it in memory.
    #[cfg(feature = "tools")]
    pub fn parts(&self) -> [&[f32]; 12] {
        let Self {
            z,
            missing,
            centred,
            y,
            input,
            hidden: [first, second],
            products,
            log_joint,
            peak,
            surprise,
            white,
        } = self;
        let parts = [
            z, missing, centred, y, input, first, second, products, log_joint, peak, surprise,
            white,
        ];
        parts.map(Vec::as_slice)
    }

    /// Overwrites everything with zeros.
    pub fn wipe(&mut self) {
        let [first, second] = &mut self.hidden;
        for part in [
            &mut self.z,
            &mut self.missing,
            &mut self.centred,
            &mut self.y,
            &mut self.input,
            first,
            second,
            &mut self.products,
            &mut self.log_joint,
            &mut self.peak,
            &mut self.surprise,
            &mut self.white,
        ] {
            part.as_mut_slice().zeroize();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.wipe();
    }
}
