#!/usr/bin/env python3
"""Checks the golden vectors with an implementation of its own, written from docs/adr/0003-entry-format.md.

    python verify.py [--mutate] [--dir DIR]

Packages: blake3 hashes; PyNaCl and cbor2 are second opinions on honest signatures and on the headers of valid
entries. The decoder, the order of checks and the rule for signatures (ZIP-215) are written out below.
`--mutate` changes every byte of every valid entry and expects each change to be refused.
"""

import argparse
import base64
import hashlib
import json
import os
import sys

import blake3
import cbor2
import nacl.exceptions
import nacl.signing

import sealed
import users

HEADER_MAX = 16 * 1024
PAYLOADS_MAX = 1024 * 1024
U64 = 2**64 - 1


class Refused(Exception):
    """Carries the code."""


# --- Canonical CBOR -------------------------------------------------------------------------------------------


class Cbor(Exception):
    """kind: type, canon, limit or end."""

    def __init__(self, kind):
        self.kind = kind


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Cbor("end")
        self.at += n
        return self.data[self.at - n : self.at]

    def major(self):
        if self.at >= len(self.data):
            raise Cbor("end")
        return self.data[self.at] >> 5

    def head(self, major):
        first = self.take(1)[0]
        if first >> 5 != major:
            raise Cbor("type")
        info = first & 31
        if info < 24:
            return info
        if info == 31:
            raise Cbor("canon")
        if info > 27:
            raise Cbor("type")
        width = 1 << (info - 24)
        value = int.from_bytes(self.take(width), "big")
        least = 24 if width == 1 else 1 << (4 * width)
        if value < least:
            raise Cbor("canon")
        return value

    def uint(self):
        return self.head(0)

    def count(self, major, most=None):
        n = self.head(major)
        if n > len(self.data) - self.at:
            raise Cbor("end")
        if most is not None and n > most:
            raise Cbor("limit")
        return n

    def bytes(self, most=None):
        return self.take(self.count(2, most))

    def fixed(self, n):
        data = self.bytes()
        if len(data) != n:
            raise Cbor("type")
        return data

    def text(self, most=None):
        try:
            return self.take(self.count(3, most)).decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise Cbor("type") from None

    def array(self, most=None):
        return self.count(4, most)

    def exactly(self, n):
        if self.array() != n:
            raise Cbor("type")

    def is_null(self):
        if self.at >= len(self.data):
            raise Cbor("end")
        return self.data[self.at] == 0xF6

    def nullable(self, read):
        if self.is_null():
            self.at += 1
            return None
        return read()

    def skip(self, depth=64):
        """The bytes of one value of any type, nested at most `depth` deep."""
        start, left = self.at, []
        while True:
            major = self.major()
            if major == 0 or major == 1:
                self.head(major)
            elif major == 2:
                self.bytes()
            elif major == 3:
                self.text()
            elif major == 4:
                left.append(self.array())
            elif major == 5:
                left.append(2 * self.count(5))
            elif major == 7:
                first = self.take(1)[0]
                if first == 0xFB:
                    raw = int.from_bytes(self.take(8), "big")
                    if raw & 0x7FFFFFFFFFFFFFFF > 0x7FF0000000000000:
                        raise Cbor("canon")  # not a number
                elif first not in (0xF4, 0xF5, 0xF6):
                    raise Cbor("type")
            else:
                raise Cbor("type")
            if len(left) > depth:
                raise Cbor("limit")
            while left and left[-1] == 0:
                left.pop()
            if not left:
                return self.data[start : self.at]
            left[-1] -= 1

    def finish(self):
        if self.at != len(self.data):
            raise Cbor("type")


# --- Ed25519 under ZIP-215 ------------------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)  # a square root of -1
ZERO = (0, 1, 1, 0)  # extended coordinates: X, Y, Z, T


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def double(p):
    a, b, c = p[0] * p[0] % P, p[1] * p[1] % P, 2 * p[2] * p[2] % P
    h, e = a + b, (a + b - (p[0] + p[1]) ** 2) % P
    g = a - b
    f = c + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, p):
    out = ZERO
    for bit in bin(n)[2:]:
        out = double(out)
        if bit == "1":
            out = add(out, p)
    return out


class Multiples:
    """A point with the table that makes its multiples cheap: 16 multiples of each 16^i P."""

    def __init__(self, p):
        self.rows = []
        for _ in range(64):
            row = [ZERO]
            for _ in range(15):
                row.append(add(row[-1], p))
            self.rows.append(row)
            p = add(row[-1], p)

    def times(self, n):
        out = ZERO
        for row in self.rows:
            out = add(out, row[n & 15])
            n >>= 4
        return out


TABLES = {}  # by encoded key: None after its first use, a table from the second on


def key_times(n, key, p):
    if key not in TABLES:
        TABLES[key] = None
        return times(n, p)
    if TABLES[key] is None:
        TABLES[key] = Multiples(p)
    return TABLES[key].times(n)


def negative(p):
    return (-p[0] % P, p[1], p[2], -p[3] % P)


def is_zero(p):
    return p[0] % P == 0 and (p[1] - p[2]) % P == 0


def point(data):
    """Any encoding: y is taken modulo p, and the sign of x = 0 may be either."""
    raw = int.from_bytes(data, "little")
    sign, y = raw >> 255, (raw & (2**255 - 1)) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * ROOT % P
    if v * x * x % P != u:
        return None
    if x & 1 != sign:
        x = -x % P
    return (x, y, 1, x * y % P)


BASE = Multiples(point((4 * pow(5, -1, P) % P).to_bytes(32, "little")))


def verifies(key, message, signature):
    """8 (S B - R - k A) = 0, with S < L."""
    a, r = point(key), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    rest = add(BASE.times(s), negative(add(r, key_times(k, key, a))))
    return is_zero(times(8, rest))


# --- Settings -------------------------------------------------------------------------------------------------


def settings_ops(data):
    """Decodes a settings payload: a list of tuples."""
    try:
        r = Reader(data)
        r.exactly(3)
        kind = r.text(64)
        r.bytes(255)
        encoded = [r.skip() for _ in range(r.array(PAYLOADS_MAX))]
        r.finish()
    except Cbor:
        raise Refused("settings_malformed") from None
    if kind != "settings" or not encoded:
        raise Refused("settings_malformed")
    ops = []
    for one in encoded:
        try:
            ops.append(settings_op(one))
        except Cbor:
            raise Refused("settings_malformed") from None
    slots = [op[1] if op[0] in ("set", "revoke") else ("of", op[1]) if op[0] in ("invite", "withdraw") else op[0] for op in ops]
    if len(ops) > 1 and "join" in slots:
        raise Refused("settings_malformed")
    if len(set(slots)) != len(slots):
        raise Refused("settings_malformed")
    return ops


def settings_op(data):
    r = Reader(data)
    items, code = r.array(), r.uint()
    if code > 7:
        raise Refused("unsupported_settings_op")
    if items != (2, 4, 4, 2, 2, 4, 4, 4)[code]:
        raise Cbor("type")
    if code == 0:
        op = ("rules", r.uint())
    elif code == 1:
        op = ("set", slot(r), r.uint(), r.uint())
        _, who, permission, level = op
        if permission > 3 or level > 2**32 - 1 or (permission < 3 and level) or (permission == 3 and who == "*"):
            raise Cbor("type")
    elif code == 2:
        who, mode = slot(r), r.uint()
        fence = r.nullable(lambda: id_set(r, 64))
        if mode > 1 or (mode == 1 and fence is not None):
            raise Cbor("type")
        op = ("revoke", who, mode, fence)
    elif code == 3:
        op = ("accept", id_set(r, 1024))
    elif code == 4:
        op = ("title", r.text(256))
    elif code == 5:
        op = ("invite", r.fixed(32), r.uint(), r.nullable(r.uint))
        if op[2] > 2:
            raise Cbor("type")
    elif code == 6:
        op = ("withdraw", r.fixed(32), r.uint(), r.nullable(lambda: id_set(r, 64)))
        if op[2] > 1 or (op[2] == 1 and op[3] is not None):
            raise Cbor("type")
    else:
        op = ("join", r.fixed(32), r.uint(), r.fixed(64))
        if op[2] > 2:
            raise Cbor("type")
    r.finish()
    if op[0] == "rules" and op[1] not in (1, 2):
        raise Refused("unsupported_rules")
    return op


def slot(r):
    if r.major() == 3:
        if r.text(1) != "*":
            raise Cbor("type")
        return "*"
    return r.fixed(32)


def id_set(r, most):
    ids = [r.fixed(32) for _ in range(r.array(most))]
    if not ids or any(a >= b for a, b in zip(ids, ids[1:])):
        raise Cbor("type")
    return ids


# --- Entries --------------------------------------------------------------------------------------------------


def split(block):
    if len(block) > HEADER_MAX + 80:
        raise Refused("header_too_large")
    try:
        r = Reader(block)
        r.exactly(2)
        header, signature = r.bytes(HEADER_MAX), r.fixed(64)
        r.finish()
    except Cbor as error:
        codes = {"canon": "non_canonical", "limit": "header_too_large"}
        raise Refused(codes.get(error.kind, "block_malformed")) from None
    return header, signature


def decode_header(data):
    r = Reader(data)
    elements, version = r.array(), r.uint()
    if version > 1:
        raise Refused("unsupported_version")
    if version == 0 or elements != 10:
        raise Cbor("type")
    h = {"tree": r.nullable(lambda: r.fixed(32))}
    count = r.array()
    if count > 64:
        raise Refused("too_many_parents")
    h["parents"] = [r.fixed(32) for _ in range(count)]
    h["height"], h["time"], h["author"] = r.uint(), r.uint(), r.fixed(32)
    if r.skip() != b"\xf6":
        raise Refused("unsupported_authority")
    count = r.array()
    if count > 64:
        raise Refused("too_many_sections")
    h["sections"] = [decode_section(r) for _ in range(count)]
    h["nonce"] = r.nullable(lambda: r.fixed(16))
    extension = r.skip()
    r.finish()
    if extension != b"\xf6":
        raise Refused("unsupported_extension")
    return h


def decode_section(r):
    r.exactly(5)
    name = r.text()
    if not 1 <= len(name.encode()) <= 64:
        raise Refused("store_name")
    enc = r.nullable(r.bytes)
    if enc is not None and len(enc) > 256:
        raise Refused("enc_too_large")
    length = r.uint()
    if length > 2**32 - 1:
        raise Refused("payload_too_large")
    digest = r.fixed(32)
    for _ in range(r.array(384)):
        r.exactly(2)
        r.uint(), r.fixed(32)
    return {"name": name, "enc": enc, "len": length, "hash": digest}


def check_structure(h):
    root = h["tree"] is None
    if root and h["parents"]:
        raise Refused("root_with_parents")
    if root and h["height"] != 0:
        raise Refused("root_height")
    if root and h["nonce"] is None:
        raise Refused("root_without_nonce")
    if not root and not h["parents"]:
        raise Refused("no_parents")
    if not root and h["nonce"] is not None:
        raise Refused("nonce_outside_root")
    if any(a >= b for a, b in zip(h["parents"], h["parents"][1:])):
        raise Refused("parents_unsorted")
    names = [section["name"].encode() for section in h["sections"]]
    if any(a >= b for a, b in zip(names, names[1:])):
        raise Refused("sections_unsorted")
    if b"_settings" in names:
        if len(names) > 1:
            raise Refused("settings_not_alone")
        if h["sections"][0]["enc"] is not None:
            raise Refused("settings_encrypted")
    if sum(section["len"] for section in h["sections"]) > PAYLOADS_MAX:
        raise Refused("payload_too_large")


def check_payloads(h, payloads):
    if len(payloads) != len(h["sections"]):
        raise Refused("payload_mismatch")
    for section, payload in zip(h["sections"], payloads):
        if payload is not None:
            if len(payload) != section["len"] or blake3.blake3(payload).digest() != section["hash"]:
                raise Refused("payload_mismatch")


def check_settings(h, payloads):
    ops = []
    if any(section["name"] == "_settings" for section in h["sections"]):
        if payloads[0] is None:
            raise Refused("missing_settings_payload")
        ops = settings_ops(payloads[0])
    if h["tree"] is None:
        if not ops or ops[0][0] != "rules" or ("set", h["author"], 3, 0) not in ops:
            raise Refused("root_settings")
    return ops


def check_place(h, parents):
    if any(parent not in parents for parent in h["parents"]):
        raise Refused("missing_parents")
    facts = [parents[parent] for parent in h["parents"]]
    expected = 1 + max((fact["height"] for fact in facts), default=-1)
    if h["height"] != expected or expected > U64:
        raise Refused("height")
    if any(fact["time"] > h["time"] for fact in facts):
        raise Refused("time_before_parent")


def judge(block, payloads, parents):
    """The facts of a valid entry; Refused carries the code of any other."""
    header, signature = split(block)
    try:
        h = decode_header(header)
    except Cbor as error:
        raise Refused("non_canonical" if error.kind == "canon" else "header_malformed") from None
    check_structure(h)
    check_payloads(h, payloads)
    ops = check_settings(h, payloads)
    check_place(h, parents)
    if not verifies(h["author"], b"eid/entry/1\0" + header, signature):
        raise Refused("signature")
    for op in ops:
        if op[0] == "join":
            message = h["tree"] + h["author"] + bytes([op[2]])
            if not verifies(op[1], b"eid/join/1\0" + message, op[3]):
                raise Refused("join_proof")
    digest = blake3.blake3(block).digest()
    cid = b"\x01\x71\x1e\x20" + digest
    return {
        "id": digest.hex(),
        "text_id": "b" + base64.b32encode(cid).decode().lower().rstrip("="),
        "height": h["height"],
        "time": h["time"],
        "author": h["author"].hex(),
    }


# --- The files ------------------------------------------------------------------------------------------------


def second_opinions(name, block, facts):
    """What other packages read in a valid entry may not differ from what is read here."""
    header, signature = cbor2.loads(block)
    decoded = cbor2.loads(header)
    assert cbor2.dumps(decoded, canonical=True) == header, f"{name}: cbor2 writes another header"
    assert decoded[3] == facts["height"] and decoded[4] == facts["time"], f"{name}: cbor2 reads another header"
    assert decoded[5].hex() == facts["author"], f"{name}: cbor2 reads another author"
    try:
        nacl.signing.VerifyKey(decoded[5]).verify(b"eid/entry/1\0" + header, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        # libsodium refuses points of small and mixed order, which ZIP-215 accepts.
        assert "_order" in name or "not_canonical" in name, f"{name}: PyNaCl refuses the signature"


def read(vector):
    payloads = [None if p is None else bytes.fromhex(p) for p in vector["payloads"]]
    parents = {bytes.fromhex(id): facts for id, facts in vector["parents"].items()}
    return bytes.fromhex(vector["block"]), payloads, parents


def check_entry(vector):
    block, payloads, parents = read(vector)
    name, expect = vector["name"], vector["expect"]
    try:
        got = judge(block, payloads, parents)
    except Refused as refused:
        got = {"error": str(refused)}
    if got != expect:
        return f"{name}: expected {expect}, got {got}"
    if "error" not in got:
        second_opinions(name, block, got)
    return None


def mutations(vector):
    """Every change of one byte that is not refused."""
    block, payloads, parents = read(vector)
    for at in range(len(block)):
        changed = bytearray(block)
        changed[at] ^= 1 << (at % 8)
        try:
            judge(bytes(changed), payloads, parents)
            yield f"{vector['name']}: byte {at} of the block may change"
        except Refused:
            pass
    header, _ = split(block)
    h = decode_header(header)
    for index, payload in enumerate(payloads):
        for at in range(len(payload or b"")):
            changed = bytearray(payload)
            changed[at] ^= 1 << (at % 8)
            try:
                check_payloads(h, payloads[:index] + [bytes(changed)] + payloads[index + 1 :])
                yield f"{vector['name']}: byte {at} of payload {index} may change"
            except Refused:
                pass


def mutated(vector):
    return list(mutations(vector))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--dir", default=os.path.dirname(os.path.abspath(__file__)))
    args.add_argument("--mutate", action="store_true")
    args = args.parse_args()
    with open(os.path.join(args.dir, "entries.json"), encoding="utf-8") as file:
        entries = json.load(file)
    with open(os.path.join(args.dir, "signatures.json"), encoding="utf-8") as file:
        signatures = json.load(file)
    with open(os.path.join(args.dir, "sealed.json"), encoding="utf-8") as file:
        sealed_cases = json.load(file)
    with open(os.path.join(args.dir, "users.json"), encoding="utf-8") as file:
        user_cases = json.load(file)

    wrong = [message for vector in entries if (message := check_entry(vector))]
    for case in signatures:
        key, message, signature = (bytes.fromhex(case[part]) for part in ("key", "message", "signature"))
        if verifies(key, message, signature) != case["valid"]:
            wrong.append(f"{case['name']}: expected {case['valid']}")
    wrong.extend(message for case in sealed_cases if (message := sealed.check(case)))
    wrong.extend(message for case in user_cases if (message := users.check(case)))
    valid = [vector for vector in entries if "error" not in vector["expect"]]
    kinds = [vector["expect"].get("error", "valid").split("_")[0] for vector in entries]
    if args.mutate:
        import multiprocessing

        with multiprocessing.Pool() as pool:
            for found in pool.imap_unordered(mutated, valid):
                wrong.extend(found)
    for message in wrong:
        print(message, file=sys.stderr)
    bytes_changed = sum(len(v["block"]) // 2 + sum(len(p or "") // 2 for p in v["payloads"]) for v in valid)
    print(
        f"{len(entries)} entries: {len(valid)} valid, {kinds.count('unsupported')} unsupported, "
        f"{kinds.count('missing')} missing, the rest invalid; {len(signatures)} signatures; {len(sealed_cases)} sealed; "
        f"{len(user_cases)} of users; "
        + (f"{bytes_changed} changes of one byte; " if args.mutate else "")
        + f"{len(wrong)} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
