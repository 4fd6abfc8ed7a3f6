//! Small binary encoding for maps and manifests: LEB128 varints, zigzag for signed, length-prefixed
//! bytes. The reader never panics and never allocates more than its input justifies.

/// The input ended early or holds an impossible value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {what}")]
pub struct WireError {
    pub at: usize,
    pub what: &'static str,
}

/// Appends values to a buffer.
pub trait Put {
    fn put_varint(&mut self, v: u64);
    fn put_zigzag(&mut self, v: i64) {
        self.put_varint(((v << 1) ^ (v >> 63)) as u64);
    }
    fn put_bytes(&mut self, b: &[u8]);
}

impl Put for Vec<u8> {
    fn put_varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.push(v as u8);
    }
    fn put_bytes(&mut self, b: &[u8]) {
        self.put_varint(b.len() as u64);
        self.extend_from_slice(b);
    }
}

/// Takes values from a slice.
#[derive(Debug, Clone)]
pub struct Take<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Take<'a> {
    pub fn new(buf: &'a [u8]) -> Self {
        Take { buf, at: 0 }
    }

    pub fn err(&self, what: &'static str) -> WireError {
        WireError { at: self.at, what }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.buf.len().saturating_sub(self.at)
    }

    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(n).ok_or(self.err("length overflows"))?;
        let s = self.buf.get(self.at..end).ok_or(self.err("ends early"))?;
        self.at = end;
        Ok(s)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let e = self.err("ends early");
        self.raw(N)?.try_into().map_err(|_| e)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn varint(&mut self) -> Result<u64, WireError> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            // The tenth byte has room for one bit.
            if shift == 63 && b > 1 {
                return Err(self.err("varint is too long"));
            }
            v |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err(self.err("varint is too long"))
    }

    pub fn varint32(&mut self) -> Result<u32, WireError> {
        let e = self.err("number is too large");
        u32::try_from(self.varint()?).map_err(|_| e)
    }

    pub fn zigzag(&mut self) -> Result<i64, WireError> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let n = self.varint()?;
        let e = self.err("length is too large");
        self.raw(usize::try_from(n).map_err(|_| e)?)
    }

    /// A count of items of at least `min_size` bytes each; more than the input can hold is refused.
    pub fn count(&mut self, min_size: usize) -> Result<usize, WireError> {
        let n = self.varint()?;
        if n > (self.remaining() / min_size.max(1)) as u64 {
            return Err(self.err("count is larger than the input"));
        }
        Ok(n as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let mut b = Vec::new();
        for v in [0, 1, 127, 128, 300, u64::MAX] {
            b.put_varint(v);
        }
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            b.put_zigzag(v);
        }
        b.put_bytes(b"abc");
        let mut t = Take::new(&b);
        for v in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(t.varint().unwrap(), v);
        }
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(t.zigzag().unwrap(), v);
        }
        assert_eq!(t.bytes().unwrap(), b"abc");
        assert_eq!(t.remaining(), 0);
        assert!(t.u8().is_err());
        assert!(Take::new(&[0xff; 11]).varint().is_err());
        assert!(Take::new(&[0x7f]).count(1).is_err());
    }
}
