//! The codec of a snapshot's head and state: bincode, or JSON without the feature `bincode`.

use crate::model::snapshot::fault::{ReadFault, WriteFault};

#[cfg(feature = "bincode")]
pub(crate) use binary::{CODEC, READABLE, read, write};
#[cfg(not(feature = "bincode"))]
pub(crate) use json::{CODEC, READABLE, read, write};

/// A buffer with a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::with_capacity(512), limit, is_full: false }
    }

    /// Appends the bytes; returns false if there is no room for them.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.is_full |= bytes.len() > self.limit - self.bytes.len();
        if !self.is_full {
            self.bytes.extend_from_slice(bytes);
        }
        !self.is_full
    }

    /// The written bytes, or the error of the writing.
    fn finish<E: std::fmt::Display>(self, written: Result<(), E>) -> Result<Vec<u8>, WriteFault> {
        match written {
            Ok(()) => Ok(self.bytes),
            Err(_) if self.is_full => Err(WriteFault::TooLarge),
            Err(error) => Err(WriteFault::Refused(error.to_string())),
        }
    }
}

#[cfg(feature = "bincode")]
mod binary {
    use std::marker::PhantomData;

    use bincode::{
        config,
        enc::write::Writer,
        error::EncodeError,
        serde::{encode_into_writer, seed_decode_from_slice},
    };
    use serde::{Serialize, de::DeserializeOwned};

    use super::{Bounded, ReadFault, WriteFault};
    use crate::{
        encoding::limits::{DEPTH, Limited},
        model::snapshot::fault::MAX_BYTES,
    };

    pub(crate) const CODEC: u8 = 1;
    pub(crate) const READABLE: bool = false;

    /// The most values in a snapshot, counting each struct and each of its fields. There can be many more values than
    /// bytes only in lists of values that take no bytes.
    const PARTS: usize = 8 * MAX_BYTES;

    impl Writer for Bounded {
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            if self.push(bytes) { Ok(()) } else { Err(EncodeError::UnexpectedEnd) }
        }
    }

    pub(crate) fn write<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, WriteFault> {
        let mut out = Bounded::new(limit);
        let written = encode_into_writer(value, &mut out, config::standard());
        out.finish(written)
    }

    pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadFault> {
        let config = config::standard().with_limit::<MAX_BYTES>();
        let seed = Limited { seed: PhantomData, parts: PARTS, depth: DEPTH };
        let (value, read) = seed_decode_from_slice(seed, bytes, config)
            .map_err(|error| ReadFault::Undecodable(error.to_string()))?;
        if read == bytes.len() {
            Ok(value)
        } else {
            Err(ReadFault::Undecodable(format!("{} bytes are left over", bytes.len() - read)))
        }
    }
}

#[cfg(not(feature = "bincode"))]
mod json {
    use std::io;

    use serde::{Serialize, de::DeserializeOwned};

    use super::{Bounded, ReadFault, WriteFault};
    use crate::encoding::json::decode;

    pub(crate) const CODEC: u8 = 2;
    pub(crate) const READABLE: bool = true;

    impl io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.push(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn write<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, WriteFault> {
        let mut out = Bounded::new(limit);
        let written = serde_json::to_writer(&mut out, value);
        out.finish(written)
    }

    pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadFault> {
        decode(bytes).map_err(|error| ReadFault::Undecodable(error.to_string()))
    }
}
