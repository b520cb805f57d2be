//! The little of ASN.1 DER that tells what a key is for.

/// `SEQUENCE`
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ed25519,
    Rsa,
    P256,
}

/// The family and the key's own bytes in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
pub(super) fn public_key(der: &[u8]) -> Option<(Family, &[u8])> {
    let (info, rest) = element(der, SEQUENCE)?;
    if !rest.is_empty() {
        return None;
    }
    let (algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, rest) = element(rest, BIT_STRING)?;
    let (unused, key) = bits.split_first()?;
    (rest.is_empty() && *unused == 0).then_some(())?;
    Some((family(algorithm)?, key))
}

/// The family of a PKCS#8 key (RFC 5208, RFC 5958).
pub(super) fn private_key_family(der: &[u8]) -> Option<Family> {
    let (info, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(info, INTEGER)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    family(algorithm)
}

fn family(algorithm: &[u8]) -> Option<Family> {
    let (identifier, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    match identifier {
        RSA => Some(Family::Rsa),
        ED25519 => Some(Family::Ed25519),
        EC => {
            let (curve, rest) = element(parameters, OBJECT_IDENTIFIER)?;
            (curve == P256 && rest.is_empty()).then_some(Family::P256)
        }
        _ => None,
    }
}

/// The content of the element that `input` begins with, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = input.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(l, rest)| (usize::from(u16::from_be_bytes(*l)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}
