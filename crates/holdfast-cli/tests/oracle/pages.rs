//! Compares the relation files of two stopped clusters page by page, as PostgreSQL's own
//! `wal_consistency_checking` does: what may change without WAL is masked.
//!
//! Masks are those of src/backend/access/common/bufmask.c and of the `*_mask` functions of the access
//! methods (heap_mask, btree_mask, hash_mask, gist_mask, gin_mask, brin_mask). What kind of page it is
//! tells its special space, as pg_filedump does.
//!
//! Not compared: pg_control, free space maps, relcache init files, sequences (the log runs up to 32
//! values ahead of the page), and how many empty pages a file has at its end.

use holdfast_testkit::damage::files_under;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const BLOCK: usize = 8192;
const HEADER: usize = 24;

/// What was compared, and what was not equal.
#[derive(Debug, Default)]
pub struct Comparison {
    pub files: usize,
    pub pages: usize,
    pub different: Vec<String>,
}

/// Every relation file below `base`, `global` and the tablespaces; links are followed.
fn relation_files(data: &Path) -> BTreeMap<String, PathBuf> {
    let mut roots = vec![("base".to_owned(), data.join("base")), ("global".to_owned(), data.join("global"))];
    for e in fs::read_dir(data.join("pg_tblspc")).expect("pg_tblspc").flatten() {
        let name = format!("pg_tblspc/{}", e.file_name().display());
        roots.push((name, fs::canonicalize(e.path()).expect("a tablespace")));
    }
    let mut all = BTreeMap::new();
    for (name, root) in roots {
        for path in files_under(&root) {
            let below = path.strip_prefix(&root).expect("below").display().to_string();
            all.insert(format!("{name}/{below}"), path);
        }
    }
    all.retain(|name, _| {
        let file = name.rsplit('/').next().unwrap_or_default();
        let temporary = file.starts_with('t') && file.contains('_');
        let left_out = file.contains("_fsm")
            || file.starts_with("pg_internal.init")
            || file == "pg_control"
            || temporary
            || name.contains("pgsql_tmp");
        !left_out
    });
    all
}

/// Compares two data directories.
pub fn compare(reference: &Path, restored: &Path) -> Comparison {
    let (a, b) = (relation_files(reference), relation_files(restored));
    let mut result = Comparison::default();
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let read = |files: &BTreeMap<String, PathBuf>| {
            files.get(name).map(|p| fs::read(p).unwrap_or_else(|e| panic!("{}: {e}", p.display())))
        };
        let (x, y) = (read(&a), read(&b));
        result.files += 1;
        let file = name.rsplit('/').next().unwrap_or_default();
        if !file.starts_with(|c: char| c.is_ascii_digit()) {
            // pg_filenode.map, PG_VERSION
            if x != y {
                result.different.push(format!("{name}: not the same"));
            }
            continue;
        }
        // An empty file more is one that was dropped and not unlinked yet when the backup read it. One that
        // is missing is an error for whoever opens it, and no query of the rows opens an empty index.
        if x.is_some() && y.is_none() {
            result.different.push(format!("{name}: missing"));
        }
        let (x, y) = (x.unwrap_or_default(), y.unwrap_or_default());
        let segment: usize = file.rsplit_once('.').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
        let blocks = x.len().max(y.len()).div_ceil(BLOCK);
        for block in 0..blocks {
            let number = segment * 131_072 + block;
            let mut p = page(&x, block);
            let mut q = page(&y, block);
            result.pages += 1;
            if p == q || (is_empty(&p) && is_empty(&q)) {
                continue;
            }
            let vm = file.contains("_vm");
            mask(&mut p, number, vm);
            mask(&mut q, number, vm);
            if p != q && !(is_sequence(&p) && is_sequence(&q)) {
                let at = (0..BLOCK).find(|i| p[*i] != q[*i]).unwrap_or(0);
                let what = if vm { "visibility map" } else { kind(&p).0 };
                let (x, y) = (&p[at..(at + 8).min(BLOCK)], &q[at..(at + 8).min(BLOCK)]);
                result
                    .different
                    .push(format!("{name} block {block} ({what}) at byte {at}: {x:02x?} and {y:02x?}"));
            }
        }
    }
    result
}

fn page(file: &[u8], block: usize) -> Vec<u8> {
    let from = (block * BLOCK).min(file.len());
    let to = (from + BLOCK).min(file.len());
    let mut page = file[from..to].to_vec();
    page.resize(BLOCK, 0);
    page
}

fn u16_at(page: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

/// Never written, or a heap page that was made ready and never used: neither leaves WAL.
fn is_empty(page: &[u8]) -> bool {
    page.iter().all(|b| *b == 0) || (u16_at(page, 12) <= HEADER && u16_at(page, 16) == BLOCK)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Heap,
    Btree,
    Hash,
    Gist,
    SpGist,
    Gin,
    Brin,
    Sequence,
    Other,
}

fn kind(page: &[u8]) -> (&'static str, Kind) {
    let special = u16_at(page, 16);
    let last = u16_at(page, BLOCK - 2);
    match BLOCK.saturating_sub(special) {
        0 => ("heap", Kind::Heap),
        16 => match last {
            0xFF80 => ("hash", Kind::Hash),
            0xFF81 => ("gist", Kind::Gist),
            _ => ("btree", Kind::Btree),
        },
        8 if u32_at(page, special) == 0x1717 => ("sequence", Kind::Sequence),
        8 => match last {
            0xFF82 => ("spgist", Kind::SpGist),
            0xF091..=0xF093 => ("brin", Kind::Brin),
            _ => ("gin", Kind::Gin),
        },
        _ => ("other", Kind::Other),
    }
}

fn is_sequence(page: &[u8]) -> bool {
    kind(page).1 == Kind::Sequence
}

/// Makes everything equal that may differ without WAL.
fn mask(page: &mut [u8], number: usize, vm: bool) {
    // LSN and checksum; hints in the header: PD_HAS_FREE_LINES, PD_PAGE_FULL, PD_ALL_VISIBLE, prune xid.
    page[0..10].fill(0);
    if vm {
        return;
    }
    page[10] &= !0x07;
    page[20..24].fill(0);
    let (lower, upper, special) = (u16_at(page, 12), u16_at(page, 14), u16_at(page, 16));
    if lower < HEADER || lower > upper || upper > special || special > BLOCK {
        return;
    }
    let kind = kind(page).1;
    // GIN_DELETED: replay makes the page anew, the server that deleted it leaves its content (gin_mask;
    // `shiftList` and `ginRedoDeleteListPages`, src/backend/access/gin/).
    if kind == Kind::Gin && u16_at(page, special + 6) & 4 != 0 {
        page[12..16].fill(0);
        page[HEADER..].fill(0);
        return;
    }
    // GIN and SP-GiST keep pd_lower honest only on some pages.
    if kind != Kind::Gin || lower > HEADER {
        page[lower..upper].fill(0);
    }
    match kind {
        Kind::Heap => heap(page, number, lower),
        Kind::Btree => {
            let flags = u16_at(page, special + 12);
            // BTP_HAS_GARBAGE, BTP_SPLIT_END; the cycle id.
            put_u16(page, special + 12, flags & !(1 << 6) & !(1 << 5));
            page[special + 14..special + 16].fill(0);
            if flags & 1 != 0 {
                item_flags(page, lower);
            }
        }
        Kind::Hash => {
            let flags = u16_at(page, special + 12);
            put_u16(page, special + 12, flags & !(1 << 7));
            if flags & 3 != 0 {
                item_flags(page, lower);
            }
        }
        Kind::Gist => {
            let flags = u16_at(page, special + 12);
            // NSN, F_FOLLOW_RIGHT, F_HAS_GARBAGE.
            page[special..special + 8].fill(0);
            put_u16(page, special + 12, flags & !(1 << 3) & !(1 << 4));
            if flags & 1 != 0 {
                item_flags(page, lower);
            }
        }
        // The meta page remembers where there was room last; that is not logged.
        Kind::SpGist if u32_at(page, HEADER) == 0xBA0B_ABEE => page[HEADER + 4..special].fill(0),
        Kind::Gin | Kind::Brin | Kind::SpGist | Kind::Sequence | Kind::Other => {}
    }
}

fn put_u16(page: &mut [u8], at: usize, value: usize) {
    page[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

/// Line pointers: offset in 15 bits, flags in 2, length in 15.
fn items(page: &[u8], lower: usize) -> Vec<(usize, usize, u32, usize)> {
    let parse = |at: usize| {
        let raw = u32_at(page, at);
        (at, (raw & 0x7FFF) as usize, (raw >> 15) & 3, (raw >> 17) as usize)
    };
    (HEADER..lower.saturating_sub(3)).step_by(4).map(parse).collect()
}

/// LP_DEAD is a hint in indexes.
fn item_flags(page: &mut [u8], lower: usize) {
    if lower > BLOCK - 16 {
        return;
    }
    for (at, ..) in items(page, lower) {
        let raw = u32_at(page, at) & !(3 << 15);
        page[at..at + 4].copy_from_slice(&raw.to_le_bytes());
    }
}

fn heap(page: &mut [u8], number: usize, lower: usize) {
    const NORMAL: u32 = 1;
    for (index, (_, offset, flags, len)) in items(page, lower).into_iter().enumerate() {
        if flags == NORMAL && offset + len <= BLOCK && len >= 23 {
            let infomask = u16_at(page, offset + 20);
            let frozen = infomask & 0x0300 == 0x0300;
            // Hint bits: all of HEAP_XACT_MASK, or those of xmax when xmin is frozen. Also then
            // HEAP_COMBOCID: replay of a delete, update or lock gives the tuple FirstCommandId and clears
            // the flag (HeapTupleHeaderSetCmax in heapam_xlog.c), a page image keeps the source's.
            put_u16(page, offset + 20, infomask & if frozen { !0x0C20 } else { !0xFFF0 });
            // t_cid
            page[offset + 8..offset + 12].fill(0);
            if u16_at(page, offset + 16) == 0xFFFE {
                // A speculative token: PostgreSQL sets it to the tuple's own place.
                put_u16(page, offset + 12, number >> 16);
                put_u16(page, offset + 14, number & 0xFFFF);
                put_u16(page, offset + 16, index + 1);
            }
        }
        let padding = len.next_multiple_of(8) - len;
        if len > 0 && offset + len + padding <= BLOCK {
            page[offset + len..offset + len + padding].fill(0);
        }
    }
}

/// Pages that the visibility map calls all-visible, and that do not say so themselves: index-only scans
/// would go wrong after the next change of such a page. (A copy by page LSN alone gets this wrong: the
/// flag is set without moving the LSN.)
pub fn unmarked_visible(data: &Path) -> Vec<String> {
    const PER_PAGE: usize = (BLOCK - HEADER) * 4;
    let files = relation_files(data);
    let mut wrong = Vec::new();
    for (name, path) in files.iter().filter(|(n, _)| n.ends_with("_vm")) {
        let Some(heap) = files.get(name.trim_end_matches("_vm")) else { continue };
        let (vm, heap) =
            (fs::read(path).expect("read a visibility map"), fs::read(heap).expect("read a relation"));
        for block in 0..heap.len() / BLOCK {
            let at = block / PER_PAGE * BLOCK + HEADER + block % PER_PAGE / 4;
            let visible = vm.get(at).is_some_and(|b| b >> (block % 4 * 2) & 1 != 0);
            if visible && u16_at(&heap, block * BLOCK + 10) & 4 == 0 {
                wrong.push(format!("{name} block {block}"));
            }
        }
    }
    wrong
}

/// What must be seen as different, and what must not.
#[test]
fn masks_hide_hints_only() {
    let mut page = vec![0; BLOCK];
    put_u16(&mut page, 12, HEADER + 4);
    put_u16(&mut page, 14, 8152);
    put_u16(&mut page, 16, BLOCK);
    page[24..28].copy_from_slice(&(8152_u32 | 1 << 15 | 36 << 17).to_le_bytes());
    let masked = |change: &[(usize, u8)]| {
        let mut p = page.clone();
        change.iter().for_each(|(at, b)| p[*at] = *b);
        mask(&mut p, 0, false);
        p
    };
    let plain = masked(&[]);
    // LSN, checksum, page flags, the hole, HEAP_XMIN_COMMITTED, the padding of the tuple
    for hint in [(3, 9), (8, 1), (10, 4), (4000, 7), (8152 + 21, 1), (8152 + 37, 1)] {
        assert_eq!(masked(&[hint]), plain, "{hint:?}");
    }
    // pd_lower, xmin, t_ctid, number of attributes, a byte of the row
    for real in [(12, 30), (8152, 3), (8152 + 16, 1), (8152 + 18, 1), (8152 + 30, 1)] {
        assert_ne!(masked(&[real]), plain, "{real:?}");
    }
}
