//! Faults that can be switched on in simulator builds, to show that its checks find them.
//!
//! Without the feature `sabotage` every question here is answered `false` at compile time.

/// A fault that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// The backend reports a commit as durable that is not.
    SkipFlush,
    /// A receiver acknowledges a batch before it is committed.
    AckBeforeCommit,
    /// A sender forgets what the other side has acknowledged.
    ForgetAck,
    /// Signatures are not verified.
    AcceptUnsigned,
    /// The height in a header is taken as it is.
    TrustHeight,
    /// An operation takes effect twice.
    ApplyTwice,
    /// A tip is dropped from the set of tips.
    LoseTip,
    /// Entries are served to a peer that may not read.
    ServeWithoutRight,
    /// What does not count when it comes is taken for what does.
    CountVoid,
    /// Settings that come change nothing of what counts already.
    SettleNothing,
    /// The first entry of each batch is not in the sketch.
    StaleSketch,
    /// What a slow follower could not be told is forgotten.
    ForgetDue,
    /// What comes from a peer is pushed back to it.
    PushBack,
    /// Payloads that are asked for are not given.
    WithholdPayloads,
}

impl Sabotage {
    /// Every sabotage, with its name on the command line.
    pub const ALL: [(&'static str, Self); 14] = [
        ("skip-flush", Self::SkipFlush),
        ("ack-before-commit", Self::AckBeforeCommit),
        ("forget-ack", Self::ForgetAck),
        ("accept-unsigned", Self::AcceptUnsigned),
        ("trust-height", Self::TrustHeight),
        ("apply-twice", Self::ApplyTwice),
        ("lose-tip", Self::LoseTip),
        ("serve-without-right", Self::ServeWithoutRight),
        ("count-void", Self::CountVoid),
        ("settle-nothing", Self::SettleNothing),
        ("stale-sketch", Self::StaleSketch),
        ("forget-due", Self::ForgetDue),
        ("push-back", Self::PushBack),
        ("withhold-payloads", Self::WithholdPayloads),
    ];
}

#[cfg(feature = "sabotage")]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Switches one fault on, or all off. One process runs one sabotage.
#[cfg(feature = "sabotage")]
pub fn set(sabotage: Option<Sabotage>) {
    ACTIVE.store(sabotage.map_or(0, |s| s as u8 + 1), std::sync::atomic::Ordering::SeqCst);
}

/// Whether this fault is switched on.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn is(sabotage: Sabotage) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == sabotage as u8 + 1
}

/// Whether this fault is switched on: never, in this build.
#[cfg(not(feature = "sabotage"))]
#[must_use]
#[inline]
pub const fn is(_sabotage: Sabotage) -> bool {
    false
}
