//! Keys in PEM, and what OpenSSL says of files that it cannot use, without its codes.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

use crate::config::Secret;

/// A private key from a file, or why there is none.
pub fn pem_key(file: &Path, password: Option<&Secret>) -> Result<PKey<Private>, String> {
    let pem = std::fs::read(file).map_err(|cause| format!("cannot be read: {cause}"))?;
    // With no password an empty one: OpenSSL would otherwise ask for it on the terminal.
    let phrase = password.map_or("", Secret::expose);
    PKey::private_key_from_pem_passphrase(&pem, phrase.as_bytes()).map_err(|cause| {
        let reasons = reasons(&cause);
        // OpenSSL's own reason for a wrong password depends on what the key decrypts to: one in 256 passes for a
        // decrypted key whose content makes no sense.
        match (is_encrypted(&pem), password) {
            (false, _) => reasons,
            (true, None) => format!("it is encrypted and no password is set ({reasons})"),
            (true, Some(_)) => format!("it is encrypted and the password does not decrypt it ({reasons})"),
        }
    })
}

/// Both PKCS #8 and the older form of PEM name it in clear text.
fn is_encrypted(pem: &[u8]) -> bool {
    pem.windows(b"ENCRYPTED".len()).any(|word| word == b"ENCRYPTED")
}

/// The reasons of OpenSSL's error queue in words, the first cause first.
pub fn reasons(errors: &ErrorStack) -> String {
    let mut told: Vec<&str> = Vec::new();
    for reason in errors.errors().iter().filter_map(openssl::error::Error::reason) {
        let reason = match reason {
            "no start line" => "it holds no such item in PEM form",
            // Only says which part of OpenSSL complains.
            "PEM lib" | "SSL lib" | "ASN1 lib" | "BIO lib" | "X509 lib" | "system lib" => continue,
            reason => reason,
        };
        if !told.contains(&reason) {
            told.push(reason);
        }
    }
    if told.is_empty() { "OpenSSL cannot use it".to_owned() } else { told.join(", ") }
}
