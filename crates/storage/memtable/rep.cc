// The tree of `tree.h` as a memtable of RocksDB.
//
// Entries are inserted by one thread at a time: `allow_concurrent_memtable_write` is off, and the
// factory says that it cannot do more. Keys are compared bytewise, as all families are.
#include "db/lookup_key.h"
#include "memory/allocator.h"
#include "memory/arena.h"
#include "rocksdb/memtablerep.h"
#include "rocksdb/options.h"
#include "tree.h"

namespace {

using ROCKSDB_NAMESPACE::Allocator;
using ROCKSDB_NAMESPACE::Arena;
using ROCKSDB_NAMESPACE::KeyHandle;
using ROCKSDB_NAMESPACE::Logger;
using ROCKSDB_NAMESPACE::LookupKey;
using ROCKSDB_NAMESPACE::MemTableRep;
using ROCKSDB_NAMESPACE::MemTableRepFactory;
using ROCKSDB_NAMESPACE::Slice;
using ROCKSDB_NAMESPACE::SliceTransform;
using holdfast::Key;

struct Memory {
  Allocator* allocator;

  // Counted as the memtable's own, so that the size at which it is flushed is what it takes.
  char* Allocate(size_t bytes) { return allocator->AllocateAligned(bytes); }
};

using Tree = holdfast::Tree<Memory>;

Key OfInternal(const Slice& key) { return Key::OfInternal(key.data(), key.size()); }

class Place final : public MemTableRep::Iterator {
 public:
  explicit Place(const Tree& tree) : at_(tree) {}

  bool Valid() const override { return at_.entry() != nullptr; }
  const char* key() const override { return at_.entry(); }
  void Next() override { at_.Next(); }
  void Prev() override { at_.Prev(); }
  void SeekToFirst() override { at_.SeekToFirst(); }
  void SeekToLast() override { at_.SeekToLast(); }

  void Seek(const Slice& internal_key, const char* entry) override {
    at_.Seek(entry != nullptr ? Key::OfEntry(entry) : OfInternal(internal_key));
  }

  void SeekForPrev(const Slice& internal_key, const char* entry) override {
    const Key key = entry != nullptr ? Key::OfEntry(entry) : OfInternal(internal_key);
    at_.Seek(key);
    if (!Valid() || key < Key::OfEntry(at_.entry())) {
      at_.SeekLess(key);
    }
  }

 private:
  Tree::Cursor at_;
};

class Rep final : public MemTableRep {
 public:
  explicit Rep(Allocator* allocator) : MemTableRep(allocator), tree_(Memory{allocator}) {}

  void Insert(KeyHandle handle) override { tree_.Insert(static_cast<char*>(handle)); }

  bool Contains(const char* entry) const override {
    Tree::Cursor at(tree_);
    const Key key = Key::OfEntry(entry);
    at.Seek(key);
    return at.entry() != nullptr && !(key < Key::OfEntry(at.entry()));
  }

  void Get(const LookupKey& key, void* arguments, bool (*visit)(void*, const char*)) override {
    Tree::Cursor at(tree_);
    for (at.Seek(OfInternal(key.internal_key()));
         at.entry() != nullptr && visit(arguments, at.entry()); at.Next()) {
    }
  }

  uint64_t ApproximateNumEntries(const Slice& from, const Slice& to) override {
    const double share = tree_.Share(OfInternal(to)) - tree_.Share(OfInternal(from));
    return share <= 0 ? 0 : static_cast<uint64_t>(share * static_cast<double>(tree_.size()));
  }

  // Everything is the allocator's.
  size_t ApproximateMemoryUsage() override { return 0; }

  MemTableRep::Iterator* GetIterator(Arena* arena) override {
    if (arena == nullptr) {
      return new Place(tree_);
    }
    return new (arena->AllocateAligned(sizeof(Place))) Place(tree_);
  }

 private:
  Tree tree_;
};

class Factory final : public MemTableRepFactory {
 public:
  const char* Name() const override { return "HoldfastTree"; }

  using MemTableRepFactory::CreateMemTableRep;
  MemTableRep* CreateMemTableRep(const MemTableRep::KeyComparator&, Allocator* allocator,
                                 const SliceTransform*, Logger*) override {
    return new Rep(allocator);
  }
};

}  // namespace

// Of RocksDB's C interface, which defines it just so.
struct rocksdb_options_t {
  ROCKSDB_NAMESPACE::Options rep;
};

extern "C" void holdfast_use_tree(rocksdb_options_t* options) {
  options->rep.memtable_factory = std::make_shared<Factory>();
}
