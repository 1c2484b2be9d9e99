//! The keys of one link and what they do: a keyed BLAKE3 tag a frame, and ChaCha20-Poly1305 where the operator wants secrecy too.

use snow::params::CipherChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use zeroize::{Zeroize, Zeroizing};

/// Bytes that encryption adds to what it hides.
pub const CIPHER_OVERHEAD: usize = 16;

/// Keys of one direction of one link. They live as long as the link.
pub struct DirectionKeys {
    tag: [u8; 32],
    cipher: Option<Cipher>,
}

/// The cipher of one direction. The library keeps the expanded key behind a trait object.
struct Cipher(Box<dyn snow::types::Cipher>);

/// Keys of both directions of one link.
#[derive(Debug)]
pub struct LinkKeys {
    /// For what this node says.
    pub send: DirectionKeys,
    /// For what the peer says.
    pub receive: DirectionKeys,
}

impl DirectionKeys {
    /// Derives them from one direction's half of the handshake's split, never from the handshake hash, which is public.
    pub fn derive(split: &[u8; 32], encrypt: bool) -> DirectionKeys {
        let tag = blake3::derive_key("quorate v1 peer frame tag", split);
        let cipher = encrypt.then(|| {
            let key = Zeroizing::new(blake3::derive_key("quorate v1 peer frame cipher", split));
            let mut cipher = DefaultResolver
                .resolve_cipher(&CipherChoice::ChaChaPoly)
                .expect("ChaCha20-Poly1305 is built in");
            cipher.set(&key);
            Cipher(cipher)
        });
        DirectionKeys { tag, cipher }
    }
    /// Whether frames of this direction are hidden too.
    pub fn encrypts(&self) -> bool {
        self.cipher.is_some()
    }
    /// A tag to be made or checked.
    pub fn tagger(&self) -> Tagger {
        Tagger(blake3::Hasher::new_keyed(&self.tag))
    }
    /// Hides `plain` into `out`, which is `CIPHER_OVERHEAD` longer. `nonce` must never be used twice. Panics without a cipher.
    pub fn encrypt(&self, nonce: u64, bound: &[u8], plain: &[u8], out: &mut [u8]) {
        assert_eq!(out.len(), plain.len() + CIPHER_OVERHEAD);
        let cipher = self.cipher.as_ref().expect("only encrypted links encrypt");
        let written = cipher.0.encrypt(nonce, bound, plain, out);
        assert_eq!(written, out.len());
    }
    /// Uncovers `hidden` into `out`, which is `CIPHER_OVERHEAD` shorter; false if it is not authentic. Panics without a cipher.
    pub fn decrypt(&self, nonce: u64, bound: &[u8], hidden: &[u8], out: &mut [u8]) -> bool {
        assert_eq!(out.len() + CIPHER_OVERHEAD, hidden.len());
        let cipher = self.cipher.as_ref().expect("only encrypted links decrypt");
        cipher.0.decrypt(nonce, bound, hidden, out).is_ok()
    }
}
impl Drop for DirectionKeys {
    fn drop(&mut self) {
        self.tag.zeroize();
        if let Some(Cipher(cipher)) = &mut self.cipher {
            cipher.set(&[0; 32]);
        }
    }
}
impl std::fmt::Debug for DirectionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectionKeys(encrypts: {})", self.encrypts())
    }
}

/// Takes bytes in; gives their tag, or compares it.
pub struct Tagger(blake3::Hasher);

impl Tagger {
    /// More bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The tag of all bytes.
    pub fn tag(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
    /// Whether `tag` is the tag of all bytes, in constant time.
    pub fn matches(&self, tag: &[u8; 32]) -> bool {
        self.0.finalize() == *tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_depends_on_the_key_and_on_every_byte() {
        let (a, b) = (DirectionKeys::derive(&[1; 32], false), DirectionKeys::derive(&[2; 32], false));
        let tag = |keys: &DirectionKeys, bytes: &[u8]| {
            let mut tagger = keys.tagger();
            tagger.add(bytes);
            tagger.tag()
        };
        assert_eq!(tag(&a, b"frame"), tag(&a, b"frame"));
        assert_ne!(tag(&a, b"frame"), tag(&b, b"frame"));
        assert_ne!(tag(&a, b"frame"), tag(&a, b"frane"));
        let mut tagger = a.tagger();
        tagger.add(b"fra");
        tagger.add(b"me");
        assert!(tagger.matches(&tag(&a, b"frame")) && !tagger.matches(&tag(&b, b"frame")));
    }

    #[test]
    fn hidden_bytes_come_back_only_with_their_key_nonce_and_binding() {
        let (a, b) = (DirectionKeys::derive(&[1; 32], true), DirectionKeys::derive(&[2; 32], true));
        let mut hidden = [0; 5 + CIPHER_OVERHEAD];
        a.encrypt(9, b"head", b"bytes", &mut hidden);
        let mut plain = [0; 5];
        assert!(a.decrypt(9, b"head", &hidden, &mut plain));
        assert_eq!(&plain, b"bytes");
        assert!(!a.decrypt(8, b"head", &hidden, &mut plain));
        assert!(!a.decrypt(9, b"tail", &hidden, &mut plain));
        assert!(!b.decrypt(9, b"head", &hidden, &mut plain));
    }
}
