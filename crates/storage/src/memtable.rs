//! The memtable of every family: a B-tree in place of RocksDB's skip list, see `memtable/tree.h`.

use rocksdb::{AsRawPtr, Options, ffi_raw};

#[expect(unsafe_code, reason = "a function of `memtable/rep.cc`")]
unsafe extern "C" {
    fn holdfast_use_tree(options: *mut ffi_raw::rocksdb_options_t);
}

/// Lets a family keep its newest records in such a tree. Needs one writer at a time
/// (`allow_concurrent_memtable_write` off).
#[expect(unsafe_code, reason = "the binding knows only the memtables that RocksDB brings along")]
pub(crate) fn use_tree(options: &mut Options) {
    // SAFETY: the pointer is to options that live through the call, and nobody else has them.
    unsafe { holdfast_use_tree(options.as_raw_ptr()) }
}

#[cfg(test)]
mod tests;
