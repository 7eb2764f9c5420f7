"""Opens accounts and private keys, written from docs/adr/0010-users.md; verify.py runs it over users.json."""

import cbor2
import nacl.pwhash
import nacl.signing

from sealed import aead_open, canonical, derive


def open_account(v):
    version, user, name, key, protection, master = canonical(bytes.fromhex(v["account"]))
    if version != 1 or [user.hex(), name, key.hex()] != [v["id"], v["user"], v["key"]]:
        return None
    password = v["password"]
    if protection is None:
        return master if password is None else None
    if password is None:
        return None
    cost, salt, nonce, commitment = protection
    memory_kib, passes, lanes = cost
    assert lanes == 1, "libsodium knows one lane only"
    assert memory_kib >= 19 * 1024 and passes >= 2
    password_key = nacl.pwhash.argon2id.kdf(32, password.encode(), salt, opslimit=passes, memlimit=memory_kib * 1024)
    context = cbor2.dumps([1, "master key", user, name, key, cost, salt], canonical=True)
    return aead_open(password_key, nonce, context, commitment, master)


def open_key(v):
    user, master, public = (bytes.fromhex(v[name]) for name in ("id", "master", "public"))
    version, nonce, commitment, sealed = canonical(bytes.fromhex(v["sealed"]))
    if version != 1:
        return None
    context = cbor2.dumps([1, "private key", user, public], canonical=True)
    seed = aead_open(derive("eid 2026 user: private keys", master), nonce, context, commitment, sealed)
    if seed is None or bytes(nacl.signing.SigningKey(seed).verify_key) != public:
        return None
    return seed


def check(v):
    if v["form"] == "account":
        opens = open_account(v) == bytes.fromhex(v["master"])
    else:
        opens = open_key(v) == bytes.fromhex(v["seed"])
    return None if opens == v["opens"] else f"{v['name']}: expected {v['opens']}"
