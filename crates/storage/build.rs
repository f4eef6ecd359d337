//! Compiles the memtable, `memtable/`, and what the binding lacks, `native/`, with RocksDB's own
//! headers and as RocksDB itself is compiled.

fn main() {
    println!("cargo::rerun-if-changed=memtable");
    println!("cargo::rerun-if-changed=native");
    println!("cargo::rerun-if-env-changed=DEP_ROCKSDB_CARGO_MANIFEST_DIR");
    // Where the crate that compiles RocksDB has its sources.
    let crate_dir = std::env::var("DEP_ROCKSDB_CARGO_MANIFEST_DIR").unwrap_or_default();
    let rocksdb = std::path::Path::new(&crate_dir).join("rocksdb");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20");
    build.file("memtable/rep.cc");
    build.file("native/cache.cc").file("native/family.cc").file("native/perf.cc");
    build.flag("-isystem").flag(rocksdb.join("include")).flag("-isystem").flag(&rocksdb);
    // What a class of RocksDB's is derived from must be compiled as RocksDB was.
    for flag in ["-fno-rtti", "-fno-builtin-memcmp", "-include", "cstdint"] {
        build.flag(flag);
    }
    for name in ["NDEBUG", "OS_LINUX", "ROCKSDB_PLATFORM_POSIX", "ROCKSDB_LIB_IO_POSIX"] {
        build.define(name, None);
    }
    build.compile("holdfast_memtable");
}
