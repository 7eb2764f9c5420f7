"""Opens what is sealed, written from docs/adr/0007-encrypted-stores.md; verify.py runs it over sealed.json."""

import blake3
import cbor2
import nacl.bindings
import nacl.exceptions
import nacl.pwhash


def derive(purpose, key):
    return blake3.blake3(key, derive_key_context=purpose).digest()


def key_id(key):
    return derive("eid 2026 encrypted store: key id", key)[:16]


def canonical(data):
    value = cbor2.loads(data)
    return value if cbor2.dumps(value, canonical=True) == data else None


def aead_open(key, nonce, context, commitment, sealed):
    out = blake3.blake3(nonce + context, key=key).digest(length=64)
    if out[32:] != commitment or len(sealed) < 16:
        return None
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, context, nonce, out[:32])
    except nacl.exceptions.CryptoError:
        return None


def open_section(v):
    data_key, tree, author = (bytes.fromhex(v[name]) for name in ("data_key", "tree", "author"))
    version, key, nonce, commitment = canonical(bytes.fromhex(v["enc"]))
    if version != 1:
        return None
    context = cbor2.dumps([1, "section", tree, v["store"], author, key], canonical=True)
    purpose_key = derive("eid 2026 encrypted store: sections", data_key)
    padded = aead_open(purpose_key, nonce, context, commitment, bytes.fromhex(v["sealed"]))
    if padded is None:
        return None
    end = 4 + int.from_bytes(padded[:4], "big")
    if end > len(padded) or any(padded[end:]):
        return None
    return padded[4:end]


def open_config(v):
    data = bytes.fromhex(v["config"])
    tree, store = bytes.fromhex(v["tree"]), v["store"]
    version, key, cost, salt, nonce, commitment, wrapped, replaces, proof = canonical(data)
    memory_kib, passes, lanes = cost
    assert lanes == 1, "libsodium knows one lane only"
    assert replaces == sorted(set(replaces))
    if version != 1:
        return None
    password_key = nacl.pwhash.argon2id.kdf(
        32, v["password"].encode(), salt, opslimit=passes, memlimit=memory_kib * 1024
    )
    context = cbor2.dumps([1, "wrap", tree, store, key, cost, salt], canonical=True)
    data_key = aead_open(password_key, nonce, context, commitment, wrapped)
    if data_key is None or key_id(data_key) != key:
        return None
    # The config up to its proof, which is the last 34 bytes.
    head = cbor2.dumps([tree, store], canonical=True)
    proof_key = derive("eid 2026 encrypted store: proof of a config", data_key)
    return data_key if blake3.blake3(head + data[:-34], key=proof_key).digest() == proof else None


def check(v):
    if v["form"] == "section":
        opens = open_section(v) == bytes.fromhex(v["payload"])
    else:
        opens = open_config(v) == bytes.fromhex(v["data_key"])
    return None if opens == v["opens"] else f"{v['name']}: expected {v['opens']}"
