//! The bearer token that lets a request change something. It lives in a file that only its owner may read.

use crate::base::hex::to_hex;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The secret. Neither printed nor compared with `==`.
#[derive(Clone)]
pub struct Token {
    text: Zeroizing<String>,
}

/// Shortest token that is accepted, in characters: 128 bits in hexadecimal.
const TEXT_BYTES_MIN: usize = 32;
const TEXT_BYTES_MAX: usize = 512;

/// Why there is no token.
#[derive(thiserror::Error, Debug)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("the admin token {}: {error}; `quorate init` writes one", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read the file.
    #[error("the admin token {} may be read by others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("the admin token {} has {len} characters, expected {TEXT_BYTES_MIN} to {TEXT_BYTES_MAX} visible ones", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// How many characters it holds.
        len: usize,
    },
}

impl Token {
    /// Writes a token made of 32 random bytes into a new file of mode 0600.
    pub fn create(path: &Path, random: [u8; 32]) -> Result<Token, TokenError> {
        let text = Zeroizing::new(to_hex(&random));
        let failed = |error| TokenError::Io { path: path.to_path_buf(), error };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        writeln!(file, "{}", text.as_str()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Token { text })
    }

    /// Reads the token, if nobody but the owner can.
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let failed = |error| TokenError::Io { path: path.to_path_buf(), error };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_path_buf(), mode });
        }
        let raw = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        let text = Zeroizing::new(raw.trim_end().to_string());
        let sound = (TEXT_BYTES_MIN..=TEXT_BYTES_MAX).contains(&text.len());
        if !sound || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Malformed { path: path.to_path_buf(), len: text.len() });
        }
        Ok(Token { text })
    }

    /// Whether `other` is the token. Takes the same time wherever they differ, and whatever the length of the token: digests under
    /// a fixed key are compared whole.
    pub fn matches(&self, other: &str) -> bool {
        let (mine, theirs) = (blake3::hash(self.text.as_bytes()), blake3::hash(other.as_bytes()));
        // blake3's equality is constant-time.
        mine == theirs
    }

    /// For the client that has to show it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Scratch;

    #[test]
    fn a_token_is_written_for_its_owner_only_and_recognised() {
        let scratch = Scratch::new("token");
        let path = scratch.path().join("token");
        let made = Token::create(&path, [0xab; 32]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Token::read(&path).unwrap();
        assert!(read.matches(made.reveal()));
        assert!(!read.matches(&made.reveal()[1..]));
        assert!(!read.matches(""));
        assert!(Token::create(&path, [1; 32]).is_err(), "a token is never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Open { mode: 0o640, .. })));
        assert_eq!(format!("{made:?}"), "Token(..)");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let scratch = Scratch::new("token-malformed");
        let path = scratch.path().join("token");
        for text in ["", "short", "0123456789abcdef0123456789abcd ef", "0123456789abcdef\n0123456789abcdef"] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Token::read(&path), Err(TokenError::Malformed { .. })), "{text:?}");
        }
    }
}
