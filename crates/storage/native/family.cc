// Makes a column family in a database that others use meanwhile, which the binding does only
// through a handle that nobody shares. Never under another number than batches name it by.

#include <cstdint>
#include <cstring>

#include "rocksdb/db.h"
#include "rocksdb/options.h"

// Of RocksDB's C interface, which defines them just so.
struct rocksdb_t {
  ROCKSDB_NAMESPACE::DB* rep;
};
struct rocksdb_options_t {
  ROCKSDB_NAMESPACE::Options rep;
};
struct rocksdb_column_family_handle_t {
  ROCKSDB_NAMESPACE::ColumnFamilyHandle* rep;
  bool immortal;
};

// The handle is given back with `rocksdb_column_family_handle_destroy`; without one the text of
// `error` with `rocksdb_free`.
extern "C" rocksdb_column_family_handle_t* holdfast_make_family(
    rocksdb_t* db, const rocksdb_options_t* options, const char* name,
    uint32_t id, char** error) {
  using ROCKSDB_NAMESPACE::ColumnFamilyHandle;
  using ROCKSDB_NAMESPACE::ColumnFamilyOptions;
  using ROCKSDB_NAMESPACE::Status;
  ColumnFamilyHandle* made = nullptr;
  Status status = db->rep->CreateColumnFamily(
      ColumnFamilyOptions(options->rep), name, &made);
  if (made != nullptr && made->GetID() != id) {
    // Batches name families by their numbers.
    db->rep->DropColumnFamily(made).PermitUncheckedError();
    db->rep->DestroyColumnFamilyHandle(made).PermitUncheckedError();
    made = nullptr;
    status = Status::NotSupported("the next family has another number");
  }
  // With a handle the family is there, whatever became of the file that lists options.
  if (made == nullptr) {
    *error = strdup(status.ToString().c_str());
    return nullptr;
  }
  status.PermitUncheckedError();
  return new rocksdb_column_family_handle_t{made, false};
}
