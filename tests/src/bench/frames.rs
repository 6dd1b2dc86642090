//! How much is measured where the kernel makes the frames.

/// Rounds, and what each of them sends.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// Rounds; the median counts.
    pub rounds: usize,
    /// Frames of one measurement.
    pub frames: u32,
}

impl Frames {
    /// To see whether it runs.
    pub const QUICK: Self = Self {
        rounds: 2,
        frames: 1 << 10,
    };
}
