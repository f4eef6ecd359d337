// What a thread's work has cost: the level at which it counts, which RocksDB's C interface sets and
// does not tell, and the counters of files, which it does not have.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "rocksdb/iostats_context.h"
#include "rocksdb/perf_context.h"
#include "rocksdb/perf_level.h"

// From now on this thread counts, and takes times, from nothing on. Returns its level until now.
extern "C" uint8_t holdfast_begin_counting() {
  const auto before = ROCKSDB_NAMESPACE::GetPerfLevel();
  ROCKSDB_NAMESPACE::get_perf_context()->Reset();
  ROCKSDB_NAMESPACE::get_iostats_context()->Reset();
  ROCKSDB_NAMESPACE::SetPerfLevel(ROCKSDB_NAMESPACE::kEnableTimeExceptForMutex);
  return static_cast<uint8_t>(before);
}

// It counts again as it did; `level` is what the call before has returned.
extern "C" void holdfast_end_counting(uint8_t level) {
  ROCKSDB_NAMESPACE::SetPerfLevel(
      static_cast<ROCKSDB_NAMESPACE::PerfLevel>(level));
}

// Writes what this thread has counted of files since, as far as there is room for it, and returns
// how many bytes that are.
extern "C" size_t holdfast_tell_files(char* text, size_t room) {
  const std::string told =
      ROCKSDB_NAMESPACE::get_iostats_context()->ToString(true);
  const size_t length = std::min(told.size(), room);
  memcpy(text, told.data(), length);
  return length;
}
