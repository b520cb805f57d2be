//! Signatures against published vectors, and against another implementation's.

use serde_json::json;

use crate::harness::{Fixture, everything};

/// RFC 6979, appendix A.2.5: the P-256 key.
pub(crate) const P256_PEM: &str = include_str!("keys/p256-rfc6979.pem");

/// "sample", which RFC 6979 signs.
const SAMPLE: &str = "73616d706c65";
/// Made with OpenSSL and `keys/rsa-2048.pem`.
const RSA_PKCS1: &str = "cefd47090759211b8271326051c08141ec0f3e48d153134d90b610e882c8306801c0ab1a28500c01ba88bc6736bd599e09a7db1ccd2b19a897cbd8c599e9ea95f1779bba8e46ee329a32a26b4a3164f4030c89f6f41a15617980309639a379275a18a44ca8940a498c0102e1258565f5e4da8e1aefe278b824612f5974537e2f57052d1c02dae7fdbd2b4ca4e2f7403921d00e7d6a6453a171d8aa23915935ab875bdfc37c05a24abbbd4f59328a6601dfc493bfac26a0ffe88f9b1e510d37fcddf5ff0e6a20253afcfb8da5f200ec98902945c8d13d162dd5e60a4266b506722b1fc9fb4d64c35de857b1eb8c0bd915112dccdd59c15a2d16f67e073c0d3156";
const RSA_PSS: &str = "2d3867f0defef6b4e0b9ad9823ead1484cccb65759085908548e079135076536b84a484acb5cc707b6936eb5812f46bbd8f84765ce3070d53d3b5adc3d1eeb1a28976960fcfbe990d8c7f5dbedc832669202999d48d7ca2f4f109730ddeef29f0611b8470737fc1b95574b3786a139e7501d829da567d1930178d70a6c935c72f56bb9e8d5009c4543bc4bf5ee55b576435dcb1a15161949df20951615a1d27b6405f6d351e17da8244b8b9fa171542d2c0b76fd01177d60428ab34e4e865c2537162ac8cdfc2f6be91644fbafa4a75f50641b92f7a0ba418a208358a28e6f0c7473149e8d243a6486267c0691bd2440c6ffd75a8d33868da909dd0d0ad63116";
/// RFC 8032, section 7.1, test 2.
const ED25519_PUBLIC: &str =
    "302a300506032b65700321003d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
const ED25519_SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
/// The same with the group's order added to S: accepted by implementations that don't check its range.
const ED25519_MALLEABLE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69daf52db7415978abc61b2c2eb6aeebfca0387b2eaeb4302aeeb00d291612bb0c10";
/// RFC 6979, appendix A.2.5, SHA-256, "sample".
const P256_SIGNATURE: &str = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
const P256_PUBLIC: &str = "3059301306072a8648ce3d020106082a8648ce3d0301070342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn digests_and_codes_are_the_published_ones() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let abc = hex("abc");
    for (algorithm, begins) in [
        ("sha-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("sha-384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded163"),
        ("sha-512", "ddaf35a193617abacc417349ae204131"),
    ] {
        let came = fixture.tell(&granted, &format!("digest {algorithm} {abc}")).await;
        assert!(came.starts_with(begins), "{algorithm}: {came}");
    }
    // RFC 4231, test 2: the key is "Jefe".
    let data = hex("what do ya want for nothing?");
    let mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(fixture.tell(&granted, &format!("hmac sha-256 token {data}")).await, mac);
    assert_eq!(
        fixture.tell(&granted, &format!("hmac sha-512 token {data}")).await,
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
    );
    let verified =
        async |mac: &str| fixture.tell(&granted, &format!("hmac-verify sha-256 token {data} {mac}")).await;
    assert_eq!(verified(mac).await, "Ok(true)");
    // Neither a part of a code nor a changed one is one.
    assert_eq!(verified(&mac[..32]).await, "Ok(false)");
    assert_eq!(verified("-").await, "Ok(false)");
    assert_eq!(verified(&mac.replace("5b", "5c")).await, "Ok(false)");
    assert!(fixture.tell(&granted, "digest md5 00").await.contains("Unsupported"));
    assert!(fixture.tell(&granted, "hmac sha-1 token 00").await.contains("Unsupported"));
    assert_eq!(fixture.tell(&granted, "equal same same").await, "Ok(true)");
    assert_eq!(fixture.tell(&granted, "equal same other").await, "Ok(false)");
}

#[tokio::test]
async fn signatures_are_the_published_ones() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let tell = async |words: &str| fixture.tell(&granted, words).await;
    assert_eq!(tell("sign ed25519 ed25519 72").await, ED25519_SIGNATURE);
    assert_eq!(tell(&format!("sign rsa-pkcs1-sha-256 rsa {SAMPLE}")).await, RSA_PKCS1);
    let rsa_public = hex(include_str!("keys/rsa-2048.pub.pem"));
    for (algorithm, public, data, signature) in [
        ("ed25519", ED25519_PUBLIC, "72", ED25519_SIGNATURE),
        ("rsa-pkcs1-sha-256", &rsa_public, SAMPLE, RSA_PKCS1),
        ("rsa-pss-sha-256", &rsa_public, SAMPLE, RSA_PSS),
        ("ecdsa-p256-sha-256", P256_PUBLIC, SAMPLE, P256_SIGNATURE),
    ] {
        let verified = async |data: &str, signature: &str| {
            tell(&format!("verify {algorithm} {public} {data} {signature}")).await
        };
        assert_eq!(verified(data, signature).await, "Ok(true)", "{algorithm}");
        assert_eq!(verified("73", signature).await, "Ok(false)", "{algorithm}: other data");
        let changed = format!("{}{}", if signature.starts_with('0') { '1' } else { '0' }, &signature[1..]);
        let zeros = "0".repeat(signature.len());
        for bad in [&changed, &zeros, &signature[2..], &format!("{signature}00"), "-"] {
            assert_eq!(verified(data, bad).await, "Ok(false)", "{algorithm}: {bad}");
        }
    }
    assert_eq!(tell(&format!("verify ed25519 {ED25519_PUBLIC} 72 {ED25519_MALLEABLE}")).await, "Ok(false)");
}

#[tokio::test]
async fn what_is_signed_is_verified_by_the_same_key() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    for (algorithm, key) in [
        ("ed25519", "ed25519"),
        ("rsa-pkcs1-sha-256", "rsa"),
        ("rsa-pss-sha-256", "rsa"),
        ("ecdsa-p256-sha-256", "p256"),
        ("ecdsa-p256-sha-256-der", "p256"),
    ] {
        let made = fixture.tell(&granted, &format!("sign {algorithm} {key} {SAMPLE}")).await;
        let verified = fixture.tell(&granted, &format!("verify-own {algorithm} {key} {SAMPLE} {made}")).await;
        assert_eq!(verified, "Ok(true)", "{algorithm}: {made}");
    }
    let made = fixture.tell(&granted, &format!("sign ecdsa-p256-sha-256 p256 {SAMPLE}")).await;
    let published =
        fixture.tell(&granted, &format!("verify ecdsa-p256-sha-256 {P256_PUBLIC} {SAMPLE} {made}")).await;
    assert_eq!(published, "Ok(true)");
}

#[tokio::test]
async fn a_key_serves_its_own_algorithms_only() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    for words in [
        "sign ed25519 rsa 00",
        "sign rsa-pkcs1-sha-256 p256 00",
        "sign ecdsa-p256-sha-256 ed25519 00",
        "verify-own rsa-pss-sha-256 ed25519 00 00",
        "sign ed25519 token 00",
        &format!("verify rsa-pkcs1-sha-256 {ED25519_PUBLIC} 72 00"),
        &format!("verify ed25519 {P256_PUBLIC} 72 00"),
        "verify ed25519 3000 72 00",
        "verify ed25519 30ff 72 00",
    ] {
        let came = fixture.tell(&granted, words).await;
        assert!(came.contains("BadKey"), "{words}: {came}");
        assert!(!came.contains("Jefe"), "no error holds the secret: {came}");
    }
    assert!(fixture.tell(&granted, "sign none ed25519 00").await.contains("Unsupported"));
    let without = fixture.grant(&json!({ "crypto": {} }));
    assert!(fixture.tell(&without, "sign ed25519 ed25519 00").await.contains("Denied"));
}
