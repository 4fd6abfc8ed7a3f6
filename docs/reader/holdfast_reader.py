#!/usr/bin/env python3
"""Reads a Holdfast vault without Holdfast: written from docs/FORMAT.md.

The proof that the page is enough, and a last resort for whoever has a vault and the key file. It only
reads, from a directory. Numbers like (§4.2) are sections of that page.

  holdfast_reader.py list    VAULT --key KEYFILE                    what there is, as JSON
  holdfast_reader.py files   VAULT --key KEYFILE POINT              size and path of each entry
  holdfast_reader.py extract VAULT --key KEYFILE POINT PATH > file  one file of a point
  holdfast_reader.py wal     VAULT --key KEYFILE NAME > file        a WAL segment, history or backup file
  holdfast_reader.py check   VAULT --key KEYFILE                    read everything, compare everything
  holdfast_reader.py recover VAULT PASSPHRASE-FILE > keyfile        the key file out of a recovery copy

Nothing is believed before it is authenticated. On damage it says so and ends with 1; what came out
before is genuine, but not all. Needs Python 3.9 and `pip install cryptography zstandard lz4 blake3`.
"""
import argparse, base64, functools, hashlib, hmac, json, mmap, os, re, struct, sys
from collections import namedtuple
from pathlib import Path
import lz4.block, zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

VERSION = 1
PACK, WAL, RECORD, META, DATA = 1, 2, 3, 1, 2       # kinds of objects, key purposes (§4.1)
CLASSES = {0: "data", 1: "meta"}                    # of packs (§7.1)
FILE, DIRECTORY, LINK = 0, 1, 2                     # kinds of entries (§7.4)
MIB = 1 << 20
Frame = namedtuple("Frame", "pack index offset sealed_len plain_len codec")
Entry = namedtuple("Entry", "path kind flags size target layers chunks")
Layer = namedtuple("Layer", "map map_at map_len fps fps_at blocks")
Leaf = namedtuple("Leaf", "frame first entries")

class Damage(Exception):
    """What is read is not what was written, or this program cannot tell."""

def need(condition, message):
    if not condition:
        raise Damage(message)

# --- cryptography ---------------------------------------------------------------------------------
def sha256_mac(key, message): return hmac.new(key, message, hashlib.sha256).digest()

def expand(prk, info, length):
    out, block = b"", b""
    for i in range(1, -(-length // 32) + 1):
        block = sha256_mac(prk, block + info + bytes([i]))
        out += block
    return out[:length]

def hkdf(salt, ikm, info):  # HKDF-SHA256 (RFC 5869)
    return expand(sha256_mac(salt, ikm), info, 32)

def open_gcm(key, nonce, sealed, associated, what):
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damage(f"{what}: the seal is broken (damaged, forged, or another key)") from None

def hpke_open(private, sealed, info, aad, what):
    """HPKE (RFC 9180) base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, sequence 0."""
    def extract(suite, salt, label, ikm): return sha256_mac(salt, b"HPKE-v1" + suite + label + ikm)
    def labeled(suite, prk, label, context, length): return expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + context, length)

    kem, suite, enc, key = b"KEM\0\x20", b"HPKE\0\x20\0\x01\0\x02", sealed[:32], X25519PrivateKey.from_private_bytes(private)
    prk = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)))
    secret = labeled(kem, prk, b"shared_secret", enc + key.public_key().public_bytes_raw(), 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, secret, b"secret", b"")
    key, nonce = labeled(suite, secret, b"key", context, 32), labeled(suite, secret, b"base_nonce", context, 12)
    return open_gcm(key, nonce, sealed[32:], aad, what)

class Digests:  # of plain content, keyed (§5.4)
    def __init__(self, secret):
        self.block, self.frame, self.whole = (hkdf(b"holdfast/1 digest", secret, x) for x in (b"block", b"frame", b"content"))

    def of_block(self, block): return AESGCM(self.block).encrypt(bytes(12), b"", block)[:8]
    def of_frame(self, plain): return AESGCM(self.frame).encrypt(bytes(12), b"", plain)

    def of_content(self, data):
        pieces = (self.of_frame(data[at:at + MIB]) for at in range(0, len(data), MIB))
        return blake3(b"".join(pieces), key=self.whole).digest()

def decompress(codec, data, length, what):
    """§5.3. Gives exactly `length` bytes."""
    need(codec in (0, 1, 2), f"{what}: unknown codec {codec}; a newer program is needed")
    try:
        if codec == 1:
            unzip = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
            data = unzip.decompress(data)
            need(unzip.eof and not unzip.unused_data, f"{what}: not exactly one zstd frame")
        elif codec == 2:
            data = lz4.block.decompress(data, uncompressed_size=length)
    except (zstandard.ZstdError, lz4.block.LZ4BlockError) as e:
        raise Damage(f"{what}: does not decompress: {e}") from None
    need(len(data) == length, f"{what}: decompresses to {len(data)} bytes instead of {length}")
    return data

# --- numbers (§7.1) -------------------------------------------------------------------------------
def wrap(n): return n & (1 << 64) - 1
def unzigzag(z): return (z >> 1) ^ -(z & 1)

class Cursor:
    def __init__(self, data, what, at=0, length=None):
        self.data, self.what, self.at = data, what, at
        self.end = len(data) if length is None else at + length
        need(self.at <= self.end <= len(data), f"{what}: a place lies outside")

    def take(self, n):
        need(n <= self.end - self.at, f"{self.what}: ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80 and value < 1 << 64:
                return value
        raise Damage(f"{self.what}: a number is too long")

    def u8(self): return self.take(1)[0]
    def varints(self, n): return [self.varint() for _ in range(n)]
    def zigzag(self): return unzigzag(self.varint())
    def bytes(self): return self.take(self.varint())
    def pack_list(self): return [self.pack_id() for _ in range(self.varint())]

    def pack_id(self):
        run, cls, number = self.take(23).decode("ascii", "replace"), self.u8(), self.varint()
        need(cls in CLASSES, f"{self.what}: unknown class {cls} of a pack; a newer program is needed")
        return (run, CLASSES[cls], number)

    def done(self):
        need(self.at == self.end, f"{self.what}: {self.end - self.at} bytes too many")

class FrameDecoder:  # frame locations, delta-coded
    def __init__(self, packs):
        self.packs, self.pack, self.end, self.index = packs, 0, 0, 0

    def next(self, c):
        p = c.varint()
        need(p < len(self.packs), f"{c.what}: names pack {p} of {len(self.packs)}")
        if p != self.pack:
            self.pack, self.end, self.index = p, 0, 0
        offset, index, (sealed, plain), codec = wrap(self.end + c.zigzag()), wrap(self.index + c.zigzag()), c.varints(2), c.u8()
        self.end, self.index = offset + sealed, index + 1
        return Frame(self.packs[p], index, offset, sealed, plain, codec)

# --- objects (§4, §5, §6) -------------------------------------------------------------------------
class Object:
    """One object of the vault: its header is checked, its key unwrapped on demand."""
    def __init__(self, vault, name, kind):
        self.vault, self.name, self.data = vault, name, vault.bytes_of(name)
        header, self.short = bytes(self.data[:256]), struct.pack("<H", len(name.encode())) + name.encode()
        need(len(header) == 256 and header[:8] == b"HOLDFAST", f"{name}: does not begin with a header")
        version, self.kind, self.cipher, self.purpose, epoch, length = struct.unpack_from("<HBBB3xII", header, 8)
        need(version <= VERSION, f"{name}: is of format version {version}; a newer program is needed")
        need(epoch in vault.epochs, f"{name}: needs keys of epoch {epoch}, which the key file lacks")
        self.keys = vault.epochs[epoch]
        mac = sha256_mac(hkdf(vault.id, self.keys["meta"], b"holdfast/1 header"), vault.id + self.short + header[:224])
        need(hmac.compare_digest(mac, header[224:]), f"{name}: the header is not authentic (damaged, renamed, or another key)")
        need(self.kind == kind and length == 256, f"{name}: is of kind {self.kind} instead of {kind}")
        known = self.cipher in (0, 1) and self.purpose in (META, DATA)
        need(known, f"{name}: unknown cipher {self.cipher} or key purpose {self.purpose}; a newer program is needed")
        self.salt, self.wrapped, self.plain_len, self.digest, self.facts = struct.unpack_from("<32s80sQ32s48s", header, 24)

    @functools.cached_property
    def key(self):  # §4.2
        v, name, what = self.vault, self.name.encode(), f"{self.name}: key of the object"
        aad = b"HFW1" + v.id + name
        if self.purpose == META:
            wrapping = hkdf(v.id, self.keys["meta"], b"holdfast/1 meta-wrap")
            secret = open_gcm(wrapping, self.wrapped[:12], self.wrapped[12:60], aad, what)
        else:
            need("data-private" in self.keys, f"{self.name}: the key file lacks data-private: it is a host's, and cannot read data")
            secret = hpke_open(self.keys["data-private"], self.wrapped, b"holdfast/1 data", aad, what)
        return hkdf(self.salt, secret, b"holdfast/1 object" + v.id + name)

    def open_frame(self, index, offset, sealed_len, plain_len, codec):  # §4.3
        what = f"{self.name}: frame {index}"
        need(sealed_len >= 16 and 256 <= offset <= len(self.data) - sealed_len, f"{what}: lies outside of the object")
        sealed, nonce = self.data[offset:offset + sealed_len], bytes(4) + struct.pack(">Q", index)
        aad = b"HFV1" + self.vault.id + self.short + struct.pack("<QBI", index, codec, plain_len)
        if self.cipher == 1:
            packed = open_gcm(self.key, nonce, sealed, aad, what)
        else:
            packed = sealed[:-16]
            open_gcm(self.key, nonce, sealed[-16:], aad + packed, what)
        return decompress(codec, packed, plain_len, what)

class Pack(Object):
    """A pack or a WAL object: header, frames, table, footer (§5). Its digest is checked as a whole."""
    def __init__(self, vault, name, kind, digests, expected=None):
        super().__init__(vault, name, kind)
        d, at, self.table, self.digests = self.data, len(self.data) - 64, [], digests
        need(at >= 256 and d[at:at + 8] == b"HFPACKv1", f"{name}: has no footer: cut off or overwritten")
        offset, sealed, plain, n, codec, digest = struct.unpack_from("<QIIIB3x32s", d, at + 8)
        need(blake3(memoryview(d)[:-32]).digest() == digest, f"{name}: the digest of the pack does not match: it is damaged")
        need(expected in (None, (len(d), digest)), f"{name}: is not the pack that the point was made with")
        # In a WAL object what it says about changed pages (§6.1) stands before the frames; nothing here needs it.
        start = 256 + (struct.unpack_from("<I", self.facts, 44)[0] if kind == WAL else 0)
        c, end = Cursor(self.open_frame(n, offset, sealed, plain, codec), f"{name}: table"), start
        need(c.varint() == n, f"{name}: table and footer differ about the number of frames")
        for i in range(n):
            frame = Frame(None, i, end, *c.varints(2), c.u8())
            self.table.append((frame, c.take(16)))
            end += frame.sealed_len
        c.done()
        need(end == offset and end + sealed == at, f"{name}: frames, table and footer do not follow each other")

    def frame(self, f):
        listed, digest = self.table[f.index] if f.index < len(self.table) else (None, None)
        need(listed == f._replace(pack=None), f"{self.name}: table and map differ about frame {f.index}")
        plain = self.open_frame(*f[1:])
        need(self.digests.of_frame(plain) == digest, f"{self.name}: frame {f.index}: the content does not have its digest")
        return plain

class Vault:
    def __init__(self, root, key_file):
        self.root, about = Path(root), descriptor(root)
        self.id, keys = bytes.fromhex(about["id"]), json.loads(Path(key_file).read_bytes())
        need(keys.get("holdfast-key") == 1, f"{key_file}: not a key file that this program knows")
        known = {"meta", "data-public", "data-private", "host-public", "host-sign", "operator-public", "operator-sign"}
        fields = set(keys).union(*keys["epochs"]) - known - {"holdfast-key", "role", "note", "epochs", "epoch", "created"}
        need(keys["epochs"] and not fields, f"{key_file}: no epochs, or unknown fields: {fields}")
        self.epochs = {e["epoch"]: {k: base64.b64decode(e[k]) for k in known & set(e)} for e in keys["epochs"]}
        bound = f"holdfast/1 key-check\n{about['holdfast-vault']}\n{about['cipher']}\n{about['created']}\n"
        check = hkdf(self.id, self.epochs[min(self.epochs)]["meta"], bound.encode()).hex()
        need(check == about["key-check"], f"{key_file}: does not belong to this vault, or its descriptor was changed")

    def bytes_of(self, name):
        with open(self.root / name, "rb") as f:
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(f.fileno()).st_size else b""

    def names(self, folder):
        """What lies directly in a folder, sorted; without unfinished uploads (§2)."""
        path = self.root / folder
        return sorted(n for n in (os.listdir(path) if path.is_dir() else []) if not re.search(r"#\d+$", n))

    def clusters(self): return [Cluster(self, d, c) for d in self.names("db") for c in self.names(f"db/{d}")]

    def find(self, name):
        """The one cluster that has this object."""
        found = [c for c in self.clusters() if (self.root / c.prefix / name).is_file()]
        need(len(found) == 1, f"{name}: {'more than one' if found else 'no'} database of this vault has it")
        return found[0]

def descriptor(root):  # §3.3
    path = Path(root) / "holdfast.vault"
    if not path.exists():
        path = Path(root) / "keys" / "holdfast.vault"
    about = json.loads(path.read_bytes())
    need(about["holdfast-vault"] in range(1, VERSION + 1), f"{path}: is of version {about['holdfast-vault']}; a newer program is needed")
    return about

class Cluster:
    def __init__(self, vault, database, cluster):
        self.vault, self.database, self.id, self.prefix = vault, database, cluster, f"db/{database}/{cluster}"

    def record(self, name, *kinds):
        """§6.2. For kinds that both may sign (§6.3)."""
        o = Object(self.vault, f"{self.prefix}/{name}", RECORD)
        d, end, name = bytes(o.data), len(o.data) - 72, o.name
        need(o.purpose == META and end >= 256 + 16, f"{name}: is not a record")
        signer, codec, plain_len = struct.unpack_from("<BBxxI", d, end)
        need(signer in (1, 2), f"{name}: unknown signer {signer}; a newer program is needed")
        try:
            public = Ed25519PublicKey.from_public_bytes(o.keys["host-public" if signer == 1 else "operator-public"])
            public.verify(d[-64:], b"HFSIG1" + self.vault.id + o.short + blake3(d[:-64]).digest())
        except InvalidSignature:
            raise Damage(f"{name}: the signature is wrong") from None
        need(plain_len == o.plain_len, f"{name}: trailer and header differ about the length")
        record = json.loads(o.open_frame(0, 256, end - 256, plain_len, codec))
        need(record["record"] in kinds, f"{name}: is a record of kind {record['record']} instead of {' or '.join(kinds)}")
        return record

    @functools.cached_property
    def digests(self):
        return Digests(base64.b64decode(self.record("cluster", "cluster")["digest_secret"]))

    def point(self, run):
        """None if the run was aborted."""
        record = self.record(f"points/{run}.point", "point", "aborted")
        return Point(self, run, record) if record["record"] == "point" else None

    def points(self):
        runs = [n[:-6] for n in self.vault.names(f"{self.prefix}/points") if n.endswith(".point")]
        return sorted(filter(None, map(self.point, runs)), key=lambda p: (p.record["generation"], p.run))

    def segments(self):
        lines = [n for n in self.vault.names(f"{self.prefix}/wal") if re.fullmatch("[0-9A-F]{8}", n)]
        return [n[:-4] for t in lines for n in self.vault.names(f"{self.prefix}/wal/{t}") if n.endswith(".wal")]

    def wal(self, name):
        """A WAL object (§6.1): its digest and content."""
        o = Pack(self.vault, f"{self.prefix}/{name}", WAL, self.digests)
        need(o.facts[:8] == struct.pack("<Q", int(self.id)), f"{o.name}: is of another cluster")
        content = b"".join(o.frame(f) for f, _ in o.table)
        need(len(content) == o.plain_len and self.digests.of_content(content) == o.digest, f"{o.name}: the content does not have its digest")
        return o.digest.hex(), content

# --- points (§7) ----------------------------------------------------------------------------------
class Point:
    def __init__(self, cluster, run, record):
        self.cluster, self.run, self.record = cluster, run, record
        same = (record["id"], record["database"], record["cluster"]) == (run, cluster.database, cluster.id)
        need(same, f"{cluster.prefix}/points/{run}.point: is another point")
        self.block_size = record["server"]["block_size"]
        # Length and digest of each pack: the record has those of the run, the root all that the point needs.
        self.expected = {(run, p["class"], p["number"]): (p["len"], bytes.fromhex(p["digest"])) for p in record["packs"]}
        # What a restore takes from the record, not from the manifest (§10).
        texts = {name.encode(): record[name].encode() for name in ("backup_label", "tablespace_map") if record[name]}
        self.own_files = {**texts, b"global/pg_control": base64.b64decode(record["control_file"])}
        self.pack = functools.lru_cache(None)(self.open_pack)
        self.read = functools.lru_cache(256)(lambda frame: self.pack(frame.pack).frame(frame))  # plain content of a frame

    def open_pack(self, pack):
        run, cls, number = pack
        name = f"{self.cluster.prefix}/runs/{run}/{cls}-{number:04}.pack"
        need(pack in self.expected, f"{name}: the point does not list this pack")
        return Pack(self.cluster.vault, name, PACK, self.cluster.digests, self.expected[pack])

    @functools.cached_property
    def leaves(self):
        """Groups of leaves, from the root (§7.5)."""
        r, groups = self.record["root"], []
        root = Frame((self.run, "meta", r["pack"]), r["index"], r["offset"], r["sealed_len"], r["plain_len"], r["codec"])
        c = Cursor(self.read(root), f"{self.run}: root")
        for _ in range(c.varint()):
            pack, about = c.pack_id(), (c.varint(), c.take(32))
            need(self.expected.setdefault(pack, about) == about, f"{c.what}: differs from the record about a pack")
            c.varints(2)                                        # live bytes, live blocks
        decoder = FrameDecoder(c.pack_list())
        for _ in range(c.varint()):
            _name, leaves = c.bytes(), []
            for _ in range(c.varint()):
                leaves.append(Leaf(decoder.next(c), c.bytes(), c.varint()))
                c.varint()                                      # sum of sizes
                c.varints(3 * c.varint())                       # data packs: place, live bytes, live blocks
                c.varints(c.varint())                           # meta packs: place
            groups.append(leaves)
        c.done()
        return groups

    def entries_of(self, leaf):  # §7.4
        c, path = Cursor(self.read(leaf.frame), f"{self.run}: leaf {leaf.first!r}"), b""
        decoder = FrameDecoder(c.pack_list())
        chunks = [decoder.next(c) for _ in range(c.varint())]
        need(c.varint() == leaf.entries, f"{c.what}: does not have {leaf.entries} entries")
        for i in range(leaf.entries):
            kept = c.varint()
            need(kept <= len(path), f"{c.what}: a path keeps more than there is")
            path = path[:kept] + c.bytes()
            need(i or path == leaf.first, f"{c.what}: begins with {path!r}")
            kind, flags, size = c.u8(), c.u8(), c.varints(4)[3]         # before the size: mode, uid, gid
            need(kind in (FILE, DIRECTORY, LINK), f"{c.what}: {path!r} is of unknown kind {kind}; a newer program is needed")
            c.varints(3)                                                # mtime, ctime, inode
            target = c.bytes() if kind == LINK else b""
            c.varints(c.varint() if flags & 4 else 0)                   # damaged blocks
            layers = [Layer(*c.varints(6)) for _ in range(c.varint())]
            yield Entry(path, kind, flags, size, target, layers, chunks)
        c.done()

    def entries(self): return (e for leaves in self.leaves for leaf in leaves for e in self.entries_of(leaf))

    def entry(self, path):
        near = [leaf for leaves in self.leaves for leaf in [x for x in leaves if x.first <= path][-1:]]  # one of each group
        found = [e for leaf in near for e in self.entries_of(leaf) if e.path == path]
        need(found, f"{os.fsdecode(path)}: the point {self.run} has no such entry")
        return found[0]

    def runs(self, entry, layer):
        """The runs of a layer (§7.2): first block, count, frame (None: zeros), offset."""
        need(layer.map < len(entry.chunks), f"{self.run}: {entry.path!r} names a chunk that its leaf lacks")
        body, what = self.read(entry.chunks[layer.map]), f"{self.run}: map of {entry.path!r}"
        head = Cursor(body, what)
        decoder = FrameDecoder(head.pack_list())
        c = Cursor(body, what, head.at + layer.map_at, layer.map_len)
        frames = [decoder.next(c) for _ in range(c.varint())]
        block = frame = at = 0
        for _ in range(c.varint()):
            first, count, w = block + c.varint(), c.varint(), c.varint()
            need(count >= 1, f"{what}: an empty run")
            block = first + count
            if w == 0:
                yield first, count, None, 0
                continue
            step = unzigzag(w - 1)
            frame = wrap(frame + step)
            need(frame < len(frames), f"{what}: names frame {frame} of {len(frames)}")
            offset = wrap((0 if step else at) + c.zigzag())
            at = offset + count * self.block_size
            yield first, count, frames[frame], offset
        c.done()

    def blocks(self, entry, fingerprints=False):
        """The blocks of a file in order (§7.6). With `fingerprints`, compares those as well (§7.3)."""
        size, n, path = self.block_size, -(-entry.size // self.block_size), os.fsdecode(entry.path)
        where = [None] * n
        for layer in entry.layers:                              # oldest first: later ones hide earlier ones
            place = layer.fps_at
            for first, count, frame, offset in self.runs(entry, layer):
                for i in range(min(count, max(0, n - first))):
                    where[first + i] = (frame, offset + i * size, layer, place + 8 * i)
                place += 8 * count
            need(place == layer.fps_at + 8 * layer.blocks, f"{self.run}: {path}: a layer does not have {layer.blocks} blocks")
        for b in range(n):
            need(where[b], f"{self.run}: {path}: block {b} is nowhere")
            (frame, offset, layer, place), length = where[b], min(size, entry.size - b * size)
            block = bytes(length) if frame is None else self.read(frame)[offset:offset + length]
            need(len(block) == length, f"{self.run}: {path}: block {b} lies outside of its frame")
            if fingerprints:
                known = self.read(entry.chunks[layer.fps])[place:place + 8]
                need(self.cluster.digests.of_block(block) == known, f"{self.run}: {path}: block {b} does not have its fingerprint")
            yield block

# --- commands -------------------------------------------------------------------------------------
def cmd_list(vault, args):
    fields = """id kind parent started_at finished_at stop_time redo_lsn start_lsn stop_lsn timeline size_bytes files changed_bytes
        stored_bytes tags note host tool generation wal damaged server changes tablespaces databases""".split()
    clusters = [{"database": c.database, "cluster": c.id, "major": c.record("cluster", "cluster")["major"],
                 "points": [{f: p.record.get(f) for f in fields} for p in c.points()], "segments": c.segments()} for c in vault.clusters()]
    print(json.dumps({"vault": vault.id.hex(), "clusters": clusters}, indent=2))

def find_point(vault, run):
    point = vault.find(f"points/{run}.point").point(run)
    need(point, f"{run}: was aborted; it is not a point")
    return point

def cmd_files(vault, args):
    point = find_point(vault, args.point)
    lines = [(path, len(content)) for path, content in point.own_files.items()]
    for e in point.entries():
        if e.path not in point.own_files:
            lines.append((e.path + {FILE: b"", DIRECTORY: b"/", LINK: b" -> " + e.target}[e.kind], e.size if e.kind == FILE else 0))
    for path, size in sorted(lines):
        sys.stdout.buffer.write(b"%12d  %s\n" % (size, path))

def cmd_extract(vault, args):
    point, path = find_point(vault, args.point), os.fsencode(args.path)
    if path in point.own_files:
        return sys.stdout.buffer.write(point.own_files[path])
    entry = point.entry(path)
    need(entry.kind == FILE, f"{args.path}: is a directory or a link, not a file")
    for block in point.blocks(entry):
        sys.stdout.buffer.write(block)

def cmd_wal(vault, args):
    name = args.name
    history, backup, partial = map(name.endswith, (".history", ".backup", ".partial"))
    place = f"wal/{name}" if history else f"wal/extra/{name[:8]}/{name}" if backup or partial else f"wal/{name[:8]}/{name}.wal"
    cluster = vault.find(place)
    record = cluster.record(place, "file") if history or backup else None
    sys.stdout.buffer.write(base64.b64decode(record["content"]) if record else cluster.wal(place)[1])

def cmd_check(vault, args):
    for c in vault.clusters():
        digests = {s: c.wal(f"wal/{s[:8]}/{s}.wal")[0] for s in c.segments()}
        print(f"{c.prefix}: {len(digests)} WAL segments read")
        for p in c.points():
            for s in p.record["wal"]:
                need(digests.get(s["name"]) == s["digest"], f"{p.run}: {s['name']} is missing or not the one it was made with")
            sizes = [sum(len(b) for b in p.blocks(e, fingerprints=True)) for e in p.entries()]
            need((len(sizes), sum(sizes)) == (p.record["files"], p.record["size_bytes"]), f"{p.run}: the record has other sums")
            print(f"{c.prefix}: point {p.run}: {len(sizes)} entries, {sum(sizes)} bytes read")

def recover(args):  # §3.2
    vault_id, passphrase = bytes.fromhex(descriptor(args.vault)["id"]), Path(args.passphrase_file).read_bytes().rstrip(b"\r\n")
    for path in sorted(Path(args.vault).glob("keys/*.recovery"), reverse=True):
        r = json.loads(path.read_bytes())
        need(r["holdfast-recovery"] == 1 and r["kdf"] == "argon2id", f"{path}: not a recovery copy that this program knows")
        need(r["memory-kib"] <= 4 << 20 and r["passes"] <= 64 and r["lanes"] <= 64, f"{path}: asks for too much work")
        salt, nonce, sealed = (base64.b64decode(r[k]) for k in ("salt", "nonce", "sealed"))
        key = Argon2id(salt=salt, length=32, iterations=r["passes"], lanes=r["lanes"], memory_cost=r["memory-kib"]).derive(passphrase)
        try:
            return sys.stdout.buffer.write(open_gcm(key, nonce, sealed, b"holdfast/1 recovery" + vault_id, str(path)))
        except Damage as e:
            print(e, file=sys.stderr)
    raise Damage("no recovery copy opens with this passphrase")

def main():
    parser = argparse.ArgumentParser(description="Reads a Holdfast vault without Holdfast (see docs/FORMAT.md).")
    commands = parser.add_subparsers(dest="command", required=True)
    every = {"list": [], "files": ["point"], "extract": ["point", "path"], "wal": ["name"], "check": [], "recover": ["passphrase_file"]}
    for name, more in every.items():
        command = commands.add_parser(name)
        for argument in ["vault"] + more:
            command.add_argument(argument)
        command.add_argument("--key", required=name != "recover", help="the key file of the owner")
    args = parser.parse_args()
    try:
        recover(args) if args.command == "recover" else globals()["cmd_" + args.command](Vault(args.vault, args.key), args)
        sys.stdout.flush()
    except (Damage, OSError) as e:
        sys.exit(f"holdfast_reader: {e}")
    except (LookupError, TypeError, ValueError, OverflowError, struct.error) as e:
        sys.exit(f"holdfast_reader: not what the format says: {type(e).__name__}: {e}")

if __name__ == "__main__":
    main()
