//! Published signatures that verifiers disagree about: K. Chalkias, F. Garillot, V. Nikolaenko, "Taming the many EdDSAs"
//! (SSR 2020, <https://eprint.iacr.org/2020/1244>), with the vectors of their `ed25519-speccheck`.

use super::*;
use crate::trust::keys::parse_sha256;

struct Vector {
    what: &'static str,
    message: &'static str,
    key: &'static str,
    signature: [&'static str; 2],
}

#[rustfmt::skip]
const VECTORS: [Vector; 12] = [
    Vector {
        what: "small A and R, S = 0",
        message: "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        key: "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        signature: [
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ],
    },
    Vector {
        what: "small A",
        message: "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        key: "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        signature: [
            "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ],
    },
    Vector {
        what: "small R",
        message: "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        key: "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        signature: [
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        ],
    },
    Vector {
        what: "mixed A and R, and it holds",
        message: "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        key: "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        signature: [
            "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f",
            "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        ],
    },
    Vector {
        what: "holds with the cofactor only",
        message: "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        key: "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        signature: [
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512",
            "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        ],
    },
    Vector {
        what: "the same, mixed A",
        message: "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        key: "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        signature: [
            "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7",
            "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        ],
    },
    Vector {
        what: "S beyond the order",
        message: "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        key: "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        signature: [
            "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e",
            "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        ],
    },
    Vector {
        what: "S far beyond the order",
        message: "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        key: "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        signature: [
            "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942",
            "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        ],
    },
    Vector {
        what: "R not canonical",
        message: "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        key: "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        signature: [
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        ],
    },
    Vector {
        what: "R not canonical, the other way",
        message: "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        key: "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        signature: [
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        ],
    },
    Vector {
        what: "A not canonical, small",
        message: "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        key: "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        signature: [
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ],
    },
    Vector {
        what: "the same, hashed otherwise",
        message: "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        key: "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        signature: [
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ],
    },
];

#[test]
fn only_what_is_beyond_dispute_holds() {
    for (index, vector) in VECTORS.iter().enumerate() {
        let hex = |text| parse_sha256(text).unwrap();
        let signature: [u8; 64] = vector.signature.map(hex).concat().try_into().unwrap();
        let holds = PublicKey::from_bytes(&hex(vector.key))
            .is_ok_and(|key| key.verifies(&hex(vector.message), &signature));
        // Number 3 satisfies every form of the equation with a key that isn't of small order; the others are ambiguous.
        assert_eq!(holds, index == 3, "{index}: {}", vector.what);
    }
}

#[test]
fn a_signature_has_one_form() {
    // The order of the group, little-endian: S + L satisfies the equation as S does.
    let order = hex_of("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let key = key(1);
    let mut signature = key.sign(b"message");
    assert!(key.public().verifies(b"message", &signature));
    let mut carry = 0u16;
    for (byte, more) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert!(!key.public().verifies(b"message", &signature));
}

#[test]
fn keys_of_small_order_are_no_keys() {
    for weak in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ] {
        assert!(PublicKey::from_bytes(&hex_of(weak)).is_err(), "{weak}");
    }
}

fn hex_of(text: &str) -> [u8; 32] {
    parse_sha256(text).unwrap()
}

#[test]
fn keys_survive_their_files() {
    let secret = key(5);
    let (private, public) = (secret.to_pem().unwrap(), secret.public().to_pem());
    assert_eq!(SecretKey::from_pem(&private).unwrap().public(), secret.public());
    assert_eq!(PublicKey::from_pem(&public).unwrap(), secret.public());
    assert!(SecretKey::from_pem(&public).is_err() && PublicKey::from_pem(&private).is_err());
    // What `openssl genpkey` wrote, and the id that `openssl pkey -pubout -outform DER | sha256sum` gave.
    let (pem, id) = (include_str!("openssl.pub.pem"), include_str!("openssl.keyid").trim());
    assert_eq!(PublicKey::from_pem(pem).unwrap().id().to_string(), id);
    assert_eq!(PublicKey::from_pem(pem).unwrap().to_pem(), pem);
    // Neither form of output shows the key.
    let shown = format!("{secret:?} {}", SecretKey::from_pem("-----BEGIN").unwrap_err());
    assert!(!shown.contains(private.lines().nth(1).unwrap()));
}
