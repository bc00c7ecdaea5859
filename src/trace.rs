//! Events for the `tracing` crate, or nothing when the feature is off.

#[cfg(feature = "tracing")]
macro_rules! trace {
    ($($event:tt)*) => {
        tracing::debug!($($event)*)
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! trace {
    ($($event:tt)*) => {};
}
