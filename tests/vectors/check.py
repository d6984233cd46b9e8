#!/usr/bin/env python3
"""Checks the vectors of the envelope's format with libsodium, an implementation that shares no code with ours.

    check.py [FILE]

Encrypts and decrypts every vector, and checks that invalid ones are rejected for the same reason. Written only from
docs/reference/envelope.md. `make vectors` runs it with its dependencies.
"""

import hashlib
import hmac
import json
import pathlib
import sys

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open,
    crypto_aead_xchacha20poly1305_ietf_encrypt as aead_seal,
)
from nacl.exceptions import CryptoError

PREFIX = "graph-credentials.io/SealedGraphCredential/"


class Refused(Exception):
    """An invalid envelope, or one that cannot be decrypted; the text is the reason."""


def key_encryption_key(key):
    """HKDF-SHA-256 (RFC 5869) without salt, one block long."""
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, (PREFIX + "key-encryption-key").encode() + b"\x01", hashlib.sha256)


def associated_data(layer, case):
    """The associated data of a layer: each part after its length."""
    ids = [case[name].encode() for name in ("keyId", "namespace", "recordId", "tenantId", "clientId")]
    parts = [(PREFIX + layer).encode(), b"\x01", *ids]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def seal(case):
    """The envelope of a vector, computed from its data key and nonces."""
    data_key, secret = bytes.fromhex(case["dataKey"]), case["secret"].encode()
    nonces = [bytes.fromhex(case[name]) for name in ("dataKeyNonce", "secretNonce")]
    kek = key_encryption_key(bytes.fromhex(case["key"]))
    return b"".join([
        b"SGC\x01",
        bytes.fromhex(case["keyId"]),
        nonces[0],
        aead_seal(data_key, associated_data("data-key", case), nonces[0], kek),
        nonces[1],
        len(secret).to_bytes(2, "big"),
        aead_seal(secret, associated_data("secret", case), nonces[1], data_key),
    ])


def parse(envelope):
    """Key id, then nonce and ciphertext with tag of the data key, then those of the secret."""
    def need(length):
        if len(envelope) < length:
            raise Refused("Truncated")

    need(3)
    if envelope[:3] != b"SGC":
        raise Refused("NotAnEnvelope")
    need(4)
    if envelope[3] != 1:
        raise Refused("UnknownVersion")
    need(106)
    length = int.from_bytes(envelope[104:106], "big")
    if not 1 <= length <= 8192:
        raise Refused("SecretLength")
    need(122 + length)
    if len(envelope) > 122 + length:
        raise Refused("TrailingBytes")
    return envelope[4:8].hex(), envelope[8:32], envelope[32:80], envelope[80:104], envelope[106:]


def unseal(ciphertext, associated, nonce, key, reason):
    try:
        return aead_open(ciphertext, associated, nonce, key)
    except CryptoError:
        raise Refused(reason) from None


def open_envelope(envelope, case):
    """Data key and secret."""
    key_id, data_key_nonce, sealed_data_key, secret_nonce, sealed_secret = parse(envelope)
    if key_id != case["keyId"]:
        raise Refused("UnknownKey")
    kek = key_encryption_key(bytes.fromhex(case["key"]))
    data_key = unseal(sealed_data_key, associated_data("data-key", case), data_key_nonce, kek, "DataKey")
    return data_key, unseal(sealed_secret, associated_data("secret", case), secret_nonce, data_key, "Secret")


def mismatches(vector):
    """The differences between our computation and the vector."""
    computed = {
        "keyEncryptionKey": key_encryption_key(bytes.fromhex(vector["key"])),
        "dataKeyAssociatedData": associated_data("data-key", vector),
        "secretAssociatedData": associated_data("secret", vector),
        "envelope": seal(vector),
    }
    for name, value in computed.items():
        if value.hex() != vector[name]:
            yield f"{name} should be {value.hex()}"
    try:
        data_key, secret = open_envelope(bytes.fromhex(vector["envelope"]), vector)
    except Refused as refused:
        yield f"it does not open: {refused}"
    else:
        if data_key.hex() != vector["dataKey"]:
            yield "another data key is in it"
        if secret.decode() != vector["secret"]:
            yield "another secret is in it"


def refusal(case):
    """The reason why a case is rejected."""
    try:
        open_envelope(bytes.fromhex(case["envelope"]), case)
    except Refused as refused:
        return str(refused)
    return "none: it opens"


def main():
    default = pathlib.Path(__file__).with_name("envelope.json")
    file = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    held = json.loads(file.read_text(encoding="utf-8"))
    vectors, refused = held["vectors"], held["refused"]
    wrong = [f"{vector['name']}: {what}" for vector in vectors for what in mismatches(vector)]
    for case in refused:
        if (reason := refusal(case)) != case["error"]:
            wrong.append(f"{case['name']}: refused for {reason}, and it should be for {case['error']}")
    if not vectors or not refused:
        wrong.append(f"{file} has no vectors")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(vectors)} vectors, {len(refused)} refusals: {len(wrong) or 'no'} mismatches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
