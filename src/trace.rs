//! Events for the `tracing` crate, or nothing when the feature is off.

/// A text, and variables whose values go with it.
#[cfg(feature = "tracing")]
macro_rules! trace {
    ($text:literal $(, $value:ident)*) => {
        tracing::debug!($($value = ?$value,)* $text)
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! trace {
    ($text:literal $(, $value:ident)*) => {
        $(let _ = &$value;)*
    };
}
