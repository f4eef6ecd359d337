// Empties the block cache, which RocksDB's C interface cannot do for every kind of cache.

#include "rocksdb/advanced_cache.h"
#include "rocksdb/db.h"
#include "rocksdb/table.h"

// Of RocksDB's C interface, which defines it just so.
struct rocksdb_t {
  ROCKSDB_NAMESPACE::DB* rep;
};

extern "C" void holdfast_release_cache(rocksdb_t* db) {
  using ROCKSDB_NAMESPACE::BlockBasedTableOptions;
  // One cache serves all families.
  const auto options = db->rep->GetOptions();
  if (options.table_factory == nullptr) return;
  const auto* table = options.table_factory->GetOptions<BlockBasedTableOptions>();
  if (table != nullptr && table->block_cache != nullptr) {
    table->block_cache->EraseUnRefEntries();
  }
}
