// What a thread's files have cost, which RocksDB's C interface does not tell.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "rocksdb/iostats_context.h"

extern "C" void holdfast_forget_files() {
  ROCKSDB_NAMESPACE::get_iostats_context()->Reset();
}

// Writes what this thread has counted since, as far as there is room for it,
// and returns how many bytes that are.
extern "C" size_t holdfast_tell_files(char* text, size_t room) {
  const std::string told =
      ROCKSDB_NAMESPACE::get_iostats_context()->ToString(true);
  const size_t length = std::min(told.size(), room);
  memcpy(text, told.data(), length);
  return length;
}
