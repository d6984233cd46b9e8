#!/usr/bin/env python3
"""Checks the vectors of the envelope's formats with libsodium, an implementation that shares no code with ours.

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

# The fields of a record in the associated data, in their order.
FIELDS_OF_1 = ("namespace", "recordId", "tenantId", "clientId")
FIELDS_OF_2 = (*FIELDS_OF_1, "cloud", "credentialId", "secretExpiresAt", "credentialName")


class Refused(Exception):
    """An invalid envelope, or one that cannot be decrypted; the text is the reason."""


def key_encryption_key(key):
    """HKDF-SHA-256 (RFC 5869) without salt, one block long."""
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    return hmac.digest(extracted, (PREFIX + "key-encryption-key").encode() + b"\x01", hashlib.sha256)


def associated_data(layer, case, format, secrets):
    """The associated data of a layer of an envelope with so many secrets: each part after its length."""
    fields = FIELDS_OF_1 if format == 1 else FIELDS_OF_2
    parts = [(PREFIX + layer).encode(), bytes([format]), case["keyId"].encode()]
    parts += [str(case[name]).encode() for name in fields]
    if format == 2:
        parts.append(bytes([secrets]))
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def layers(vector):
    """The secrets of a vector: layer, text, and the name of the nonce."""
    yield "secret", vector["secret"], "secretNonce"
    if "pendingSecret" in vector:
        yield "pending-secret", vector["pendingSecret"], "pendingNonce"


def seal(vector):
    """The envelope of a vector, computed from its data key and nonces."""
    format, secrets = vector["format"], list(layers(vector))
    data_key, nonce = (bytes.fromhex(vector[name]) for name in ("dataKey", "dataKeyNonce"))

    def encrypted(layer, text, nonce, key):
        return aead_seal(text, associated_data(layer, vector, format, len(secrets)), nonce, key)

    kek = key_encryption_key(bytes.fromhex(vector["key"]))
    parts = [b"SGC", bytes([format]), bytes.fromhex(vector["keyId"]), nonce, encrypted("data-key", data_key, nonce, kek)]
    if format == 2:
        parts.append(bytes([len(secrets)]))
    for layer, text, name in secrets:
        text, nonce = text.encode(), bytes.fromhex(vector[name])
        parts += [nonce, len(text).to_bytes(2, "big"), encrypted(layer, text, nonce, data_key)]
    return b"".join(parts)


def parse(envelope):
    """Format, key id, then nonce and ciphertext with tag of the data key and of each secret."""
    at = 0

    def take(length):
        nonlocal at
        at += length
        if len(envelope) < at:
            raise Refused("Truncated")
        return envelope[at - length:at]

    if take(3) != b"SGC":
        raise Refused("NotAnEnvelope")
    [format] = take(1)
    if format not in (1, 2):
        raise Refused("UnknownVersion")
    key_id, sealed, count, left = take(4).hex(), [(take(24), take(48))], 1, 8192
    if format == 2:
        [count] = take(1)
    if count not in (1, 2):
        raise Refused("SecretCount")
    for _ in range(count):
        nonce, length = take(24), int.from_bytes(take(2), "big")
        if not 1 <= length <= left:
            raise Refused("SecretLength")
        left -= length
        sealed.append((nonce, take(length + 16)))
    if at < len(envelope):
        raise Refused("TrailingBytes")
    return format, key_id, sealed


def open_envelope(envelope, case):
    """Data key, secret, and the pending secret if there is one."""
    format, key_id, sealed = parse(envelope)
    if key_id != case["keyId"]:
        raise Refused("UnknownKey")
    opened, key = [], key_encryption_key(bytes.fromhex(case["key"]))
    for layer, reason, (nonce, ciphertext) in zip(
        ("data-key", "secret", "pending-secret"), ("DataKey", "Secret", "Secret"), sealed
    ):
        try:
            data = associated_data(layer, case, format, len(sealed) - 1)
            opened.append(aead_open(ciphertext, data, nonce, key))
        except CryptoError:
            raise Refused(reason) from None
        key = opened[0]
    return opened


def mismatches(vector):
    """The differences between our computation and the vector."""
    secrets = list(layers(vector))
    data = {"data-key": "dataKeyAssociatedData", "secret": "secretAssociatedData"}
    if len(secrets) == 2:
        data["pending-secret"] = "pendingAssociatedData"
    computed = {
        name: associated_data(layer, vector, vector["format"], len(secrets)) for layer, name in data.items()
    }
    computed["keyEncryptionKey"] = key_encryption_key(bytes.fromhex(vector["key"]))
    computed["envelope"] = seal(vector)
    for name, value in computed.items():
        if value.hex() != vector[name]:
            yield f"{name} should be {value.hex()}"
    try:
        opened = open_envelope(bytes.fromhex(vector["envelope"]), vector)
    except Refused as refused:
        yield f"it does not open: {refused}"
    else:
        if opened != [bytes.fromhex(vector["dataKey"]), *(text.encode() for _, text, _ in secrets)]:
            yield "another data key or secret is in it"


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
