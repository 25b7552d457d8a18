//! What a server makes up: identifiers, names, the time.

use openssl::rand::rand_bytes;

pub fn new_uid() -> String {
    let mut bytes = [0; 16];
    rand_bytes(&mut bytes).expect("OpenSSL has random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

pub fn random_letters(count: usize) -> String {
    let mut bytes = vec![0; count];
    rand_bytes(&mut bytes).expect("OpenSSL has random bytes");
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    bytes.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect()
}

pub fn now_text() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
