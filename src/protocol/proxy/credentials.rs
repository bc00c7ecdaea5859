//! Who asks the proxy.

use alloc::{format, string::String, vec, vec::Vec};
use core::error::Error;
use core::fmt;

/// A user and a password. What a proxy's protocol cannot carry is refused by its machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Any two texts.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `user:password`, to be encoded for `Basic`. RFC 7617 §2.
    pub(super) fn for_basic(&self) -> Result<String, CredentialsError> {
        if self.user.contains(':') {
            return Err(CredentialsError::ColonInUser);
        }
        let pair = format!("{}:{}", self.user, self.password);
        if pair.chars().any(char::is_control) {
            return Err(CredentialsError::ControlCharacter);
        }
        Ok(pair)
    }

    /// The message of RFC 1929 §2.
    pub(super) fn for_socks5(&self) -> Result<Vec<u8>, CredentialsError> {
        if self.user.is_empty() {
            return Err(CredentialsError::EmptyUser);
        }
        let mut message = vec![1];
        for part in [&self.user, &self.password] {
            let length = u8::try_from(part.len()).map_err(|_| CredentialsError::TooLong)?;
            message.push(length);
            message.extend_from_slice(part.as_bytes());
        }
        Ok(message)
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why credentials cannot be told to a proxy.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsError {
    /// SOCKS5 has no empty user. RFC 1929 §2.
    EmptyUser,
    /// SOCKS5 has at most 255 bytes for the user and for the password. RFC 1929 §2.
    TooLong,
    /// `Basic` has no user with a colon. RFC 7617 §2.
    ColonInUser,
    /// `Basic` has no control characters. RFC 7617 §2.
    ControlCharacter,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyUser => "the proxy's user is empty",
            Self::TooLong => "the proxy's user or password is longer than 255 bytes",
            Self::ColonInUser => "the proxy's user has a colon",
            Self::ControlCharacter => "the proxy's user or password has a control character",
        })
    }
}

impl Error for CredentialsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_keeps_the_password_to_itself() {
        let text = format!("{:?}", Credentials::new("user", "sesame"));
        assert!(text.contains("user") && !text.contains("sesame"), "{text}");
    }

    #[test]
    fn basic() {
        let cases = [
            ("a", "b:c", Ok("a:b:c".to_owned())),
            ("", "", Ok(":".to_owned())),
            ("a:b", "c", Err(CredentialsError::ColonInUser)),
            ("a\r\n", "c", Err(CredentialsError::ControlCharacter)),
            ("a", "\0", Err(CredentialsError::ControlCharacter)),
        ];
        for (user, password, expected) in cases {
            assert_eq!(Credentials::new(user, password).for_basic(), expected);
        }
    }

    #[test]
    fn socks5() {
        let long = "x".repeat(255);
        let longer = "x".repeat(256);
        let message = Credentials::new("a:b", "").for_socks5();
        assert_eq!(message, Ok(b"\x01\x03a:b\x00".to_vec()));
        let message = Credentials::new(&*long, &*long).for_socks5().unwrap();
        assert_eq!(message.len(), 1 + 256 + 256);
        let cases = [
            ("", "a", CredentialsError::EmptyUser),
            (&*longer, "a", CredentialsError::TooLong),
            ("a", &*longer, CredentialsError::TooLong),
        ];
        for (user, password, error) in cases {
            assert_eq!(Credentials::new(user, password).for_socks5(), Err(error));
            assert!(!error.to_string().is_empty());
        }
    }
}
